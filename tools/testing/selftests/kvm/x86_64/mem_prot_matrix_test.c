// SPDX-License-Identifier: GPL-2.0-only
/*
 * What NR, NW and NX allow and refuse, as tables.
 *
 * Every combination of attributes meets every kind of access, native and
 * emulated by KVM, on a page that was mapped before, was not, or was read since
 * if it may be, in memory that is mapped with 4 KiB or 2 MiB pages, or in a
 * hugepage that the attributes split, shared or private.
 *
 * What is refused exits with the access and the page named, RIP on the
 * instruction and nothing changed, again and again; once the attributes are
 * taken away the instruction completes, exactly once.  What is allowed
 * completes without an exit.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_guest.h"
#include "mem_prot.h"

/*
 * r  read	w  write	x  execute	c  cmpxchg
 * i  REP that reads		o  REP that writes
 *
 * .  allowed
 * R, W, X  refused, the access that the exit names
 * A  refused; it both reads and writes, and the exit may name either
 */
static const struct row {
	const char *name;
	u64 attrs;
	const char *native;
	const char *emulated;
} rows[] = {
	/*			     native    emulated
	 *			     rwxcio    rwxcio
	 */
	{ "none",	0,	    "......", "......" },
	{ "NW",		NW,	    ".W.W.W", ".W.W.W" },
	{ "NX",		NX,	    "..X...", "..X..." },
	{ "NW|NX",	NW | NX,    ".WXW.W", ".WXW.W" },
	{ "NR|NW|NX",	NOTHING,    "RWXARW", "RWXARW" },
	{ "execute-only", NR | NW,  "RW.ARW", "RW.ARW" },
};

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define MEM_SIZE	(2 * PG_SIZE_2M)

/* The memory that has the attributes, and the page under test in it. */
static const struct setup {
	const char *name;
	enum vm_mem_backing_src_type src;
	int level;
	bool private;
	u64 attr_gpa;
	u64 attr_size;
	u64 page;
} setups[] = {
	{ "4 KiB", VM_MEM_SRC_ANONYMOUS, PG_LEVEL_4K, false,
	  MEM_GPA + 7 * PG, PG, MEM_GPA + 7 * PG },
	{ "2 MiB", VM_MEM_SRC_ANONYMOUS_HUGETLB, PG_LEVEL_2M, false,
	  MEM_GPA + PG_SIZE_2M, PG_SIZE_2M, MEM_GPA + PG_SIZE_2M },
	{ "2 MiB, split", VM_MEM_SRC_ANONYMOUS_HUGETLB, PG_LEVEL_2M, false,
	  MEM_GPA + 7 * PG, PG, MEM_GPA + 7 * PG },
	{ "private", VM_MEM_SRC_ANONYMOUS, PG_LEVEL_4K, true,
	  MEM_GPA + 7 * PG, PG, MEM_GPA + 7 * PG },
};

/*
 * The page under test begins with code and has a word further on; the page
 * before it ends with the prefix that makes KVM emulate that code.
 */
#define WORD_AT		0x100
#define OLD		0x0123456789abcdefull
#define NEW		0xfedcba9876543210ull
#define BYTE		0x11
#define STRING_BYTE	0xef
#define HALF		16	/* iterations in each page */

/*
 * The accesses, once native and once emulated, as functions of the page's
 * address that return RAX.  Their labels say where the instruction is.
 */
#define OLD_AND_NEW							\
	"movabs $0x0123456789abcdef, %rax; movabs $0xfedcba9876543210, %rcx"

struct op_code {
	const char *native, *native_rip;
	const char *forced, *forced_rip;
};

#define OP(op, before, insn)						\
	asm(".pushsection .text\n"					\
	    #op "_native:\n" before "\n"				\
	    #op "_native_rip: " insn "; ret\n"				\
	    #op "_forced:\n" before "\n" FEP "\n"			\
	    #op "_forced_rip: " insn "; ret\n"				\
	    ".popsection");						\
	extern const char op##_native[], op##_native_rip[];		\
	extern const char op##_forced[], op##_forced_rip[]

OP(op_read, "", "mov 0x100(%rdi), %rax");
OP(op_write, "movabs $0xfedcba9876543210, %rax", "mov %rax, 0x100(%rdi)");
OP(op_cmpxchg, OLD_AND_NEW, "lock cmpxchg %rcx, 0x100(%rdi)");
OP(op_lods, "lea -16(%rdi), %rsi; mov $32, %ecx; xor %eax, %eax", "rep lodsb");
OP(op_stos, "sub $16, %rdi; mov $32, %ecx; mov $0xef, %eax", "rep stosb");

/* The instruction is the page's first, after the prefix of the page before. */
asm(".pushsection .text\n"
	"op_fetch_native: jmp *%rdi\n"
	"op_fetch_forced: sub $5, %rdi; jmp *%rdi\n"
	".popsection");
extern const char op_fetch_native[], op_fetch_forced[];

#define CODE_OF(op)							\
	{ op##_native, op##_native_rip, op##_forced, op##_forced_rip }

static const struct op {
	const char *name;
	struct op_code code;
	u64 result;
	u64 word;	/* what the word in the page is then */
	bool rep;
	bool stores_string;
} ops[] = {
	{ "read", CODE_OF(op_read), OLD, OLD },
	{ "write", CODE_OF(op_write), NEW, NEW },
	{ "execute", { op_fetch_native, NULL, op_fetch_forced, NULL },
	  CODE_RESULT, OLD },
	{ "cmpxchg", CODE_OF(op_cmpxchg), OLD, NEW },
	{ "rep lods", CODE_OF(op_lods), BYTE, OLD, true },
	{ "rep stos", CODE_OF(op_stos), STRING_BYTE, OLD, true, true },
};

/* ---- The guest ---- */

/* Two pages, the one under test and the one before. */
static u8 pages[2 * PG];

static u64 guest_touch(u64 page)
{
	u64 *word = (u64 *)(page + WORD_AT), (*code)(void) = (void *)page;

	WRITE_ONCE(*word, READ_ONCE(*word));
	WRITE_ONCE(*(u8 *)(page - 1), READ_ONCE(*(u8 *)(page - 1)));
	return code();
}

static u64 guest_put(u64 page)
{
	memcpy((void *)page - PG, pages, sizeof(pages));
	return 0;
}

static u64 guest_get(u64 page)
{
	memcpy(pages, (void *)page - PG, sizeof(pages));
	return 0;
}

/* ---- The VMM ---- */

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static const struct setup *setup;
static struct prot_mem mem;
static struct private_slot slot;
static char cell[128];		/* the one that is being tested */

static void set_attributes(u64 attrs)
{
	vm_set_memory_attributes(vm, setup->attr_gpa, setup->attr_size,
				 attrs | (setup->private ? MEM_ATTR_PRIVATE : 0));
}

static u64 do_command(const void *fn, u64 arg)
{
	vm_command(vm, fn, arg);
	vcpu_run_to_sync(vcpu, 0);
	return vm_command_result(vm);
}

static u8 *page_hva(void)
{
	return setup->private ? NULL : prot_mem_hva(&mem, setup->page);
}

/* What the two pages are before, or once the access has been made. */
static void expected_pages(u8 *p, const struct op *done)
{
	u64 word = done ? done->word : OLD;

	memset(p, BYTE, 2 * PG);
	memcpy(p + PG - sizeof(fep_code), fep_code, sizeof(fep_code));
	memcpy(p + PG, result_code, sizeof(result_code));
	memcpy(p + PG + WORD_AT, &word, sizeof(word));
	if (done && done->stores_string)
		memset(p + PG - HALF, STRING_BYTE, 2 * HALF);
}

static void put_pages(void)
{
	if (setup->private) {
		expected_pages(*guest_global(vm, pages), NULL);
		do_command(guest_put, setup->page);
	} else {
		expected_pages(page_hva() - PG, NULL);
	}
}

static const u8 *get_pages(void)
{
	if (!setup->private)
		return page_hva() - PG;
	do_command(guest_get, setup->page);
	return *guest_global(vm, pages);
}

static void drop_mappings(void)
{
	if (setup->private) {
		vm_set_shared(vm, slot.gpa, slot.size);
		vm_set_private(vm, slot.gpa, slot.size);
	} else {
		prot_mem_unmap(&mem);
	}
}

/* The host cannot look into private pages while they are protected. */
static void assert_page_unchanged(void)
{
	static u8 should[2 * PG];

	if (setup->private)
		return;
	expected_pages(should, NULL);
	TEST_ASSERT(!memcmp(page_hva(), should + PG, PG),
		    "%s: the page should be unchanged", cell);
}

static void assert_done(const struct op *op)
{
	static u8 should[2 * PG];

	expected_pages(should, op);
	TEST_ASSERT(!memcmp(get_pages(), should, sizeof(should)),
		    "%s: memory should be as after the access, once", cell);
}

static void assert_midway(const struct op *op, u64 rip)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(regs.rip == rip,
		    "%s: RIP should be on the instruction at %#lx, is %#llx",
		    cell, rip, regs.rip);
	TEST_ASSERT(!op->rep || regs.rcx == HALF,
		    "%s: %u iterations should be left, RCX is %llu", cell,
		    HALF, regs.rcx);
}

static bool is_expected(char expected, u64 flags)
{
	switch (expected) {
	case 'R':
		return flags == EXIT_R;
	case 'W':
		return flags == EXIT_W;
	case 'X':
		return flags == EXIT_X;
	case 'A':
		return flags == EXIT_R || flags == EXIT_W;
	default:
		return false;
	}
}

static void expect_refusal(const struct op *op, char expected, u64 rip)
{
	u64 private = setup->private ? EXIT_P : 0;
	u64 flags = vcpu_run_to_refusal(vcpu, setup->page);

	TEST_ASSERT((flags & EXIT_P) == private &&
		    is_expected(expected, flags & ~EXIT_P),
		    "%s: the exit should name %c%s, flags are %#lx", cell,
		    expected, private ? " and PRIVATE" : "", flags);
	assert_midway(op, rip);
	assert_page_unchanged();
}

/* When the page was last mapped: what is there may allow more, or less. */
enum mapped { NOT_MAPPED, MAPPED_BEFORE, MAPPED_SINCE };

static const char *const mapped_names[] = {
	"not mapped", "mapped before", "read since",
};

static void test_cell(const struct row *row, const struct op *op, bool forced,
		      enum mapped mapped)
{
	u64 rip = (uintptr_t)(forced ? op->code.forced_rip :
				     op->code.native_rip);
	char expected = (forced ? row->emulated : row->native)[op - ops];
	u64 result;

	snprintf(cell, sizeof(cell), "%s, %s, %s, %s, %s", setup->name,
		 row->name, mapped_names[mapped], op->name,
		 forced ? "emulated" : "native");
	pr_debug("%s: %c\n", cell, expected);
	put_pages();
	if (mapped == MAPPED_BEFORE)
		do_command(guest_touch, setup->page);
	else
		drop_mappings();

	set_attributes(row->attrs);
	if (mapped == MAPPED_SINCE && !(row->attrs & NR))
		do_command(op_read_native, setup->page);
	vm_command(vm, forced ? op->code.forced : op->code.native, setup->page);
	if (expected != '.') {
		rip = rip ?: setup->page;
		expect_refusal(op, expected, rip);
		expect_refusal(op, expected, rip);
		set_attributes(0);
	}

	vcpu_run_to_sync(vcpu, 0);
	result = vm_command_result(vm);
	TEST_ASSERT(result == op->result,
		    "%s: the result should be %#lx, is %#lx", cell, op->result,
		    result);
	set_attributes(0);
	assert_done(op);
}

static void test_row(const struct row *row, bool can_force)
{
	enum mapped mapped;
	int i;

	for (mapped = NOT_MAPPED; mapped <= MAPPED_SINCE; mapped++) {
		for (i = 0; i < ARRAY_SIZE(ops); i++) {
			test_cell(row, &ops[i], false, mapped);
			if (can_force)
				test_cell(row, &ops[i], true, mapped);
		}
	}
}

static void create_vm(void)
{
	if (setup->private) {
		vm = vm_create_protected(&vcpu, MEM_SIZE / PG, guest_obey);
		private_slot_create(&slot, vm, SLOT, MEM_GPA, MEM_SIZE,
				    setup->src);
		private_slot_map(&slot);
		vm_set_private(vm, MEM_GPA, MEM_SIZE);
	} else {
		vm = __vm_create_with_one_vcpu(&vcpu, MEM_SIZE / PG, guest_obey);
		prot_mem_create(&mem, vm, SLOT, 0, MEM_GPA, MEM_SIZE,
				setup->src);
		prot_mem_map(&mem, setup->level);
	}
}

static void destroy_vm(void)
{
	kvm_vm_free(vm);
	if (setup->private)
		private_slot_destroy(&slot);
	else
		prot_mem_destroy(&mem);
}

/* Or "2 MiB" would only be a name. */
static void assert_is_mapped_huge(void)
{
	put_pages();
	do_command(guest_get, setup->page);
	TEST_ASSERT(setup->level != PG_LEVEL_2M || vm_get_stat(vm, "pages_2m"),
		    "%s: KVM should map it with a hugepage", setup->name);
}

static void test_setup(bool can_force)
{
	int i;

	create_vm();
	assert_is_mapped_huge();
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (vm_accepts_attributes(vm, rows[i].attrs))
			test_row(&rows[i], can_force);
		else
			pr_info("%s, %s: not on this host\n", setup->name,
				rows[i].name);
	}
	destroy_vm();
}

int main(int argc, char *argv[])
{
	bool can_force;
	int i;

	TEST_REQUIRE_PROTECTIONS();
	require_hugetlb_pages(MEM_SIZE / PG_SIZE_2M + 1);

	can_force = enable_forced_emulation();
	if (!can_force)
		pr_info("No forced emulation: nothing emulated is tested\n");
	for (i = 0; i < ARRAY_SIZE(setups); i++) {
		setup = &setups[i];
		if (setup->private &&
		    !vm_type_is_supported(KVM_X86_SW_PROTECTED_VM))
			continue;
		pr_info("%s\n", setup->name);
		test_setup(can_force);
	}
	return 0;
}
