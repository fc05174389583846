// SPDX-License-Identifier: GPL-2.0-only
/*
 * What memory attributes cost.
 *
 * Prints "bench,ROW,UNIT,VALUE,WORST" for each thing measured.  Times are ticks
 * of the TSC.  In an emulator that counts instructions (QEMU's -icount shift=0)
 * one tick is one instruction, the same on every machine and in every run.
 *
 * Plain ioctls and no library: one static binary runs on any kernel.  A row
 * that needs something the kernel has not is left out, so the output of the
 * kernel with the feature, of the one without, and of mainline can be compared
 * line by line.
 *
 * VALUE is the median of several operations, which a timer interrupt in the
 * middle of one does not change, or, where many were made, their mean.  WORST is
 * the largest.
 *
 * usage: mem_attrs_bench [-m MAX_GIB] [ROW...]
 *   -m	largest range to set, in GiB (1024)
 *   ROW	what to measure, see rows[] (everything)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <asm/kvm_para.h>
#include <linux/kvm.h>

#define KiB		1024ULL
#define MiB		(1024 * KiB)
#define GiB		(1024 * MiB)
#define PAGE		(4 * KiB)
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define NW		KVM_MEMORY_ATTRIBUTE_NW
#define NX		KVM_MEMORY_ATTRIBUTE_NX

/* Repetitions of what a row measures, fewer where one of them takes long. */
#define TRIALS		9
#define REPEAT		1000
#define ENOUGH		(500ULL * 1000 * 1000)
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

/* Room for the guest's code even where a smaller range is what is measured. */
#define VM_MIN_SIZE	MiB

/* Guest memory that the guest touches: clear of its own code. */
#define TOUCH_GPA	(16 * MiB)
#define TOUCH_PAGES	8192
#define TOUCH_BATCH	64
#define CODE_GPA	PAGE

/* The one page with attributes of a VM that is otherwise without. */
#define PROTECTED_SIZE	(64 * MiB)
#define PROTECTED_GPA	(56 * MiB)

/* What is touched to compare 4 KiB and 2 MiB of private memory. */
#define BACKED_SIZE	GiB

/* Of no meaning but that it is aligned: KVM maps no 2 MiB without that. */
#define ALIGNED_HVA	((void *)0x100000000000)

struct vm {
	int fd;
	int vcpu;
	int gmem;
	struct kvm_run *run;
	char *mem;
	uint64_t size;
};

static int kvm_fd;
/* How the next VM backs private memory: KVM_GUEST_MEMFD_* */
static uint64_t memfd_flags;
static uint64_t max_size = 1024 * GiB;

static void report(const char *row, const char *unit, uint64_t value,
		   uint64_t worst)
{
	printf("bench,%s,%s,%llu,%llu\n", row, unit,
	       (unsigned long long)value, (unsigned long long)worst);
	fflush(stdout);
}

/*
 * Start and end of what is measured.  The no-ops with an address in them mean
 * nothing to a CPU, and show a profiler in the emulator what to count.
 */
static inline uint64_t start(void)
{
	uint32_t lo, hi;

	asm volatile("nopl 0x6b766d01(%%rax)\n\trdtsc"
		     : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t stop(uint64_t since)
{
	uint32_t lo, hi;

	asm volatile("rdtsc\n\tnopl 0x6b766d02(%%rax)"
		     : "=a"(lo), "=d"(hi) : : "memory");
	return ((uint64_t)hi << 32 | lo) - since;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report_times(const char *row, uint64_t *times, int n, int divisor)
{
	qsort(times, n, sizeof(*times), compare);
	report(row, "instructions", times[n / 2] / divisor,
	       times[n - 1] / divisor);
}

/*
 * The VM: one memslot from guest physical address 0, anonymous memory of which
 * nothing is allocated until it is touched, and for a VM with private memory a
 * guest_memfd as large.
 */
static uint64_t supported_attributes(void)
{
	int attrs = ioctl(kvm_fd, KVM_CHECK_EXTENSION,
			  KVM_CAP_MEMORY_ATTRIBUTES);

	return attrs > 0 ? attrs : 0;
}

static bool has_memfd_flags(uint64_t flags)
{
	int supported = ioctl(kvm_fd, KVM_CHECK_EXTENSION,
			      KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);

	return supported >= 0 && (supported & flags) == flags;
}

static void vm_enable_memfd_flags(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_BACKING_FLAGS,
		.args = { memfd_flags },
	};

	if (memfd_flags && ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		err(1, "KVM_CAP_GUEST_MEMFD_BACKING_FLAGS");
}

static void vm_add_memslot(struct vm *vm, bool protected)
{
	struct kvm_userspace_memory_region2 region = {
		.memory_size = vm->size,
		.userspace_addr = (uintptr_t)vm->mem,
	};
	struct kvm_create_guest_memfd gmem = {
		.size = vm->size, .flags = memfd_flags,
	};
	int r;

	if (!protected) {
		/* The old struct is the start of the new one. */
		r = ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	} else {
		vm_enable_memfd_flags(vm);
		vm->gmem = ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &gmem);
		if (vm->gmem < 0)
			err(1, "KVM_CREATE_GUEST_MEMFD");
		region.flags = KVM_MEM_GUEST_MEMFD;
		region.guest_memfd = vm->gmem;
		r = ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region);
	}
	if (r)
		err(1, "memslot of %llu MiB", (unsigned long long)vm->size >> 20);
}

static void vm_add_vcpu(struct vm *vm)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .type = 3, .present = 1, .db = 1, .s = 1,
		.g = 1, .selector = 0x10,
	};
	struct kvm_segment code = data;
	struct kvm_sregs sregs;
	int size;

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
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

/* Run the guest until it halts. */
static void vm_run(struct vm *vm)
{
	if (ioctl(vm->vcpu, KVM_RUN, 0))
		err(1, "KVM_RUN");
	if (vm->run->exit_reason != KVM_EXIT_HLT)
		errx(1, "KVM_RUN: exit %u", vm->run->exit_reason);
}

static void vm_load(struct vm *vm, const void *code, size_t size, uint64_t rdi)
{
	struct kvm_regs regs = {
		.rip = CODE_GPA, .rdi = rdi, .rflags = 2,
	};

	memcpy(vm->mem + CODE_GPA, code, size);
	if (ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		err(1, "KVM_SET_REGS");
}

static struct vm vm_create(uint64_t size, bool protected)
{
	struct vm vm = { .gmem = -1, .size = size };

	vm.fd = ioctl(kvm_fd, KVM_CREATE_VM, protected);
	if (vm.fd < 0)
		err(1, "KVM_CREATE_VM");

	vm.mem = mmap(memfd_flags ? ALIGNED_HVA : NULL, size,
		      PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm.mem == MAP_FAILED)
		err(1, "mmap");
	madvise(vm.mem, size, MADV_NOHUGEPAGE);

	vm_add_memslot(&vm, protected);
	vm_add_vcpu(&vm);
	return vm;
}

/* Set the attributes of a range; returns what it cost. */
static uint64_t set(struct vm *vm, uint64_t gpa, uint64_t size, uint64_t attrs)
{
	struct kvm_memory_attributes args = {
		.address = gpa, .size = size, .attributes = attrs,
	};
	uint64_t t;
	int r;

	t = start();
	r = ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &args);
	t = stop(t);
	if (r)
		err(1, "KVM_SET_MEMORY_ATTRIBUTES %#llx+%#llx",
		    (unsigned long long)gpa, (unsigned long long)size);
	return t;
}

/* VMs to compare: nothing set, and one page protected that is never touched. */
static struct vm vm_create_plain(void)
{
	return vm_create(PROTECTED_SIZE, false);
}

static struct vm vm_create_protected(void)
{
	struct vm vm = vm_create_plain();

	set(&vm, PROTECTED_GPA, PAGE, NW);
	return vm;
}

/* Have the vCPU run, so that there are page tables, with one page mapped. */
static void vm_start(struct vm *vm)
{
	static const uint8_t halt[] = { 0xf4 };

	vm_load(vm, halt, sizeof(halt), 0);
	vm_run(vm);
}

static void vm_destroy(struct vm *vm)
{
	munmap(vm->run, ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(vm->vcpu);
	close(vm->fd);
	if (vm->gmem >= 0)
		close(vm->gmem);
	munmap(vm->mem, vm->size);
}

/*
 * Memory that the kernel uses: all slabs, in kB, and nodes of XArrays, of which
 * the attributes are made, in bytes.  Before it is taken, what waits for a grace
 * period gets free, and slabs with nothing in use are given back.
 */
static void shrink_cache(const char *cache)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", cache);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) != 1)
		err(1, "%s", path);
	close(fd);
}

static void settle(void)
{
	struct dirent *entry;
	DIR *caches;

	/* kfree_rcu() may take 5 s; an idle emulator skips the time. */
	sleep(6);

	caches = opendir("/sys/kernel/slab");
	while (caches && (entry = readdir(caches)))
		shrink_cache(entry->d_name);
	if (caches)
		closedir(caches);
}

static long number_in(const char *path, const char *format, unsigned long *size)
{
	char line[512];
	long value = -1;
	FILE *f;

	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &value, size) > 0)
			break;
	if (f)
		fclose(f);
	return value;
}

static long slab_kb(void)
{
	return number_in("/proc/meminfo", "Slab: %ld", NULL);
}

static long node_bytes(void)
{
	unsigned long size = 0;
	long nodes = number_in("/proc/slabinfo", "radix_tree_node %ld %*d %lu",
			       &size);

	return nodes * (long)size;
}

struct usage {
	long slab;
	long nodes;
};

static struct usage usage(void)
{
	settle();
	return (struct usage) { slab_kb(), node_bytes() };
}

/* What came on top of @before. */
static void report_usage(const char *row, struct usage before)
{
	struct usage now = usage();
	char name[64];

	snprintf(name, sizeof(name), "%s_slab", row);
	report(name, "kB", now.slab > before.slab ? now.slab - before.slab : 0,
	       0);
	snprintf(name, sizeof(name), "%s_nodes", row);
	report(name, "bytes",
	       now.nodes > before.nodes ? now.nodes - before.nodes : 0, 0);
}

static void report_named(uint64_t *times, int n, const char *format,
			 const char *name)
{
	char row[64];

	snprintf(row, sizeof(row), format, name);
	report_times(row, times, n, 1);
}

/* Set and clear all of a VM with nothing mapped; what that occupies, too. */
static void set_and_clear(const char *name, uint64_t size)
{
	struct vm vm = vm_create(size < VM_MIN_SIZE ? VM_MIN_SIZE : size, true);
	uint64_t on[TRIALS], off[TRIALS];
	struct usage before = usage();
	char row[64];
	int n = 0;

	do {
		on[n] = set(&vm, 0, size, PRIVATE);
		if (!n) {
			snprintf(row, sizeof(row), "uniform_%s", name);
			report_usage(row, before);
		}
		off[n] = set(&vm, 0, size, 0);
	} while (on[n++] < ENOUGH && n < TRIALS);
	report_named(on, n, "set_%s", name);
	report_named(off, n, "clear_%s", name);
	vm_destroy(&vm);
}

/* The same where the guest runs, but for its page that is mapped. */
static void set_and_clear_live(const char *name, uint64_t size)
{
	struct vm vm = vm_create(size < VM_MIN_SIZE ? VM_MIN_SIZE : size, true);
	uint64_t on[TRIALS], off[TRIALS];
	int n = 0;

	do {
		vm_start(&vm);
		on[n] = set(&vm, 0, size, PRIVATE);
		off[n] = set(&vm, 0, size, 0);
	} while (on[n++] < ENOUGH && n < TRIALS);
	report_named(on, n, "live_set_%s", name);
	report_named(off, n, "live_clear_%s", name);
	vm_destroy(&vm);
}

static void row_sweep(void)
{
	static const char unit[] = "KMGT";
	uint64_t size, shown;
	char name[16];
	int u;

	for (size = 4 * KiB; size <= max_size; size *= 2) {
		for (u = 0, shown = size / KiB; shown >= 1024; shown /= 1024)
			u++;
		snprintf(name, sizeof(name), "%llu%c",
			 (unsigned long long)shown, unit[u]);
		set_and_clear(name, size);
		set_and_clear_live(name, size);
	}
}

static void row_hole(void)
{
	struct vm vm = vm_create(16 * GiB, true);
	uint64_t hole[TRIALS], fill[TRIALS];
	uint64_t gpa = 8 * GiB + 5 * PAGE;
	int i;

	set(&vm, 0, vm.size, PRIVATE);
	for (i = 0; i < TRIALS; i++) {
		hole[i] = set(&vm, gpa, PAGE, 0);
		fill[i] = set(&vm, gpa, PAGE, PRIVATE);
	}
	vm_destroy(&vm);
	report_times("hole_4K", hole, TRIALS, 1);
	report_times("fill_4K", fill, TRIALS, 1);
}

static void toggle(const char *row, uint64_t size, int n)
{
	struct vm vm = vm_create(16 * GiB, true);
	uint64_t sum = 0, worst = 0, t;
	int i;

	for (i = 0; i < n; i++) {
		t = set(&vm, GiB, size, i & 1 ? 0 : PRIVATE);
		if (t > worst)
			worst = t;
		sum += t;
	}
	vm_destroy(&vm);
	report(row, "instructions", sum / n, worst);
}

static void row_toggle_4k(void)
{
	toggle("toggle_4K", PAGE, 1000);
}

static void trace_sets(const char *on)
{
	FILE *file = fopen("/sys/kernel/tracing/events/kvm/kvm_mem_attrs_set/enable", "w");

	if (!file || fputs(on, file) < 0 || fclose(file))
		err(1, "kvm_mem_attrs_set");
}

static void row_toggle_4k_traced(void)
{
	trace_sets("1");
	toggle("toggle_4K_traced", PAGE, 1000);
	trace_sets("0");
}

static void row_toggle_2m(void)
{
	toggle("toggle_2M", 2 * MiB, 100);
}

static void row_alternate(void)
{
	uint64_t gpa, sum = 0, worst = 0, span = 64 * MiB, t;
	struct vm vm = vm_create(16 * GiB, true);
	struct usage before = usage();

	for (gpa = 0; gpa < span; gpa += 2 * PAGE) {
		t = set(&vm, GiB + gpa, PAGE, PRIVATE);
		if (t > worst)
			worst = t;
		sum += t;
	}
	report("alternate_64M", "instructions", sum / (span / (2 * PAGE)),
	       worst);
	report_usage("alternate_64M", before);
	t = set(&vm, GiB, span, 0);
	report("alternate_64M_clear", "instructions", t, t);
	vm_destroy(&vm);
}

/* 1,000 times: set, make holes, fill them, clear.  Slab ends where it began. */
#define HOLES	64

static void cycle(struct vm *vm, uint64_t offset)
{
	uint64_t step = vm->size / HOLES, gpa;

	set(vm, 0, vm->size, PRIVATE);
	for (gpa = offset; gpa < vm->size; gpa += step)
		set(vm, gpa, PAGE, 0);
	for (gpa = offset; gpa < vm->size; gpa += step)
		set(vm, gpa, PAGE, PRIVATE);
	set(vm, 0, vm->size, 0);
}

static void row_cycle(void)
{
	struct vm vm = vm_create(max_size, true);
	struct usage before;
	int i;

	/* What the first use allocates for good is not a leak. */
	cycle(&vm, 0);
	before = usage();
	for (i = 0; i < 1000; i++)
		cycle(&vm, i * PAGE);
	report_usage("cycle_1000", before);
	vm_destroy(&vm);
}

/* Read back what is set: extents of many sizes, compared one by one. */
#define EXTENTS	100000
#define CHUNK	65536

static struct kvm_memory_attributes_extent expected[EXTENTS], got[CHUNK];

static void set_extents(struct vm *vm)
{
	uint64_t gpa = 0, mean = vm->size / EXTENTS / PAGE, size;
	uint32_t seed = 1;
	int i;

	for (i = 0; i < EXTENTS; i++) {
		seed = seed * 1664525 + 1013904223;
		size = (1 + (seed >> 8) % (2 * mean - 2)) * PAGE;
		/* Random sizes may add up to too much, or to too little. */
		if (size > vm->size - gpa - (EXTENTS - i - 1) * PAGE)
			size = PAGE;
		if (i == EXTENTS - 1)
			size = vm->size - gpa;
		expected[i] = (struct kvm_memory_attributes_extent) {
			.address = gpa, .size = size,
			.attributes = i & 1 ? 0 : PRIVATE,
		};
		if (!(i & 1))
			set(vm, gpa, size, PRIVATE);
		gpa += size;
	}
}

static void row_read_back(void)
{
	struct kvm_get_memory_attributes args = {
		.size = max_size,
		.extents = (uintptr_t)got,
	};
	struct vm vm = vm_create(max_size, true);
	uint64_t sum = 0, t;
	size_t n = 0;

	if (ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_GET_MEMORY_ATTRIBUTES) <=
	    0)
		goto out;

	set_extents(&vm);
	while (args.size) {
		args.nr_extents = CHUNK;
		t = start();
		if (ioctl(vm.fd, KVM_GET_MEMORY_ATTRIBUTES, &args))
			err(1, "KVM_GET_MEMORY_ATTRIBUTES");
		sum += stop(t);
		if (n + args.nr_extents > EXTENTS ||
		    memcmp(got, expected + n, args.nr_extents * sizeof(*got)))
			errx(1, "read back other extents than were set");
		n += args.nr_extents;
	}
	if (n != EXTENTS)
		errx(1, "read back %zu extents of %d", n, EXTENTS);
	report("read_back_extent", "instructions", sum / EXTENTS,
	       sum / EXTENTS);
out:
	vm_destroy(&vm);
}

/*
 * Faults: the guest writes a byte to each page, and halts after a batch.  The
 * cost of entering and leaving the guest once per batch is part of it.
 */
static const uint8_t touch_code[] = {
	0xb9, TOUCH_BATCH, 0, 0, 0,		/* 0: mov  $BATCH, %ecx */
	0xc6, 0x07, 0x01,			/* 1: movb $1, (%edi) */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,	/*    add  $4096, %edi */
	0x49,					/*    dec  %ecx */
	0x75, 0xf4,				/*    jnz  1b */
	0xf4,					/*    hlt */
	0xeb, 0xec,				/*    jmp  0b */
};

static void touch(const char *row, struct vm *vm)
{
	static uint64_t times[TOUCH_PAGES / TOUCH_BATCH];
	size_t i;

	vm_load(vm, touch_code, sizeof(touch_code), TOUCH_GPA);
	for (i = 0; i < ARRAY_SIZE(times); i++) {
		times[i] = start();
		vm_run(vm);
		times[i] = stop(times[i]);
	}
	report_times(row, times, ARRAY_SIZE(times), TOUCH_BATCH);
}

/* Have the pages in the host's page tables: what is measured is KVM's part. */
static void populate(struct vm *vm)
{
	memset(vm->mem + TOUCH_GPA, 1, TOUCH_PAGES * PAGE);
}

static void fault(const char *row, struct vm vm)
{
	populate(&vm);
	touch(row, &vm);
	vm_destroy(&vm);
}

static void row_fault(void)
{
	fault("fault", vm_create_plain());
}

static void row_fault_protected(void)
{
	fault("fault_protected", vm_create_protected());
}

/* The same in a VM of which many other pages are private. */
static void row_fault_in_use(void)
{
	struct vm vm = vm_create(GiB, true);
	uint64_t gpa;

	for (gpa = 512 * MiB; gpa < 520 * MiB; gpa += 2 * PAGE)
		set(&vm, gpa, PAGE, PRIVATE);
	fault("fault_in_use", vm);
}

/* Private pages: with the guest_memfd's pages there already, and without. */
static void fault_private(const char *row, bool allocated)
{
	struct vm vm = vm_create(64 * MiB, true);

	set(&vm, TOUCH_GPA, TOUCH_PAGES * PAGE, PRIVATE);
	if (allocated &&
	    fallocate(vm.gmem, FALLOC_FL_KEEP_SIZE, TOUCH_GPA,
		      TOUCH_PAGES * PAGE))
		err(1, "fallocate");
	touch(row, &vm);
	vm_destroy(&vm);
}

static void row_fault_private(void)
{
	fault_private("fault_private", true);
}

static void row_fault_private_new(void)
{
	fault_private("fault_private_new", false);
}

/*
 * 1 GiB of private memory: the guest touches each page, or some at random.
 * Allocating and zeroing it counts apart.
 */
static const uint8_t touch_all_code[] = {
	0xb9, 0x00, 0x00, 0x04, 0x00,		/*    mov  $262144, %ecx */
	0xc6, 0x07, 0x01,			/* 1: movb $1, (%edi) */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,	/*    add  $4096, %edi */
	0x49,					/*    dec  %ecx */
	0x75, 0xf4,				/*    jnz  1b */
	0xf4,					/*    hlt */
};

static const uint8_t touch_random_code[] = {
	0xb9, 0x20, 0xa1, 0x07, 0x00,		/*    mov  $500000, %ecx */
	0xb8, 0x01, 0x00, 0x00, 0x00,		/*    mov  $1, %eax */
	0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,	/* 1: imul $1664525, %eax, %eax */
	0x05, 0x5f, 0xf3, 0x6e, 0x3c,		/*    add  $1013904223, %eax */
	0x89, 0xc2,				/*    mov  %eax, %edx */
	0x81, 0xe2, 0x00, 0xf0, 0xff, 0x3f,	/*    and  $0x3ffff000, %edx */
	0xc6, 0x04, 0x17, 0x01,			/*    movb $1, (%edi, %edx) */
	0x49,					/*    dec  %ecx */
	0x75, 0xe6,				/*    jnz  1b */
	0xf4,					/*    hlt */
};

static long faults(void)
{
	return number_in("/sys/kernel/debug/kvm/pf_taken", "%ld", NULL);
}

static void report_backed(const char *what, const char *how, const char *unit,
			  uint64_t value)
{
	char row[64];

	snprintf(row, sizeof(row), "%s_1G_%s", what, how);
	report(row, unit, value, value);
}

static void touch_backed(const char *what, const char *how, const void *code,
			 size_t size)
{
	struct vm vm = vm_create(BACKED_SIZE + TOUCH_GPA, true);
	char name[32];
	uint64_t t;
	long n;

	set(&vm, TOUCH_GPA, BACKED_SIZE, PRIVATE);
	t = start();
	if (fallocate(vm.gmem, FALLOC_FL_KEEP_SIZE, TOUCH_GPA, BACKED_SIZE))
		err(1, "fallocate");
	t = stop(t);
	if (code == touch_all_code)
		report_backed("allocate", how, "instructions", t);

	n = faults();
	vm_load(&vm, code, size, TOUCH_GPA);
	t = start();
	vm_run(&vm);
	t = stop(t);
	report_backed(what, how, "instructions", t);
	if (n >= 0) {
		snprintf(name, sizeof(name), "%s_faults", what);
		report_backed(name, how, "faults", faults() - n);
	}

	/* Everything is mapped now: what is left is the guest's own. */
	vm_load(&vm, code, size, TOUCH_GPA);
	t = start();
	vm_run(&vm);
	t = stop(t);
	snprintf(name, sizeof(name), "%s_again", what);
	report_backed(name, how, "instructions", t);
	vm_destroy(&vm);
}

static void row_backing(void)
{
	static const struct {
		const char *name;
		uint64_t flags;
	} backings[] = {
		{ "4K", 0 },
		{ "2M", KVM_GUEST_MEMFD_HUGE_PAGES },
		{ "2M_hidden", KVM_GUEST_MEMFD_HUGE_PAGES |
			       KVM_GUEST_MEMFD_NO_DIRECT_MAP },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(backings); i++) {
		memfd_flags = backings[i].flags;
		if (memfd_flags && !has_memfd_flags(memfd_flags))
			continue;
		touch_backed("touch", backings[i].name, touch_all_code,
			     sizeof(touch_all_code));
		touch_backed("random", backings[i].name, touch_random_code,
			     sizeof(touch_random_code));
	}
	memfd_flags = 0;
}

/*
 * 1 GiB that is mapped: take writing away, give it back.  Neither may cost what
 * is mapped its mappings, and the first no more than to take them away, as
 * taking execution does, and have the guest fault them in again.
 */
static const uint8_t read_all_code[] = {
	0xb9, 0x00, 0x00, 0x04, 0x00,		/*    mov  $262144, %ecx */
	0x80, 0x3f, 0x01,			/* 1: cmpb $1, (%edi) */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,	/*    add  $4096, %edi */
	0x49,					/*    dec  %ecx */
	0x75, 0xf4,				/*    jnz  1b */
	0xf4,					/*    hlt */
};

struct cost {
	uint64_t time;
	long faults;
};

static struct cost access_mapped(struct vm *vm, const uint8_t *code)
{
	struct cost cost = { .faults = faults() };
	uint64_t t;

	vm_load(vm, code, sizeof(read_all_code), TOUCH_GPA);
	t = start();
	vm_run(vm);
	cost.time = stop(t);
	cost.faults = faults() - cost.faults;
	return cost;
}

static void report_mapped(const char *row, const char *unit, uint64_t value)
{
	report(row, unit, value, value);
}

static void narrow_and_widen(struct vm *vm)
{
	struct cost cost;

	report_mapped("narrow_1G", "instructions",
		      set(vm, TOUCH_GPA, BACKED_SIZE, NW));
	cost = access_mapped(vm, read_all_code);
	report_mapped("narrow_1G_reads", "faults", cost.faults);

	report_mapped("widen_1G", "instructions",
		      set(vm, TOUCH_GPA, BACKED_SIZE, 0));
	cost = access_mapped(vm, read_all_code);
	report_mapped("widen_1G_reads", "faults", cost.faults);

	/* A mapping is made writable when it is written to. */
	cost = access_mapped(vm, touch_all_code);
	report_mapped("widen_1G_write", "instructions",
		      cost.time / (BACKED_SIZE / PAGE));
}

static void zap_and_refault(struct vm *vm)
{
	uint64_t own = access_mapped(vm, read_all_code).time;
	uint64_t t = set(vm, TOUCH_GPA, BACKED_SIZE, NX);

	t += access_mapped(vm, read_all_code).time;
	report_mapped("zap_1G", "instructions", t - own);
}

static void row_mapped(void)
{
	struct vm vm = vm_create(BACKED_SIZE + TOUCH_GPA, false);

	memset(vm.mem + TOUCH_GPA, 1, BACKED_SIZE);
	access_mapped(&vm, touch_all_code);
	narrow_and_widen(&vm);
	zap_and_refault(&vm);
	vm_destroy(&vm);
}

/*
 * Accesses of KVM itself to guest memory.  MMIO is emulated, once before
 * userspace provides the value and once after: an instruction fetch, and if the
 * value goes to memory a write.
 */
static const uint8_t mmio_code[] = {
	0xbe, 0x00, 0x00, 0x00, 0x10,		/* 0: mov $MMIO, %esi */
	0x8b, 0x06,				/*    mov (%esi), %eax */
	0xeb, 0xf7,				/*    jmp 0b */
};

static const uint8_t mmio_movs_code[] = {
	0xbe, 0x00, 0x00, 0x00, 0x10,		/* 0: mov $MMIO, %esi */
	0xbf, 0x00, 0x00, 0x00, 0x01,		/*    mov $TOUCH_GPA, %edi */
	0xa5,					/*    movsl */
	0xeb, 0xf3,				/*    jmp 0b */
};

static void mmio(const char *row, struct vm vm, const void *code, size_t size)
{
	static uint64_t times[REPEAT];
	size_t i;

	populate(&vm);
	vm_load(&vm, code, size, 0);
	for (i = 0; i < REPEAT; i++) {
		times[i] = start();
		if (ioctl(vm.vcpu, KVM_RUN, 0))
			err(1, "KVM_RUN");
		times[i] = stop(times[i]);
		if (vm.run->exit_reason != KVM_EXIT_MMIO)
			errx(1, "KVM_RUN: exit %u", vm.run->exit_reason);
	}
	report_times(row, times, REPEAT, 1);
	vm_destroy(&vm);
}

static void row_mmio(void)
{
	mmio("mmio", vm_create_plain(), mmio_code, sizeof(mmio_code));
}

static void row_mmio_protected(void)
{
	mmio("mmio_protected", vm_create_protected(), mmio_code,
	     sizeof(mmio_code));
}

static void row_mmio_movs(void)
{
	mmio("mmio_movs", vm_create_plain(), mmio_movs_code,
	     sizeof(mmio_movs_code));
}

static void row_mmio_movs_protected(void)
{
	mmio("mmio_movs_protected", vm_create_protected(), mmio_movs_code,
	     sizeof(mmio_movs_code));
}

static void set_msr(struct vm *vm, uint32_t index, uint64_t data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {
		.head.nmsrs = 1,
		.entry = { .index = index, .data = data },
	};

	if (ioctl(vm->vcpu, KVM_SET_MSRS, &msr) != 1)
		err(1, "KVM_SET_MSRS %#x", index);
}

/* The wall clock: one read of guest memory, and three writes. */
static void wall_clock(const char *row, struct vm vm)
{
	static uint64_t times[REPEAT];
	size_t i;

	populate(&vm);
	for (i = 0; i < REPEAT; i++) {
		times[i] = start();
		set_msr(&vm, MSR_KVM_WALL_CLOCK_NEW, TOUCH_GPA);
		times[i] = stop(times[i]);
	}
	report_times(row, times, REPEAT, 1);
	vm_destroy(&vm);
}

static void row_wall_clock(void)
{
	wall_clock("wall_clock", vm_create_plain());
}

static void row_wall_clock_protected(void)
{
	wall_clock("wall_clock_protected", vm_create_protected());
}

/* Run code that does something BATCH times, then halts, and starts over. */
#define BATCH	50

static void run_batches(const char *row, struct vm *vm)
{
	uint64_t times[REPEAT / BATCH];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(times); i++) {
		times[i] = start();
		vm_run(vm);
		times[i] = stop(times[i]);
	}
	report_times(row, times, ARRAY_SIZE(times), BATCH);
}

/*
 * kvm_read_guest(): a hypercall of Hyper-V, a TLB flush, which KVM reads from
 * guest memory, and serves without userspace.
 */
#define HV_CPUID_INTERFACE	0x40000001
#define HV_INTERFACE		0x31237648
#define HV_MSR_GUEST_OS_ID	0x40000000

static void vm_enable_hyperv(struct vm *vm)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry;
	} cpuid = {
		.head.nent = 1,
		.entry = { .function = HV_CPUID_INTERFACE, .eax = HV_INTERFACE },
	};

	if (ioctl(vm->vcpu, KVM_SET_CPUID2, &cpuid))
		err(1, "KVM_SET_CPUID2");
	set_msr(vm, HV_MSR_GUEST_OS_ID, 1);
}

static void read_guest(const char *row, struct vm vm)
{
	static const uint8_t code[] = {
		0xbd, BATCH, 0, 0, 0,		/* 0: mov  $BATCH, %ebp */
		0xb8, 0x02, 0x00, 0x00, 0x00,	/* 1: mov  $FLUSH, %eax */
		0x31, 0xd2,			/*    xor  %edx, %edx */
		0x31, 0xdb,			/*    xor  %ebx, %ebx */
		0xb9, 0x00, 0x00, 0x00, 0x01,	/*    mov  $TOUCH_GPA, %ecx */
		0x0f, 0x01, 0xd9,		/*    vmmcall */
		0x4d,				/*    dec  %ebp */
		0x75, 0xec,			/*    jnz  1b */
		0xf4,				/*    hlt */
		0xeb, 0xe4,			/*    jmp  0b */
	};

	memset(vm.mem + TOUCH_GPA, 0, PAGE);
	vm_enable_hyperv(&vm);
	vm_load(&vm, code, sizeof(code), 0);
	run_batches(row, &vm);
	vm_destroy(&vm);
}

static void row_read_guest(void)
{
	read_guest("read_guest", vm_create_plain());
}

static void row_read_guest_protected(void)
{
	read_guest("read_guest_protected", vm_create_protected());
}

/*
 * A nested guest (SVM) that exits at once, whenever it is run: with nested
 * paging and with a bitmap of MSRs, as hypervisors have.  Nested paging has page
 * tables of its own: KVM write-protects them, and the CPU writes to the others.
 */
#define VMCB_GPA	(1 * MiB)
#define HSAVE_GPA	(VMCB_GPA + PAGE)
#define MSRPM_GPA	(VMCB_GPA + 2 * PAGE)
#define CR3_GPA		(2 * MiB)
#define NESTED_CR3_GPA	(3 * MiB)
#define L2_GPA		(2 * PAGE)

/* Present, writable, user, accessed, dirty; large. */
#define PTE		0x67ULL
#define PTE_LARGE	0xe7ULL

#define CR0		0x80000011ULL	/* PG, ET, PE */
#define CR4		0x20ULL		/* PAE */
#define EFER		0x1500ULL	/* SVME, LMA, LME */
#define MSR_HSAVE	0xc0010117

/* Where things are in a VMCB. */
#define VMCB_INTERCEPTS	0x00c
#define VMCB_MSRPM	0x048
#define VMCB_ASID	0x058
#define VMCB_EXIT_CODE	0x070
#define VMCB_NESTED	0x090
#define VMCB_NESTED_CR3	0x0b0
#define VMCB_ES		0x400
#define VMCB_CS		0x410
#define VMCB_SS		0x420
#define VMCB_DS		0x430
#define VMCB_EFER	0x4d0
#define VMCB_CR4	0x548
#define VMCB_CR3	0x550
#define VMCB_CR0	0x558
#define VMCB_DR7	0x560
#define VMCB_DR6	0x568
#define VMCB_RFLAGS	0x570
#define VMCB_RIP	0x578

#define INTERCEPT_MSR	0x10000000ULL
#define INTERCEPT_VMRUN	0x100000000ULL
#define INTERCEPT_VMMCALL	0x200000000ULL
#define EXIT_VMMCALL	0x81

/* Selector, attributes and limit. */
#define CODE_SEGMENT	(0xffffffffULL << 32 | 0xa9bULL << 16 | 8)
#define DATA_SEGMENT	(0xffffffffULL << 32 | 0xc93ULL << 16 | 16)

static void poke(struct vm *vm, uint64_t gpa, uint64_t value)
{
	memcpy(vm->mem + gpa, &value, sizeof(value));
}

/* Identity, 2 MiB a page. */
static void build_page_tables(struct vm *vm, uint64_t pml4)
{
	uint64_t pdpt = pml4 + PAGE, pd = pdpt + PAGE, gpa;

	poke(vm, pml4, pdpt | PTE);
	poke(vm, pdpt, pd | PTE);
	for (gpa = 0; gpa < vm->size; gpa += 2 * MiB)
		poke(vm, pd + gpa / (2 * MiB) * 8, gpa | PTE_LARGE);
}

static void build_vmcb(struct vm *vm)
{
	static const struct {
		uint64_t field;
		uint64_t value;
	} vmcb[] = {
		{ VMCB_INTERCEPTS, INTERCEPT_MSR | INTERCEPT_VMRUN |
				   INTERCEPT_VMMCALL },
		{ VMCB_MSRPM, MSRPM_GPA },
		{ VMCB_ASID, 1 },
		{ VMCB_NESTED, 1 },
		{ VMCB_NESTED_CR3, NESTED_CR3_GPA },
		{ VMCB_ES, DATA_SEGMENT },
		{ VMCB_CS, CODE_SEGMENT },
		{ VMCB_SS, DATA_SEGMENT },
		{ VMCB_DS, DATA_SEGMENT },
		{ VMCB_EFER, EFER },
		{ VMCB_CR4, CR4 },
		{ VMCB_CR3, CR3_GPA },
		{ VMCB_CR0, CR0 },
		{ VMCB_DR7, 0x400 },
		{ VMCB_DR6, 0xffff0ff0 },
		{ VMCB_RFLAGS, 2 },
		{ VMCB_RIP, L2_GPA },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vmcb); i++)
		poke(vm, VMCB_GPA + vmcb[i].field, vmcb[i].value);
}

static void vm_set_supported_cpuid(struct vm *vm)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid;

	cpuid.head.nent = ARRAY_SIZE(cpuid.entries);
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &cpuid) ||
	    ioctl(vm->vcpu, KVM_SET_CPUID2, &cpuid))
		err(1, "CPUID");
}

static void vm_enter_long_mode(struct vm *vm)
{
	struct kvm_sregs sregs;

	vm_set_supported_cpuid(vm);
	build_page_tables(vm, CR3_GPA);
	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		err(1, "KVM_GET_SREGS");
	sregs.cr0 = CR0;
	sregs.cr3 = CR3_GPA;
	sregs.cr4 = CR4;
	sregs.efer = EFER;
	sregs.cs.db = 0;
	sregs.cs.l = 1;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		err(1, "KVM_SET_SREGS");
}

static void nested(const char *row, struct vm vm)
{
	static const uint8_t l1[] = {
		0xb8, 0x00, 0x00, 0x10, 0x00,	/* 0: mov  $VMCB_GPA, %eax */
		0xb9, BATCH, 0, 0, 0,		/*    mov  $BATCH, %ecx */
		0x0f, 0x01, 0xd8,		/* 1: vmrun %rax */
		0xff, 0xc9,			/*    dec  %ecx */
		0x75, 0xf9,			/*    jnz  1b */
		0xf4,				/*    hlt */
		0xeb, 0xec,			/*    jmp  0b */
	};
	static const uint8_t l2[] = {
		0x0f, 0x01, 0xd9,		/*    vmmcall */
	};

	vm_enter_long_mode(&vm);
	set_msr(&vm, MSR_HSAVE, HSAVE_GPA);
	build_page_tables(&vm, NESTED_CR3_GPA);
	build_vmcb(&vm);
	memset(vm.mem + MSRPM_GPA, 0xff, 2 * PAGE);
	memcpy(vm.mem + L2_GPA, l2, sizeof(l2));
	vm_load(&vm, l1, sizeof(l1), 0);
	run_batches(row, &vm);
	if (vm.mem[VMCB_GPA + VMCB_EXIT_CODE] != (char)EXIT_VMMCALL)
		errx(1, "L2 did not run");
	vm_destroy(&vm);
}

static void row_nested(void)
{
	nested("nested", vm_create_plain());
}

static void row_nested_protected(void)
{
	nested("nested_protected", vm_create_protected());
}

/* @attrs: what the kernel has to support */
struct row {
	const char *name;
	uint64_t attrs;
	void (*measure)(void);
};

/* Those to compare with an unpatched kernel first: both begin in the same way. */
static const struct row rows[] = {
	{ "fault", 0, row_fault },
	{ "read_guest", 0, row_read_guest },
	{ "wall_clock", 0, row_wall_clock },
	{ "mmio", 0, row_mmio },
	{ "mmio_movs", 0, row_mmio_movs },
	{ "nested", 0, row_nested },
	{ "fault_protected", NW, row_fault_protected },
	{ "read_guest_protected", NW, row_read_guest_protected },
	{ "wall_clock_protected", NW, row_wall_clock_protected },
	{ "mmio_protected", NW, row_mmio_protected },
	{ "mmio_movs_protected", NW, row_mmio_movs_protected },
	{ "nested_protected", NW, row_nested_protected },
	{ "mapped", NW | NX, row_mapped },
	{ "fault_in_use", PRIVATE, row_fault_in_use },
	{ "fault_private", PRIVATE, row_fault_private },
	{ "fault_private_new", PRIVATE, row_fault_private_new },
	{ "backing", PRIVATE, row_backing },
	{ "hole", PRIVATE, row_hole },
	{ "toggle_4K", PRIVATE, row_toggle_4k },
	{ "toggle_4K_traced", PRIVATE, row_toggle_4k_traced },
	{ "toggle_2M", PRIVATE, row_toggle_2m },
	{ "alternate", PRIVATE, row_alternate },
	{ "sweep", PRIVATE, row_sweep },
	{ "read_back", PRIVATE, row_read_back },
	{ "cycle", PRIVATE, row_cycle },
};

static bool chosen(const char *name, char **names)
{
	if (!*names)
		return true;

	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;

	return false;
}

int main(int argc, char **argv)
{
	uint64_t supported;
	size_t i;
	int opt;

	while ((opt = getopt(argc, argv, "m:")) != -1) {
		if (opt != 'm')
			return 2;
		max_size = strtoull(optarg, NULL, 0) * GiB;
	}

	kvm_fd = open("/dev/kvm", O_RDWR);
	if (kvm_fd < 0)
		err(1, "/dev/kvm");

	/* The first time makes inodes in sysfs, which stay. */
	settle();

	supported = supported_attributes();
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (chosen(rows[i].name, argv + optind) &&
		    (supported & rows[i].attrs) == rows[i].attrs)
			rows[i].measure();

	return 0;
}
