// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM's emulator and its page walks in private memory.
 *
 * What an emulated instruction fetches, reads, writes, compares and exchanges,
 * and the page tables and descriptors it looks at, may all be in private
 * memory.  Each case arranges that KVM emulates something whose operand is
 * private, and lets the guest look at the outcome.  The shared pages at the
 * same GFNs are filled with junk, which must be neither read nor written.
 *
 * Port I/O and MMIO make KVM emulate by themselves.  For other instructions
 * the forced emulation prefix is needed (kvm.force_emulation_prefix=1).
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	(16 * PG)
#define MMIO_GPA	0x180000000ull
#define PORT		0x2000

/* All private, but for SHARED between two that are. */
#define P0		SLOT_GPA
#define P1		(SLOT_GPA + PG)
#define P2		(SLOT_GPA + 2 * PG)
#define P3		(SLOT_GPA + 3 * PG)
#define P4		(SLOT_GPA + 4 * PG)
#define BEFORE		(SLOT_GPA + 5 * PG)
#define SHARED		(SLOT_GPA + 6 * PG)
#define AFTER		(SLOT_GPA + 7 * PG)
#define CODE		(SLOT_GPA + 8 * PG)

#define JUNK		0x5b
#define WORD		0x0123456789abcdefull
#define WORD2		0xfedcba9876543210ull

struct emulate_case {
	const char *name;
	void (*guest)(void);
	void (*exit)(struct kvm_vcpu *vcpu);
	bool forced;
	void (*prepare)(struct kvm_vcpu *vcpu);
};

/* ---- Port I/O ---- */

#define IO_BYTES	40
static int io_done;

static void rep_outsb(u64 gpa, u64 n)
{
	asm volatile("rep outsb" : "+S"(gpa), "+c"(n) : "d"(PORT) : "memory");
}

static void rep_insb(u64 gpa, u64 n)
{
	asm volatile("rep insb" : "+D"(gpa), "+c"(n) : "d"(PORT) : "memory");
}

static void guest_outs(void)
{
	fill_bytes(P0 + 0x100, IO_BYTES, 1);
	rep_outsb(P0 + 0x100, IO_BYTES);
	GUEST_DONE();
}

static void guest_ins(void)
{
	rep_insb(P0 + 0x100, IO_BYTES);
	expect_bytes(P0 + 0x100, IO_BYTES, 1);
	GUEST_ASSERT(!peek(P0 + 0x100 + IO_BYTES));
	GUEST_DONE();
}

/* From a private page on into the next, and the same in and out of shared. */
static void guest_outs_across(void)
{
	fill_bytes(P1 - IO_BYTES / 2, IO_BYTES, 1);
	rep_outsb(P1 - IO_BYTES / 2, IO_BYTES);
	GUEST_DONE();
}

static void guest_outs_to_shared(void)
{
	fill_bytes(SHARED - IO_BYTES / 2, IO_BYTES, 1);
	rep_outsb(SHARED - IO_BYTES / 2, IO_BYTES);
	GUEST_DONE();
}

static void guest_ins_to_shared(void)
{
	rep_insb(SHARED - IO_BYTES / 2, IO_BYTES);
	expect_bytes(SHARED - IO_BYTES / 2, IO_BYTES, 1);
	GUEST_DONE();
}

static void guest_ins_from_shared(void)
{
	rep_insb(AFTER - IO_BYTES / 2, IO_BYTES);
	expect_bytes(AFTER - IO_BYTES / 2, IO_BYTES, 1);
	GUEST_DONE();
}

static void exit_io(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO && run->io.port == PORT,
		    "The guest should do I/O to port %#x, exit: %s", PORT,
		    exit_story(run));
	serve_counting_port(run, &io_done);
}

/* ---- MMIO ---- */

static void guest_mmio_store(void)
{
	u64 from = P0, to = MMIO_GPA;

	poke(P0, WORD);
	asm volatile("movsq" : "+S"(from), "+D"(to) :: "memory");
	GUEST_DONE();
}

static void guest_mmio_load(void)
{
	u64 from = MMIO_GPA, to = P0;

	asm volatile("movsq" : "+S"(from), "+D"(to) :: "memory");
	expect(peek(P0), WORD);
	GUEST_DONE();
}

static void guest_mmio_push(void)
{
	u64 rsp;

	asm volatile("mov %%rsp, %0; mov %1, %%rsp; pushq (%2); mov %0, %%rsp"
		     : "=&r"(rsp) : "r"(P0 + 64), "r"(MMIO_GPA) : "memory");
	expect(peek(P0 + 56), WORD);
	GUEST_DONE();
}

static void guest_mmio_pop(void)
{
	u64 rsp;

	poke(P0, WORD);
	asm volatile("mov %%rsp, %0; mov %1, %%rsp; popq (%2); mov %0, %%rsp"
		     : "=&r"(rsp) : "r"(P0), "r"(MMIO_GPA) : "memory");
	GUEST_DONE();
}

static void guest_mmio_cmps(void)
{
	u64 from = P0, to = MMIO_GPA;
	bool equal;

	poke(P0, WORD);
	asm volatile("cmpsq; sete %2" : "+S"(from), "+D"(to), "=r"(equal)
		     :: "memory", "cc");
	GUEST_ASSERT(equal);
	GUEST_DONE();
}

/* mov %esi, (%rdi); mov %rsi, %rax; ret */
static const u8 store_code[] = {
	0x89, 0x37, 0x48, 0x89, 0xf0, 0xc3,
};

/* The instruction itself is private: KVM has to fetch it to emulate it. */
static void guest_mmio_code(void)
{
	u64 (*f)(u64 to, u64 value) = (void *)CODE;

	memcpy((void *)CODE, store_code, sizeof(store_code));
	GUEST_ASSERT(f(MMIO_GPA, WORD) == WORD);
	GUEST_DONE();
}

/* One byte of it in the page before. */
static void guest_mmio_code_across(void)
{
	u64 (*f)(u64 to, u64 value) = (void *)CODE - 1;

	memcpy((void *)CODE - 1, store_code, sizeof(store_code));
	GUEST_ASSERT(f(MMIO_GPA, WORD) == WORD);
	GUEST_DONE();
}

static void exit_mmio(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 word = WORD;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO &&
		    run->mmio.phys_addr == MMIO_GPA,
		    "The guest should do MMIO, exit: %s", exit_story(run));
	if (run->mmio.is_write)
		TEST_ASSERT(!memcmp(run->mmio.data, &word, run->mmio.len),
			    "The guest should write its word, not %#lx",
			    *(u64 *)run->mmio.data);
	else
		memcpy(run->mmio.data, &word, run->mmio.len);
}

/* ---- Hypercall patching: KVM writes to the guest's code ---- */

static void guest_fix_hypercall(void)
{
	put_wrong_hypercall(CODE);
	call_wrong_hypercall(CODE);
	GUEST_DONE();
}

/* ---- Page tables: P0 to P3 lead from FAR_GVA to P4 ---- */

static void assert_table_flags(u64 gpa, bool dirty)
{
	GUEST_ASSERT_2(peek(gpa) & PTE_ACCESSED_MASK, gpa, peek(gpa));
	GUEST_ASSERT_2(!!(peek(gpa) & PTE_DIRTY_MASK) == dirty, gpa, peek(gpa));
}

static void guest_walk_read(void)
{
	build_far_tables(P0, 0);
	fill_bytes(P4, IO_BYTES, 1);
	rep_outsb(FAR_GVA, IO_BYTES);
	assert_table_flags(P3, false);
	GUEST_DONE();
}

/* Only KVM's software walk uses the address: it sets A and D. */
static void guest_walk_write(void)
{
	build_far_tables(P0, 0);
	rep_insb(FAR_GVA, IO_BYTES);
	expect_bytes(P4, IO_BYTES, 1);
	GUEST_ASSERT(peek(P2) & PTE_ACCESSED_MASK);
	GUEST_ASSERT(peek(P1) & PTE_ACCESSED_MASK);
	assert_table_flags(P3, true);
	GUEST_DONE();
}

/* A page table entry that is not present is seen, too. */
static u64 pf_address;

static void guest_pf_handler(struct ex_regs *regs)
{
	asm volatile("mov %%cr2, %0" : "=r"(pf_address));
	poke(P3, peek(P3) | PTE_PRESENT_MASK);
}

static void guest_walk_fault(void)
{
	build_far_tables(P0, 0);
	fill_bytes(P4, IO_BYTES, 1);
	poke(P3, peek(P3) & ~PTE_PRESENT_MASK);
	rep_outsb(FAR_GVA, IO_BYTES);
	expect(pf_address, FAR_GVA);
	GUEST_DONE();
}

static void prepare_pf(struct kvm_vcpu *vcpu)
{
	vm_init_descriptor_tables(vcpu->vm);
	vcpu_init_descriptor_tables(vcpu);
	vm_install_exception_handler(vcpu->vm, 14, guest_pf_handler);
}

/* The VMM asks for the translation, with the tables loaded. */
static void guest_translate(void)
{
	build_far_tables(P0, 0);
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(1));
	poke(P2, 0);
	asm volatile("mov %0, %%cr3" :: "r"(P0) : "memory");
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(2));
	GUEST_DONE();
}

static void exit_translate(struct kvm_vcpu *vcpu)
{
	u64 should = io_done ? -1ull : P4 + 0x123, gpa;

	exit_io(vcpu);
	gpa = vcpu_translate(vcpu, FAR_GVA + 0x123);
	TEST_ASSERT(gpa == should, "KVM_TRANSLATE should find %#lx, not %#lx",
		    should, gpa);
}

/* ---- Instructions that are forced into the emulator ---- */

static void guest_forced_load_store(void)
{
	u64 value;

	poke(P0, WORD);
	asm volatile(FEP "mov (%1), %0" : "=r"(value) : "r"(P0) : "memory");
	expect(value, WORD);
	asm volatile(FEP "mov %0, (%1)" :: "r"(WORD2), "r"(P0) : "memory");
	expect(peek(P0), WORD2);
	asm volatile(FEP "mov %b0, 3(%1)" :: "r"(0x77ull), "r"(P0) : "memory");
	expect(peek(P0), 0xfedcba9877543210ull);
	GUEST_DONE();
}

/* Each returns what EAX, or AX, is afterwards. */
static u32 forced_cmpxchgl(u64 at, u32 old, u32 new)
{
	asm volatile(FEP "lock cmpxchgl %2, (%1)"
		     : "+a"(old) : "r"(at), "r"(new) : "memory", "cc");
	return old;
}

static u16 forced_cmpxchgw(u64 at, u16 old, u16 new)
{
	asm volatile(FEP "lock cmpxchgw %2, (%1)"
		     : "+a"(old) : "r"(at), "r"(new) : "memory", "cc");
	return old;
}

static void guest_forced_cmpxchg(void)
{
	u64 rax;

	poke(P0, WORD);
	asm volatile(FEP "lock cmpxchgq %2, (%1)"
		     : "=a"(rax) : "r"(P0), "r"(WORD2), "a"(WORD)
		     : "memory", "cc");
	GUEST_ASSERT_2(peek(P0) == WORD2 && rax == WORD, peek(P0), rax);

	/* It fails: memory keeps its value, which goes to RAX. */
	asm volatile(FEP "lock cmpxchgq %2, (%1)"
		     : "=a"(rax) : "r"(P0), "r"(5ull), "a"(4ull)
		     : "memory", "cc");
	GUEST_ASSERT_2(peek(P0) == WORD2 && rax == WORD2, peek(P0), rax);

	forced_cmpxchgl(P0, (u32)WORD2, 0x11111111);
	expect(peek(P0), 0xfedcba9811111111ull);
	asm volatile(FEP "lock cmpxchgb %b2, (%1)"
		     : "=a"(rax) : "r"(P0), "r"(0x22), "a"(0x11)
		     : "memory", "cc");
	expect(peek(P0), 0xfedcba9811111122ull);
	forced_cmpxchgw(P0, 0x1122, 0x3333);
	expect(peek(P0), 0xfedcba9811113333ull);
	GUEST_DONE();
}

/* The same in a page that is shared. */
static void guest_forced_cmpxchg_shared(void)
{
	poke(SHARED, WORD);
	forced_cmpxchgl(SHARED, (u32)WORD, 0x11111111);
	expect(peek(SHARED), 0x0123456711111111ull);
	forced_cmpxchgw(SHARED, 0x1111, 0x2222);
	expect(peek(SHARED), 0x0123456711112222ull);

	/* These fail. */
	expect(forced_cmpxchgl(SHARED, 4, 5), 0x11112222);
	expect(forced_cmpxchgw(SHARED, 4, 5), 0x2222);
	expect(peek(SHARED), 0x0123456711112222ull);
	GUEST_DONE();
}

static void guest_forced_cmpxchg8b(void)
{
	u32 eax = (u32)WORD, edx = WORD >> 32;

	poke(P0, WORD);
	asm volatile(FEP "lock cmpxchg8b (%2)"
		     : "+a"(eax), "+d"(edx)
		     : "r"(P0), "b"((u32)WORD2), "c"((u32)(WORD2 >> 32))
		     : "memory", "cc");
	expect(peek(P0), WORD2);
	GUEST_DONE();
}

/* Over a page edge the emulator cannot exchange atomically; it still works. */
static void guest_forced_cmpxchg_split(void)
{
	u64 rax;

	poke(P1 - 4, WORD);
	asm volatile(FEP "lock cmpxchgq %2, (%1)"
		     : "=a"(rax) : "r"(P1 - 4), "r"(WORD2), "a"(WORD)
		     : "memory", "cc");
	expect(peek(P1 - 4), WORD2);
	GUEST_DONE();
}

static void guest_forced_rmw(void)
{
	u64 value = 7;

	poke(P0, 40);
	asm volatile(FEP "lock addq $2, (%0)" :: "r"(P0) : "memory", "cc");
	expect(peek(P0), 42);
	asm volatile(FEP "lock xaddq %0, (%1)" : "+r"(value)
		     : "r"(P0) : "memory", "cc");
	GUEST_ASSERT_2(peek(P0) == 49 && value == 42, peek(P0), value);
	asm volatile(FEP "xchgq %0, (%1)" : "+r"(value)
		     : "r"(P0) : "memory");
	GUEST_ASSERT_2(peek(P0) == 42 && value == 49, peek(P0), value);
	asm volatile(FEP "lock btsq $2, (%0)" :: "r"(P0) : "memory", "cc");
	expect(peek(P0), 46);
	asm volatile(FEP "incq (%0)" :: "r"(P0) : "memory", "cc");
	expect(peek(P0), 47);
	GUEST_DONE();
}

static void guest_forced_split(void)
{
	u64 value;

	/* Private and private, private and shared, shared and private */
	asm volatile(FEP "mov %0, (%1)" :: "r"(WORD), "r"(P1 - 3) : "memory");
	expect(peek(P1 - 3), WORD);
	asm volatile(FEP "mov %0, (%1)" :: "r"(WORD), "r"(SHARED - 3) : "memory");
	expect(peek(SHARED - 3), WORD);
	asm volatile(FEP "mov %0, (%1)" :: "r"(WORD), "r"(AFTER - 3) : "memory");
	expect(peek(AFTER - 3), WORD);
	asm volatile(FEP "mov (%1), %0" : "=r"(value) : "r"(AFTER - 3) : "memory");
	expect(value, WORD);
	GUEST_DONE();
}

static void guest_forced_string(void)
{
	u64 from = P0, to = P2 - 20, n = IO_BYTES;

	fill_bytes(P0, IO_BYTES, 9);
	asm volatile(FEP "rep movsb" : "+S"(from), "+D"(to), "+c"(n)
		     :: "memory");
	GUEST_ASSERT_2(!n && to == P2 + 20, n, to);
	expect_bytes(P2 - 20, IO_BYTES, 9);

	from = P0;
	to = P2 - 20;
	n = IO_BYTES;
	asm volatile(FEP "repe cmpsb" : "+S"(from), "+D"(to), "+c"(n)
		     :: "memory", "cc");
	GUEST_ASSERT_2(!n, n, 0);

	to = P0;
	n = 8;
	asm volatile(FEP "rep stosb" : "+D"(to), "+c"(n) : "a"(0xab) : "memory");
	expect(peek(P0), 0xababababababababull);
	GUEST_DONE();
}

static void guest_forced_stack(void)
{
	u64 rsp, value;

	asm volatile("mov %%rsp, %0; mov %2, %%rsp\n"
		     FEP "push %3\n"
		     FEP "pop %1\n"
		     "mov %0, %%rsp"
		     : "=&r"(rsp), "=&r"(value) : "r"(P0 + 64), "r"(WORD)
		     : "memory");
	expect(value, WORD);
	expect(peek(P0 + 56), WORD);

	/* Call and return through private memory, the stack there as well. */
	poke(P1, 0);
	asm volatile("mov %%rsp, %0; mov %2, %%rsp\n"
		     "lea 1f(%%rip), %1; mov %1, (%3)\n"
		     FEP "call *(%3)\n"
		     "jmp 2f\n"
		     "1: movq $77, 8(%3)\n"
		     FEP "ret\n"
		     "2: mov %0, %%rsp"
		     : "=&r"(rsp), "=&r"(value) : "r"(P0 + 64), "r"(P1)
		     : "memory");
	expect(peek(P1 + 8), 77);
	GUEST_DONE();
}

/* The opcode that pushes from memory: from a register, and a far call. */
static void guest_forced_stack_group(void)
{
	u64 rsp, back;

	asm volatile("mov %%rsp, %0; mov %1, %%rsp\n"
		     FEP ".byte 0xff, 0xf0\n"	/* push %rax */
		     "mov %0, %%rsp"
		     : "=&r"(rsp) : "r"(P0 + 64), "a"(WORD) : "memory");
	expect(peek(P0 + 56), WORD);

	asm volatile("mov %%rsp, %0; mov %2, %%rsp\n"
		     "lea 1f(%%rip), %1; mov %k1, (%3); mov %%cs, 4(%3)\n"
		     FEP "lcall *(%3)\n"
		     "1: mov %0, %%rsp"
		     : "=&r"(rsp), "=&r"(back) : "r"(P0 + 64), "r"(P1)
		     : "memory");
	expect(*(u32 *)(P0 + 60), *(u16 *)(P1 + 4));
	expect(*(u32 *)(P0 + 56), (u32)back);
	GUEST_DONE();
}

/* The source is not there: that comes first, whatever the stack is like. */
static void guest_forced_push_fault(void)
{
	u64 value;

	build_far_tables(P0, 0);
	poke(P4, WORD);
	poke(P3, peek(P3) & ~PTE_PRESENT_MASK);
	asm volatile(FEP "pushq (%1); pop %0"
		     : "=r"(value) : "r"(FAR_GVA) : "memory");
	expect(value, WORD);
	expect(pf_address, FAR_GVA);
	GUEST_DONE();
}

static void guest_forced_sse(void)
{
	u64 loaded;

	asm volatile("movq %0, %%xmm3" :: "r"((u64)WORD) : "xmm3");
	asm volatile(FEP "movdqu %%xmm3, (%0)" :: "r"(P1 - 4) : "memory");
	expect(peek(P1 - 4), WORD);
	poke(P1 - 4, WORD2);
	asm volatile(FEP "movdqu (%0), %%xmm3" :: "r"(P1 - 4) : "xmm3");
	asm volatile("movq %%xmm3, %0" : "=r"(loaded));
	expect(loaded, WORD2);
	GUEST_DONE();
}

/* A descriptor table in private memory. */
static void guest_forced_segment(void)
{
	struct desc_ptr gdt = get_gdt(), private_gdt = gdt;
	u16 ds = get_ds();

	memcpy((void *)P0, (void *)gdt.address, PG);
	private_gdt.address = P0;
	private_gdt.size = PG - 1;
	asm volatile("lgdt %0" :: "m"(private_gdt));
	asm volatile(FEP "mov %0, %%es" :: "r"((u32)ds) : "memory");
	expect(get_es(), ds);
	asm volatile("lgdt %0" :: "m"(gdt));

	asm volatile(FEP "sgdt (%0)" :: "r"(P1) : "memory");
	GUEST_ASSERT_2(*(u64 *)(P1 + 2) == gdt.address,
		       *(u64 *)(P1 + 2), gdt.address);
	GUEST_DONE();
}

static const struct emulate_case cases[] = {
	{ "outs", guest_outs, exit_io },
	{ "ins", guest_ins, exit_io },
	{ "outs over a page edge", guest_outs_across, exit_io },
	{ "outs from private to shared", guest_outs_to_shared, exit_io },
	{ "ins from private to shared", guest_ins_to_shared, exit_io },
	{ "ins from shared to private", guest_ins_from_shared, exit_io },
	{ "MMIO store", guest_mmio_store, exit_mmio },
	{ "MMIO load", guest_mmio_load, exit_mmio },
	{ "MMIO push", guest_mmio_push, exit_mmio },
	{ "MMIO pop", guest_mmio_pop, exit_mmio },
	{ "MMIO compare", guest_mmio_cmps, exit_mmio },
	{ "fetch", guest_mmio_code, exit_mmio },
	{ "fetch over a page edge", guest_mmio_code_across, exit_mmio },
	{ "hypercall patching", guest_fix_hypercall },
	{ "walk for read", guest_walk_read, exit_io },
	{ "walk for write", guest_walk_write, exit_io },
	{ "walk to a fault", guest_walk_fault, exit_io, false, prepare_pf },
	{ "KVM_TRANSLATE", guest_translate, exit_translate },
	{ "load and store", guest_forced_load_store, NULL, true },
	{ "cmpxchg", guest_forced_cmpxchg, NULL, true },
	{ "cmpxchg, shared", guest_forced_cmpxchg_shared, NULL, true },
	{ "cmpxchg8b", guest_forced_cmpxchg8b, NULL, true },
	{ "cmpxchg over a page edge", guest_forced_cmpxchg_split, NULL, true },
	{ "read, modify, write", guest_forced_rmw, NULL, true },
	{ "accesses over a page edge", guest_forced_split, NULL, true },
	{ "string instructions", guest_forced_string, NULL, true },
	{ "stack", guest_forced_stack, NULL, true },
	{ "push of a register, far call", guest_forced_stack_group, NULL, true },
	{ "push from a fault", guest_forced_push_fault, NULL, true,
	  prepare_pf },
	{ "SSE", guest_forced_sse, NULL, true },
	{ "descriptor table", guest_forced_segment, NULL, true },
};

/* Outside of the page SHARED nothing may have touched the shared memory. */
static void assert_shared_untouched(struct private_slot *s, const char *name)
{
	u64 end = s->gpa + s->size;

	TEST_ASSERT(mem_is_filled(s->hva, JUNK, SHARED - s->gpa) &&
		    mem_is_filled(private_slot_hva(s, AFTER), JUNK, end - AFTER),
		    "%s: the shared pages of private GFNs should be untouched",
		    name);
}

static void test_case(const struct emulate_case *c)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	vm = vm_create_with_slot(&vcpu, c->guest, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	virt_map(vm, ROOT_GVA, vm->pgd, 1);
	memset(s.hva, JUNK, s.size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vm_set_shared(vm, SHARED, PG);
	io_done = 0;
	if (c->prepare)
		c->prepare(vcpu);

	pr_info("%s\n", c->name);
	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_NONE:
			TEST_ASSERT(c->exit, "%s: unexpected exit %s",
				    c->name, exit_story(vcpu->run));
			c->exit(vcpu);
			continue;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT_2(uc, "values: %#lx, %#lx");
		case UCALL_DONE:
			break;
		default:
			TEST_FAIL("%s: unknown ucall %lu", c->name, uc.cmd);
		}
		break;
	}
	assert_shared_untouched(&s, c->name);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

int main(int argc, char *argv[])
{
	bool can_force;
	int i;

	TEST_REQUIRE_PROTECTED_VM();

	can_force = enable_forced_emulation();
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].forced && !can_force)
			pr_info("%s: no forced emulation\n", cases[i].name);
		else
			test_case(&cases[i]);
	}
	return 0;
}
