/* SPDX-License-Identifier: GPL-2.0 */
/*
 * attrvmm - what its parts share
 *
 * One struct vm holds everything.  Locks, outermost first:
 *
 *   lock              protects
 *   doorbell_lock     the service of one doorbell message at a time; verdict,
 *                     searches and what search.c keeps
 *   harden.lock       struct harden: the protected ranges, refusals, the attack
 *                     that is going on
 *   ram.convert_lock  the conversion of guest pages: the order in which the
 *                     attributes and both backings change, ram.pages[], the
 *                     counters of struct ram
 *   serial.lock       registers and receive queue of the serial port
 *   end.lock          why and how the machine ended
 *
 * No lock is held while a vCPU is in the guest.
 */
#ifndef ATTRVMM_H
#define ATTRVMM_H

#include <linux/const.h>
#include <linux/kvm.h>
#include <linux/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdnoreturn.h>

#include "doorbell.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define PAGE_SHIFT	12
#define PAGE_SIZE	4096ULL
#define MIB		(1024 * 1024ULL)
#define GIB		(1024 * MIB)

/* Exit status of the program. */
enum status {
	STATUS_OK = 0,		/* the guest ended and found no fault */
	STATUS_GUEST = 1,	/* the guest crashed, hung or found a fault */
	STATUS_USAGE = 2,	/* the command line makes no sense */
	STATUS_HOST = 3,	/* the host refused something */
};

/* What backs the pages that are shared between guest and VMM. */
enum backing {
	BACKING_ANON,
	BACKING_TMPFS,
	BACKING_HUGETLB,
};

/* Above every address: all RAM is shared. */
#define NOTHING_PRIVATE	(~0ULL)

struct options {
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *console;		/* file, or NULL for stdout */
	const char *harden;		/* the kernel's ELF image, or NULL */
	const char *save;		/* attributes, when the guest has ended */
	const char *restore;		/* attributes to start with, or NULL */
	__u64 mem;			/* bytes of guest RAM */
	__u64 private_above;		/* RAM from here on starts out private */
	unsigned int cpus;
	unsigned int timeout;		/* seconds, 0 for none */
	unsigned long vm_type;		/* KVM_X86_*_VM */
	enum backing backing;
	__u64 memfd_flags;		/* KVM_GUEST_MEMFD_*: private backing */
	bool convert_on_fault;
	bool doorbell;
};

/* Guest physical memory. */

#define PAGE_PRIVATE	_BITUL(0)	/* now backed by the guest_memfd */
#define PAGE_CONVERTED	_BITUL(1)	/* was converted at least once */
#define PAGE_PINNED	_BITUL(2)	/* must not be converted */

/* One memslot: a run of RAM with both of its backings. */
struct ram_region {
	__u64 gpa;
	__u64 size;
	__u64 offset;		/* in RAM as a whole, and in both backings */
};

struct ram {
	struct ram_region region[2];
	unsigned int nr_regions;
	__u64 size;
	enum backing backing;
	unsigned char *hva;	/* the shared backing, all regions in a row */
	int memfd;		/* the private backing, or -1 */

	pthread_mutex_t convert_lock;
	unsigned char *pages;	/* PAGE_* of each page, regions in a row */
	__u64 nr_private;
	atomic_ullong conversions;
	__u64 to_private, to_private_pages;
	__u64 to_shared, to_shared_pages;
	__u64 refused;
};

/* vCPUs */

#define NR_EXIT_REASONS	48

struct vm;

struct vcpu {
	struct vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	__u64 exits[NR_EXIT_REASONS];
	__u64 entry_conversions;	/* ram.conversions at the last KVM_RUN */
};

/* A 16550A on COM1 */

struct serial {
	pthread_mutex_t lock;
	int vm_fd;
	int out_fd;
	__u8 ier, lcr, mcr, scr, fcr;
	__u8 divisor[2];
	bool thr_empty;		/* raised, and not yet acknowledged */
	bool line;		/* level of the interrupt line */
	__u8 rx[256];
	unsigned int rx_head, rx_tail;
};

/* The machine */

enum end_reason {
	END_NONE,
	END_RESET,		/* the guest asked for a reset */
	END_CRASH,		/* triple fault, or KVM cannot go on */
	END_TIMEOUT,
	END_HOST,		/* a vCPU's ioctl failed */
};

struct end {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	enum end_reason reason;
	char text[160];
};

struct verdict {
	bool given;
	bool pass;
	char text[DOORBELL_TEXT];
};

/* Protection of the guest's kernel (harden.c, policy.c) */

/* Where the sections of the kernel's image are once it runs. */
struct image_range {
	__u64 gpa, size;
	const unsigned char *bytes;	/* in the image */
};

struct kernel_image {
	const char *name;
	__u64 virt_minus_phys;
	__u64 align;
	struct image_range text, rodata, data;
	unsigned int same_percent;	/* of the text, in RAM; 0 if unseen */
};

struct protected_range {
	const char *name;
	__u64 gpa, size;
	__u64 attributes;
	unsigned char *copy;		/* what it held, where that can be seen */
};

/* An access that the guest was not allowed to make. */
struct refusal {
	__u64 gpa;
	__u64 access;			/* one KVM_MEMORY_EXIT_FLAG_* */
	__u64 rip;
	const char *seen;		/* how the VMM came to know */
};

struct harden {
	pthread_mutex_t lock;
	bool done;
	struct kernel_image image;
	struct protected_range range[5];
	unsigned int nr_ranges;
	__u64 refusals;
	__u64 unannounced;		/* of them, not of a known attack */

	/* The attack that the guest has announced, for the report. */
	bool attacked;
	struct doorbell_attack attack;
	unsigned char before[PAGE_SIZE];
	struct refusal refusal;		/* the first one during it */
	unsigned int nr_refusals;
	__u64 succeeded_before, refused_after, not_refused_after;
};

/* What the last search covered. */
struct search_stats {
	__u64 mapping_pages;	/* that hold anything but zeros */
	__u64 proc_mem_bytes;
	__u64 readv_bytes;
	double seconds;
	char memfd[256];
};

struct vm {
	struct options opt;
	int kvm_fd;
	int fd;
	__u64 attributes;	/* mask of attributes that this VM supports */
	bool hypercall_exits;
	__u64 restored_protected;	/* pages that the restored file protects */
	atomic_uint cmos_index;
	struct ram ram;
	struct serial serial;
	struct harden harden;
	struct vcpu *vcpus;
	unsigned int nr_started;
	atomic_bool stopping;
	struct end end;
	pthread_mutex_t doorbell_lock;
	struct verdict verdict;
	__u64 searches;
	struct search_stats search_stats;
	double seconds;
};

/* util.c: every failure says what was tried, why it failed, what fixes it */
__printf(2, 3)
noreturn void die(enum status status, const char *fmt, ...);
int checked_ioctl(int fd, unsigned long request, unsigned long arg,
		  const char *name, const char *fix);
double now_seconds(void);
bool range_within(__u64 start, __u64 size, __u64 limit);

/* An ioctl that must not fail: ends the program with its name and @fix. */
#define must_ioctl(fd, request, arg, fix) \
	checked_ioctl(fd, request, (unsigned long)(arg), #request, fix)

/* options.c */
void parse_options(struct options *opt, int argc, char **argv);
const char *backing_name(enum backing backing);
const char *vm_type_name(unsigned long type);

/* vm.c */
void vm_create(struct vm *vm);
void vm_end(struct vm *vm, enum end_reason reason, const char *fmt, ...)
	__printf(3, 4);
void vm_wait(struct vm *vm);

/* memory.c */
void memory_init(struct vm *vm);
void make_initially_private(struct vm *vm);
void *gpa_to_hva(struct ram *ram, __u64 gpa, __u64 size);
void *shared_gpa_to_hva(struct ram *ram, __u64 gpa, __u64 size);
int convert_range(struct vm *vm, __u64 gpa, __u64 size, bool to_private,
		  int *leftover);
void pin_pages(struct ram *ram, __u64 gpa, __u64 size, bool pin);
__u64 private_backed_pages(const struct ram *ram);
void book_private(struct ram *ram, __u64 gpa, __u64 size);

/* attributes.c */
void save_attributes(struct vm *vm);
void restore_attributes(struct vm *vm);

/* boot.c, mptable.c */
struct entry_point {
	__u64 rip, boot_params, page_tables, gdt;
	__u16 gdt_limit;
};

void load_guest(struct vm *vm, struct entry_point *entry);
void write_mptable(struct ram *ram, unsigned int cpus);

/* vcpu.c */
void vcpus_create(struct vm *vm, const struct entry_point *entry);
void vcpus_start(struct vm *vm);
void vcpus_stop(struct vm *vm);

/* portio.c, serial.c, doorbell.c */
void port_access(struct vcpu *vcpu);
void serial_init(struct vm *vm);
void serial_input(struct serial *serial, const __u8 *data, size_t len);
void serial_write(struct serial *serial, unsigned int reg, __u8 value);
__u8 serial_read(struct serial *serial, unsigned int reg);
void doorbell_ring(struct vcpu *vcpu, __u32 gfn);

/* image.c */
void open_kernel_image(struct kernel_image *image, const char *name);
bool locate_kernel_image(struct vcpu *vcpu, struct kernel_image *image);

/* harden.c, attack.c, policy.c, pvmsr.c */
void harden_init(struct vm *vm);
int harden_guest(struct vcpu *vcpu, const struct doorbell_harden *known);
int release_secret(struct vm *vm);
__u64 count_changed_pages(struct vm *vm, __u64 *compared);
__u64 count_protected_pages(const struct vm *vm);
bool harden_held(struct vm *vm);
__u64 protection_of(const struct vm *vm, __u64 gpa, __u64 size);
int attack_begins(struct vm *vm, const struct doorbell_attack *attack);
int attack_ends(struct vm *vm, struct doorbell_attack *attack);
void refused_access(struct vcpu *vcpu, __u64 gpa, __u64 access);
void note_refusal(struct vcpu *vcpu, __u64 gpa, __u64 access, const char *seen);
void pvmsr_offer(struct vm *vm);
void pvmsr_watch(struct vm *vm);
void pvmsr_write(struct vcpu *vcpu);

/* search.c */
void search_everywhere(struct vm *vm, struct doorbell_search *search);

/* report.c */
void report_start(const struct vm *vm);
void report_search(struct vm *vm, const struct doorbell_search *search);
void report_map(struct vm *vm, const char *title);
void report_leftover(__u64 gpa, __u64 size, bool to_private, int error);
void report_harden(const struct vm *vm);
void report_refusal(const struct refusal *refusal);
void report_attack(const struct harden *harden, const char *unchanged);
void report_end(struct vm *vm);
const char *exit_reason_name(unsigned int reason);

#endif /* ATTRVMM_H */
