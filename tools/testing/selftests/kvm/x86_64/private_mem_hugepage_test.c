// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hugepages against attributes: a region of mixed attributes is never mapped
 * by one hugepage, and gets its hugepage back when it is uniform again.
 *
 * The shared memory is made of hugetlb pages, so that nothing but attributes
 * stands in the way.  KVM's own count of huge mappings (the statistic
 * pages_2m) tells what was mapped, and patterns tell that it was the right
 * memory.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define NR_HUGE		4ull
#define SLOT_SIZE	(NR_HUGE * PG_SIZE_2M)

#define SHARED_BYTE	0x77
#define HUGE(i)		(SLOT_GPA + (i) * PG_SIZE_2M)

/* Where the guest reads in each hugepage. */
static const u64 offsets[] = {
	0, 7 * PG, PG_SIZE_2M / 2 - PG, PG_SIZE_2M - PG,
};

#define ALL_READS	(NR_HUGE * ARRAY_SIZE(offsets))

static void guest_code(void)
{
	u64 huge, sum;
	int i;

	for (;;) {
		sum = 0;
		for (huge = 0; huge < NR_HUGE; huge++)
			for (i = 0; i < ARRAY_SIZE(offsets); i++)
				sum += !!READ_ONCE(*(u8 *)(HUGE(huge) +
							   offsets[i]));
		GUEST_SYNC_ARGS(0, sum, 0, 0, 0);
	}
}

/* How many of the guest's reads met shared memory. */
static u64 touch(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should have read its memory");
	return uc.args[2];
}

static void expect(struct kvm_vcpu *vcpu, u64 huge, u64 shared_reads,
		   const char *when)
{
	u64 reads = touch(vcpu);
	u64 is = vm_get_stat(vcpu->vm, "pages_2m");

	TEST_ASSERT(reads == shared_reads,
		    "%s: %lu reads should meet shared memory, %lu did", when,
		    shared_reads, reads);
	TEST_ASSERT(is == huge, "%s: %lu hugepages should be mapped, %lu are",
		    when, huge, is);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, struct private_slot *s)
{
	struct kvm_vm *vm = vm_create_protected(vcpu, SLOT_SIZE / PG,
						guest_code);

	private_slot_create(s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_SHARED_HUGETLB);
	private_slot_map(s);
	memset(s->hva, SHARED_BYTE, s->size);
	return vm;
}

/*
 * Which pages of a hugepage are private, and how many reads that takes away.
 * At least one, as it takes a fault to map a hugepage again.
 */
static const struct {
	u64 offset;
	u64 size;
	u64 reads;
} holes[] = {
	{ 0, PG, 1 },
	{ PG_SIZE_2M - PG, PG, 1 },
	{ PG_SIZE_2M / 2 - PG, PG, 1 },
	{ 7 * PG, PG, 1 },
	{ PG, PG_SIZE_2M - 2 * PG, 2 },
	{ PG_SIZE_2M / 2, PG_SIZE_2M / 2, 1 },
};

static void test_holes(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	u64 gpa;
	int i;

	expect(vcpu, NR_HUGE, ALL_READS, "all shared");
	for (i = 0; i < ARRAY_SIZE(holes); i++) {
		gpa = HUGE(1) + holes[i].offset;
		vm_set_private(vm, gpa, holes[i].size);
		expect(vcpu, NR_HUGE - 1, ALL_READS - holes[i].reads,
		       "with a hole");
		vm_set_shared(vm, gpa, holes[i].size);
		expect(vcpu, NR_HUGE, ALL_READS, "without it");
	}
}

/* Over the edge of two: both lose their mapping, and get it back. */
static void test_edge(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;

	vm_set_private(vm, HUGE(2) - PG, 2 * PG);
	expect(vcpu, NR_HUGE - 2, ALL_READS - 2, "a hole over an edge");
	vm_set_shared(vm, HUGE(2) - PG, PG);
	expect(vcpu, NR_HUGE - 1, ALL_READS - 1, "one side filled");
	vm_set_shared(vm, HUGE(2), PG);
	expect(vcpu, NR_HUGE, ALL_READS, "both sides filled");
}

/* A hole that grows piecewise to a whole hugepage, and is uniform then. */
static void test_uniform_private(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;

	vm_set_private(vm, HUGE(1), PG_SIZE_2M / 2);
	vm_set_private(vm, HUGE(1) + PG_SIZE_2M / 2, PG_SIZE_2M / 2);
	TEST_ASSERT(touch(vcpu) == ALL_READS - ARRAY_SIZE(offsets),
		    "A hugepage should be private as a whole");
	vm_set_shared(vm, HUGE(1), PG_SIZE_2M);
	expect(vcpu, NR_HUGE, ALL_READS, "shared as a whole");
}

/* A new memslot honours what was set before it was there. */
static void test_new_slot(struct kvm_vcpu *vcpu, struct private_slot *s)
{
	struct kvm_vm *vm = vcpu->vm;

	private_slot_unset(s);
	vm_set_private(vm, HUGE(0) + 5 * PG, PG);
	vm_set_private(vm, HUGE(3) - PG, 2 * PG);
	private_slot_set(s);
	expect(vcpu, 1, ALL_READS - 2, "a memslot over holes");

	private_slot_unset(s);
	vm_set_shared(vm, HUGE(0) + 5 * PG, PG);
	private_slot_set(s);
	expect(vcpu, 2, ALL_READS - 2, "a hole filled without memslot");
	vm_set_shared(vm, SLOT_GPA, SLOT_SIZE);
	expect(vcpu, NR_HUGE, ALL_READS, "all holes filled");
}

int main(int argc, char *argv[])
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	TEST_REQUIRE_PROTECTED_VM();
	require_hugetlb_pages(NR_HUGE + 1);

	vm = create_vm(&vcpu, &s);
	test_holes(vcpu);
	test_edge(vcpu);
	test_uniform_private(vcpu);
	test_new_slot(vcpu, &s);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
	return 0;
}
