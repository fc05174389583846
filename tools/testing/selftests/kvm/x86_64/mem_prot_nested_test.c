// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protections and what runs below or above an ordinary guest: nested guests
 * and system management mode.
 *
 * An L2 guest is bound by the attributes of L1's pages as L1 is: its accesses
 * exit while it runs and complete afterwards.  What L0 reads and writes on
 * behalf of a nested guest (VMCB or VMCS, bitmaps, nested page tables,
 * virtual-APIC page) obeys the attributes too: to the nested instruction a
 * page that L0 may not use is no memory, which the test finds out by trying a
 * GFN without memslot as well.  The state that SMM saves and restores is no
 * exception.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
#include "svm_util.h"
#include "vmx.h"
#include "mem_guest.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define MEM_SIZE	PG_SIZE_2M

#define VMCB		(MEM_GPA + PG)
#define SAVE		(MEM_GPA + 2 * PG)
#define MSRPM		(MEM_GPA + 3 * PG)	/* two pages */
#define DATA		(MEM_GPA + 8 * PG)
#define NPT		(MEM_GPA + 9 * PG)	/* four pages */
#define CODE		(MEM_GPA + 14 * PG)
#define IOPM		(MEM_GPA + 16 * PG)	/* three pages */
#define VMCB2		(MEM_GPA + 20 * PG)
#define VAPIC		(MEM_GPA + 21 * PG)
#define EVMCS		(MEM_GPA + 22 * PG)
#define APIC_ACCESS	(MEM_GPA + 23 * PG)

/* No memory to L1; to L2 the same memory again, by another page table */
#define UNBACKED	(MEM_GPA + MEM_SIZE)
#define ALIAS		0x140000000ull

#define PORT		0x2000
#define WORD		0x0123456789abcdefull

/* ---- What the guest asks of the VMM ---- */

enum request {
	REFUSE,		/* the next access; protection is lifted afterwards */
	PROTECT,	/* the page must not change from now on */
	LIFT,		/* until now */
	WITHHOLD,	/* L2 cannot go on; protection is lifted afterwards */
	SAVE_STATE,	/* L1's state cannot be saved; the same */
	HALT,		/* L2 halts, is refused the page, and goes on */
	HALT_WAKE,	/* L2 halts until KVM reads a lower priority in the page */
};

static bool forced;	/* KVM can be told to emulate */

/* What L2 asks of the VMM is on it. */
static u8 l2_stack[2 * PG] __aligned(16);

static void refuse(u64 page, u64 attrs, u64 flags)
{
	GUEST_SYNC_ARGS(REFUSE, page, attrs, flags, 0);
}

static void protect(u64 page, u64 attrs)
{
	GUEST_SYNC_ARGS(PROTECT, page, attrs, 0, 0);
}

static void lift(u64 page)
{
	GUEST_SYNC_ARGS(LIFT, page, 0, 0, 0);
}

static void withhold(u64 page, u64 attrs)
{
	GUEST_SYNC_ARGS(WITHHOLD, page, attrs, 0, 0);
}

static void add_to(u64 gpa, u64 value)
{
	asm volatile(AT("lock add %0, (%1)")
		     :: "r"(value), "r"(gpa) : CLOBBERS);
}

static void forced_add_to(u64 gpa, u64 value)
{
	asm volatile(FORCED_AT("lock add %0, (%1)")
		     :: "r"(value), "r"(gpa) : CLOBBERS);
}

/* ---- L2: every kind of access ---- */

static void access_memory(void)
{
	u64 count = peek(DATA);

	refuse(DATA, NW, EXIT_W);
	add_to(DATA, 1);
	expect(peek(DATA), count + 1);
	refuse(DATA, NOTHING, EXIT_R);
	expect(load(DATA), count + 1);
	insn_rip = CODE;
	refuse(CODE, NX, EXIT_X);
	expect(call_code(CODE), CODE_RESULT);
	if (forced) {
		refuse(DATA, NW, EXIT_W);
		forced_add_to(DATA, 1);
		expect(peek(DATA), count + 2);
	}
	protect(DATA, NW | NX);
	expect(peek(DATA), count + 1 + forced);
	lift(DATA);
}

static void prepare_memory(void)
{
	memcpy((void *)CODE, result_code, sizeof(result_code));
	poke(DATA, WORD);
}

/* ---- SVM ---- */

static struct svm_test_data svm_data(u64 vmcb)
{
	return (struct svm_test_data) {
		.vmcb = (void *)vmcb,
		.vmcb_gpa = vmcb,
		.save_area = (void *)SAVE,
		.save_area_gpa = SAVE,
		.msr = (void *)MSRPM,
		.msr_gpa = MSRPM,
	};
}

static struct vmcb *setup_svm(void *l2)
{
	struct svm_test_data svm = svm_data(VMCB);

	memset(svm.msr, 0, 2 * PG);
	generic_svm_setup(&svm, l2, l2_stack + sizeof(l2_stack));
	return svm.vmcb;
}

#define NPT_TABLE	(NPT + 2 * PG)		/* for what is used anyway */
#define NPT_ALIAS	(NPT + 3 * PG)		/* for ALIAS only */
#define NPT_FLAGS	(PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_USER_MASK)

/* Identity for the lowest GiB and the fifth; the sixth is an alias. */
static void use_npt(struct vmcb *vmcb)
{
	u64 *pml4 = (void *)NPT, *pdpt = pml4 + 512, *pd = (void *)NPT_TABLE;
	int i;

	memset(pml4, 0, 4 * PG);
	pml4[0] = (NPT + PG) | NPT_FLAGS;
	pdpt[0] = NPT_TABLE | NPT_FLAGS;
	pdpt[4] = MEM_GPA | NPT_FLAGS | PTE_LARGE_MASK;
	pdpt[5] = NPT_ALIAS | NPT_FLAGS;
	for (i = 0; i < 512; i++)
		pd[i] = i * PG_SIZE_2M | NPT_FLAGS | PTE_LARGE_MASK;
	poke(NPT_ALIAS, MEM_GPA | NPT_FLAGS | PTE_LARGE_MASK);

	vmcb->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
	vmcb->control.nested_cr3 = NPT;
}

static void l2_report(void)
{
	asm volatile("vmmcall" ::: "memory");
}

static void l2_svm_access(void)
{
	access_memory();
	l2_report();
}

static void l1_svm_access(u64 npt)
{
	struct vmcb *vmcb = setup_svm(l2_svm_access);

	prepare_memory();
	if (npt)
		use_npt(vmcb);
	run_guest(vmcb, VMCB);
	expect(vmcb->control.exit_code, SVM_EXIT_VMMCALL);

	/* L1 itself is still bound. */
	access_memory();
	GUEST_DONE();
}

/* L0 walks the nested page tables, and sets bits in them, for L2. */
static void l2_svm_walk(void)
{
	refuse(NPT_ALIAS, NOTHING, EXIT_R);
	expect(load(ALIAS + (DATA - MEM_GPA)), WORD);
	expect(!!(peek(NPT_ALIAS) & PTE_ACCESSED_MASK), 1);
	refuse(NPT_ALIAS, NW, EXIT_W);
	add_to(ALIAS + (DATA - MEM_GPA) + PG * 100, 1);
	expect(!!(peek(NPT_ALIAS) & PTE_DIRTY_MASK), 1);

	/* In use: L0 has shadow pages of it, which have to go. */
	expect(load(ALIAS + (DATA - MEM_GPA)), WORD);
	refuse(NPT_ALIAS, NOTHING, EXIT_R);
	expect(load(ALIAS + (DATA - MEM_GPA)), WORD);

	/* No bit is left to be set. */
	protect(NPT_ALIAS, NW);
	expect(load(ALIAS + (DATA - MEM_GPA) + PG * 101), 0);
	lift(NPT_ALIAS);
	l2_report();
}

static void l1_svm_walk(u64 npt)
{
	struct vmcb *vmcb = setup_svm(l2_svm_walk);

	prepare_memory();
	use_npt(vmcb);
	run_guest(vmcb, VMCB);
	expect(vmcb->control.exit_code, SVM_EXIT_VMMCALL);

	/* A table that L0 shadows is watched for writes, and refused as well. */
	refuse(NPT_ALIAS, NW, EXIT_W);
	add_to(NPT_ALIAS, 0);
	GUEST_DONE();
}

/* vmload and vmsave, and vmrun as it writes when L2 exits, need the VMCB. */
static void l1_svm_vmcb(u64 npt)
{
	static const u64 attrs[] = { NOTHING, NW };
	int i;

	setup_svm(l2_report);
	memcpy((void *)VMCB2, (void *)VMCB, PG);
	expect(kvm_asm_safe("vmrun", "a"(UNBACKED)), GP_VECTOR);
	expect(kvm_asm_safe("vmsave", "a"(UNBACKED)), GP_VECTOR);
	expect(kvm_asm_safe("vmload", "a"(UNBACKED)), GP_VECTOR);
	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		protect(VMCB2, attrs[i]);
		expect(kvm_asm_safe("vmrun", "a"(VMCB2)), GP_VECTOR);
		expect(kvm_asm_safe("vmsave", "a"(VMCB2)), GP_VECTOR);
		if (attrs[i] & NR)
			expect(kvm_asm_safe("vmload", "a"(VMCB2)), GP_VECTOR);
		lift(VMCB2);
	}
	run_guest((void *)VMCB2, VMCB2);
	expect(((struct vmcb *)VMCB2)->control.exit_code, SVM_EXIT_VMMCALL);
	GUEST_DONE();
}

/* The VMCB is gone when L2 exits: it gets #GP in place of L1 an exit. */
static void l2_svm_vmcb_taken(void)
{
	protect(VMCB, NW);
	l2_report();
}

static void guest_gp_handler(struct ex_regs *regs)
{
	GUEST_DONE();
}

static void l1_svm_vmcb_taken(void)
{
	struct vmcb *vmcb = setup_svm(l2_svm_vmcb_taken);

	run_guest(vmcb, VMCB);
}

/* The exit code that comes of a VMRUN with these tables, left as they are. */
static u64 exit_code_of(void *l2, u64 msrpm, u64 iopm)
{
	struct svm_test_data svm = svm_data(VMCB);
	struct vmcb *vmcb = svm.vmcb;

	generic_svm_setup(&svm, l2, l2_stack + sizeof(l2_stack));
	vmcb->control.msrpm_base_pa = msrpm;
	vmcb->control.iopm_base_pa = iopm;
	vmcb->control.intercept |= 1ull << INTERCEPT_MSR_PROT |
				   1ull << INTERCEPT_IOIO_PROT;
	run_guest(vmcb, VMCB);
	return vmcb->control.exit_code;
}

static void l2_svm_io(void)
{
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(0));
	l2_report();
}

/* A map is used as long as it may be read, and then is no memory. */
static void check_map(u64 map, void *l2, u64 unbacked)
{
	expect(exit_code_of(l2, MSRPM, IOPM), SVM_EXIT_VMMCALL);
	protect(map, NW);
	expect(exit_code_of(l2, MSRPM, IOPM), SVM_EXIT_VMMCALL);
	lift(map);
	protect(map, NOTHING);
	expect(exit_code_of(l2, MSRPM, IOPM), unbacked);
	lift(map);
}

static void l1_svm_msrpm(u64 npt)
{
	u64 unbacked = exit_code_of(l2_report, UNBACKED, IOPM);

	expect(unbacked, (u32)SVM_EXIT_ERR);
	memset((void *)MSRPM, 0, 2 * PG);
	check_map(MSRPM, l2_report, unbacked);
	GUEST_DONE();
}

static void l1_svm_iopm(u64 npt)
{
	memset((void *)MSRPM, 0, 2 * PG);
	memset((void *)IOPM, 0, 3 * PG);
	expect(exit_code_of(l2_svm_io, MSRPM, UNBACKED), SVM_EXIT_IOIO);
	check_map(IOPM, l2_svm_io, SVM_EXIT_IOIO);
	GUEST_DONE();
}

/* Nothing can come of it: what is there is no VMCB. */
static void l1_svm_device(u64 npt)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, SAVE);
	kvm_asm_safe("vmrun", "a"(UNBACKED));
	GUEST_DONE();
}

/* ---- VMX ---- */

static void l2_vmx_access(void)
{
	access_memory();
	vmcall();
}

static void expect_vmcall(void)
{
	expect(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
}

static void start_vmx(struct vmx_pages *vmx, void *l2)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2, l2_stack + sizeof(l2_stack));
}

static void l1_vmx_access(struct vmx_pages *vmx)
{
	prepare_memory();
	start_vmx(vmx, l2_vmx_access);
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();
	access_memory();
	GUEST_DONE();
}

/*
 * A nested page table of L1's that leads from ALIAS to the memory.  The VMM links it
 * to the others, which are not in the memory.
 */
#define EPT_RWX		7ull
#define EPT_WB		(6ull << 3)
#define EPT_LARGE	BIT_ULL(7)

static void l2_vmx_walk(void)
{
	expect(load(ALIAS + (DATA - MEM_GPA)), WORD);
	refuse(NPT_ALIAS, NOTHING, EXIT_R);
	expect(load(ALIAS + (DATA - MEM_GPA)), WORD);
	vmcall();
}

static void l1_vmx_walk(struct vmx_pages *vmx)
{
	prepare_memory();
	memset((void *)NPT_ALIAS, 0, PG);
	poke(NPT_ALIAS, MEM_GPA | EPT_RWX | EPT_WB | EPT_LARGE);
	start_vmx(vmx, l2_vmx_walk);
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();
	GUEST_DONE();
}

static void l1_vmx_vmcs(struct vmx_pages *vmx)
{
	static const u64 attrs[] = { NOTHING, NW };
	int i;

	start_vmx(vmx, l2_vmx_access);
	memcpy((void *)VMCB2, vmx->vmcs, PG);
	GUEST_ASSERT(vmptrld(UNBACKED));
	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		protect(VMCB2, attrs[i]);
		vmclear(VMCB2);
		if (attrs[i] & NR)
			GUEST_ASSERT(vmptrld(VMCB2));
		lift(VMCB2);
	}
	GUEST_DONE();
}

/* L0 asks the bitmap each time: all is intercepted if it cannot be read. */
static void l2_vmx_msr(void)
{
	rdmsr(MSR_FS_BASE);
	vmcall();
}

static void l1_vmx_msr_bitmap(struct vmx_pages *vmx)
{
	start_vmx(vmx, l2_vmx_msr);
	memset((void *)MSRPM, 0, PG);
	vmwrite(MSR_BITMAP, MSRPM);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
		CPU_BASED_USE_MSR_BITMAPS);
	protect(MSRPM, NOTHING);
	GUEST_ASSERT(!vmlaunch());
	expect(vmreadz(VM_EXIT_REASON), EXIT_REASON_MSR_READ);
	lift(MSRPM);
	/* From the start: vmresume() does not bring back L2's registers. */
	vmwrite(GUEST_RIP, (u64)l2_vmx_msr);
	GUEST_ASSERT(!vmresume());
	expect_vmcall();
	GUEST_DONE();
}

/*
 * The CPU keeps L2's task priority in the virtual-APIC page without asking
 * anybody, so L2 cannot run while the page may not be written.
 */
static void set_cr8(u64 value)
{
	asm volatile("mov %0, %%cr8" :: "r"(value) : "memory");
}

static void l2_vmx_tpr(void)
{
	set_cr8(3);
	expect(*(u8 *)(VAPIC + 0x80), 0x30);
	withhold(VAPIC, NW);
	set_cr8(5);
	expect(*(u8 *)(VAPIC + 0x80), 0x50);
	withhold(VAPIC, NOTHING);
	set_cr8(6);
	expect(*(u8 *)(VAPIC + 0x80), 0x60);
	vmcall();
}

static void use_vapic(void)
{
	memset((void *)VAPIC, 0, PG);
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, VAPIC);
	vmwrite(TPR_THRESHOLD, 0);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
		CPU_BASED_TPR_SHADOW);
}

static void run_l2_with_vapic(struct vmx_pages *vmx, void *l2)
{
	start_vmx(vmx, l2);
	use_vapic();
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();
	GUEST_DONE();
}

static void l1_vmx_tpr(struct vmx_pages *vmx)
{
	run_l2_with_vapic(vmx, l2_vmx_tpr);
}

/*
 * L1 does not intercept HLT: the vCPU halts in L2, where KVM looks for what L2 has to
 * be woken for.
 */
static void l2_vmx_halt(void)
{
	GUEST_SYNC_ARGS(HALT, VAPIC, NOTHING, 0, 0);
	asm volatile("hlt" ::: "memory");
	vmcall();
}

static void l1_vmx_halt(struct vmx_pages *vmx)
{
	run_l2_with_vapic(vmx, l2_vmx_halt);
}

/*
 * The same with virtual-interrupt delivery.  An interrupt waits that has too low a
 * priority, which KVM finds in the page; while it may not, it wakes L2 to be safe.
 * The CPU works L2's priority out again when it enters L2, so the interrupt is never
 * delivered, which Bochs 2.7 does by a wrong vector.
 */
#define L2_VECTOR	0x31
#define HIGH_PRIORITY	0xf0

static void l2_vmx_vid(void)
{
	asm volatile("sti" ::: "memory");
	GUEST_SYNC_ARGS(HALT, VAPIC, NOTHING, 1, 0);
	asm volatile("hlt" ::: "memory");
	expect(*(u32 *)(VAPIC + APIC_PROCPRI), HIGH_PRIORITY);
	GUEST_SYNC_ARGS(HALT_WAKE, VAPIC, 0, 0, 0);
	asm volatile("hlt" ::: "memory");
	expect(*(u32 *)(VAPIC + APIC_PROCPRI), HIGH_PRIORITY);
	vmcall();
}

static void l1_vmx_vid(struct vmx_pages *vmx)
{
	start_vmx(vmx, l2_vmx_vid);
	use_vapic();
	*(u32 *)(VAPIC + APIC_TASKPRI) = HIGH_PRIORITY;
	*(u32 *)(VAPIC + APIC_IRR + L2_VECTOR / 32 * 16) = BIT(L2_VECTOR % 32);
	vmwrite(GUEST_INTR_STATUS, L2_VECTOR);
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, vmreadz(PIN_BASED_VM_EXEC_CONTROL) |
		PIN_BASED_EXT_INTR_MASK);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, vmreadz(SECONDARY_VM_EXEC_CONTROL) |
		SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();
	GUEST_DONE();
}

/* As the MSR bitmap; without bitmaps as well L2 is free to use any port. */
static void l2_vmx_io(void)
{
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(0));
	vmcall();
}

static void l1_vmx_io_bitmaps(struct vmx_pages *vmx)
{
	start_vmx(vmx, l2_vmx_io);
	memset((void *)IOPM, 0, 2 * PG);
	vmwrite(IO_BITMAP_A, IOPM);
	vmwrite(IO_BITMAP_B, IOPM + PG);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
		CPU_BASED_USE_IO_BITMAPS);
	protect(IOPM, NOTHING);
	GUEST_ASSERT(!vmlaunch());
	expect(vmreadz(VM_EXIT_REASON), EXIT_REASON_IO_INSTRUCTION);
	lift(IOPM);
	protect(IOPM, NW);
	vmwrite(GUEST_RIP, (u64)l2_vmx_io);
	GUEST_ASSERT(!vmresume());
	expect_vmcall();
	lift(IOPM);
	GUEST_DONE();
}

/* The CPU knows this page by its address alone, and yet L2 has to wait for it. */
static void l2_vmx_apic_access(void)
{
	withhold(APIC_ACCESS, NW);
	withhold(APIC_ACCESS, NOTHING);
	vmcall();
}

static void l1_vmx_apic_access(struct vmx_pages *vmx)
{
	start_vmx(vmx, l2_vmx_apic_access);
	vmwrite(APIC_ACCESS_ADDR, APIC_ACCESS);
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
		CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, vmreadz(SECONDARY_VM_EXEC_CONTROL) |
		SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();
	GUEST_DONE();
}

/*
 * Hyper-V's VMCS in memory, which KVM keeps mapped.  It is written when L2 exits,
 * so L2 does not run while that is not allowed.  L1 does: to it, KVM has lost it.
 */
static void l2_vmx_evmcs(void)
{
	withhold(EVMCS, NW);
	withhold(EVMCS, NOTHING);
	vmcall();
	vmcall();
	vmcall();
}

static void resume_after_vmcall(void)
{
	current_evmcs->guest_rip += 3;
	GUEST_ASSERT(!vmresume());
	expect_vmcall();
}

static void start_evmcs(struct vmx_pages *vmx, void *l2)
{
	vmx->enlightened_vmcs_gpa = EVMCS;
	vmx->enlightened_vmcs = (void *)EVMCS;
	enable_vp_assist(vmx->vp_assist_gpa, vmx->vp_assist);
	memset((void *)EVMCS, 0, PG);
	start_vmx(vmx, l2);
}

static void l1_vmx_evmcs(struct vmx_pages *vmx)
{
	start_evmcs(vmx, l2_vmx_evmcs);
	GUEST_ASSERT(!vmlaunch());
	expect_vmcall();

	protect(EVMCS, NW);
	expect(kvm_asm_safe("vmresume"), UD_VECTOR);
	lift(EVMCS);
	resume_after_vmcall();

	GUEST_SYNC_ARGS(SAVE_STATE, EVMCS, NOTHING, 0, 0);
	resume_after_vmcall();
	GUEST_DONE();
}

/* ---- The VMM ---- */

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct prot_mem mem;
static u8 watched[PG];		/* the page between PROTECT and LIFT */

static void expect_refusal(u64 page, u64 allowed)
{
	u64 flags = vcpu_run_to_refusal(vcpu, page);

	TEST_ASSERT(flags & allowed,
		    "The exit should name access %#lx, names %#lx", allowed,
		    flags);
	TEST_ASSERT(vcpu_get_rip(vcpu) == *guest_global(vm, insn_rip),
		    "RIP should be on the instruction at %#lx, is %#lx",
		    *guest_global(vm, insn_rip), vcpu_get_rip(vcpu));
}

static void expect_save(int error)
{
	struct kvm_nested_state *state = calloc(1, 4 * PG);
	int r;

	TEST_ASSERT(state, "out of memory");
	state->size = 4 * PG;
	r = __vcpu_ioctl(vcpu, KVM_GET_NESTED_STATE, state);
	TEST_ASSERT(error ? r == -1 && errno == error : !r,
		    "KVM_GET_NESTED_STATE should end with %s, returns %d with %s",
		    strerror(error), r, strerror(errno));
	free(state);
}

static void on_alarm(int signal)
{
}

/* KVM_RUN has to be interrupted, as it waits for as long as the vCPU is halted. */
static void run_interrupted(void)
{
	const struct itimerval soon = {
		.it_interval.tv_usec = 50000, .it_value.tv_usec = 50000,
	}, off = {};
	struct sigaction action = { .sa_handler = on_alarm };
	int ret;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	ret = __vcpu_run(vcpu);
	setitimer(ITIMER_REAL, &off, NULL);
	TEST_ASSERT(ret == -1 && errno == EINTR,
		    "L2 should halt, KVM_RUN returns %d with errno %d: %s", ret,
		    errno, exit_story(vcpu->run));
}

static void run_to_halt(void)
{
	struct kvm_mp_state state;

	do {
		run_interrupted();
		vcpu_mp_state_get(vcpu, &state);
	} while (state.mp_state != KVM_MP_STATE_HALTED);
}

/* @pending: there is what KVM would have to wake L2 for, if it could look. */
static void do_halt(u64 page, u64 attrs, bool pending)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	run_to_halt();
	vm_set_memory_attributes(vm, page, PG, attrs);
	if (!pending) {
		run_to_halt();
		vcpu_mp_state_set(vcpu, &runnable);
	}
	vcpu_run_to_refusal(vcpu, page);
	vcpu_run_to_refusal(vcpu, page);
	vm_set_memory_attributes(vm, page, PG, 0);
}

static void do_halt_wake(u64 page)
{
	run_to_halt();
	run_to_halt();
	*(u32 *)(prot_mem_hva(&mem, page) + APIC_PROCPRI) = 0;
}

static void do_request(const struct ucall *uc)
{
	u64 page = uc->args[2], attrs = uc->args[3], flags = uc->args[4];

	if (uc->args[1] == HALT) {
		do_halt(page, attrs, flags);
		return;
	}
	if (uc->args[1] == HALT_WAKE) {
		do_halt_wake(page);
		return;
	}

	if (uc->args[1] != LIFT) {
		vm_set_memory_attributes(vm, page, PG, attrs);
		memcpy(watched, prot_mem_hva(&mem, page), PG);
	}
	if (uc->args[1] == REFUSE) {
		expect_refusal(page, flags);
		expect_refusal(page, flags);
	}
	if (uc->args[1] == WITHHOLD) {
		vcpu_run_to_refusal(vcpu, page);
		vcpu_run_to_refusal(vcpu, page);
	}
	if (uc->args[1] == SAVE_STATE)
		expect_save(EFAULT);
	if (uc->args[1] != PROTECT) {
		TEST_ASSERT(!memcmp(watched, prot_mem_hva(&mem, page), PG),
			    "The protected page at %#lx should not change",
			    page);
		vm_set_memory_attributes(vm, page, PG, 0);
	}
	if (uc->args[1] == SAVE_STATE)
		expect_save(0);
}

/* Also serves the port that L2 writes to. */
static void run_guests(void)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_IO &&
		    vcpu->run->io.port == PORT)
			continue;
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			do_request(&uc);
			break;
		case UCALL_DONE:
			return;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT_2(uc, "values: %#lx, %#lx");
		default:
			TEST_FAIL("Unexpected exit %s", exit_story(vcpu->run));
		}
	}
}

static void create_vm(void *guest)
{
	vm = __vm_create_with_one_vcpu(&vcpu, MEM_SIZE / PG, guest);
	prot_mem_create(&mem, vm, SLOT, 0, MEM_GPA, MEM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	prot_mem_map(&mem, PG_LEVEL_4K);
	virt_map(vm, ALIAS, ALIAS, MEM_SIZE / PG);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vcpu);
	sync_global_to_guest(vm, forced);
}

static void destroy_vm(void)
{
	kvm_vm_free(vm);
	prot_mem_destroy(&mem);
}

static void test_svm(const char *what, void *l1, bool npt)
{
	pr_info("SVM: %s%s\n", what, npt ? ", nested paging" : "");
	create_vm(l1);
	vcpu_args_set(vcpu, 1, npt);
	run_guests();
	destroy_vm();
}

static void test_vmcb_taken(void)
{
	struct ucall uc;

	pr_info("SVM: VMCB of a running L2\n");
	create_vm(l1_svm_vmcb_taken);
	vm_install_exception_handler(vm, GP_VECTOR, guest_gp_handler);
	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC &&
		    uc.args[1] == PROTECT, "L2 should run");
	do_request(&uc);
	vcpu_run_to_done(vcpu);
	TEST_ASSERT(!memcmp(watched, prot_mem_hva(&mem, VMCB), PG),
		    "The VMCB should not be written when L2 exits");
	destroy_vm();
}

/* Memory of a device, of which the host has no struct page, as a VMCB. */
#define DEVICE_HPA	0xe0000000ull

static void test_vmcb_of_device(void)
{
	int fd = open("/dev/mem", O_RDWR);
	void *device = MAP_FAILED;

	if (fd >= 0)
		device = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			      DEVICE_HPA);
	if (device == MAP_FAILED) {
		pr_info("SVM: no device to have as a VMCB\n");
		return;
	}

	pr_info("SVM: a device as VMCB\n");
	create_vm(l1_svm_device);
	vm_set_user_memory_region(vm, SLOT + 1, 0, UNBACKED, PG, device);
	vm_set_memory_attributes(vm, UNBACKED, PG, NX);
	vcpu_run_to_done(vcpu);
	destroy_vm();
	munmap(device, PG);
	close(fd);
}

static void link_ept_alias(struct vmx_pages *vmx)
{
	u64 *root = vmx->eptp_hva;
	u64 *pdpt = addr_gpa2hva(vm, root[0] & ~(PG - 1) & ((1ull << 52) - 1));

	pdpt[ALIAS >> 30] = NPT_ALIAS | EPT_RWX;
}

static void test_vmx(const char *what, void *l1, bool ept)
{
	struct vmx_pages *vmx;
	vm_vaddr_t vmx_gva;

	pr_info("VMX: %s%s\n", what, ept ? ", nested paging" : "");
	create_vm(l1);
	vmx = vcpu_alloc_vmx(vm, &vmx_gva);
	if (ept) {
		prepare_eptp(vmx, vm, 0);
		nested_map_memslot(vmx, vm, 0);
		nested_map(vmx, vm, MEM_GPA, MEM_GPA, MEM_SIZE);
		link_ept_alias(vmx);
	}
	vcpu_args_set(vcpu, 1, vmx_gva);
	run_guests();
	destroy_vm();
}

static bool has_vid(void)
{
	u64 ctls = kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2);

	return ctls >> 32 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
}

static void test_evmcs(void)
{
	vm_vaddr_t vmx_gva;

	if (!kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS))
		return;

	pr_info("VMX: enlightened VMCS\n");
	create_vm(l1_vmx_evmcs);
	vcpu_set_hv_cpuid(vcpu);
	vcpu_enable_evmcs(vcpu);
	vcpu_alloc_vmx(vm, &vmx_gva);
	vcpu_args_set(vcpu, 1, vmx_gva);
	run_guests();
	destroy_vm();
}

/* ---- System management mode ---- */

#define SMRAM_GPA	0x1000000ull
#define SMRAM_SIZE	0x10000ull
#define SMRAM_STATE	(SMRAM_GPA + 0xf000)	/* at its end */
#define SMRAM_SLOT	0x10001		/* seen by SMM alone */

/* in $PORT_SMM, %al; rsm */
static const u8 smi_handler[] = { 0xe4, 0x0e, 0x0f, 0xaa };
#define PORT_SMM	0xe

static void guest_smi(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT |
			 APIC_DM_SMI);
	GUEST_DONE();
}

static struct prot_mem smi_begins(u64 attrs)
{
	struct prot_mem smram;

	create_vm(guest_smi);
	prot_mem_create(&smram, vm, SMRAM_SLOT, 0, SMRAM_GPA, SMRAM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	memcpy(smram.hva + 0x8000, smi_handler, sizeof(smi_handler));
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
	vm_set_memory_attributes(vm, SMRAM_STATE, PG, attrs);
	return smram;
}

static void expect_smi_handler(void)
{
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
		    vcpu->run->io.port == PORT_SMM,
		    "The SMI handler should run, exit: %s",
		    exit_story(vcpu->run));
}

static struct prot_mem enter_smm(void)
{
	struct prot_mem smram = smi_begins(0);

	vcpu_run(vcpu);
	expect_smi_handler();
	return smram;
}

static void leave_smm(struct prot_mem *smram)
{
	destroy_vm();
	prot_mem_destroy(smram);
}

/* As where there is no memory, the state is lost, or with later kernels, the VM is. */
static void test_smm_entry(u64 attrs)
{
	struct prot_mem smram = smi_begins(attrs);
	int ret = _vcpu_run(vcpu);

	if (!ret)
		expect_smi_handler();
	else
		TEST_ASSERT(errno == EIO, KVM_IOCTL_ERROR(KVM_RUN, ret));
	TEST_ASSERT(mem_is_filled(smram.hva + 0xf000, 0, PG),
		    "The state should not be saved to a protected page");
	/* What is dead cannot be taken apart. */
	if (!ret)
		leave_smm(&smram);
}

/* RSM is an instruction, which starts over. */
static void test_smm_exit(void)
{
	struct prot_mem smram = enter_smm();

	TEST_ASSERT(!mem_is_filled(smram.hva + 0xf000, 0, PG),
		    "The state should be saved");
	vm_set_memory_attributes(vm, SMRAM_STATE, PG, NOTHING);
	TEST_ASSERT(vcpu_run_to_refusal(vcpu, SMRAM_STATE) == EXIT_R,
		    "RSM should be refused to read its state");
	vm_set_memory_attributes(vm, SMRAM_STATE, PG, 0);
	vcpu_run_to_done(vcpu);
	leave_smm(&smram);
}

static void test_smm(void)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM)) {
		pr_info("SMM: not on this host\n");
		return;
	}
	pr_info("SMM\n");
	test_smm_entry(NW);
	test_smm_entry(NOTHING);
	test_smm_exit();
}

static void test_all_svm(void)
{
	test_svm("accesses of L2", l1_svm_access, false);
	test_svm("VMCB", l1_svm_vmcb, false);
	test_vmcb_taken();
	test_vmcb_of_device();
	test_svm("MSR permission map", l1_svm_msrpm, false);
	test_svm("I/O permission map", l1_svm_iopm, false);
	if (!kvm_cpu_has(X86_FEATURE_NPT))
		return;
	test_svm("accesses of L2", l1_svm_access, true);
	test_svm("nested page tables", l1_svm_walk, true);
}

static void test_all_vmx(void)
{
	test_vmx("accesses of L2", l1_vmx_access, false);
	test_vmx("VMCS", l1_vmx_vmcs, false);
	test_vmx("MSR bitmap", l1_vmx_msr_bitmap, false);
	test_vmx("I/O bitmaps", l1_vmx_io_bitmaps, false);
	test_vmx("virtual-APIC page", l1_vmx_tpr, false);
	test_vmx("L2 that halts", l1_vmx_halt, false);
	if (has_vid())
		test_vmx("L2 that halts with virtual-interrupt delivery",
			 l1_vmx_vid, false);
	else
		pr_info("VMX: no virtual-interrupt delivery\n");
	test_vmx("APIC-access page", l1_vmx_apic_access, false);
	test_evmcs();
	if (get_kvm_intel_param_bool("ept")) {
		test_vmx("accesses of L2", l1_vmx_access, true);
		test_vmx("nested page tables", l1_vmx_walk, true);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE_PROTECTIONS();

	forced = enable_forced_emulation();
	test_smm();
	if (kvm_cpu_has(X86_FEATURE_SVM))
		test_all_svm();
	if (kvm_cpu_has(X86_FEATURE_VMX))
		test_all_vmx();
	return 0;
}
