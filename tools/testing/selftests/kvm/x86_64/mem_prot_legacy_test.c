// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protections hold in a 32-bit guest: page-directory-pointer tables of PAE paging,
 * the I/O permission bitmap of a TSS, and task switches.
 *
 * The guest is raw code that begins with the instruction under test and ends with
 * an OUT.  The VMM sets all registers, protects a page that the instruction needs,
 * and checks that the exit names it, that RIP is on the instruction, and that
 * neither registers nor memory changed; then it lifts the protection, and checks
 * that the instruction did what it should, once.
 */
#include <assert.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000ull
#define MEM_SIZE	(16 * PG)
#define PAGE(n)		(MEM_GPA + (n) * PG)

#define CODE		PAGE(0)
#define TASK_B		(CODE + 0x100)
#define PDPT_A		PAGE(1)	/* maps the first 2 MiB at 0 */
#define PDPT_B		PAGE(2)	/* and at 1 GiB */
#define PD		PAGE(3)
#define GDT		PAGE(4)
#define TSS_A		PAGE(5)
#define TSS_B		PAGE(6)
#define STACK_A		PAGE(8)	/* their ends */
#define STACK_B		PAGE(9)
#define DATA		PAGE(9)
#define IDT		PAGE(10)
#define TSS_IO		PAGE(11)
#define IO_MAP		PAGE(12)	/* of that, up to its limit */

#define CODE_SELECTOR	0x08
#define DATA_SELECTOR	0x10
#define A_SELECTOR	0x18
#define B_SELECTOR	0x20

#define VECTOR		0x20	/* a task gate, as is 0 */
#define PORT		0x10
#define IN_PORT		0x18
#define PAE_CR4		X86_CR4_PAE
#define PAGING		(X86_CR0_PG | X86_CR0_PE)
#define NT_FLAG		0x4000u
#define RF_FLAG		0x10000u
#define FIXED_FLAG	0x2u

/* ---- The guest ---- */

enum insn { CR0, CR3, CR4, JMP, CALL, IRET, INT, DIVIDE, IN, FORCED_IN, INS };

static const struct {
	u8 bytes[7];
	int length;
} insns[] = {
	[CR0] = { { 0x0f, 0x22, 0xc3 }, 3 },	/* mov %ebx, %cr0 */
	[CR3] = { { 0x0f, 0x22, 0xdb }, 3 },	/* mov %ebx, %cr3 */
	[CR4] = { { 0x0f, 0x22, 0xe3 }, 3 },	/* mov %ebx, %cr4 */
	[JMP] = { { 0xea, 0, 0, 0, 0, B_SELECTOR, 0 }, 7 },	/* ljmp */
	[CALL] = { { 0x9a, 0, 0, 0, 0, B_SELECTOR, 0 }, 7 },	/* lcall */
	[IRET] = { { 0xcf }, 1 },
	[INT] = { { 0xcd, VECTOR }, 2 },
	[DIVIDE] = { { 0xf7, 0xf3 }, 2 },	/* div %ebx, which is 0 */
	[IN] = { { 0xe4, IN_PORT }, 2 },
	[INS] = { { 0x6c }, 1 },
	[FORCED_IN] = { { 0x0f, 0x0b, 'k', 'v', 'm', 0xe4, IN_PORT }, 7 },
};

#define FORCED_PREFIX	5	/* KVM skips it and emulates what follows */

/* incl (%edi); out %al, $PORT; hlt: behind the instruction, and all of task B */
static const u8 count[] = { 0xff, 0x07, 0xe6, PORT, 0xf4 };

struct tss {
	u32 link;
	u32 stacks[6];
	u32 cr3;
	u32 eip;
	u32 eflags;
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs;
	u32 ldt;
	u32 io_map;
};

static_assert(sizeof(struct tss) == 104, "A 32-bit TSS has 104 bytes");

/* ---- The VMM ---- */

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct prot_mem mem;
static const char *this_case, *part = "";
static bool npt;

static void *at(u64 gpa)
{
	return prot_mem_hva(&mem, gpa);
}

static u32 counter(void)
{
	return *(u32 *)at(DATA);
}

/* The type of a descriptor without its flags: 9 available, 0xb busy */
static u8 tss_type(u16 selector)
{
	return *(u64 *)at(GDT + selector) >> 40 & 0xf;
}

static u64 tss_descriptor(u64 base, u8 type)
{
	return (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 |
	       (0x80ull | type) << 40 | (base >> 24) << 56;
}

#define TASK_GATE	(0x85ull << 40 | B_SELECTOR << 16)

static void build_memory(enum insn insn)
{
	u64 *gdt = at(GDT);

	memset(mem.hva, 0, mem.size);
	memcpy(at(CODE), insns[insn].bytes, insns[insn].length);
	memcpy(at(CODE + insns[insn].length), count, sizeof(count));
	memcpy(at(TASK_B), count, sizeof(count));
	*(u64 *)at(PD) = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_LARGE_MASK |
			 PTE_ACCESSED_MASK | PTE_DIRTY_MASK;
	((u64 *)at(PDPT_A))[0] = PD | PTE_PRESENT_MASK;
	((u64 *)at(PDPT_B))[0] = PD | PTE_PRESENT_MASK;
	((u64 *)at(PDPT_B))[1] = PD | PTE_PRESENT_MASK;

	gdt[CODE_SELECTOR / 8] = 0x00cf9b000000ffffull;
	gdt[DATA_SELECTOR / 8] = 0x00cf93000000ffffull;
	gdt[A_SELECTOR / 8] = tss_descriptor(TSS_A, 0xb);
	gdt[B_SELECTOR / 8] = tss_descriptor(TSS_B, 0x9);
	((u64 *)at(IDT))[0] = TASK_GATE;
	((u64 *)at(IDT))[VECTOR] = TASK_GATE;
	*(struct tss *)at(TSS_A) = (struct tss) { .cr3 = PDPT_A };
	*(struct tss *)at(TSS_B) = (struct tss) {
		.cr3 = PDPT_B, .eip = TASK_B, .eflags = FIXED_FLAG,
		.eax = 0xb1, .ebx = 0xb2, .ecx = 0xb3, .edx = 0xb4,
		.esi = 0xb5, .ebp = 0xb6, .edi = DATA, .esp = STACK_B - 64,
		.cs = CODE_SELECTOR, .ss = DATA_SELECTOR, .ds = DATA_SELECTOR,
		.es = DATA_SELECTOR, .fs = DATA_SELECTOR, .gs = DATA_SELECTOR,
	};
}

static struct kvm_segment flat_segment(u16 selector, u8 type)
{
	return (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static void set_sregs(u64 cr0, u64 cr3)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs = flat_segment(CODE_SELECTOR, 0xb);
	sregs.ds = flat_segment(DATA_SELECTOR, 0x3);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.tr = (struct kvm_segment) {
		.base = TSS_A, .limit = sizeof(struct tss) - 1,
		.selector = A_SELECTOR, .type = 0xb, .present = 1,
	};
	sregs.ldt = (struct kvm_segment) { .unusable = 1 };
	sregs.gdt.base = GDT;
	sregs.gdt.limit = PG - 1;
	sregs.idt.base = IDT;
	sregs.idt.limit = PG - 1;
	sregs.cr0 = (sregs.cr0 & ~(X86_CR0_PG | X86_CR0_TS)) | cr0;
	sregs.cr3 = cr3;
	sregs.cr4 = PAE_CR4;
	sregs.efer = 0;
	vcpu_sregs_set(vcpu, &sregs);
}

static void set_regs(u64 rip, u64 load, u64 count_at, u64 flags)
{
	struct kvm_regs regs = {
		.rip = rip, .rflags = FIXED_FLAG | flags,
		.rax = 0xa1, .rbx = load, .rcx = 0xa3, .rdx = 0xa4,
		.rsi = 0xa5, .rbp = 0xa6, .rdi = count_at, .rsp = STACK_A - 64,
	};

	vcpu_regs_set(vcpu, &regs);
}

/* Whether the case is wanted; then it has a VM. */
static bool begin(const char *name)
{
	if (!strstr(name, part))
		return false;

	this_case = name;
	pr_info("%s\n", name);
	vm = vm_create_barebones();
	prot_mem_create(&mem, vm, SLOT, 0, MEM_GPA, MEM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	vcpu = __vm_vcpu_add(vm, 0);
	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	return true;
}

static void end(void)
{
	kvm_vm_free(vm);
	prot_mem_destroy(&mem);
}

static void protect(u64 page, u64 attrs)
{
	vm_set_memory_attributes(vm, page, PG, attrs);
}

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	u8 memory[MEM_SIZE];
};

static void take_state(struct state *state)
{
	vcpu_regs_get(vcpu, &state->regs);
	/* The CPU sets it when it begins to deliver an exception. */
	state->regs.rflags &= ~(u64)RF_FLAG;
	vcpu_sregs_get(vcpu, &state->sregs);
	memcpy(state->memory, mem.hva, MEM_SIZE);
	/* Some CPUs set accessed bits in what they walk there. */
	memset(state->memory + (PDPT_A - MEM_GPA), 0, PG);
}

static void assert_same_state(const struct state *a, const struct state *b)
{
	TEST_ASSERT(a->regs.rip == b->regs.rip,
		    "%s: RIP should be %#llx, is %#llx", this_case,
		    a->regs.rip, b->regs.rip);
	TEST_ASSERT(!memcmp(&a->regs, &b->regs, sizeof(a->regs)),
		    "%s: a refused instruction should change no register",
		    this_case);
	TEST_ASSERT(a->sregs.cr3 == b->sregs.cr3 && a->sregs.cr0 == b->sregs.cr0 &&
		    a->sregs.cr4 == b->sregs.cr4,
		    "%s: a refused instruction should change no control register",
		    this_case);
	TEST_ASSERT(!memcmp(&a->sregs.tr, &b->sregs.tr, sizeof(a->sregs.tr)),
		    "%s: a refused instruction should not change TR", this_case);
	TEST_ASSERT(!memcmp(a->memory, b->memory, MEM_SIZE),
		    "%s: a refused instruction should change no memory",
		    this_case);
}

static void expect_refusal(u64 page, u64 allowed)
{
	u64 flags = vcpu_run_to_refusal(vcpu, page);

	TEST_ASSERT(flags & allowed,
		    "%s: the exit should name access %#lx, names %#lx",
		    this_case, allowed, flags);
}

/* Runs to the OUT that ends the guest's code. */
static void expect_done(void)
{
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
		    vcpu->run->io.port == PORT,
		    "%s: the guest should go on, exit: %u (%s)", this_case,
		    vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	TEST_ASSERT(counter() == 1,
		    "%s: the code after the instruction should run once, ran %u times",
		    this_case, counter());
}

/* ---- Page-directory-pointer tables ---- */

static void expect_cr3(u64 cr3)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT(sregs.cr3 == cr3, "%s: CR3 should be %#lx, is %#llx",
		    this_case, cr3, sregs.cr3);
}

/* Where the counter is seen with PDPT_B only */
#define FAR_DATA	(DATA + (1ull << 30))

static void start_load(enum insn insn)
{
	build_memory(insn);
	switch (insn) {
	case CR0:
		set_sregs(X86_CR0_PE, PDPT_B);
		set_regs(CODE, PAGING | X86_CR0_ET, FAR_DATA, 0);
		break;
	case CR3:
		set_sregs(PAGING, PDPT_A);
		set_regs(CODE, PDPT_B, FAR_DATA, 0);
		break;
	default:
		set_sregs(PAGING, PDPT_B);
		set_regs(CODE, PAE_CR4 | X86_CR4_PSE, FAR_DATA, 0);
		break;
	}
}

static void expect_translation(u64 gva, bool valid)
{
	struct kvm_translation tr = { .linear_address = gva };

	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	TEST_ASSERT(tr.valid == valid,
		    "%s: KVM_TRANSLATE of %#lx should find %s translation",
		    this_case, gva, valid ? "a" : "no");
}

/* What was in CR3 before counts until it is loaded, and not any longer. */
static void expect_translations(bool refused)
{
	expect_translation(DATA, !refused || !npt);
	expect_translation(FAR_DATA, !refused && npt);
}

/*
 * With NPT the CPU reads the table when it walks it and not when it loads CR3: the
 * instruction after that is the first to need it.
 */
static void expect_load_refused(enum insn insn, u64 flags)
{
	static struct state before, first, again;
	bool later = npt && insn == CR3;

	take_state(&before);
	if (later) {
		before.regs.rip = CODE + insns[CR3].length;
		before.sregs.cr3 = PDPT_B;
	}
	expect_refusal(PDPT_B, flags);
	take_state(&first);
	assert_same_state(&before, &first);
	expect_refusal(PDPT_B, flags);
	take_state(&again);
	assert_same_state(&first, &again);
}

static void test_load(const char *name, enum insn insn)
{
	if (!begin(name))
		return;

	start_load(insn);
	protect(PDPT_B, NOTHING);
	expect_load_refused(insn, npt && insn != CR0 ? EXIT_R | EXIT_W : EXIT_R);
	if (insn == CR3)
		expect_translations(true);
	protect(PDPT_B, 0);
	if (insn == CR3)
		expect_translations(false);
	expect_done();
	expect_cr3(PDPT_B);

	/* No write goes there.  But NPT's walks count as writes. */
	start_load(insn);
	protect(PDPT_B, NW);
	if (npt) {
		expect_refusal(PDPT_B, EXIT_W);
		protect(PDPT_B, 0);
	}
	expect_done();

	start_load(insn);
	protect(PDPT_B, NX);
	expect_done();
	protect(PDPT_B, 0);
	end();
}

/*
 * KVM_SET_SREGS reads the table where the CPU does not, and has no way to say that
 * it may not: the vCPU keeps the PDPTRs that it has, which do not map the counter.
 */
static void test_set_sregs(void)
{
	if (!begin("PDPT, KVM_SET_SREGS"))
		return;

	build_memory(CR3);
	set_sregs(PAGING, PDPT_A);
	protect(PDPT_B, NOTHING);
	set_sregs(PAGING, PDPT_B);
	set_regs(TASK_B, 0, FAR_DATA, 0);
	if (npt) {
		expect_refusal(PDPT_B, EXIT_R | EXIT_W);
	} else {
		vcpu_run(vcpu);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN,
			    "%s: the table should not be in use, exit: %u (%s)",
			    this_case, vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));
	}
	TEST_ASSERT(!counter(), "%s: the counter should be out of reach",
		    this_case);

	protect(PDPT_B, 0);
	if (!npt) {
		set_sregs(PAGING, PDPT_B);
		set_regs(TASK_B, 0, FAR_DATA, 0);
	}
	expect_done();
	end();
}

/* ---- I/O permission bitmap ---- */

/* Whether QEMU emulates the CPU. */
static bool is_tcg(void)
{
	const struct kvm_x86_cpu_feature hypervisor =
		KVM_X86_CPU_FEATURE(0x1, 0, ECX, 31);
	u32 eax, ebx, ecx, edx;

	if (!this_cpu_has(hypervisor))
		return false;
	cpuid(0x40000000, &eax, &ebx, &ecx, &edx);
	return ebx == 0x54474354;	/* TCGT */
}

static void start_io(enum insn insn)
{
	struct kvm_sregs sregs;

	build_memory(insn);
	((struct tss *)at(TSS_IO))->io_map = (IO_MAP - TSS_IO) << 16;
	set_sregs(X86_CR0_PE, 0);
	set_regs(CODE, 0, DATA, 0);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs.selector |= 3;
	sregs.cs.dpl = 3;
	sregs.ds.selector |= 3;
	sregs.ds.dpl = 3;
	sregs.ss = sregs.ds;
	sregs.tr.base = TSS_IO;
	sregs.tr.limit = 2 * PG - 1;
	/* QEMU looks for bitmaps in tasks that are not busy. */
	if (is_tcg())
		sregs.tr.type = 0x9;
	vcpu_sregs_set(vcpu, &sregs);
}

/* The port is read once, then. */
static void expect_in(void)
{
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
		    vcpu->run->io.port == IN_PORT,
		    "%s: the port should be read, exit: %u (%s)", this_case,
		    vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	expect_done();
}

static void test_refused_in(enum insn insn, u64 page)
{
	static struct state before, after;

	start_io(insn);
	take_state(&before);
	if (insn == FORCED_IN)
		before.regs.rip += FORCED_PREFIX;
	protect(page, NOTHING);
	expect_refusal(page, EXIT_R);
	take_state(&after);
	assert_same_state(&before, &after);
	expect_refusal(page, EXIT_R);
	protect(page, NW | NX);
	expect_in();
	protect(page, 0);
}

/* The CPU, or KVM in its place, reads it for an IN that is not privileged. */
static void test_io(const char *name, enum insn insn)
{
	if (!begin(name))
		return;

	start_io(insn);
	expect_in();
	test_refused_in(insn, TSS_IO);
	test_refused_in(insn, IO_MAP);
	end();
}

/* A device must not be asked for what cannot be stored. */
#define INS_PAGE	PAGE(8)		/* its last byte: the counter is next to it */

static void start_ins(void)
{
	struct kvm_regs regs;

	start_io(INS);
	vcpu_regs_get(vcpu, &regs);
	regs.rdx = IN_PORT;
	regs.rdi = DATA - 1;
	vcpu_regs_set(vcpu, &regs);
}

static void test_ins(void)
{
	static struct state before, after;

	if (!begin("INS by a user's code"))
		return;

	start_ins();
	take_state(&before);
	protect(INS_PAGE, NW);
	expect_refusal(INS_PAGE, EXIT_W);
	take_state(&after);
	assert_same_state(&before, &after);
	expect_refusal(INS_PAGE, EXIT_W);
	protect(INS_PAGE, NX);
	expect_in();
	protect(INS_PAGE, 0);
	end();
}

/* ---- Task switches ---- */

static void start_switch(enum insn insn)
{
	build_memory(insn);
	if (insn == IRET) {
		((struct tss *)at(TSS_A))->link = B_SELECTOR;
		*(u64 *)at(GDT + B_SELECTOR) = tss_descriptor(TSS_B, 0xb);
	}
	set_sregs(PAGING, PDPT_A);
	set_regs(CODE, 0, DATA, insn == IRET ? NT_FLAG : 0);
}

/* Whether task B will return to task A. */
static bool is_nested(enum insn insn)
{
	return insn != JMP && insn != IRET;
}

static void expect_left(enum insn insn)
{
	u64 left_at = CODE + (insn == DIVIDE ? 0 : insns[insn].length);
	u32 flags = FIXED_FLAG | (insn == DIVIDE ? RF_FLAG : 0);
	const struct tss *a = at(TSS_A);

	TEST_ASSERT(a->eip == left_at,
		    "%s: task A should be left at %#lx, is at %#x", this_case,
		    left_at, a->eip);
	TEST_ASSERT(a->eax == 0xa1 && a->esi == 0xa5 && a->edi == DATA &&
		    a->esp == STACK_A - 64 && a->cs == CODE_SELECTOR &&
		    a->ss == DATA_SELECTOR && a->cr3 == PDPT_A,
		    "%s: task A should be saved", this_case);
	TEST_ASSERT(a->eflags == flags,
		    "%s: task A should be saved with EFLAGS %#x, not %#x",
		    this_case, flags, a->eflags);
	TEST_ASSERT(tss_type(A_SELECTOR) == (is_nested(insn) ? 0xb : 0x9),
		    "%s: the descriptor of task A has type %#x", this_case,
		    tss_type(A_SELECTOR));
}

static void expect_entered(enum insn insn)
{
	const struct tss *b = at(TSS_B);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	vcpu_sregs_get(vcpu, &sregs);
	TEST_ASSERT(regs.rax == 0xb1 && regs.rbx == 0xb2 && regs.rcx == 0xb3 &&
		    regs.rdx == 0xb4 && regs.rsi == 0xb5 && regs.rbp == 0xb6 &&
		    regs.rdi == DATA && regs.rsp == STACK_B - 64,
		    "%s: task B should have its registers", this_case);
	TEST_ASSERT(!(regs.rflags & NT_FLAG) == !is_nested(insn),
		    "%s: EFLAGS should say whether the task is nested, are %#llx",
		    this_case, regs.rflags);
	TEST_ASSERT(b->link == (is_nested(insn) ? A_SELECTOR : 0),
		    "%s: the link of task B is %#x", this_case, b->link);
	TEST_ASSERT(tss_type(B_SELECTOR) == 0xb,
		    "%s: task B should be busy, its descriptor has type %#x",
		    this_case, tss_type(B_SELECTOR));
	TEST_ASSERT(sregs.tr.selector == B_SELECTOR && sregs.tr.base == TSS_B &&
		    sregs.cr3 == PDPT_B && (sregs.cr0 & X86_CR0_TS),
		    "%s: TR should be %#x, is %#x", this_case, B_SELECTOR,
		    sregs.tr.selector);
}

static void expect_switched(enum insn insn)
{
	expect_done();
	expect_left(insn);
	expect_entered(insn);
}

static void expect_switch_refused(u64 page, u64 flags)
{
	static struct state before, after;

	take_state(&before);
	expect_refusal(page, flags);
	take_state(&after);
	assert_same_state(&before, &after);
	expect_refusal(page, flags);
	take_state(&after);
	assert_same_state(&before, &after);
}

static void test_refused_switch(enum insn insn, u64 page, u64 attrs, u64 flags)
{
	start_switch(insn);
	protect(page, attrs);
	expect_switch_refused(page, flags);
	protect(page, 0);
	expect_switched(insn);
}

static void test_switch(const char *name, enum insn insn)
{
	if (!begin(name))
		return;

	start_switch(insn);
	expect_switched(insn);

	test_refused_switch(insn, TSS_A, NW, EXIT_W);
	test_refused_switch(insn, TSS_A, NOTHING, EXIT_R | EXIT_W);
	test_refused_switch(insn, TSS_B, NOTHING, EXIT_R | EXIT_W);
	test_refused_switch(insn, GDT, NOTHING, EXIT_R | EXIT_W);
	test_refused_switch(insn, GDT, NW, EXIT_W);

	/* Only the link is written to the TSS of the new task. */
	if (is_nested(insn)) {
		test_refused_switch(insn, TSS_B, NW, EXIT_W);
	} else {
		start_switch(insn);
		protect(TSS_B, NW);
		expect_switched(insn);
		protect(TSS_B, 0);
	}
	end();
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE_PROTECTIONS();

	if (argc > 1)
		part = argv[1];
	npt = kvm_is_tdp_enabled() && !is_intel_cpu();
	test_load("PDPT, mov to CR3", CR3);
	test_load("PDPT, mov to CR0", CR0);
	/* QEMU's NPT leaves accessed bits where KVM's loads find them reserved. */
	if (!npt || !is_tcg())
		test_load("PDPT, mov to CR4", CR4);
	test_set_sregs();
	test_io("I/O bitmap", IN);
	if (enable_forced_emulation())
		test_io("I/O bitmap, emulated", FORCED_IN);
	test_ins();

	/* QEMU's task switches are no VM-Exits. */
	if (is_tcg()) {
		pr_info("task switches: not on this CPU\n");
		return 0;
	}
	test_switch("task switch, jmp", JMP);
	test_switch("task switch, call", CALL);
	test_switch("task switch, iret", IRET);
	test_switch("task switch, int through a task gate", INT);
	test_switch("task switch, exception through a task gate", DIVIDE);
	return 0;
}
