// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long calls on memory attributes and private memory hold up other tasks.
 *
 * Prints "bench,ROW,instructions,VALUE,WORST" as mem_attrs_bench.c does.  It is meant
 * for a machine with one CPU on which the TSC counts instructions.
 *
 * A second thread, with real-time priority, sleeps for TICK instructions at a time.
 * The longest time between two of its ticks is the stall: TICK, and for how long the
 * call did not let another thread have the CPU.  Row stall_none is the stall beside a
 * loop in userspace.
 *
 * For other rows, the second thread does something between two ticks: it creates a
 * memslot, or runs a vCPU that faults beside the range.  The longest of these
 * operations is the row.
 *
 * The pattern: every other page of a range of 1, 4 or 16 GiB is private.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/kvm.h>

#define MiB		(1024ULL * 1024)
#define GiB		(1024 * MiB)
#define PAGE		4096ULL
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define NX		KVM_MEMORY_ATTRIBUTE_NX

/* Where the pattern is, and shared memory right below it. */
#define RANGE_GPA	(2 * GiB)
#define BESIDE_SIZE	(256 * MiB)
#define BESIDE_GPA	(RANGE_GPA - BESIDE_SIZE)

/* Private memory to be punched and closed, and memslots beside it. */
#define BACKED_GPA	(8 * GiB)
#define BACKED_SIZE	GiB
#define OTHER_GPA	(1 * GiB)

#define NR_UPDATES	32768
#define NR_EXTENTS	65536

/* One instruction takes a nanosecond. */
#define TICK		100000
#define SETTLE		(40ULL * 1000 * 1000)

#define LONG_CALL	(300ULL * 1000 * 1000)

enum { SLOT_BESIDE, SLOT_BACKED, SLOT_OTHER };

struct vm {
	int fd;
	int vcpu;
	struct kvm_run *run;
	char *beside;
};

/* The operation of the second thread, and the longest one while watching is on. */
struct watcher {
	void (*operation)(struct vm *vm);
	struct vm *vm;
	atomic_bool watching;
	atomic_bool stop;
	atomic_ullong count;
	atomic_ullong longest;
	pthread_t thread;
};

static int kvm_fd;
static struct kvm_memory_attributes_update updates[NR_UPDATES];
static struct kvm_memory_attributes_extent extents[NR_EXTENTS];

static uint64_t now(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static void report(const char *what, const char *row, uint64_t value)
{
	printf("bench,%s_%s,instructions,%llu,%llu\n", what, row,
	       (unsigned long long)value, (unsigned long long)value);
	fflush(stdout);
}

static void vm_memslot(struct vm *vm, int slot, uint64_t gpa, uint64_t size,
		       void *mem, int gmem)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = gmem < 0 ? 0 : KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
		.guest_memfd = gmem < 0 ? 0 : gmem,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region))
		err(1, "memslot %d", slot);
}

static void *map_memory(uint64_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mem == MAP_FAILED)
		err(1, "mmap");
	return mem;
}

static struct vm vm_create(void)
{
	struct vm vm = { .vcpu = -1 };

	vm.fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
	if (vm.fd < 0)
		err(1, "KVM_CREATE_VM");
	return vm;
}

/* Flat protected mode, so that the guest reaches what lies below the range. */
static void vm_add_vcpu(struct vm *vm)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .type = 3, .present = 1, .db = 1, .s = 1,
		.g = 1, .selector = 0x10,
	};
	struct kvm_segment code = data;
	struct kvm_sregs sregs;
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->beside = map_memory(BESIDE_SIZE);
	vm_memslot(vm, SLOT_BESIDE, BESIDE_GPA, BESIDE_SIZE, vm->beside, -1);
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       vm->vcpu, 0);
	if (vm->vcpu < 0 || vm->run == MAP_FAILED)
		err(1, "vCPU");

	code.type = 11;
	code.selector = 8;
	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		err(1, "KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.ss = data;
	sregs.cr0 |= 1;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		err(1, "KVM_SET_SREGS");
}

/* One write of the guest to a page that it has not touched yet. */
static void fault_beside(struct vm *vm)
{
	static const uint8_t code[] = { 0xc6, 0x07, 0x01, 0xf4 };
	static uint64_t next = PAGE;
	struct kvm_regs regs = {
		.rip = BESIDE_GPA, .rdi = BESIDE_GPA + next, .rflags = 2,
	};

	next += PAGE;
	if (next == BESIDE_SIZE)
		errx(1, "no untouched page is left beside the range");
	memcpy(vm->beside, code, sizeof(code));
	if (ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		err(1, "KVM_SET_REGS");
	if (ioctl(vm->vcpu, KVM_RUN, 0) ||
	    vm->run->exit_reason != KVM_EXIT_HLT)
		errx(1, "KVM_RUN: exit %u", vm->run->exit_reason);
}

static void create_memslot(struct vm *vm)
{
	static void *mem;

	if (!mem)
		mem = map_memory(PAGE);
	vm_memslot(vm, SLOT_OTHER, OTHER_GPA, PAGE, mem, -1);
}

static void delete_memslot(struct vm *vm)
{
	vm_memslot(vm, SLOT_OTHER, OTHER_GPA, 0, NULL, -1);
}

static void become_realtime(void)
{
	const struct sched_param param = { .sched_priority = 1 };

	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))
		errx(1, "SCHED_FIFO");
}

/* Without an operation, what counts is the time from tick to tick. */
static void *watch(void *arg)
{
	const struct timespec period = { .tv_nsec = TICK };
	struct watcher *w = arg;
	uint64_t begun, took;

	become_realtime();
	for (begun = now(); !w->stop;) {
		nanosleep(&period, NULL);
		if (w->operation) {
			begun = now();
			w->operation(w->vm);
		}
		took = now() - begun;
		begun += took;
		if (w->watching && took > w->longest)
			w->longest = took;
		w->count++;
		if (w->operation == create_memslot)
			delete_memslot(w->vm);
	}
	return NULL;
}

static void spin(uint64_t instructions)
{
	uint64_t end = now() + instructions;

	while (now() < end)
		;
}

/* Let the other thread run, and see that it has. */
static void let_run(struct watcher *w)
{
	uint64_t count = w->count;

	while (w->count == count)
		sched_yield();
}

static void watcher_start(struct watcher *w, void (*operation)(struct vm *vm),
			  struct vm *vm)
{
	memset(w, 0, sizeof(*w));
	w->operation = operation;
	w->vm = vm;
	if (pthread_create(&w->thread, NULL, watch, w))
		errx(1, "pthread_create");
	let_run(w);
	w->watching = true;
}

static uint64_t watcher_stop(struct watcher *w)
{
	/* The stall at the end of the call, if there is one. */
	spin(SETTLE);
	w->stop = true;
	pthread_join(w->thread, NULL);
	return w->longest;
}

/* Make a call with a ticking thread beside it. */
#define MEASURE(row, call) do {						\
	const char *__row = (row);					\
	struct watcher __w;						\
	uint64_t __t;							\
									\
	watcher_start(&__w, NULL, NULL);				\
	__t = now();							\
	call;								\
	__t = now() - __t;						\
	report("stall", __row, watcher_stop(&__w));			\
	report("call", __row, __t);					\
} while (0)

static void update(struct vm *vm, const struct kvm_memory_attributes_update *u,
		   unsigned int nr)
{
	struct kvm_update_memory_attributes args = {
		.updates = (uintptr_t)u, .nr_updates = nr,
	};

	if (ioctl(vm->fd, KVM_UPDATE_MEMORY_ATTRIBUTES, &args))
		err(1, "KVM_UPDATE_MEMORY_ATTRIBUTES");
}

static void update_range(struct vm *vm, uint64_t size, uint64_t bits)
{
	struct kvm_memory_attributes_update u = {
		.address = RANGE_GPA, .size = size, .set = bits,
	};

	update(vm, &u, 1);
}

static void set(struct vm *vm, uint64_t size, uint64_t attrs)
{
	struct kvm_memory_attributes args = {
		.address = RANGE_GPA, .size = size, .attributes = attrs,
	};

	if (ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &args))
		err(1, "KVM_SET_MEMORY_ATTRIBUTES");
}

static void get(struct vm *vm, uint64_t size)
{
	struct kvm_get_memory_attributes args = {
		.address = RANGE_GPA, .size = size,
		.extents = (uintptr_t)extents, .nr_extents = NR_EXTENTS,
	};

	if (ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, &args))
		err(1, "KVM_GET_MEMORY_ATTRIBUTES");
}

static void alternate(struct vm *vm, uint64_t size)
{
	uint64_t gpa = RANGE_GPA;
	unsigned int i;

	while (gpa < RANGE_GPA + size) {
		for (i = 0; i < NR_UPDATES; i++, gpa += 2 * PAGE)
			updates[i] = (struct kvm_memory_attributes_update) {
				.address = gpa, .size = PAGE, .set = PRIVATE,
			};
		update(vm, updates, NR_UPDATES);
	}
}

/* All of the VM's extents as text. */
static void read_debugfs(const struct vm *vm)
{
	static char text[65536];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/mem_attrs",
		 getpid(), vm->fd);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		err(1, "%s", path);
	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

static void fragmented(unsigned int gib)
{
	struct vm vm = vm_create();
	uint64_t size = gib * GiB;
	char row[32];

#define ROW(name) (snprintf(row, sizeof(row), name "_%uG", gib), row)
	alternate(&vm, size);
	MEASURE(ROW("debugfs"), read_debugfs(&vm));
	MEASURE(ROW("update"), update_range(&vm, size, NX));
	MEASURE(ROW("update_same"), update_range(&vm, size, NX));
	MEASURE(ROW("get"), get(&vm, size));
	MEASURE(ROW("clear"), set(&vm, size, 0));
	alternate(&vm, size);
	MEASURE(ROW("set"), set(&vm, size, PRIVATE));
	set(&vm, size, 0);
	alternate(&vm, size);
	MEASURE(ROW("close_vm"), close(vm.fd));
#undef ROW
}

/* A vCPU that faults beside the range while all of the range is set. */
static void neighbour(unsigned int gib)
{
	struct vm vm = vm_create();
	struct watcher w;
	uint64_t count;

	vm_add_vcpu(&vm);
	watcher_start(&w, fault_beside, &vm);
	spin(LONG_CALL);
	report("longest", "fault_beside_none", watcher_stop(&w));

	alternate(&vm, gib * GiB);
	watcher_start(&w, fault_beside, &vm);
	count = w.count;
	set(&vm, gib * GiB, PRIVATE);
	count = w.count - count;
	report("longest", "fault_beside", watcher_stop(&w));
	printf("bench,nr_fault_beside,faults,%llu,0\n", (unsigned long long)count);
	close(vm.vcpu);
	close(vm.fd);
	munmap(vm.beside, BESIDE_SIZE);
}

static int backed(struct vm *vm, uint64_t flags, bool allocated)
{
	struct kvm_create_guest_memfd args = {
		.size = BACKED_SIZE, .flags = flags,
	};
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_BACKING_FLAGS, .args[0] = flags,
	};
	static void *shared;
	int gmem;

	if (flags && ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		err(1, "KVM_ENABLE_CAP");
	gmem = ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &args);
	if (gmem < 0)
		err(1, "KVM_CREATE_GUEST_MEMFD");
	if (!shared)
		shared = map_memory(BACKED_SIZE);
	vm_memslot(vm, SLOT_BACKED, BACKED_GPA, BACKED_SIZE, shared, gmem);
	if (allocated && fallocate(gmem, FALLOC_FL_KEEP_SIZE, 0, BACKED_SIZE))
		err(1, "fallocate");
	return gmem;
}

static void allocate(int gmem)
{
	if (fallocate(gmem, FALLOC_FL_KEEP_SIZE, 0, BACKED_SIZE))
		err(1, "fallocate");
}

static void punch(int gmem)
{
	if (fallocate(gmem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      BACKED_SIZE))
		err(1, "PUNCH_HOLE");
}

/* The longest creation of a memslot while all of a file is freed. */
static void memslot_beside(const char *row, void (*free_all)(int gmem),
			   uint64_t flags)
{
	struct vm vm = vm_create();
	struct watcher w;
	int gmem = backed(&vm, flags, true);

	watcher_start(&w, create_memslot, &vm);
	free_all(gmem);
	report("memslot", row, watcher_stop(&w));
	close(gmem);
	close(vm.fd);
}

static void close_gmem(int gmem)
{
	close(gmem);
}

static void backing(const char *name, uint64_t flags)
{
	struct vm vm = vm_create();
	int gmem = backed(&vm, flags, false);
	char row[32];

#define ROW(name_) (snprintf(row, sizeof(row), name_ "_%s", name), row)
	MEASURE(ROW("allocate"), allocate(gmem));
	MEASURE(ROW("punch"), punch(gmem));
	allocate(gmem);
	MEASURE(ROW("close_gmem"), close(gmem));
	close(vm.fd);
	memslot_beside(ROW("punch"), punch, flags);
	memslot_beside(ROW("close_gmem"), close_gmem, flags);
#undef ROW
}

/* For comparison: how long the page allocator takes to take back many pages. */
static void anonymous_memory(void)
{
	char *mem = map_memory(BACKED_SIZE);

	madvise(mem, BACKED_SIZE, MADV_NOHUGEPAGE);
	memset(mem, 1, BACKED_SIZE);
	MEASURE("munmap", munmap(mem, BACKED_SIZE));
}

/* usage: mem_attrs_latency [MAX_GIB]: at most 1, 4 or 16 GiB of the pattern */
int main(int argc, char **argv)
{
	unsigned int max_gib = argc > 1 ? atoi(argv[1]) : 16, gib;

	kvm_fd = open("/dev/kvm", O_RDWR);
	if (kvm_fd < 0)
		err(1, "/dev/kvm");

	MEASURE("none", spin(LONG_CALL));
	anonymous_memory();
	for (gib = 1; gib <= max_gib; gib *= 4)
		fragmented(gib);
	neighbour(max_gib < 4 ? max_gib : 4);
	backing("4K", 0);
	if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_BACKING_FLAGS) &
	    KVM_GUEST_MEMFD_HUGE_PAGES)
		backing("2M", KVM_GUEST_MEMFD_HUGE_PAGES);
	return 0;
}
