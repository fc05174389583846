// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protections hold on every path by which an instruction reaches memory.
 *
 * KVM's emulator: loads and stores, over page edges too, string instructions,
 * stack, descriptor tables, instruction fetch, port and memory-mapped I/O,
 * hypercall patching.  Page-table walks: the CPU's and KVM's own, for reading
 * and for setting accessed and dirty bits.
 *
 * Each case is a function of the guest, which tells the VMM what to protect
 * just before the one instruction that is to be refused.  The VMM checks that
 * the exit names access and page, that RIP is on the instruction, that neither
 * registers nor memory changed and that no device was touched; it then lifts
 * the protection, and the guest checks that the instruction completed, once.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "mem_guest.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define MEM_SIZE	(16 * PG)
#define MMIO_GPA	0x180000000ull
#define PORT		0x2000

#define P0		MEM_GPA
#define P1		(MEM_GPA + PG)
#define P2		(MEM_GPA + 2 * PG)
#define P3		(MEM_GPA + 3 * PG)
#define P4		(MEM_GPA + 4 * PG)
#define GDT		(MEM_GPA + 6 * PG)
#define CODE		(MEM_GPA + 8 * PG)
#define CODE2		(CODE + PG)

#define WORD		0x0123456789abcdefull
#define WORD2		0xfedcba9876543210ull
#define ANY		-1ull	/* number of iterations left: do not care */

/* ---- What the guest asks of the VMM ---- */

enum request {
	REFUSE,		/* the next access; protection is lifted afterwards */
	PROTECT,	/* expect no exit by it */
	REFUSE_AT_IO,	/* as REFUSE, but protect when the device answers */
	REFUSE_MANY,	/* as REFUSE, of many pages from this one on */
};

/* More GFNs than KVM looks up one by one. */
#define MANY		(8192 * PG)

static void request(enum request what, u64 page, u64 attrs, u64 flags,
		    u64 iterations)
{
	GUEST_SYNC_ARGS(what, page, attrs, flags, iterations);
}

static void refuse(u64 page, u64 attrs, u64 flags)
{
	request(REFUSE, page, attrs, flags, 0);
}

static void protect(u64 page, u64 attrs)
{
	request(PROTECT, page, attrs, 0, 0);
}

/* ---- Loads and stores ---- */

static void store(u64 gpa, u64 value)
{
	asm volatile(AT("mov %0, (%1)") :: "r"(value), "r"(gpa) : CLOBBERS);
}

/* Of a word over a page edge either half may be refused. */
static void guest_load_over_edge(void)
{
	poke(P1 - 3, WORD);
	refuse(P0, NOTHING, EXIT_R);
	expect(load(P1 - 3), WORD);
	refuse(P1, NOTHING, EXIT_R);
	expect(load(P1 - 3), WORD);
	GUEST_DONE();
}

/* Neither half is written while the other is refused. */
static void guest_store_over_edge(void)
{
	refuse(P0, NW, EXIT_W);
	store(P1 - 3, WORD);
	expect(peek(P1 - 3), WORD);
	refuse(P1, NW, EXIT_W);
	store(P1 - 3, WORD2);
	expect(peek(P1 - 3), WORD2);
	GUEST_DONE();
}

/* ---- Read, modify, write: once means once ---- */

static void guest_forced_rmw(void)
{
	u64 value = 7;

	poke(P0, 40);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock addq $2, (%0)") :: "r"(P0) : CLOBBERS);
	expect(peek(P0), 42);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock xaddq %0, (%1)")
		     : "+r"(value) : "r"(P0) : CLOBBERS);
	expect(peek(P0), 49);
	expect(value, 42);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("xchgq %0, (%1)")
		     : "+r"(value) : "r"(P0) : CLOBBERS);
	expect(peek(P0), 42);
	expect(value, 49);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("incq (%0)") :: "r"(P0) : CLOBBERS);
	expect(peek(P0), 43);
	refuse(P0, NOTHING, EXIT_R | EXIT_W);
	asm volatile(FORCED_AT("incq (%0)") :: "r"(P0) : CLOBBERS);
	expect(peek(P0), 44);
	GUEST_DONE();
}

static void guest_forced_cmpxchg(void)
{
	u64 rax;

	poke(P0, WORD);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock cmpxchgq %2, (%1)")
		     : "=a"(rax) : "r"(P0), "r"(WORD2), "a"(WORD) : CLOBBERS);
	expect(peek(P0), WORD2);
	expect(rax, WORD);

	/* One that finds another value writes as well. */
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock cmpxchgq %2, (%1)")
		     : "=a"(rax) : "r"(P0), "r"(5ull), "a"(4ull) : CLOBBERS);
	expect(peek(P0), WORD2);
	expect(rax, WORD2);

	/* Over a page edge KVM cannot exchange atomically. */
	poke(P1 - 4, WORD);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock cmpxchgq %2, (%1)")
		     : "=a"(rax) : "r"(P1 - 4), "r"(WORD2), "a"(WORD) : CLOBBERS);
	expect(peek(P1 - 4), WORD2);
	expect(rax, WORD);
	poke(P1 - 4, WORD);
	refuse(P1, NW, EXIT_W);
	asm volatile(FORCED_AT("lock cmpxchgq %2, (%1)")
		     : "=a"(rax) : "r"(P1 - 4), "r"(WORD2), "a"(WORD) : CLOBBERS);
	expect(peek(P1 - 4), WORD2);
	expect(rax, WORD);
	GUEST_DONE();
}

static void guest_forced_cmpxchg8b(void)
{
	u32 eax = (u32)WORD, edx = WORD >> 32;

	poke(P0, WORD);
	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("lock cmpxchg8b (%2)")
		     : "+a"(eax), "+d"(edx)
		     : "r"(P0), "b"((u32)WORD2), "c"((u32)(WORD2 >> 32))
		     : CLOBBERS);
	expect(peek(P0), WORD2);
	expect(eax, (u32)WORD);
	GUEST_DONE();
}

static void guest_forced_sse(void)
{
	u64 value;

	asm volatile("movq %0, %%xmm3" :: "r"(WORD) : "xmm3");
	refuse(P1, NW, EXIT_W);
	asm volatile(FORCED_AT("movdqu %%xmm3, (%0)")
		     :: "r"(P1 - 4) : CLOBBERS);
	expect(peek(P1 - 4), WORD);
	poke(P1 - 4, WORD2);
	refuse(P1, NOTHING, EXIT_R);
	asm volatile(FORCED_AT("movdqu (%1), %%xmm3")
		     "movq %%xmm3, %0"
		     : "=r"(value) : "r"(P1 - 4) : "xmm3", CLOBBERS);
	expect(value, WORD2);
	GUEST_DONE();
}

/* ---- Strings: they stop at the iteration that is refused ---- */

static void guest_forced_movs(void)
{
	u64 from = P1 - 20, to = P2, n = 40;

	fill_bytes(from, 40, 9);
	request(REFUSE, P1, NOTHING, EXIT_R, 20);
	asm volatile(FORCED_AT("rep movsb")
		     : "+S"(from), "+D"(to), "+c"(n) :: CLOBBERS);
	GUEST_ASSERT_3(!n && from == P1 + 20 && to == P2 + 40, n, from, to);
	expect_bytes(P2, 40, 9);

	from = P0;
	to = P3 - 24;
	n = 5;
	fill_bytes(from, 40, 50);
	request(REFUSE, P3, NW, EXIT_W, 2);
	asm volatile(FORCED_AT("rep movsq")
		     : "+S"(from), "+D"(to), "+c"(n) :: CLOBBERS);
	GUEST_ASSERT_3(!n && from == P0 + 40 && to == P3 + 16, n, from, to);
	expect_bytes(P3 - 24, 40, 50);
	GUEST_DONE();
}

static void guest_forced_cmps(void)
{
	u64 from = P0, to = P2 - 20, n = 40;

	fill_bytes(P0, 40, 9);
	fill_bytes(P2 - 20, 40, 9);
	request(REFUSE, P2, NOTHING, EXIT_R, 20);
	asm volatile(FORCED_AT("repe cmpsb")
		     : "+S"(from), "+D"(to), "+c"(n) :: CLOBBERS);
	expect(n, 0);
	GUEST_DONE();
}

/* Backwards */
static void guest_forced_stos_down(void)
{
	u64 to = P1 + 9, n = 20;

	request(REFUSE, P0, NW, EXIT_W, 10);
	asm volatile("std\n"
		     FORCED_AT("rep stosb")
		     "cld"
		     : "+D"(to), "+c"(n) : "a"(0xab) : CLOBBERS);
	GUEST_ASSERT_2(!n && to == P1 - 11, n, to);
	expect(peek(P1 - 8), 0xababababababababull);
	GUEST_DONE();
}

/* ---- Stack ---- */

/* With the operand as RSP, which %0 is in the end. */
#define ON_STACK(operand, insn)						\
	"mov %%rsp, %0; mov " operand ", %%rsp\n" insn "xchg %0, %%rsp"

static void guest_forced_push(void)
{
	u64 rsp;

	refuse(P0, NW, EXIT_W);
	asm volatile(ON_STACK("%1", FORCED_AT("push %2"))
		     : "=&r"(rsp) : "r"(P0 + 64), "r"(WORD) : CLOBBERS);
	expect(peek(P0 + 56), WORD);
	expect(rsp, P0 + 56);

	/* It is the operand that is refused, not the stack. */
	poke(P2, WORD2);
	refuse(P2, NOTHING, EXIT_R);
	asm volatile(ON_STACK("%1", FORCED_AT("pushq (%2)"))
		     : "=&r"(rsp) : "r"(P0 + 64), "r"(P2) : CLOBBERS);
	expect(peek(P0 + 56), WORD2);
	expect(rsp, P0 + 56);
	GUEST_DONE();
}

static void guest_forced_pop(void)
{
	u64 rsp, value;

	poke(P0, WORD);
	refuse(P0, NOTHING, EXIT_R);
	asm volatile(ON_STACK("%2", FORCED_AT("pop %1"))
		     : "=&r"(rsp), "=&r"(value) : "r"(P0) : CLOBBERS);
	expect(value, WORD);
	expect(rsp, P0 + 8);

	/* The stack was read when the operand is refused. */
	refuse(P2, NW, EXIT_W);
	asm volatile(ON_STACK("%1", FORCED_AT("popq (%2)"))
		     : "=&r"(rsp) : "r"(P0), "r"(P2) : CLOBBERS);
	expect(peek(P2), WORD);
	expect(rsp, P0 + 8);
	GUEST_DONE();
}

static void guest_forced_call(void)
{
	u64 rsp, value;

	asm volatile("lea forced_call_to(%%rip), %0" : "=r"(value));
	poke(P1, value);
	poke(P1 + 8, 0);
	refuse(P0, NW, EXIT_W);
	asm volatile(ON_STACK("%1", FORCED_AT("call *(%2)")
			      "jmp 4f\n"
			      "forced_call_to: incq 8(%2)\n"
			      "ret\n"
			      "4: ")
		     : "=&r"(rsp) : "r"(P0 + 64), "r"(P1) : CLOBBERS);
	expect(peek(P1 + 8), 1);
	expect(rsp, P0 + 64);

	asm volatile("lea forced_ret_to(%%rip), %0" : "=r"(value));
	poke(P0, value);
	refuse(P0, NOTHING, EXIT_R);
	asm volatile(ON_STACK("%1", FORCED_AT("ret")
			      "ud2\n"
			      "forced_ret_to: ")
		     : "=&r"(rsp) : "r"(P0) : CLOBBERS);
	expect(rsp, P0 + 8);
	GUEST_DONE();
}

/* ---- Descriptor tables ---- */

static struct desc_ptr use_own_gdt(void)
{
	struct desc_ptr gdt = get_gdt(), own = gdt;

	memcpy((void *)GDT, (void *)gdt.address, PG);
	own.address = GDT;
	own.size = PG - 1;
	asm volatile("lgdt %0" :: "m"(own));
	return gdt;
}

static void set_accessed(u16 selector, bool accessed)
{
	u64 entry = GDT + (selector & ~7), bit = 1ull << 40;

	poke(entry, accessed ? peek(entry) | bit : peek(entry) & ~bit);
}

/* What is read, and written when the descriptor is not marked accessed. */
static void guest_segment(void)
{
	struct desc_ptr gdt = use_own_gdt();
	u32 ds = get_ds();

	set_accessed(ds, true);
	refuse(GDT, NOTHING, EXIT_R);
	asm volatile(AT("mov %0, %%es") :: "r"(ds) : CLOBBERS);
	protect(GDT, NW);
	asm volatile(AT("mov %0, %%es") :: "r"(ds) : CLOBBERS);
	protect(GDT, 0);

	set_accessed(ds, false);
	refuse(GDT, NW, EXIT_W);
	asm volatile(AT("mov %0, %%es") :: "r"(ds) : CLOBBERS);
	expect(peek(GDT + ds) >> 40 & 1, 1);
	expect(get_es(), ds);
	asm volatile("lgdt %0" :: "m"(gdt));
	GUEST_DONE();
}

#define TSS_SELECTOR	0x40

/* Marks the task busy */
static void guest_forced_ltr(void)
{
	struct desc_ptr gdt = use_own_gdt();

	/* 64-bit TSS, available, at P2 */
	poke(GDT + TSS_SELECTOR, 0x67 | (P2 & 0xffffff) << 16 | 0x89ull << 40 |
	     (P2 >> 24 & 0xff) << 56);
	poke(GDT + TSS_SELECTOR + 8, P2 >> 32);
	refuse(GDT, NOTHING, EXIT_R);
	asm volatile(FORCED_AT("ltr %w0") :: "r"(TSS_SELECTOR) : CLOBBERS);
	expect(peek(GDT + TSS_SELECTOR) >> 40 & 0xff, 0x8b);

	poke(GDT + TSS_SELECTOR, peek(GDT + TSS_SELECTOR) & ~(2ull << 40));
	refuse(GDT, NW, EXIT_W);
	asm volatile(FORCED_AT("ltr %w0") :: "r"(TSS_SELECTOR) : CLOBBERS);
	expect(peek(GDT + TSS_SELECTOR) >> 40 & 0xff, 0x8b);
	expect(get_tr(), TSS_SELECTOR);
	asm volatile("lgdt %0" :: "m"(gdt));
	GUEST_DONE();
}

static void guest_forced_sgdt(void)
{
	struct desc_ptr gdt = get_gdt();

	refuse(P0, NW, EXIT_W);
	asm volatile(FORCED_AT("sgdt (%0)") :: "r"(P0) : CLOBBERS);
	expect(peek(P0 + 2), gdt.address);
	refuse(P0, NOTHING, EXIT_R);
	asm volatile(FORCED_AT("lgdt (%0)") :: "r"(P0) : CLOBBERS);
	expect(get_gdt().address, gdt.address);
	GUEST_DONE();
}

/* ---- Instruction fetch ---- */

/* KVM has the prefix to fetch, too, if it is to emulate. */
static void put_code(u64 at)
{
	if (insn_forced)
		memcpy((void *)at - sizeof(fep_code), fep_code,
		       sizeof(fep_code));
	memcpy((void *)at, result_code, sizeof(result_code));
	insn_rip = at;
}

static void execute(u64 at)
{
	expect(call_code(insn_forced ? at - sizeof(fep_code) : at), CODE_RESULT);
}

/* Code is put there again as Bochs keeps decoded what was executed. */
static void fetch_over_edge(u64 attrs)
{
	put_code(CODE2 - 2);
	refuse(CODE2, attrs, EXIT_X);
	execute(CODE2 - 2);
}

static void guest_fetch_over_edge(void)
{
	fetch_over_edge(NX);
	fetch_over_edge(NOTHING);
	GUEST_DONE();
}

/* KVM fetches ahead; what is no part of the instruction is not its business. */
static void guest_forced_fetch_up_to_edge(void)
{
	put_code(CODE2 - sizeof(result_code));
	protect(CODE2, NOTHING);
	execute(CODE2 - sizeof(result_code));
	GUEST_DONE();
}

/* KVM writes the instruction that is right for the vendor over the other. */
static void guest_fix_hypercall(void)
{
	put_wrong_hypercall(CODE);
	insn_rip = CODE;
	refuse(CODE, NW, EXIT_W);
	call_wrong_hypercall(CODE);
	GUEST_DONE();
}

/* ---- Port I/O: the device must not notice a refusal ---- */

#define IO_BYTES	40

static void outs(u64 gpa, u64 n)
{
	asm volatile(AT("rep outsb")
		     : "+S"(gpa), "+c"(n) : "d"(PORT) : CLOBBERS);
}

static void ins(u64 gpa, u64 n)
{
	asm volatile(AT("rep insb")
		     : "+D"(gpa), "+c"(n) : "d"(PORT) : CLOBBERS);
}

static void guest_outs(void)
{
	fill_bytes(P0, IO_BYTES, 1);
	request(REFUSE, P0, NOTHING, EXIT_R, IO_BYTES);
	outs(P0, IO_BYTES);
	GUEST_DONE();
}

static void guest_ins(void)
{
	request(REFUSE, P0, NW, EXIT_W, IO_BYTES);
	ins(P0, IO_BYTES);
	expect_bytes(P0, IO_BYTES, 1);
	GUEST_DONE();
}

static void guest_outs_over_edge(void)
{
	fill_bytes(P1 - 10, IO_BYTES, 1);
	request(REFUSE, P1, NOTHING, EXIT_R, IO_BYTES - 10);
	outs(P1 - 10, IO_BYTES);
	GUEST_DONE();
}

static void guest_ins_over_edge(void)
{
	request(REFUSE, P1, NW, EXIT_W, IO_BYTES - 10);
	ins(P1 - 10, IO_BYTES);
	expect_bytes(P1 - 10, IO_BYTES, 1);
	GUEST_DONE();
}

/*
 * A VMM that protects the page while it answers for the device makes the
 * instruction start over, and so the device is asked for the next bytes.
 */
static void guest_ins_late(void)
{
	request(REFUSE_AT_IO, P0, NW, EXIT_W, ANY);
	ins(P0, IO_BYTES);
	expect_bytes(P0, IO_BYTES, IO_BYTES + 1);
	GUEST_DONE();
}

/* ---- MMIO ---- */

static void guest_mmio_store(void)
{
	u64 from = P0, to = MMIO_GPA;

	poke(P0, WORD);
	refuse(P0, NOTHING, EXIT_R);
	asm volatile(AT("movsq") : "+S"(from), "+D"(to) :: CLOBBERS);
	GUEST_DONE();
}

static void guest_mmio_load(void)
{
	u64 from = MMIO_GPA, to = P0;

	poke(P0, 0);
	refuse(P0, NW, EXIT_W);
	asm volatile(AT("movsq") : "+S"(from), "+D"(to) :: CLOBBERS);
	expect(peek(P0), WORD);
	GUEST_DONE();
}

static void guest_mmio_push(void)
{
	u64 rsp;

	refuse(P0, NW, EXIT_W);
	asm volatile(ON_STACK("%1", AT("pushq (%2)"))
		     : "=&r"(rsp) : "r"(P0 + 64), "r"(MMIO_GPA) : CLOBBERS);
	expect(peek(P0 + 56), WORD);
	expect(rsp, P0 + 56);
	GUEST_DONE();
}

/* Attributes of a GFN without memslot are of no consequence. */
static void guest_mmio_attributes(void)
{
	u64 value;

	protect(MMIO_GPA, NOTHING);
	asm volatile("mov (%1), %0" : "=r"(value) : "r"(MMIO_GPA) : "memory");
	expect(value, WORD);
	poke(MMIO_GPA, WORD);
	protect(MMIO_GPA, NW);
	poke(MMIO_GPA, WORD);
	GUEST_DONE();
}

/* ---- Page tables: P0 to P3 lead from FAR_GVA to P4 ---- */

static bool tdp, walks_write;	/* set by the VMM */

static void build_page_tables(u64 flags)
{
	build_far_tables(P0, flags);
	fill_bytes(P4, IO_BYTES, 1);
}

/* Only KVM's own walk is used, for an emulated instruction. */
static void guest_soft_walk(u64 table)
{
	build_page_tables(0);
	request(REFUSE, table, NOTHING, EXIT_R, IO_BYTES);
	outs(FAR_GVA, IO_BYTES);
	GUEST_DONE();
}

static void guest_soft_walk_pte(void)
{
	guest_soft_walk(P3);
}

static void guest_soft_walk_pde(void)
{
	guest_soft_walk(P2);
}

static void guest_soft_walk_pdpte(void)
{
	guest_soft_walk(P1);
}

/* Accessed and dirty bits that are not set have to be. */
static void guest_soft_walk_accessed(void)
{
	build_page_tables(0);
	request(REFUSE, P3, NW, EXIT_W, IO_BYTES);
	outs(FAR_GVA, IO_BYTES);
	expect(!!(peek(P3) & PTE_ACCESSED_MASK), 1);
	GUEST_DONE();
}

static void guest_soft_walk_dirty(void)
{
	build_page_tables(PTE_ACCESSED_MASK);
	request(REFUSE, P3, NW, EXIT_W, IO_BYTES);
	ins(FAR_GVA, IO_BYTES);
	expect(!!(peek(P3) & PTE_DIRTY_MASK), 1);
	expect_bytes(P4, IO_BYTES, 1);
	GUEST_DONE();
}

static void guest_soft_walk_nothing_to_set(void)
{
	build_page_tables(PTE_ACCESSED_MASK | PTE_DIRTY_MASK);
	protect(P3, NW);
	ins(FAR_GVA, IO_BYTES);
	protect(P3, 0);
	expect_bytes(P4, IO_BYTES, 1);
	GUEST_DONE();
}

/* A walk sets bits in the tables that it gets through. */
static void refuse_walk(u64 page, u64 attrs, u64 flags)
{
	request(REFUSE, page, attrs, flags, ANY);
}

/* The CPU's own walk, or KVM's on its behalf when it shadows the tables. */
static void guest_walk_no_access(void)
{
	build_page_tables(0);
	refuse_walk(P3, NOTHING, tdp ? EXIT_R | EXIT_W : EXIT_R);
	expect(load(FAR_GVA), peek(P4));
	build_page_tables(0);
	refuse_walk(P1, NOTHING, tdp ? EXIT_R | EXIT_W : EXIT_R);
	expect(load(FAR_GVA), peek(P4));
	GUEST_DONE();
}

/*
 * The same for tables that are in use.  Without NPT or EPT, KVM translates by shadow
 * pages of them, which have to go with the right to read what they shadow.
 */
static void walk_in_use(u64 table)
{
	build_page_tables(0);
	expect(load(FAR_GVA), peek(P4));
	refuse_walk(table, NOTHING, tdp ? EXIT_R | EXIT_W : EXIT_R);
	expect(load(FAR_GVA), peek(P4));
}

static void guest_walk_in_use(void)
{
	walk_in_use(P3);
	walk_in_use(P2);
	walk_in_use(P1);
	GUEST_DONE();
}

/* A change of many GFNs, the tables among them, but not the page they lead to. */
static void guest_walk_in_use_many(void)
{
	build_page_tables(0);
	poke(P3, P0 | PTE_PRESENT_MASK | PTE_ACCESSED_MASK);
	expect(load(FAR_GVA), peek(P0));
	request(REFUSE_MANY, P1, NOTHING, tdp ? EXIT_R | EXIT_W : EXIT_R, ANY);
	expect(load(FAR_GVA), peek(P0));
	GUEST_DONE();
}

/* The shadow page of a table that the guest has written to may be out of sync. */
static void guest_walk_unsync(void)
{
	build_page_tables(PTE_ACCESSED_MASK | PTE_DIRTY_MASK);
	expect(load(FAR_GVA), peek(P4));
	poke(P3 + 8, P4 | PTE_PRESENT_MASK | PTE_ACCESSED_MASK);
	expect(load(FAR_GVA + PG), peek(P4));
	poke(P3 + 16, P4 | PTE_PRESENT_MASK | PTE_ACCESSED_MASK);
	refuse_walk(P3, NOTHING, tdp ? EXIT_R | EXIT_W : EXIT_R);
	expect(load(FAR_GVA + PG), peek(P4));
	expect(load(FAR_GVA + 2 * PG), peek(P4));
	GUEST_DONE();
}

/* Shadow pages stay under NW: the bit that is yet to be set is refused. */
static void guest_walk_in_use_dirty(void)
{
	build_page_tables(PTE_ACCESSED_MASK);
	expect(load(FAR_GVA), peek(P4));
	refuse_walk(P3, NW, EXIT_W);
	store(FAR_GVA, WORD);
	expect(peek(P4), WORD);
	expect(!!(peek(P3) & PTE_DIRTY_MASK), 1);
	GUEST_DONE();
}

static void guest_walk_accessed(void)
{
	build_page_tables(0);
	refuse_walk(P3, NW, EXIT_W);
	expect(load(FAR_GVA), peek(P4));
	expect(!!(peek(P3) & PTE_ACCESSED_MASK), 1);
	refuse_walk(P3, NW, EXIT_W);
	store(FAR_GVA, WORD);
	expect(peek(P4), WORD);
	expect(!!(peek(P3) & PTE_DIRTY_MASK), 1);
	GUEST_DONE();
}

/* Walks count as writes to the tables, whether there is a bit to set or not. */
static void guest_walk_nothing_to_set(void)
{
	build_page_tables(PTE_ACCESSED_MASK | PTE_DIRTY_MASK);
	if (walks_write)
		refuse_walk(P3, NW, EXIT_W);
	else
		protect(P3, NW);
	expect(load(FAR_GVA), peek(P4));
	GUEST_DONE();
}

/* The page that the tables lead to is refused, not the tables. */
static void guest_walk_to_refusal(void)
{
	u64 value;

	build_page_tables(0);
	value = peek(P4);
	refuse_walk(P4, NOTHING, EXIT_R);
	expect(load(FAR_GVA), value);
	refuse_walk(P4, NW, EXIT_W);
	store(FAR_GVA, WORD);
	expect(peek(P4), WORD);
	request(REFUSE, P4, NW, EXIT_W, IO_BYTES);
	ins(FAR_GVA, IO_BYTES);
	expect_bytes(P4, IO_BYTES, 1);
	GUEST_DONE();
}

/* The guest changes its own mapping: it gets what the page is allowed. */
static void map_far(u64 flags)
{
	poke(P3, P4 | PTE_PRESENT_MASK | PTE_ACCESSED_MASK | flags);
	asm volatile("invlpg (%0)" :: "r"(FAR_GVA) : "memory");
	expect(peek(FAR_GVA), peek(P4));
}

static void guest_walk_widened(void)
{
	build_page_tables(PTE_ACCESSED_MASK);
	put_code(P4 + 0x200);
	protect(P4, NW);
	map_far(0);
	map_far(PTE_WRITABLE_MASK | PTE_DIRTY_MASK);
	refuse_walk(P4, NW, EXIT_W);
	store(FAR_GVA, WORD);
	expect(peek(P4), WORD);

	protect(P4, NX);
	map_far(PTE_NX_MASK);
	map_far(0);
	insn_rip = FAR_GVA + 0x200;
	refuse_walk(P4, NX, EXIT_X);
	execute(FAR_GVA + 0x200);
	GUEST_DONE();
}

/* The VMM asks for the translation of FAR_GVA at each write to the port. */
static void guest_translate(void)
{
	build_page_tables(0);
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(1));
	protect(P3, NOTHING);
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(2));
	protect(P3, 0);
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(3));
	protect(P1, NOTHING);
	asm volatile("out %%al, %%dx" :: "d"(PORT), "a"(4));
	protect(P1, 0);
	GUEST_DONE();
}

static void exit_translate(struct kvm_vcpu *vcpu);

/* ---- The VMM ---- */

enum needs {
	FORCED		= 1 << 0,
};

static const struct path_case {
	const char *name;
	void (*guest)(void);
	int needs;
	int io_bytes;
	int mmios;
	void (*exit)(struct kvm_vcpu *vcpu);
} cases[] = {
	{ "load over a page edge", guest_load_over_edge },
	{ "store over a page edge", guest_store_over_edge },
	{ "load over a page edge, emulated", guest_load_over_edge, FORCED },
	{ "store over a page edge, emulated", guest_store_over_edge, FORCED },
	{ "read, modify, write", guest_forced_rmw, FORCED },
	{ "cmpxchg", guest_forced_cmpxchg, FORCED },
	{ "cmpxchg8b", guest_forced_cmpxchg8b, FORCED },
	{ "SSE", guest_forced_sse, FORCED },
	{ "rep movs", guest_forced_movs, FORCED },
	{ "repe cmps", guest_forced_cmps, FORCED },
	{ "rep stos downwards", guest_forced_stos_down, FORCED },
	{ "push", guest_forced_push, FORCED },
	{ "pop", guest_forced_pop, FORCED },
	{ "call", guest_forced_call, FORCED },
	{ "segment load", guest_segment },
	{ "segment load, emulated", guest_segment, FORCED },
	{ "ltr", guest_forced_ltr, FORCED },
	{ "sgdt and lgdt", guest_forced_sgdt, FORCED },
	{ "fetch over a page edge", guest_fetch_over_edge },
	{ "fetch over a page edge, emulated", guest_fetch_over_edge, FORCED },
	{ "fetch up to a page edge", guest_forced_fetch_up_to_edge, FORCED },
	{ "hypercall patching", guest_fix_hypercall },
	{ "outs", guest_outs, 0, IO_BYTES },
	{ "ins", guest_ins, 0, IO_BYTES },
	{ "outs over a page edge", guest_outs_over_edge, 0, IO_BYTES },
	{ "ins over a page edge", guest_ins_over_edge, 0, IO_BYTES },
	{ "ins, protected between the device and memory", guest_ins_late, 0,
	  2 * IO_BYTES },
	{ "store to MMIO", guest_mmio_store, 0, 0, 1 },
	{ "load from MMIO", guest_mmio_load, 0, 0, 1 },
	{ "push from MMIO", guest_mmio_push, 0, 0, 1 },
	{ "MMIO with attributes", guest_mmio_attributes, 0, 0, 3 },
	{ "KVM's walk, PTE not readable", guest_soft_walk_pte, 0, IO_BYTES },
	{ "KVM's walk, PDE not readable", guest_soft_walk_pde, 0, IO_BYTES },
	{ "KVM's walk, PDPTE not readable", guest_soft_walk_pdpte, 0,
	  IO_BYTES },
	{ "KVM's walk, accessed bit to set", guest_soft_walk_accessed, 0,
	  IO_BYTES },
	{ "KVM's walk, dirty bit to set", guest_soft_walk_dirty, 0, IO_BYTES },
	{ "KVM's walk, nothing to set", guest_soft_walk_nothing_to_set, 0,
	  IO_BYTES },
	{ "walk, table not readable", guest_walk_no_access },
	{ "walk, table in use not readable", guest_walk_in_use },
	{ "walk, many pages not readable", guest_walk_in_use_many },
	{ "walk, table out of sync not readable", guest_walk_unsync },
	{ "walk, dirty bit of a table in use", guest_walk_in_use_dirty },
	{ "walk, bits to set", guest_walk_accessed },
	{ "walk, nothing to set", guest_walk_nothing_to_set },
	{ "walk to a protected page", guest_walk_to_refusal, 0, IO_BYTES },
	{ "walk, mapping widened by the guest", guest_walk_widened },
	{ "KVM_TRANSLATE", guest_translate, 0, 4, 0, exit_translate },
};

static const struct path_case *this_case;
static struct kvm_vm *vm;
static struct prot_mem mem;
static int io_done, mmio_done;

static void exit_mmio(struct kvm_run *run)
{
	u64 word = WORD;

	TEST_ASSERT(run->mmio.phys_addr == MMIO_GPA && run->mmio.len == 8,
		    "%s: MMIO should be to %#llx, is %u bytes at %#llx",
		    this_case->name, MMIO_GPA, run->mmio.len,
		    run->mmio.phys_addr);
	mmio_done++;
	if (run->mmio.is_write)
		TEST_ASSERT(!memcmp(run->mmio.data, &word, run->mmio.len),
			    "%s: the guest should write its word, not %#lx",
			    this_case->name, *(u64 *)run->mmio.data);
	else
		memcpy(run->mmio.data, &word, run->mmio.len);
}

static void exit_translate(struct kvm_vcpu *vcpu)
{
	u64 should = io_done & 1 ? -1ull : P4 + 0x123, gpa;

	serve_counting_port(vcpu->run, &io_done);
	gpa = vcpu_translate(vcpu, FAR_GVA + 0x123);
	TEST_ASSERT(gpa == should, "KVM_TRANSLATE should find %#lx, not %#lx",
		    should, gpa);
}

/* Whether the exit was a device's. */
static bool serve_device(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_MMIO)
		exit_mmio(run);
	else if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT)
		this_case->exit ? this_case->exit(vcpu) :
				  serve_counting_port(run, &io_done);
	else
		return false;
	return true;
}

static struct kvm_regs expect_refusal(struct kvm_vcpu *vcpu, u64 page,
				      u64 allowed)
{
	u64 flags = vcpu_run_to_refusal(vcpu, page);
	struct kvm_regs regs;

	TEST_ASSERT(flags & allowed,
		    "%s: the exit should name access %#lx, names %#lx",
		    this_case->name, allowed, flags);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(regs.rip == *guest_global(vm, insn_rip),
		    "%s: RIP should be on the instruction at %#lx, is %#llx",
		    this_case->name, *guest_global(vm, insn_rip), regs.rip);
	return regs;
}

static u8 *snapshot(void)
{
	u8 *copy = malloc(mem.size);

	TEST_ASSERT(copy, "malloc() should succeed");
	memcpy(copy, mem.hva, mem.size);
	return copy;
}

/*
 * A string instruction may have got somewhere before it was refused, but not
 * into the page.
 */
static void assert_unchanged(const u8 *before, u64 page, bool rep)
{
	u64 from = rep ? page - mem.gpa : 0, size = rep ? PG : mem.size;

	TEST_ASSERT(!memcmp(mem.hva + from, before + from, size),
		    "%s: a refused access should change no memory",
		    this_case->name);
}

/* The part of a string instruction before the page goes to the device. */
static void run_devices_before(struct kvm_vcpu *vcpu, u64 left)
{
	while (this_case->io_bytes && left != ANY && left &&
	       io_done < this_case->io_bytes - (int)left) {
		vcpu_run(vcpu);
		TEST_ASSERT(serve_device(vcpu), "%s: exit %s",
			    this_case->name, exit_story(vcpu->run));
	}
}

static void do_refuse(struct kvm_vcpu *vcpu, const struct ucall *uc)
{
	u64 page = uc->args[2], attrs = uc->args[3], flags = uc->args[4];
	u64 size = uc->args[1] == REFUSE_MANY ? MANY : PG;
	u64 left = uc->args[5];
	struct kvm_regs regs, again;
	int devices;
	u8 *before;

	if (uc->args[1] == REFUSE_AT_IO) {
		vcpu_run(vcpu);
		TEST_ASSERT(serve_device(vcpu),
			    "%s: the device should be used first",
			    this_case->name);
	}
	before = snapshot();
	vm_set_memory_attributes(vm, page, size, attrs);
	run_devices_before(vcpu, left);
	devices = io_done + mmio_done;
	regs = expect_refusal(vcpu, page, flags);
	assert_unchanged(before, page, left);
	TEST_ASSERT(!left || left == ANY || regs.rcx == left,
		    "%s: %lu iterations should be left, RCX is %llu",
		    this_case->name, left, regs.rcx);
	again = expect_refusal(vcpu, page, flags);
	TEST_ASSERT(!memcmp(&regs, &again, sizeof(regs)),
		    "%s: a refused instruction should change no register",
		    this_case->name);
	assert_unchanged(before, page, left);
	TEST_ASSERT(devices == io_done + mmio_done,
		    "%s: a refused instruction should use no device",
		    this_case->name);
	vm_set_memory_attributes(vm, page, size, 0);
	free(before);
}

static void do_request(struct kvm_vcpu *vcpu, const struct ucall *uc)
{
	switch (uc->args[1]) {
	case PROTECT:
		vm_set_memory_attributes(vm, uc->args[2], PG, uc->args[3]);
		break;
	case REFUSE:
	case REFUSE_AT_IO:
	case REFUSE_MANY:
		do_refuse(vcpu, uc);
		break;
	default:
		TEST_FAIL("%s: unknown request %lu", this_case->name,
			  uc->args[1]);
	}
}

static void run_case(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (serve_device(vcpu))
			continue;
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			do_request(vcpu, &uc);
			break;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT_2(uc, "values: %#lx, %#lx");
		case UCALL_DONE:
			return;
		default:
			TEST_FAIL("%s: unexpected exit %s", this_case->name,
				  exit_story(vcpu->run));
		}
	}
}

static bool ept_walks_write(void)
{
	return get_kvm_intel_param_bool("eptad");
}

static void test_case(const struct path_case *c)
{
	struct kvm_vcpu *vcpu;

	pr_info("%s\n", c->name);
	this_case = c;
	io_done = 0;
	mmio_done = 0;
	vm = __vm_create_with_one_vcpu(&vcpu, MEM_SIZE / PG, c->guest);
	prot_mem_create(&mem, vm, SLOT, 0, MEM_GPA, MEM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	prot_mem_map(&mem, PG_LEVEL_4K);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	virt_map(vm, ROOT_GVA, vm->pgd, 1);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vcpu);
	tdp = kvm_is_tdp_enabled();
	walks_write = tdp && (!is_intel_cpu() || ept_walks_write());
	sync_global_to_guest(vm, tdp);
	sync_global_to_guest(vm, walks_write);
	*guest_global(vm, insn_forced) = c->needs & FORCED;

	run_case(vcpu);
	TEST_ASSERT(io_done == c->io_bytes && mmio_done == c->mmios,
		    "%s: the devices should see %i bytes and %i accesses, saw %i and %i",
		    c->name, c->io_bytes, c->mmios, io_done, mmio_done);
	kvm_vm_free(vm);
	prot_mem_destroy(&mem);
}

int main(int argc, char *argv[])
{
	const char *part = argc > 1 ? argv[1] : "";
	bool can_force;
	int i;

	TEST_REQUIRE_PROTECTIONS();

	can_force = enable_forced_emulation();
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!strstr(cases[i].name, part))
			continue;
		if ((cases[i].needs & FORCED) && !can_force)
			pr_info("%s: no forced emulation\n", cases[i].name);
		else
			test_case(&cases[i]);
	}
	return 0;
}
