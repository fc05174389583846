// SPDX-License-Identifier: GPL-2.0-only
/*
 * All or nothing: each memory allocation within an ioctl fails in turn, and
 * nothing has changed then.
 *
 * The kernel's fault injection makes the n-th allocation of a thread fail, for
 * n = 1, 2, ... until the call gets through without reaching the n-th.  After
 * each failure the attributes must be what they were, and in the end the call
 * must have its full effect.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <sys/klog.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_prot.h"
#include "page_track.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	(8ull << 20)
#define TOP		(-PG)
#define MAX_EXTENTS	512

/* As the kernel's include/linux/syslog.h calls them. */
#define SYSLOG_ACTION_READ_ALL		3
#define SYSLOG_ACTION_CLEAR		5
#define SYSLOG_ACTION_CONSOLE_OFF	6
#define SYSLOG_ACTION_CONSOLE_ON	7

static int fail_nth_fd;

static bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == strlen(value);
	close(fd);
	return ok;
}

/* Have allocations fail that may sleep, too: there are hardly any others. */
static bool enable_fault_injection(void)
{
	fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	return fail_nth_fd >= 0 &&
	       write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
}

static void fail_nth(int n)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%i", n);

	TEST_ASSERT(pwrite(fail_nth_fd, buf, len, 0) == len,
		    "fail-nth should be writable");
}

/* Disarm it, and say whether it fired. */
static bool has_failed(void)
{
	char buf[16] = {};

	TEST_ASSERT(pread(fail_nth_fd, buf, sizeof(buf) - 1, 0) > 0,
		    "fail-nth should be readable");
	fail_nth(0);
	return !atoi(buf);
}

struct layout {
	u32 nr;
	struct kvm_memory_attributes_extent extents[MAX_EXTENTS];
};

static void get_layout(struct kvm_vm *vm, struct layout *l)
{
	struct kvm_get_memory_attributes get = {
		.size = TOP,
		.extents = (uintptr_t)l->extents,
		.nr_extents = MAX_EXTENTS,
	};

	memset(l, 0, sizeof(*l));
	vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
	TEST_ASSERT(!get.size, "The layout should fit into %i extents",
		    MAX_EXTENTS);
	l->nr = get.nr_extents;
}

static void put_layout(struct kvm_vm *vm, struct layout *l)
{
	struct kvm_memory_attributes_extent *e;

	for (e = l->extents; e < l->extents + l->nr; e++)
		vm_set_memory_attributes(vm, e->address, e->size, e->attributes);
}

/*
 * Run @op, which is to fail until it does not, and return how often it did.  Some
 * allocations have something to fall back on: then @op succeeds, and is undone.
 */
static int run_failing(struct kvm_vm *vm, const char *name,
		       int (*op)(struct kvm_vm *vm, void *arg),
		       void (*undo)(void *arg), void *arg)
{
	static struct layout before, after;
	int n, ret, error, failures = 0;

	get_layout(vm, &before);
	for (n = 1; ; n++) {
		fail_nth(n);
		ret = op(vm, arg);
		error = errno;
		if (!has_failed())
			break;
		if (!ret) {
			put_layout(vm, &before);
			if (undo)
				undo(arg);
			continue;
		}
		failures++;
		TEST_ASSERT(error == ENOMEM,
			    "%s: allocation %i failed, errno should be ENOMEM, is %i",
			    name, n, error);
		get_layout(vm, &after);
		TEST_ASSERT(!memcmp(&before, &after, sizeof(before)),
			    "%s: failed at allocation %i, and should have changed nothing",
			    name, n);
		TEST_ASSERT(n < 10000, "%s: should get through some time", name);
	}
	TEST_ASSERT(!ret, "%s: should succeed when nothing fails, errno: %i",
		    name, error);
	pr_debug("%s: %i allocations, %i of them needed\n", name, n - 1,
		 failures);
	return failures;
}

struct set_args {
	u64 address;
	u64 size;
	u64 attributes;
};

static int op_set(struct kvm_vm *vm, void *arg)
{
	struct set_args *set = arg;

	return __vm_set_memory_attributes(vm, set->address, set->size,
					  set->attributes);
}

/* Stores that grow, split at one and at both ends, and merge. */
static void test_set(struct kvm_vm *vm)
{
	static struct set_args sets[] = {
		{ 0x7fff000, PG, MEM_ATTR_PRIVATE },
		{ SLOT_GPA, 1ull << 40, MEM_ATTR_PRIVATE },
		{ SLOT_GPA + (1ull << 39), PG, 0 },
		{ (1ull << 51) - PG, 2 * PG, MEM_ATTR_PRIVATE },
		{ SLOT_GPA + 3 * PG, (1ull << 38) + 5 * PG, 0 },
		{ SLOT_GPA + (1ull << 39) - PG, 1ull << 45, MEM_ATTR_PRIVATE },
		{ 0, TOP, MEM_ATTR_PRIVATE },
		{ PG, TOP - 2 * PG, 0 },
		{ 0, TOP, 0 },
	};
	int i, failures = 0;
	u64 last;

	for (i = 0; i < ARRAY_SIZE(sets); i++) {
		failures += run_failing(vm, "KVM_SET_MEMORY_ATTRIBUTES", op_set,
					NULL, &sets[i]);
		last = sets[i].address + sets[i].size - PG;
		ASSERT_EQ(vm_get_memory_attributes(vm, sets[i].address),
			  sets[i].attributes);
		ASSERT_EQ(vm_get_memory_attributes(vm, last),
			  sets[i].attributes);
	}
	TEST_ASSERT(failures, "Some allocation should have been there to fail");
}

static int op_update(struct kvm_vm *vm, void *arg)
{
	struct kvm_memory_attributes_update u = {
		.address = SLOT_GPA + 5 * PG,
		.size = (1ull << 33) + PG,
		.set = MEM_ATTR_PRIVATE,
	};
	struct kvm_update_memory_attributes args = {
		.updates = (uintptr_t)&u,
		.nr_updates = 1,
	};

	return __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);
}

/* The first attributes of a VM that has no store yet. */
static void test_first_set(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct set_args set = { SLOT_GPA, 3 * PG, NX };

	if (!(vm_supported_attributes(vm) & NX)) {
		kvm_vm_free(vm);
		return;
	}
	run_failing(vm, "the first KVM_SET_MEMORY_ATTRIBUTES", op_set, NULL,
		    &set);
	ASSERT_EQ(vm_get_memory_attributes(vm, SLOT_GPA), NX);
	kvm_vm_free(vm);
}

/* As many extents as fit into several pages, in an array that KVM allocates. */
static int op_get(struct kvm_vm *vm, void *arg)
{
	static struct layout l;
	struct kvm_get_memory_attributes get = {
		.size = TOP,
		.extents = (uintptr_t)l.extents,
		.nr_extents = MAX_EXTENTS,
	};

	return __vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
}

/*
 * Stock vmalloc() says with a call trace that it failed, once in ten seconds.  What the
 * kernel has said so far is not held against the test if it is that alone.
 */
static void forgive_vmalloc(void)
{
	static char log[1 << 20];
	int n = klogctl(SYSLOG_ACTION_READ_ALL, log, sizeof(log) - 1);

	TEST_ASSERT(n >= 0, "The kernel's log should be readable");
	log[n] = 0;
	TEST_ASSERT(!strstr(log, "WARNING: ") && !strstr(log, "BUG: ") &&
		    !strstr(log, "Oops"), "The kernel should not complain: %s",
		    log);
	klogctl(SYSLOG_ACTION_CLEAR, NULL, 0);
}

/* A new memslot finds mixed hugepages, and may fail as well. */
static int op_slot(struct kvm_vm *vm, void *arg)
{
	return __private_slot_set(arg);
}

static void undo_slot(void *arg)
{
	private_slot_unset(arg);
}

static void test_slot(struct kvm_vm *vm)
{
	struct private_slot s;
	int i;

	for (i = 0; i < 16; i++)
		vm_set_private(vm, SLOT_GPA + (2 * i + 1) * 37 * PG, 37 * PG);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_unset(&s);
	klogctl(SYSLOG_ACTION_CONSOLE_OFF, NULL, 0);
	run_failing(vm, "KVM_SET_USER_MEMORY_REGION2", op_slot, undo_slot, &s);
	forgive_vmalloc();
	klogctl(SYSLOG_ACTION_CONSOLE_ON, NULL, 0);
	private_slot_unset(&s);
	private_slot_destroy(&s);
	vm_set_shared(vm, 0, TOP);
}

static int op_create(struct kvm_vm *vm, void *arg)
{
	u64 *flags = arg;
	int fd = __vm_create_guest_memfd(vm, SLOT_SIZE, *flags);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int op_allocate(struct kvm_vm *vm, void *arg)
{
	int *fd = arg;

	return fallocate(*fd, FALLOC_FL_KEEP_SIZE, 0, 64 * PG);
}

static void undo_allocate(void *arg)
{
	int *fd = arg;

	TEST_ASSERT(!fallocate(*fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			       0, SLOT_SIZE), "A hole should be punched");
}

static void test_guest_memfd(struct kvm_vm *vm, u64 flags)
{
	int fd;

	run_failing(vm, "KVM_CREATE_GUEST_MEMFD", op_create, NULL, &flags);
	fd = vm_create_guest_memfd(vm, SLOT_SIZE, flags);
	run_failing(vm, "fallocate()", op_allocate, undo_allocate, &fd);
	close(fd);
}

/* The tracker of writes, if this kernel has it, from its file to a tracked page. */
static int op_track(struct kvm_vm *vm, void *arg)
{
	int fd = open(TRACKER_FILE, O_RDWR), ret = -1, error;

	if (fd < 0)
		return -1;
	errno = __tracker_command(fd, "attach", vm->fd);
	if (!errno)
		errno = __tracker_command(fd, "track", SLOT_GPA / PG);
	if (!errno)
		ret = 0;
	error = errno;
	close(fd);
	errno = error;
	return ret;
}

static void test_tracker(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct prot_mem m;

	if (!access(TRACKER_FILE, R_OK)) {
		prot_mem_create(&m, vm, SLOT, 0, SLOT_GPA, SLOT_SIZE,
				VM_MEM_SRC_ANONYMOUS);
		run_failing(vm, "tracking", op_track, NULL, NULL);
		prot_mem_destroy(&m);
	}
	kvm_vm_free(vm);
}

/* Whatever a VM needs; most of it is not ours. */
static int op_vm(struct kvm_vm *vm, void *arg)
{
	int *kvm_fd = arg;
	int fd = ioctl(*kvm_fd, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static void test_vm(struct kvm_vm *vm)
{
	int fd = open_kvm_dev_path_or_exit();

	run_failing(vm, "KVM_CREATE_VM", op_vm, NULL, &fd);
	close(fd);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;

	TEST_REQUIRE_PROTECTED_VM();
	__TEST_REQUIRE(enable_fault_injection(),
		       "The kernel has no fault injection into slab allocations");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	test_set(vm);
	run_failing(vm, "KVM_UPDATE_MEMORY_ATTRIBUTES", op_update, NULL, NULL);
	run_failing(vm, "KVM_GET_MEMORY_ATTRIBUTES", op_get, NULL, NULL);
	vm_set_shared(vm, 0, TOP);
	test_first_set();
	test_slot(vm);
	test_guest_memfd(vm, 0);
	if (memfd_is_ours()) {
		vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_HUGE_PAGES);
		test_guest_memfd(vm, KVM_GUEST_MEMFD_HUGE_PAGES);
	}
	/* The first with this flag makes ready for all that follow. */
	if (kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS) &
	    KVM_GUEST_MEMFD_NO_DIRECT_MAP) {
		vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_NO_DIRECT_MAP);
		test_guest_memfd(vm, KVM_GUEST_MEMFD_NO_DIRECT_MAP);
	}
	test_tracker();
	test_vm(vm);
	kvm_vm_free(vm);
	return 0;
}
