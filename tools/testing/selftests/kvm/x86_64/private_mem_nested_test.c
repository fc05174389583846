// SPDX-License-Identifier: GPL-2.0-only
/*
 * A nested guest whose VMCB, MSR permission map, host save area, nested page
 * tables, stack and data are in L1's private memory.
 *
 * The shared pages at the same GFNs are filled with junk: a VMCB read from
 * there would not run, an MSR permission map read from there would intercept
 * what it should not.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	PG_SIZE_2M

#define VMCB_GPA	(SLOT_GPA + PG)
#define SAVE_GPA	(SLOT_GPA + 2 * PG)
#define MSRPM_GPA	(SLOT_GPA + 3 * PG)	/* two pages */
#define STACK_GPA	(SLOT_GPA + 5 * PG)	/* two pages, growing down */
#define DATA_GPA	(SLOT_GPA + 8 * PG)
#define NPT_GPA		(SLOT_GPA + 9 * PG)	/* three pages */

/* Never bound to private backing */
#define BAD_SLOT	11
#define BAD_GPA		0x140000000ull

/* In the MSR permission map: intercept writes of FS.base, but not reads. */
#define JUNK		0x5a

#define WORD		0x0123456789abcdefull

enum l2_step { L2_STARTED = 1, L2_WROTE_DATA, L2_WROTE_FS_BASE };

static void l2_report(enum l2_step step)
{
	asm volatile("vmmcall" :: "a"((u64)step) : "memory");
}

static void l2_code(void)
{
	l2_report(L2_STARTED);

	if (peek(DATA_GPA) == WORD)
		poke(DATA_GPA, ~WORD);
	l2_report(L2_WROTE_DATA);

	wrmsr(MSR_FS_BASE, 0);		/* not intercepted */
	l2_report(L2_WROTE_FS_BASE);
	rdmsr(MSR_FS_BASE);		/* intercepted */
	for (;;)
		l2_report(0);
}

/* Identity, in 2 MiB pages, of the first 2 GiB around L2's code, stack, data. */
static void build_npt(struct vmcb *vmcb)
{
	const u64 flags = PTE_PRESENT_MASK | PTE_WRITABLE_MASK |
			       PTE_USER_MASK;
	u64 *pml4 = (void *)NPT_GPA, *pdpt = pml4 + 512, *pd = pdpt + 512;
	int i;

	memset(pml4, 0, 3 * PG);
	pml4[0] = (NPT_GPA + PG) | flags;
	/* The lowest GiB holds the test, the fifth the memslot. */
	pdpt[0] = (NPT_GPA + 2 * PG) | flags;
	pdpt[4] = SLOT_GPA | flags | PTE_LARGE_MASK;
	for (i = 0; i < 512; i++)
		pd[i] = i * PG_SIZE_2M | flags | PTE_LARGE_MASK;

	vmcb->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
	vmcb->control.nested_cr3 = NPT_GPA;
}

static void run_l2(struct vmcb *vmcb, u64 exit_code, enum l2_step step)
{
	run_guest(vmcb, VMCB_GPA);
	expect(vmcb->control.exit_code, exit_code);
	if (exit_code == SVM_EXIT_VMMCALL)
		expect(vmcb->save.rax, step);
}

/* Two bits an MSR, for reads and writes; these MSRs' begin at 0x800. */
static void intercept_reads(u32 msr)
{
	u32 bit = (msr & 0x1fff) * 2;

	((u8 *)MSRPM_GPA)[0x800 + bit / 8] |= 1 << (bit % 8);
}

static const struct svm_test_data svm_in_private = {
	.vmcb = (void *)VMCB_GPA,
	.vmcb_gpa = VMCB_GPA,
	.save_area = (void *)SAVE_GPA,
	.save_area_gpa = SAVE_GPA,
	.msr = (void *)MSRPM_GPA,
	.msr_gpa = MSRPM_GPA,
};

static void l1_code(u64 npt)
{
	struct svm_test_data svm = svm_in_private;
	struct vmcb *vmcb = svm.vmcb;

	memset(svm.msr, 0, 2 * PG);
	intercept_reads(MSR_FS_BASE);
	generic_svm_setup(&svm, l2_code, (void *)STACK_GPA + 2 * PG);
	vmcb->control.intercept |= 1ull << INTERCEPT_MSR_PROT;
	if (npt)
		build_npt(vmcb);
	poke(DATA_GPA, WORD);

	run_l2(vmcb, SVM_EXIT_VMMCALL, L2_STARTED);
	vmcb->save.rip += 3;

	GUEST_SYNC(1);

	run_l2(vmcb, SVM_EXIT_VMMCALL, L2_WROTE_DATA);
	expect(peek(DATA_GPA), ~WORD);
	vmcb->save.rip += 3;

	run_l2(vmcb, SVM_EXIT_VMMCALL, L2_WROTE_FS_BASE);
	vmcb->save.rip += 3;

	GUEST_SYNC(2);

	run_l2(vmcb, SVM_EXIT_MSR, 0);
	expect(vmcb->control.exit_info_1, 0);
	GUEST_DONE();
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, void *guest_code,
				struct private_slot *s)
{
	struct kvm_vm *vm = vm_create_with_slot(vcpu, guest_code, s, SLOT,
						SLOT_GPA, SLOT_SIZE);

	memset(s->hva, JUNK, s->size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(*vcpu);
	return vm;
}

static void test_nested(bool npt)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("L2 %s nested paging\n", npt ? "with" : "without");
	vm = create_vm(&vcpu, l1_code, &s);
	vcpu_args_set(vcpu, 1, npt);
	vcpu_run_to_sync(vcpu, 1);
	vcpu_run_to_sync(vcpu, 2);
	vcpu_run_to_done(vcpu);
	TEST_ASSERT(mem_is_filled(s.hva, JUNK, s.size),
		    "The shared pages should neither be read nor written");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/*
 * While L2 is in the middle of something, the page it works on changes sides,
 * and with it the MSR permission map and L1's VMCB.
 */
static void l2_count(void)
{
	for (;;) {
		poke(DATA_GPA, peek(DATA_GPA) + 1);
		/* To the VMM, past L1 */
		asm volatile("out %%al, %%dx" :: "d"(0x2000), "a"(0));
	}
}

static void l1_count(u64 npt)
{
	struct svm_test_data svm = svm_in_private;

	memset(svm.msr, 0, 2 * PG);
	generic_svm_setup(&svm, l2_count, (void *)STACK_GPA + 2 * PG);
	if (npt)
		build_npt(svm.vmcb);
	poke(DATA_GPA, 0);
	run_guest(svm.vmcb, VMCB_GPA);
	GUEST_ASSERT_2(0, svm.vmcb->control.exit_code,
		       svm.vmcb->control.exit_info_1);
}

static void count(struct kvm_vcpu *vcpu, int times)
{
	while (times--) {
		vcpu_run(vcpu);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
			    vcpu->run->io.port == 0x2000,
			    "L2 should go on counting, exit: %s",
			    exit_story(vcpu->run));
	}
}

static void test_convert_under_l2(bool npt)
{
	u64 *shared;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	pr_info("L2 %s nested paging, its memory converted\n",
		npt ? "with" : "without");
	vm = create_vm(&vcpu, l1_count, &s);
	vcpu_args_set(vcpu, 1, npt);
	shared = (void *)private_slot_hva(&s, DATA_GPA);
	count(vcpu, 3);
	for (i = 0; i < 5; i++) {
		WRITE_ONCE(*shared, 100);
		vm_set_shared(vm, DATA_GPA, PG);
		count(vcpu, 3);
		TEST_ASSERT(READ_ONCE(*shared) == 103,
			    "L2 should count on in the shared page, which is at %lu",
			    *shared);
		vm_set_private(vm, DATA_GPA, PG);
		count(vcpu, 3);
		TEST_ASSERT(READ_ONCE(*shared) == 103,
			    "L2 should count in the private page, but the shared one is at %lu",
			    *shared);
	}
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/*
 * L1's nested page table is converted while L2 uses it.  The shared page at its GFN is
 * a nested page table too, by which the same GFN leads to another page.
 */
#define TABLE_GPA	(SLOT_GPA + 12 * PG)
#define OTHER_GPA	(SLOT_GPA + 13 * PG)
#define PD_GPA		(SLOT_GPA + 14 * PG)
#define ALIAS		(SLOT_GPA + 0x40000000ull)
#define NPT_FLAGS	(PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_USER_MASK)

static void l2_read_alias(void)
{
	for (;;)
		asm volatile("mov (%0), %%rax; out %%al, %%dx"
			     :: "r"(ALIAS), "d"(0x2000) : "rax", "memory");
}

static void l1_alias(void)
{
	struct svm_test_data svm = svm_in_private;

	memset(svm.msr, 0, 2 * PG);
	generic_svm_setup(&svm, l2_read_alias, (void *)STACK_GPA + 2 * PG);
	build_npt(svm.vmcb);
	/* ALIAS by a table of 4 KiB pages, in the place of the PD for it. */
	memset((void *)TABLE_GPA, 0, PG);
	poke(NPT_GPA + PG + 5 * 8, PD_GPA | NPT_FLAGS);
	memset((void *)PD_GPA, 0, PG);
	poke(PD_GPA, TABLE_GPA | NPT_FLAGS);
	poke(TABLE_GPA, DATA_GPA | NPT_FLAGS);
	poke(DATA_GPA, 1);
	poke(OTHER_GPA, 2);
	run_guest(svm.vmcb, VMCB_GPA);
	GUEST_ASSERT_2(0, svm.vmcb->control.exit_code,
		       svm.vmcb->control.exit_info_1);
}

static void expect_alias(struct kvm_vcpu *vcpu, u8 value, const char *when)
{
	struct kvm_run *run = vcpu->run;
	u8 got;

	vcpu_run(vcpu);
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x2000,
		    "L2 should go on reading %s, exit: %s", when,
		    exit_story(run));
	got = *((u8 *)run + run->io.data_offset);
	TEST_ASSERT(got == value, "L2 should read %u %s, not %u", value, when,
		    got);
}

static void test_convert_table(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	pr_info("L1's nested page table, converted\n");
	vm = create_vm(&vcpu, l1_alias, &s);
	virt_map(vm, ALIAS, ALIAS, 1);
	memset(private_slot_hva(&s, TABLE_GPA), 0, PG);
	*(u64 *)private_slot_hva(&s, TABLE_GPA) = OTHER_GPA | NPT_FLAGS;
	expect_alias(vcpu, 1, "by the private table");
	for (i = 0; i < 3; i++) {
		vm_set_shared(vm, TABLE_GPA, PG);
		expect_alias(vcpu, 2, "by the shared table");
		expect_alias(vcpu, 2, "by the shared table");
		vm_set_private(vm, TABLE_GPA, PG);
		expect_alias(vcpu, 1, "by the private table again");
		expect_alias(vcpu, 1, "by the private table again");
	}
	private_slot_punch(&s, TABLE_GPA, PG);
	/* L1 reports the exit of L2, which _vcpu_run() may take for a failure. */
	TEST_ASSERT(!__vcpu_run(vcpu), "L1 should run");
	TEST_ASSERT(vcpu->run->exit_reason != KVM_EXIT_IO ||
		    vcpu->run->io.port != 0x2000,
		    "L2 should find no table where a hole was punched");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* A VMCB in a private page without backing is no memory. */
static void l1_bad_vmcb(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, SAVE_GPA);

	expect(kvm_asm_safe("vmload", "a"(BAD_GPA)), GP_VECTOR);
	expect(kvm_asm_safe("vmsave", "a"(BAD_GPA)), GP_VECTOR);
	expect(kvm_asm_safe("vmrun", "a"(BAD_GPA)), GP_VECTOR);
	GUEST_DONE();
}

static void test_bad_vmcb(void)
{
	struct private_slot s, bad;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = create_vm(&vcpu, l1_bad_vmcb, &s);
	private_slot_create(&bad, vm, BAD_SLOT, BAD_GPA, PG,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_unset(&bad);
	bad.flags = 0;
	private_slot_set(&bad);
	memset(bad.hva, JUNK, PG);
	vm_set_private(vm, BAD_GPA, PG);

	vcpu_run_to_done(vcpu);
	TEST_ASSERT(mem_is_filled(bad.hva, JUNK, PG),
		    "The shared page should not be used in place of the private one");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
	private_slot_destroy(&bad);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE_PROTECTED_VM();

	test_nested(false);
	test_convert_under_l2(false);
	if (kvm_cpu_has(X86_FEATURE_NPT)) {
		test_nested(true);
		test_convert_under_l2(true);
		test_convert_table();
	}
	test_bad_vmcb();
	return 0;
}
