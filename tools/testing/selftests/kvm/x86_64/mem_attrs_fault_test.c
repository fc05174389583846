// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_EXIT_MEMORY_FAULT, and attributes that come before, or outlive, the
 * memslot.
 *
 * Accesses: a guest instruction touches a private page that has no private
 * backing.  KVM_RUN fails with EFAULT, the exit names the page, and RIP is
 * still on the instruction.  The VMM fixes it, either by making the page
 * shared or by providing a guest_memfd, and the same instruction then completes
 * exactly once.  Each instruction runs natively and, where KVM allows, through
 * KVM's emulator.
 *
 * Churn: attributes belong to GFNs.  They hold for a memslot that is created
 * after them, and survive its deletion, re-creation and replacement.
 */
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define MB		0x100000ull

#define SLOT		10
#define SLOT_GPA	(4096 * MB)
#define SLOT_SIZE	(4 * MB)

/* Two neighbouring pages: GOOD is backed, BAD not until the VMM fixes it. */
#define GOOD_GPA	(SLOT_GPA + 2 * MB - PG)
#define BAD_GPA		(GOOD_GPA + PG)

#define VALUE		0x0123456789abcdefull

static u64 touch_store(u64 bad)
{
	asm volatile(AT("mov %0, (%1)") :: "r"(VALUE), "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_store_imm8(u64 bad)
{
	asm volatile(AT("movb $0x5a, (%0)") :: "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_add(u64 bad)
{
	asm volatile(AT("add %0, (%1)") :: "r"(VALUE), "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_lock_inc(u64 bad)
{
	asm volatile(AT("lock incq (%0)") :: "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_xadd(u64 bad)
{
	u64 value = VALUE;

	asm volatile(AT("lock xadd %0, (%1)") : "+r"(value) : "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_xchg(u64 bad)
{
	u64 value = VALUE;

	asm volatile(AT("xchg %0, (%1)") : "+r"(value) : "r"(bad) : CLOBBERS);
	return peek(bad);
}

/* Succeeds on zero only. */
static u64 touch_cmpxchg(u64 bad)
{
	u64 rax = 0;

	asm volatile(AT("lock cmpxchg %1, (%2)")
		     : "+a"(rax) : "r"(VALUE), "r"(bad) : CLOBBERS);
	return peek(bad);
}

static u64 touch_push(u64 bad)
{
	asm volatile("mov %%rsp, %%r10; mov %1, %%rsp\n"
		     AT("push %0")
		     "mov %%r10, %%rsp"
		     :: "r"(VALUE), "r"(bad + 8) : "r10", CLOBBERS);
	return peek(bad);
}

static u64 touch_pop(u64 bad)
{
	u64 value;

	asm volatile("mov %%rsp, %%r10; mov %1, %%rsp\n"
		     AT("pop %0")
		     "mov %%r10, %%rsp"
		     : "=&r"(value) : "r"(bad) : "r10", CLOBBERS);
	return value;
}

/* 16 bytes before the page and 16 in it */
static u64 touch_rep_stos(u64 bad)
{
	u64 to = bad - 16, n = 32;

	asm volatile(AT("rep stosb") : "+D"(to), "+c"(n) : "a"(0xef) : CLOBBERS);
	return peek(bad);
}

/* 4 bytes before the page and 4 in it */
static u64 touch_split_store(u64 bad)
{
	asm volatile(AT("mov %0, -4(%1)") :: "r"(VALUE), "r"(bad) : CLOBBERS);
	return peek(bad - 4);
}

static u64 touch_split_load(u64 bad)
{
	u64 value;

	asm volatile(AT("mov -4(%1), %0") : "=r"(value) : "r"(bad) : CLOBBERS);
	return value;
}

/* What a load or a read-modify-write finds depends on how BAD was fixed. */
#define SHARED_BYTE	0x11
#define SHARED_WORD	0x1111111111111111ull
#define GOOD_BYTE	0x22
#define STOS_WORD	0xefefefefefefefefull

static const struct touch {
	const char *name;
	u64 (*insn)(u64 bad);
	u64 shared_result;
	u64 private_result;	/* of a new page, all zero */
} touches[] = {
	{ "mov from memory", load, SHARED_WORD, 0 },
	{ "mov to memory", touch_store, VALUE, VALUE },
	{ "movb to memory", touch_store_imm8, 0x111111111111115aull, 0x5a },
	{ "add", touch_add, SHARED_WORD + VALUE, VALUE },
	{ "lock inc", touch_lock_inc, SHARED_WORD + 1, 1 },
	{ "lock xadd", touch_xadd, SHARED_WORD + VALUE, VALUE },
	{ "xchg", touch_xchg, VALUE, VALUE },
	{ "lock cmpxchg", touch_cmpxchg, SHARED_WORD, VALUE },
	{ "push", touch_push, VALUE, VALUE },
	{ "pop", touch_pop, SHARED_WORD, 0 },
	{ "rep stos", touch_rep_stos, STOS_WORD, STOS_WORD },
	{ "mov to two pages", touch_split_store, VALUE, VALUE },
	{ "mov from two pages", touch_split_load, 0x1111111122222222ull,
	  0x22222222 },
};

static void guest_touch(u64 (*insn)(u64), u64 emulated)
{
	insn_forced = emulated;
	GUEST_SYNC_ARGS(0, insn(BAD_GPA), 0, 0, 0);
	GUEST_DONE();
}

/* The private backing of BAD stays a hole until the page is fixed so. */
enum fix { MEND_SHARED, MEND_PRIVATE };

/* A memslot without guest_memfd, part of it private all the same. */
static struct kvm_vm *create_unbacked(struct kvm_vcpu **vcpu, void *guest_code,
				      struct private_slot *with_memfd,
				      struct private_slot *s)
{
	struct kvm_vm *vm = vm_create_with_slot(vcpu, guest_code, with_memfd,
						SLOT, SLOT_GPA, SLOT_SIZE);

	private_slot_unset(with_memfd);
	*s = *with_memfd;
	s->flags = 0;
	private_slot_set(s);
	memset(private_slot_hva(s, GOOD_GPA), GOOD_BYTE, PG);
	memset(private_slot_hva(s, BAD_GPA), SHARED_BYTE, PG);
	vm_set_private(vm, BAD_GPA, PG);
	return vm;
}

static bool shared_untouched(struct private_slot *s)
{
	return mem_is_filled(private_slot_hva(s, BAD_GPA), SHARED_BYTE, PG);
}

static void test_touch(const struct touch *t, bool emulated, enum fix fix)
{
	const char *how = emulated ? "emulated" : "native";
	struct private_slot s, unbacked;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	u64 should;

	vm = create_unbacked(&vcpu, guest_touch, &s, &unbacked);
	vcpu_args_set(vcpu, 2, t->insn, emulated);
	pr_info("%s, %s\n", t->name, how);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	TEST_ASSERT(vcpu_get_rip(vcpu) == *guest_global(vm, insn_rip),
		    "%s, %s: RIP should be on the instruction at %#lx, is %#lx",
		    t->name, how, *guest_global(vm, insn_rip),
		    vcpu_get_rip(vcpu));
	TEST_ASSERT(shared_untouched(&s),
		    "%s, %s: the shared page should not be reached",
		    t->name, how);

	/* Asked again nothing has changed. */
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);

	if (fix == MEND_SHARED) {
		vm_set_shared(vm, BAD_GPA, PG);
		should = t->shared_result;
	} else {
		private_slot_unset(&unbacked);
		private_slot_set(&s);
		should = t->private_result;
	}

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "%s, %s: the instruction should complete", t->name, how);
	TEST_ASSERT(uc.args[2] == should,
		    "%s, %s, made %s: the result should be %#lx, is %#lx",
		    t->name, how, fix == MEND_SHARED ? "shared" : "private",
		    should, uc.args[2]);
	TEST_ASSERT(fix == MEND_SHARED || shared_untouched(&s),
		    "%s, %s: the shared page should be left alone", t->name,
		    how);

	vcpu_run_to_done(vcpu);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

static void test_touches(bool emulated)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(touches); i++) {
		test_touch(&touches[i], emulated, MEND_SHARED);
		test_touch(&touches[i], emulated, MEND_PRIVATE);
	}
}

/* REP string instructions stop at the iteration that was refused. */
static void test_rep_stops_midway(bool emulated)
{
	struct private_slot s, unbacked;
	struct kvm_regs regs;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *edge;

	vm = create_unbacked(&vcpu, guest_touch, &s, &unbacked);
	edge = private_slot_hva(&s, BAD_GPA);
	vcpu_args_set(vcpu, 2, touch_rep_stos, emulated);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(regs.rcx == 16 && regs.rdi == BAD_GPA,
		    "16 iterations should be left, rcx: %#llx rdi: %#llx",
		    regs.rcx, regs.rdi);
	TEST_ASSERT(mem_is_filled(edge - 16, 0xef, 16),
		    "The iterations before the refused one should have stored");

	vm_set_shared(vm, BAD_GPA, PG);
	vcpu_run_to_sync(vcpu, 0);
	TEST_ASSERT(mem_is_filled(edge - PG, GOOD_BYTE, PG - 16) &&
		    mem_is_filled(edge - 16, 0xef, 32) &&
		    mem_is_filled(edge + 16, SHARED_BYTE, PG - 16),
		    "Exactly 32 bytes should be stored");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Fetching from the page: RIP is in it. */
static void guest_jump(u64 target)
{
	u64 rax;

	asm volatile("call *%1" : "=a"(rax) : "r"(target) : "memory", "rcx",
		     "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
	GUEST_SYNC_ARGS(0, rax, 0, 0, 0);
	GUEST_DONE();
}

static void test_fetch(void)
{
	struct private_slot s, unbacked;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	vm = create_unbacked(&vcpu, guest_jump, &s, &unbacked);
	memcpy(private_slot_hva(&s, BAD_GPA), result_code,
	       sizeof(result_code));

	vcpu_args_set(vcpu, 1, BAD_GPA);
	vcpu_expect_memory_fault(vcpu, KVM_MEMORY_EXIT_FLAG_PRIVATE, BAD_GPA);
	ASSERT_EQ(vcpu_get_rip(vcpu), BAD_GPA);

	vm_set_shared(vm, BAD_GPA, PG);
	vcpu_run_to_ucall(vcpu, &uc);
	ASSERT_EQ(uc.args[2], CODE_RESULT);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- Attributes against memslots ---- */

static void guest_peek_poke(void)
{
	u64 *p = (u64 *)BAD_GPA;
	u64 old;

	for (;;) {
		old = READ_ONCE(*p);
		WRITE_ONCE(*p, old + 1);
		GUEST_SYNC_ARGS(0, old, 0, 0, 0);
	}
}

static u64 peek_poke(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should have counted");
	return uc.args[2];
}

/* What the guest reads. */
static u64 guest_peek(struct kvm_vcpu *vcpu, u64 gpa)
{
	vm_command(vcpu->vm, peek, gpa);
	vcpu_run_to_sync(vcpu, 0);
	return vm_command_result(vcpu->vm);
}

/* The guest counts in private memory only, through every change of the slot. */
static void test_churn(void)
{
	struct private_slot s, plain;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 should = 0;
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

	vm = vm_create_with_slot(&vcpu, guest_peek_poke, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
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
	ASSERT_EQ(*(u64 *)private_slot_hva(&s, BAD_GPA), 1);

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Every second page of 4 MiB is private: a set of all finds the mappings between. */
static void test_fragmented(void)
{
	static const u64 mapped[] = { 0, 256, 510, 512, 700, 1022 };
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 gpa;
	int i;

	vm = vm_create_with_slot(&vcpu, guest_obey, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	for (gpa = SLOT_GPA + PG; gpa < SLOT_GPA + SLOT_SIZE; gpa += 2 * PG)
		vm_set_private(vm, gpa, PG);
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		gpa = SLOT_GPA + mapped[i] * PG;
		*(u64 *)private_slot_hva(&s, gpa) = VALUE;
		TEST_ASSERT(guest_peek(vcpu, gpa) == VALUE,
			    "Page %lu should be shared", mapped[i]);
	}

	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	for (i = 0; i < ARRAY_SIZE(mapped); i++)
		TEST_ASSERT(!guest_peek(vcpu, SLOT_GPA + mapped[i] * PG),
			    "Page %lu should be private, and zero", mapped[i]);

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Without memslot and attribute it is MMIO, as ever. */
static void test_shared_hole_is_mmio(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_slot(&vcpu, guest_peek_poke, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	private_slot_unset(&s);

	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MMIO &&
		    vcpu->run->mmio.phys_addr == BAD_GPA,
		    "A GFN without memslot should be MMIO, exit: %s",
		    exit_story(vcpu->run));
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- KVM_PRE_FAULT_MEMORY ---- */

static void expect_pre_fault(struct kvm_vcpu *vcpu, u64 gpa,
			     u64 size, int expected, const char *why)
{
	int ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);

	TEST_ASSERT(ret == -1 && errno == expected,
		    "Pre-faulting %s should fail with errno %i, rc: %i errno: %i",
		    why, expected, ret, errno);
}

static void pre_fault(struct kvm_vcpu *vcpu, u64 gpa, u64 size)
{
	u64 left;
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

/* An argument that cannot be read, and one that says nothing of how far it got. */
static void expect_pre_fault_efault(struct kvm_vcpu *vcpu)
{
	struct kvm_pre_fault_memory *args;

	args = mmap(NULL, PG, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(args != MAP_FAILED, "mmap() should succeed");
	*args = (typeof(*args)) { .gpa = SLOT_GPA, .size = PG };
	mprotect(args, PG, PROT_READ);
	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, args) == -1 &&
		    errno == EFAULT,
		    "An unwritable argument should be EFAULT, errno: %i", errno);
	munmap(args, PG);
	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, args) == -1 &&
		    errno == EFAULT,
		    "An unreadable argument should be EFAULT, errno: %i", errno);
}

static void test_pre_fault(void)
{
	struct kvm_pre_fault_memory args = { .gpa = SLOT_GPA, .size = PG };
	u64 gpa, size;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, ret;

	vm = vm_create_with_slot(&vcpu, guest_peek_poke, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
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
	expect_pre_fault_efault(vcpu);

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

	test_touches(false);
	test_rep_stops_midway(false);
	if (enable_forced_emulation()) {
		test_touches(true);
		test_rep_stops_midway(true);
	} else {
		pr_info("No forced emulation: native instructions only\n");
	}
	test_fetch();

	test_churn();
	test_fragmented();
	test_move_onto_private();
	test_shared_hole_is_mmio();
	test_pre_fault();
	return 0;
}
