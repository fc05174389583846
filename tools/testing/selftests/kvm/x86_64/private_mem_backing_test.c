// SPDX-License-Identifier: GPL-2.0-only
/*
 * What backs private memory: 2 MiB folios and single pages, holes in them, and
 * the table of owners.
 *
 * KVM's statistic pages_2m tells how memory is mapped, st_blocks how much of it
 * there is, and a table that a debug kernel keeps tells how it is owned, which
 * must not depend on how it is mapped.  Without that table the rest is tested.
 */
#define _GNU_SOURCE /* for fallocate() */
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define NR_PAGES	(PG_SIZE_2M / PG)
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define NR_HUGE		4ull
#define SLOT_SIZE	(NR_HUGE * PG_SIZE_2M)
#define ALL_PAGES	(SLOT_SIZE / PG)
#define HUGE(i)		(SLOT_GPA + (i) * PG_SIZE_2M)

#define PIECE		(16ull << 20)

#define FLAGS		(KVM_GUEST_MEMFD_HUGE_PAGES | KVM_GUEST_MEMFD_NO_DIRECT_MAP)

/*
 * Orders for the guest: write @value + address to each page of [gpa, gpa + size),
 * or count the pages that hold that, and those that hold zero.
 */
static struct {
	u64 gpa;
	u64 size;
	u64 value;
	bool write;
} order;

static void guest_code(void)
{
	u64 a, same, zero;

	for (;;) {
		same = 0;
		zero = 0;
		for (a = order.gpa; a < order.gpa + order.size; a += PG) {
			if (order.write)
				WRITE_ONCE(*(u64 *)a, order.value + a);
			same += READ_ONCE(*(u64 *)a) == order.value + a;
			zero += READ_ONCE(*(u64 *)a) == 0;
		}
		GUEST_SYNC_ARGS(0, same, zero, 0, 0);
	}
}

static void guest_do(struct kvm_vcpu *vcpu, bool write, u64 gpa, u64 size,
		     u64 same, u64 zero)
{
	struct kvm_vm *vm = vcpu->vm;
	struct ucall uc;

	order.gpa = gpa;
	order.size = size;
	order.value = 0x1234567;
	order.write = write;
	sync_global_to_guest(vm, order);

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should have done its work");
	TEST_ASSERT(uc.args[2] == same && uc.args[3] == zero,
		    "[%#lx, %#lx): %lu pages should be as written and %lu zero, are: %lu, %lu",
		    gpa, gpa + size, same, zero, uc.args[2], uc.args[3]);
}

static void guest_write(struct kvm_vcpu *vcpu, u64 gpa, u64 size)
{
	guest_do(vcpu, true, gpa, size, size / PG, 0);
}

static void guest_check(struct kvm_vcpu *vcpu, u64 gpa, u64 size, u64 zero)
{
	guest_do(vcpu, false, gpa, size, size / PG - zero, zero);
}

static void expect_huge(struct kvm_vm *vm, u64 huge, const char *when)
{
	u64 is = vm_get_stat(vm, "pages_2m");

	TEST_ASSERT(is == huge, "%s: %lu hugepages should be mapped, %lu are",
		    when, huge, is);
}

static void expect_allocated(int memfd, u64 size, const char *when)
{
	u64 is = memfd_allocated(memfd);

	TEST_ASSERT(is == size, "%s: %#lx bytes should be allocated, %#lx are",
		    when, size, is);
}

static void expect_owned(u64 large, u64 small, const char *when)
{
	if (!has_owner_table())
		return;

	TEST_ASSERT(owner_stat("owned_2m") == large &&
		    owner_stat("owned_4k") == small,
		    "%s: %lu large and %lu small folios should be owned, are: %lu, %lu",
		    when, large, small, owner_stat("owned_2m"),
		    owner_stat("owned_4k"));
}

static void fallocate_range(int memfd, u64 offset, u64 size)
{
	int ret = fallocate(memfd, FALLOC_FL_KEEP_SIZE, offset, size);

	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate()", ret));
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, struct private_slot *s,
				u64 flags)
{
	struct kvm_vm *vm = vm_create_protected(vcpu, ALL_PAGES, guest_code);

	vm_enable_memfd_flags(vm, flags);
	private_slot_create_flags(s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
				  VM_MEM_SRC_ANONYMOUS_THP, flags);
	private_slot_map(s);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	return vm;
}

static void destroy_vm(struct kvm_vm *vm, struct private_slot *s)
{
	kvm_vm_free(vm);
	private_slot_destroy(s);
	expect_owned(0, 0, "everything freed");
}

static void test_flags(void)
{
	u64 supported = kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);
	struct kvm_enable_cap bad = {
		.cap = KVM_CAP_GUEST_MEMFD_BACKING_FLAGS,
		.flags = 1,
	};
	struct kvm_vm *vm;
	u64 flag;
	int fd;

	TEST_ASSERT((supported & KVM_GUEST_MEMFD_HUGE_PAGES) &&
		    !(supported & ~FLAGS),
		    "2 MiB should be supported, and nothing unknown: %#lx",
		    supported);

	vm = vm_create_barebones_type(KVM_X86_DEFAULT_VM);
	TEST_ASSERT(!vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_BACKING_FLAGS) &&
		    __vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_HUGE_PAGES) == -1 &&
		    errno == EINVAL,
		    "A VM without private memory should support no flag");
	kvm_vm_free(vm);

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	TEST_ASSERT(__vm_ioctl(vm, KVM_ENABLE_CAP, &bad) == -1 &&
		    errno == EINVAL,
		    "Flags of KVM_ENABLE_CAP itself should be EINVAL");
	for (flag = 1; flag; flag <<= 1) {
		fd = __vm_create_guest_memfd(vm, PG_SIZE_2M, flag);
		TEST_ASSERT(fd == -1 && errno == EINVAL,
			    "Flag %#lx should be EINVAL before it is enabled",
			    flag);
		if (supported & flag)
			vm_enable_memfd_flags(vm, flag);
		else
			TEST_ASSERT(__vm_enable_memfd_flags(vm, flag) == -1 &&
				    errno == EINVAL,
				    "Enabling flag %#lx should be EINVAL", flag);
		fd = __vm_create_guest_memfd(vm, PG_SIZE_2M, flag);
		TEST_ASSERT((fd >= 0) == !!(supported & flag),
			    "Flag %#lx should %swork, errno: %i", flag,
			    supported & flag ? "" : "not ", errno);
		if (fd >= 0)
			close(fd);
	}
	kvm_vm_free(vm);
}

static void test_mapping(struct kvm_vcpu *vcpu, struct private_slot *s)
{
	struct kvm_vm *vm = vcpu->vm;

	guest_write(vcpu, SLOT_GPA, PG);
	expect_huge(vm, 1, "after one access");
	expect_allocated(s->memfd, PG_SIZE_2M, "after one access");
	guest_write(vcpu, SLOT_GPA, SLOT_SIZE);
	expect_huge(vm, NR_HUGE, "after all accesses");
	expect_allocated(s->memfd, SLOT_SIZE, "after all accesses");
	expect_owned(NR_HUGE, 0, "after all accesses");
}

/* A shared page in between takes the mapping, but neither memory nor owner. */
static void test_shared_page(struct kvm_vcpu *vcpu, struct private_slot *s)
{
	struct kvm_vm *vm = vcpu->vm;
	u64 gpa = HUGE(1) + 7 * PG;

	memset(private_slot_hva(s, gpa), 0, PG);
	vm_set_shared(vm, gpa, PG);
	guest_check(vcpu, SLOT_GPA, SLOT_SIZE, 1);
	expect_huge(vm, NR_HUGE - 1, "with a shared page");
	expect_allocated(s->memfd, SLOT_SIZE, "with a shared page");
	expect_owned(NR_HUGE, 0, "with a shared page");

	vm_set_private(vm, gpa, PG);
	guest_check(vcpu, SLOT_GPA, SLOT_SIZE, 0);
	expect_huge(vm, NR_HUGE, "all private again");
}

/* A hole is zero at once, and the rest of its hugepage stays as it was. */
static void test_hole(struct kvm_vcpu *vcpu, struct private_slot *s, u64 gpa,
		      u64 size, u64 cut, u64 freed)
{
	struct kvm_vm *vm = vcpu->vm;

	private_slot_punch(s, gpa, size);
	expect_huge(vm, NR_HUGE - cut, "after a hole was punched");
	expect_allocated(s->memfd, SLOT_SIZE - freed * PG_SIZE_2M,
			 "after a hole was punched");
	expect_owned(NR_HUGE - freed, 0, "after a hole was punched");

	guest_check(vcpu, SLOT_GPA, SLOT_SIZE, size / PG);
	expect_allocated(s->memfd, SLOT_SIZE, "after the hole was filled");
	guest_write(vcpu, gpa, size);

	/* Whatever had to be mapped page by page is huge after one more fault. */
	vm_set_shared(vm, SLOT_GPA, SLOT_SIZE);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	guest_check(vcpu, SLOT_GPA, SLOT_SIZE, 0);
	expect_huge(vm, NR_HUGE, "after the hole was filled");
	expect_owned(NR_HUGE, 0, "after the hole was filled");
}

static void test_holes(struct kvm_vcpu *vcpu, struct private_slot *s)
{
	test_hole(vcpu, s, HUGE(0), PG, 1, 0);
	test_hole(vcpu, s, HUGE(1) - PG, PG, 1, 0);
	test_hole(vcpu, s, HUGE(1) + 9 * PG, 3 * PG, 1, 0);
	test_hole(vcpu, s, HUGE(1) - PG, 2 * PG, 2, 0);
	test_hole(vcpu, s, HUGE(0) + PG, 2 * PG_SIZE_2M, 3, 1);
	test_hole(vcpu, s, HUGE(1) + PG, PG_SIZE_2M - PG, 1, 0);
	test_hole(vcpu, s, HUGE(2), PG_SIZE_2M, 1, 1);
	test_hole(vcpu, s, SLOT_GPA, SLOT_SIZE, NR_HUGE, NR_HUGE);
}

/* Page by page: what is left stays, and the last one frees the memory. */
static void test_last_hole(struct kvm_vcpu *vcpu, struct private_slot *s)
{
	u64 i;

	for (i = 0; i < NR_PAGES; i += 2)
		private_slot_punch(s, HUGE(2) + i * PG, PG);
	guest_check(vcpu, HUGE(2), PG_SIZE_2M / 2, NR_PAGES / 4);
	for (i = NR_PAGES / 2; i < NR_PAGES; i++)
		private_slot_punch(s, HUGE(2) + i * PG, PG);
	expect_allocated(s->memfd, SLOT_SIZE, "half of it in use");

	/* The holes in the first half were filled by looking at them. */
	for (i = 0; i < NR_PAGES / 2 - 1; i++)
		private_slot_punch(s, HUGE(2) + i * PG, PG);
	expect_allocated(s->memfd, SLOT_SIZE, "one page in use");
	guest_check(vcpu, HUGE(3) - PG_SIZE_2M / 2 - PG, PG, 0);
	private_slot_punch(s, HUGE(3) - PG_SIZE_2M / 2 - PG, PG);
	expect_allocated(s->memfd, SLOT_SIZE - PG_SIZE_2M, "no page in use");

	/* fallocate() fills holes as well: then one more is not the last. */
	guest_write(vcpu, HUGE(2), PG);
	private_slot_punch(s, HUGE(2) + PG, PG_SIZE_2M - PG);
	fallocate_range(s->memfd, HUGE(2) - SLOT_GPA, 2 * PG);
	private_slot_punch(s, HUGE(2), PG);
	expect_allocated(s->memfd, SLOT_SIZE, "one page allocated");
	private_slot_punch(s, HUGE(2) + PG, PG);
	expect_allocated(s->memfd, SLOT_SIZE - PG_SIZE_2M, "none allocated");
	guest_write(vcpu, HUGE(2), PG_SIZE_2M);
}

static void test_huge(u64 flags)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = create_vm(&vcpu, &s, flags);
	test_mapping(vcpu, &s);
	test_shared_page(vcpu, &s);
	test_holes(vcpu, &s);
	test_last_hole(vcpu, &s);
	destroy_vm(vm, &s);
}

/* What is not asked for, or does not fit, is not done. */
static void test_small(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd;

	vm = create_vm(&vcpu, &s, 0);
	guest_write(vcpu, SLOT_GPA, SLOT_SIZE);
	expect_huge(vm, 0, "without the flag");
	expect_allocated(s.memfd, SLOT_SIZE, "without the flag");
	expect_owned(0, ALL_PAGES, "without the flag");

	private_slot_punch(&s, SLOT_GPA, SLOT_SIZE);
	vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_HUGE_PAGES);
	fd = vm_create_guest_memfd(vm, PG_SIZE_2M + 2 * PG,
				   KVM_GUEST_MEMFD_HUGE_PAGES);
	fallocate_range(fd, PG_SIZE_2M, PG);
	expect_allocated(fd, PG, "beyond the last 2 MiB");
	fallocate_range(fd, 5 * PG, PG);
	expect_allocated(fd, PG_SIZE_2M + PG, "within the first 2 MiB");
	expect_owned(1, 1, "one of each");
	close(fd);
	destroy_vm(vm, &s);
}

/* Guests map pages without a reference: they have to stay where they are. */
static void test_compaction(u64 flags)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	FILE *file;

	vm = create_vm(&vcpu, &s, flags);
	guest_write(vcpu, SLOT_GPA, SLOT_SIZE);
	file = fopen("/proc/sys/vm/compact_memory", "w");
	if (file)
		TEST_ASSERT(fputs("1", file) >= 0 && !fclose(file),
			    "Memory should be compacted, errno: %i", errno);
	guest_check(vcpu, SLOT_GPA, SLOT_SIZE, 0);
	expect_allocated(s.memfd, SLOT_SIZE, "after compaction");
	destroy_vm(vm, &s);
}

/* GPA and offset are not aligned alike: large folios, small mappings. */
static void test_misaligned(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = create_vm(&vcpu, &s, KVM_GUEST_MEMFD_HUGE_PAGES);
	private_slot_unset(&s);
	s.memfd_offset = PG;
	s.size -= PG_SIZE_2M;
	private_slot_set(&s);
	guest_write(vcpu, SLOT_GPA, s.size);
	expect_huge(vm, 0, "misaligned");
	expect_allocated(s.memfd, SLOT_SIZE, "misaligned");
	expect_owned(NR_HUGE, 0, "misaligned");

	/* In the file that is 2 MiB from a multiple of 2 MiB on. */
	private_slot_punch(&s, HUGE(1) - PG, PG_SIZE_2M);
	expect_owned(NR_HUGE - 1, 0, "one piece freed");
	guest_check(vcpu, SLOT_GPA, s.size, NR_PAGES);
	s.size += PG_SIZE_2M;
	destroy_vm(vm, &s);
}

/* A hole is made in pieces of 16 MiB, and each of these has a page. */
static void test_long_hole(void)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int i, fd = vm_create_guest_memfd(vm, 4 * PIECE, 0);

	for (i = 0; i < 4; i++)
		fallocate_range(fd, i * PIECE + PIECE / 2, PG);
	expect_allocated(fd, 4 * PG, "a page in each piece");
	TEST_ASSERT(!fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			       PG, 4 * PIECE - 2 * PG),
		    "A long hole should be punched, errno: %i", errno);
	expect_allocated(fd, 0, "after a long hole");
	close(fd);
	kvm_vm_free(vm);
}

/* 512 memslots over one 2 MiB chunk: it is still owned as one. */
static void test_many_slots(void)
{
	struct private_slot s, piece;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 i;

	vm = create_vm(&vcpu, &s, KVM_GUEST_MEMFD_HUGE_PAGES);
	private_slot_unset(&s);
	piece = s;
	piece.size = PG;
	for (i = 0; i < NR_PAGES; i++) {
		piece.slot = SLOT + i;
		piece.gpa = SLOT_GPA + i * PG;
		piece.memfd_offset = i * PG;
		private_slot_set(&piece);
	}
	guest_write(vcpu, SLOT_GPA, PG_SIZE_2M);
	expect_huge(vm, 0, "512 memslots");
	expect_allocated(s.memfd, PG_SIZE_2M, "512 memslots");
	expect_owned(1, 0, "512 memslots");

	/* Memslots come and go, the memory does not care. */
	for (i = 0; i < NR_PAGES; i++) {
		piece.slot = SLOT + i;
		piece.gpa = SLOT_GPA + i * PG;
		piece.memfd_offset = i * PG;
		private_slot_unset(&piece);
	}
	private_slot_set(&s);
	guest_check(vcpu, SLOT_GPA, PG_SIZE_2M, 0);
	expect_huge(vm, 1, "one memslot");
	expect_owned(1, 0, "one memslot");
	destroy_vm(vm, &s);
}

/* In a cgroup with room for pages but not for 2 MiB: it is pages. */
static void fall_back(void)
{
	static const char dir[] = "/sys/fs/cgroup/kvm-backing";
	struct kvm_vm *vm;
	char cmd[256];
	int fd;

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_HUGE_PAGES);
	fd = vm_create_guest_memfd(vm, SLOT_SIZE, KVM_GUEST_MEMFD_HUGE_PAGES);

	snprintf(cmd, sizeof(cmd),
		 "echo $((1024 * 1024)) >%s/memory.max && echo %i >%s/cgroup.procs",
		 dir, getpid(), dir);
	TEST_ASSERT(!system(cmd), "Entering a cgroup should succeed");

	fallocate_range(fd, 3 * PG, PG);
	expect_allocated(fd, PG, "without 2 MiB to spare");
	expect_owned(0, 1, "without 2 MiB to spare");
	fallocate_range(fd, 7 * PG, 2 * PG);
	expect_allocated(fd, 3 * PG, "without 2 MiB to spare");
	close(fd);
	kvm_vm_free(vm);
}

static void test_fall_back(void)
{
	int status;
	pid_t pid;

	if (system("echo +memory 2>/dev/null >/sys/fs/cgroup/cgroup.subtree_control") ||
	    mkdir("/sys/fs/cgroup/kvm-backing", 0755)) {
		pr_info("No cgroup of my own: fallback not tested\n");
		return;
	}

	pid = fork();
	if (!pid) {
		fall_back();
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "Pages should be used where 2 MiB are not to be had");
	rmdir("/sys/fs/cgroup/kvm-backing");
}

/* The architecture refuses: the errno arrives, and nothing is left behind. */
static void test_prepare_fails(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 failed;
	int ret;

	if (!has_owner_table()) {
		pr_info("No table of owners in this kernel: refusals not tested\n");
		return;
	}

	vm = create_vm(&vcpu, &s, 0);
	failed = owner_stat("prepare_failed");

	owner_fail_in(2);
	ret = fallocate(s.memfd, FALLOC_FL_KEEP_SIZE, 0, SLOT_SIZE);
	TEST_ASSERT(ret == -1 && errno == ENOMEM,
		    "fallocate() should fail with ENOMEM, ret: %i errno: %i",
		    ret, errno);
	expect_allocated(s.memfd, PG, "refused the second page");
	expect_owned(0, 1, "refused the second page");

	owner_fail_in(1);
	order.gpa = HUGE(1);
	order.size = PG;
	order.write = true;
	sync_global_to_guest(vm, order);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, HUGE(1));
	expect_allocated(s.memfd, PG, "refused the guest's page");
	TEST_ASSERT(owner_stat("prepare_failed") == failed + 2,
		    "Both should have been refused by the architecture");

	/* The same access again is done. */
	vcpu_run_to_sync(vcpu, 0);
	expect_allocated(s.memfd, 2 * PG, "not refused");
	destroy_vm(vm, &s);

	/* Refused 2 MiB is as good as none to be had. */
	vm = create_vm(&vcpu, &s, KVM_GUEST_MEMFD_HUGE_PAGES);
	owner_fail_in(1);
	guest_write(vcpu, SLOT_GPA, PG);
	expect_owned(0, 1, "refused 2 MiB");
	destroy_vm(vm, &s);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE_PROTECTED_VM();
	__TEST_REQUIRE(memfd_is_ours(), "guest_memfd is mainline's");

	test_flags();
	test_huge(KVM_GUEST_MEMFD_HUGE_PAGES);
	if (kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS) &
	    KVM_GUEST_MEMFD_NO_DIRECT_MAP)
		test_huge(FLAGS);
	test_small();
	test_compaction(0);
	test_compaction(KVM_GUEST_MEMFD_HUGE_PAGES);
	test_misaligned();
	test_long_hole();
	test_many_slots();
	test_fall_back();
	test_prepare_fails();
	TEST_ASSERT(!owner_stat("violations"), "No rule should be violated");
	return 0;
}
