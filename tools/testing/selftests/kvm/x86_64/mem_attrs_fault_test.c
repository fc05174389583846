// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_EXIT_MEMORY_FAULT, and attributes that come before, or outlive, the
 * memslot.
 *
 * Accesses: a guest instruction touches a private page that has no private
 * backing.  KVM_RUN fails with EFAULT, the exit names the page, and RIP is
 * still on the instruction.  The VMM mends it, either by making the page
 * shared or by providing a guest_memfd, and the same instruction then completes
 * exactly once.  Each instruction runs natively and, where KVM allows, through
 * KVM's emulator.
 *
 * Churn: attributes belong to GFNs.  They hold for a memslot that is created
 * after them, and survive its deletion, re-creation and replacement.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define MB		0x100000ull

#define SLOT		10
#define SLOT_GPA	(4096 * MB)
#define SLOT_SIZE	(4 * MB)

/* Two neighbouring pages: GOOD is backed, BAD not until the VMM mends it. */
#define GOOD_GPA	(SLOT_GPA + 2 * MB - PG)
#define BAD_GPA		(GOOD_GPA + PG)

#define NATIVE		""
#define EMULATED	"ud2; .ascii \"kvm\"; "

/*
 * u64 access_x(void *bad, u64 value): one instruction at label access_x_at
 * that touches the page at bad.
 */
#define __ACCESS(name, how, before, insn, after)			\
	extern char name[], name##_at[];				\
	asm(".pushsection .text\n"					\
	    #name ": " before "\n"					\
	    how "\n"							\
	    #name "_at: " insn "\n"					\
	    after "; ret\n"						\
	    ".popsection")

#define ACCESS(name, before, insn, after)				\
	__ACCESS(access_##name, NATIVE, before, insn, after);		\
	__ACCESS(emulated_##name, EMULATED, before, insn, after)

ACCESS(load, "", "mov (%rdi), %rax", "");
ACCESS(store, "", "mov %rsi, (%rdi)", "mov %rsi, %rax");
ACCESS(store_imm8, "", "movb $0x5a, (%rdi)", "mov (%rdi), %rax");
ACCESS(add, "", "add %rsi, (%rdi)", "mov (%rdi), %rax");
ACCESS(lock_inc, "", "lock incq (%rdi)", "mov (%rdi), %rax");
ACCESS(lock_xadd, "", "lock xadd %rsi, (%rdi)", "mov (%rdi), %rax");
ACCESS(xchg, "", "xchg %rsi, (%rdi)", "mov (%rdi), %rax");
ACCESS(cmpxchg, "xor %eax, %eax", "lock cmpxchg %rsi, (%rdi)",
       "mov (%rdi), %rax");
ACCESS(push, "mov %rsp, %rdx; lea 8(%rdi), %rsp", "push %rsi",
       "mov %rdx, %rsp; mov (%rdi), %rax");
ACCESS(pop, "mov %rsp, %rdx; mov %rdi, %rsp", "pop %rax", "mov %rdx, %rsp");
/* 16 bytes before the page and 16 in it */
ACCESS(rep_stos, "mov %rsi, %rax; sub $16, %rdi; mov $32, %ecx",
       "rep stosb", "mov -16(%rdi), %rax");
/* 4 bytes before the page and 4 in it */
ACCESS(split_store, "", "mov %rsi, -4(%rdi)", "mov -4(%rdi), %rax");
ACCESS(split_load, "", "mov -4(%rdi), %rax", "");

struct access {
	const char *name;
	char *entry;
	char *at;
	uint64_t shared_result;		/* with BAD filled with bytes 0x11 */
	uint64_t private_result;	/* with BAD zero */
};

/* What a load or a read-modify-write finds depends on how BAD was mended. */
#define SHARED_WORD	0x1111111111111111ull
#define GOOD_WORD	0x2222222222222222ull
#define VALUE		0x0123456789abcdefull

#define BOTH(n, shared, private)					\
	{ #n, access_##n, access_##n##_at, shared, private },		\
	{ #n " (emulated)", emulated_##n, emulated_##n##_at, shared, private }

static const struct access accesses[] = {
	BOTH(load, SHARED_WORD, 0),
	BOTH(store, VALUE, VALUE),
	BOTH(store_imm8, 0x111111111111115aull, 0x5a),
	BOTH(add, SHARED_WORD + VALUE, VALUE),
	BOTH(lock_inc, SHARED_WORD + 1, 1),
	BOTH(lock_xadd, SHARED_WORD + VALUE, VALUE),
	BOTH(xchg, VALUE, VALUE),
	BOTH(cmpxchg, SHARED_WORD, VALUE),
	BOTH(push, VALUE, VALUE),
	BOTH(pop, SHARED_WORD, 0),
	BOTH(rep_stos, 0xefefefefefefefefull, 0xefefefefefefefefull),
	BOTH(split_store, VALUE, VALUE),
	BOTH(split_load, SHARED_WORD << 32 | (uint32_t)GOOD_WORD,
	     (uint32_t)GOOD_WORD),
};

static bool can_emulate;

static void guest_access(uint64_t (*access)(void *, uint64_t))
{
	GUEST_SYNC_ARGS(0, access((void *)BAD_GPA, VALUE), 0, 0, 0);
	GUEST_DONE();
}

/* The private backing of BAD stays a hole until the page is mended so. */
enum mend { MEND_SHARED, MEND_PRIVATE };

static void test_access(const struct access *a, enum mend mend)
{
	struct private_slot plain, s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	uint64_t should;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_access);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	memset(private_slot_hva(&s, GOOD_GPA), 0x22, PG);
	memset(private_slot_hva(&s, BAD_GPA), 0x11, PG);

	/* For a start the memslot has no guest_memfd. */
	private_slot_unset(&s);
	plain = s;
	plain.flags = 0;
	private_slot_set(&plain);
	vm_set_private(vm, BAD_GPA, PG);

	vcpu_args_set(vcpu, 1, a->entry);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	TEST_ASSERT(vcpu_get_rip(vcpu) == (uintptr_t)a->at,
		    "%s: RIP should be on the instruction at %p, is %#lx",
		    a->name, a->at, vcpu_get_rip(vcpu));
	TEST_ASSERT(mem_is_filled(private_slot_hva(&s, BAD_GPA), 0x11, PG),
		    "%s: a refused access should not reach the shared page",
		    a->name);

	/* Asked again nothing has changed. */
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);

	if (mend == MEND_SHARED) {
		vm_set_shared(vm, BAD_GPA, PG);
		should = a->shared_result;
	} else {
		private_slot_unset(&plain);
		private_slot_set(&s);
		should = a->private_result;
	}

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "%s: the instruction should complete", a->name);
	TEST_ASSERT(uc.args[2] == should,
		    "%s, %s: the result should be %#lx, is %#lx", a->name,
		    mend == MEND_SHARED ? "made shared" : "made private",
		    should, uc.args[2]);
	if (mend == MEND_PRIVATE)
		TEST_ASSERT(mem_is_filled(private_slot_hva(&s, BAD_GPA), 0x11,
					  PG),
			    "%s: the private access should leave the shared page alone",
			    a->name);

	vcpu_run_to_done(vcpu);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

static void test_accesses(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		if (!can_emulate && (i & 1))
			continue;
		test_access(&accesses[i], MEND_SHARED);
		test_access(&accesses[i], MEND_PRIVATE);
	}
}

/* REP string instructions stop at the iteration that was refused. */
static void test_rep_stops_midway(bool emulated)
{
	struct private_slot s, plain;
	struct kvm_regs regs;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_access);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	private_slot_unset(&s);
	plain = s;
	plain.flags = 0;
	private_slot_set(&plain);
	vm_set_private(vm, BAD_GPA, PG);

	vcpu_args_set(vcpu, 1, emulated ? emulated_rep_stos : access_rep_stos);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(regs.rcx == 16 && regs.rdi == BAD_GPA,
		    "16 iterations should be done and 16 left, rcx: %#llx rdi: %#llx",
		    regs.rcx, regs.rdi);
	TEST_ASSERT(mem_is_filled(private_slot_hva(&s, BAD_GPA - 16), 0xef, 16),
		    "The iterations before the refused one should have stored");

	vm_set_shared(vm, BAD_GPA, PG);
	vcpu_run_to_sync(vcpu, 0);
	TEST_ASSERT(mem_is_filled(private_slot_hva(&s, BAD_GPA - 16), 0xef, 32) &&
		    mem_is_filled(private_slot_hva(&s, BAD_GPA + 16), 0, PG - 16),
		    "Exactly 32 bytes should be stored");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Fetching from the page: RIP is in it. */
static void guest_jump(uint64_t target)
{
	uint64_t rax;

	asm volatile("call *%1" : "=a"(rax) : "r"(target) : "memory", "rcx",
		     "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
	GUEST_SYNC_ARGS(0, rax, 0, 0, 0);
	GUEST_DONE();
}

static void test_fetch(void)
{
	static const uint8_t code[] = { 0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3 };
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_jump);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	private_slot_unset(&s);
	s.flags = 0;
	private_slot_set(&s);
	memcpy(private_slot_hva(&s, BAD_GPA), code, sizeof(code));
	vm_set_private(vm, BAD_GPA, PG);

	vcpu_args_set(vcpu, 1, BAD_GPA);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	ASSERT_EQ(vcpu_get_rip(vcpu), BAD_GPA);

	vm_set_shared(vm, BAD_GPA, PG);
	vcpu_run_to_ucall(vcpu, &uc);
	ASSERT_EQ(uc.args[2], 0x12345678);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- Attributes against memslots ---- */

static void guest_peek_poke(void)
{
	uint64_t *p = (uint64_t *)BAD_GPA;
	uint64_t old;

	for (;;) {
		old = READ_ONCE(*p);
		WRITE_ONCE(*p, old + 1);
		GUEST_SYNC_ARGS(0, old, 0, 0, 0);
	}
}

static uint64_t peek_poke(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should have counted");
	return uc.args[2];
}

/* The guest counts in private memory only, through every change of the slot. */
static void test_churn(void)
{
	struct private_slot s, plain;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	uint64_t should = 0;
	int i;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_peek_poke);

	/* Attributes first: no memslot is there yet. */
	vm_set_private(vm, BAD_GPA, PG);

	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	memset(s.hva, 0x77, s.size);

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(peek_poke(vcpu), should++);
		ASSERT_EQ(peek_poke(vcpu), should++);

		private_slot_unset(&s);
		ASSERT_EQ(vm_get_memory_attributes(vm, BAD_GPA),
			  MEM_ATTR_PRIVATE);
		vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE,
					 BAD_GPA);

		/* A memslot without private backing honours them as well. */
		plain = s;
		plain.flags = 0;
		private_slot_set(&plain);
		vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE,
					 BAD_GPA);
		private_slot_unset(&plain);

		private_slot_set(&s);
	}
	TEST_ASSERT(mem_is_filled(s.hva, 0x77, s.size),
		    "Nothing should have reached the shared page");

	/* And back: what is shared is shared in the next memslot, too. */
	vm_set_shared(vm, BAD_GPA, PG);
	ASSERT_EQ(peek_poke(vcpu), 0x7777777777777777ull);
	private_slot_unset(&s);
	private_slot_set(&s);
	ASSERT_EQ(peek_poke(vcpu), 0x7777777777777778ull);
	vm_set_private(vm, BAD_GPA, PG);
	ASSERT_EQ(peek_poke(vcpu), should);

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* A memslot that moves onto private GFNs finds them private. */
static void test_move_onto_private(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_peek_poke);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	private_slot_unset(&s);
	s.flags = 0;
	s.gpa = SLOT_GPA + SLOT_SIZE;
	private_slot_set(&s);
	vm_set_private(vm, BAD_GPA, PG);

	s.gpa = SLOT_GPA;
	private_slot_set(&s);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	TEST_ASSERT(mem_is_filled(s.hva, 0, s.size),
		    "The moved memslot should not have been written");
	vm_set_shared(vm, BAD_GPA, PG);
	ASSERT_EQ(peek_poke(vcpu), 0);
	ASSERT_EQ(*(uint64_t *)private_slot_hva(&s, BAD_GPA), 1);

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Without memslot and attribute it is MMIO, as ever. */
static void test_shared_hole_is_mmio(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_peek_poke);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	private_slot_unset(&s);

	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MMIO &&
		    vcpu->run->mmio.phys_addr == BAD_GPA,
		    "A GFN without memslot should be MMIO, exit: %u (%s)",
		    vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- KVM_PRE_FAULT_MEMORY ---- */

static void expect_pre_fault(struct kvm_vcpu *vcpu, uint64_t gpa,
			     uint64_t size, int expected, const char *why)
{
	int ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);

	TEST_ASSERT(ret == -1 && errno == expected,
		    "Pre-faulting %s should fail with errno %i, rc: %i errno: %i",
		    why, expected, ret, errno);
}

static void pre_fault(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t size)
{
	uint64_t left;
	int ret;

	while (size) {
		left = size;
		ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);
		TEST_ASSERT(!ret || errno == EINTR || errno == EAGAIN,
			    "Pre-faulting %#lx should succeed, errno: %i (%s)",
			    gpa, errno, strerror(errno));
		TEST_ASSERT(ret || size < left,
			    "A call that succeeds should get on");
	}
}

static void test_pre_fault(void)
{
	struct kvm_pre_fault_memory args = { .gpa = SLOT_GPA, .size = PG };
	uint64_t gpa, size;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, ret;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_peek_poke);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_map(&s);
	memset(s.hva, 0x77, s.size);

	expect_pre_fault(vcpu, SLOT_GPA, 0, EINVAL, "nothing");
	expect_pre_fault(vcpu, SLOT_GPA + 1, PG, EINVAL, "an unaligned address");
	expect_pre_fault(vcpu, SLOT_GPA, PG - 1, EINVAL, "an unaligned size");
	expect_pre_fault(vcpu, -PG, 2 * PG, EINVAL, "a range that wraps");
	expect_pre_fault(vcpu, SLOT_GPA + SLOT_SIZE, PG, ENOENT,
			 "where there is no memslot");
	for (i = 0; i < 64; i++) {
		args.flags = 1ull << i;
		ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &args);
		TEST_ASSERT(ret == -1 && errno == EINVAL,
			    "Flag %i should be EINVAL, rc: %i errno: %i", i,
			    ret, errno);
	}

	/* Half private, half shared, and on over the end of the memslot. */
	vm_set_private(vm, BAD_GPA, SLOT_SIZE / 2);
	pre_fault(vcpu, SLOT_GPA, SLOT_SIZE);
	gpa = SLOT_GPA + SLOT_SIZE - PG;
	size = 4 * PG;
	ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);
	TEST_ASSERT(!ret && gpa == SLOT_GPA + SLOT_SIZE && size == 3 * PG,
		    "Pre-faulting over the end should stop there, rc: %i gpa: %#lx size: %#lx",
		    ret, gpa, size);

	ASSERT_EQ(peek_poke(vcpu), 0);
	ASSERT_EQ(peek_poke(vcpu), 1);
	TEST_ASSERT(mem_is_filled(s.hva, 0x77, s.size),
		    "The guest should have counted in private memory");

	/* What was mapped ahead of time is given up like anything else. */
	vm_set_shared(vm, SLOT_GPA, SLOT_SIZE);
	pre_fault(vcpu, SLOT_GPA, SLOT_SIZE);
	ASSERT_EQ(peek_poke(vcpu), 0x7777777777777777ull);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	ASSERT_EQ(peek_poke(vcpu), 2);

	/* No private backing: nothing to map. */
	private_slot_unset(&s);
	s.flags = 0;
	private_slot_set(&s);
	expect_pre_fault(vcpu, BAD_GPA, PG, EFAULT,
			 "a private page without guest_memfd");

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MEMORY_FAULT_INFO));
	TEST_REQUIRE_PROTECTED_VM();

	can_emulate = enable_forced_emulation();
	if (!can_emulate)
		pr_info("No forced emulation: native instructions only\n");

	test_accesses();
	test_rep_stops_midway(false);
	if (can_emulate)
		test_rep_stops_midway(true);
	test_fetch();

	test_churn();
	test_move_onto_private();
	test_shared_hole_is_mmio();
	test_pre_fault();
	return 0;
}
