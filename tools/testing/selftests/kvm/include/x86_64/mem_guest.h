/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What runs in the guests of the tests of memory attributes.  They see the memory
 * under test at identical virtual and physical addresses.
 */
#ifndef SELFTEST_KVM_MEM_GUEST_H
#define SELFTEST_KVM_MEM_GUEST_H

#include "kvm_util.h"

/* Globals of the test as the guest sees them. */
#define guest_global(vm, g)						\
	((typeof(g) *)addr_gva2hva(vm, (vm_vaddr_t)(unsigned long)&(g)))

/* KVM emulates the instruction that follows, see enable_forced_emulation(). */
#define FEP	"ud2; .ascii \"kvm\"; "

/*
 * An instruction at which the guest will exit, and which is where insn_rip says
 * then.  AT() has KVM emulate it if insn_forced is set.
 */
extern u64 insn_rip;
extern bool insn_forced;

#define AT(insn)							\
	"lea 1f(%%rip), %%r11; mov %%r11, insn_rip\n"			\
	"cmpb $0, insn_forced; je 1f\n"					\
	FEP "\n1: " insn "\n"
#define FORCED_AT(insn)							\
	"lea 1f(%%rip), %%r11; mov %%r11, insn_rip\n"			\
	FEP "\n1: " insn "\n"
#define CLOBBERS	"r11", "cc", "memory"

static inline u64 load(u64 gpa)
{
	u64 value;

	asm volatile(AT("mov (%1), %0") : "=r"(value) : "r"(gpa) : CLOBBERS);
	return value;
}

static inline u64 peek(u64 gpa)
{
	return READ_ONCE(*(u64 *)gpa);
}

static inline void poke(u64 gpa, u64 value)
{
	WRITE_ONCE(*(u64 *)gpa, value);
}

/* GUEST_ASSERT_EQ() looks at its arguments more than once. */
#define expect(value, should)						\
do {									\
	u64 __value = (value), __should = (should);			\
									\
	__GUEST_ASSERT(__value == __should, #value " == " #should, 2,	\
		       __value, __should);				\
} while (0)

/* Bytes that count up. */
void fill_bytes(u64 gpa, int n, u8 first);
void expect_bytes(u64 gpa, int n, u8 first);

u64 random_next(u64 *state);

/* FEP, and a function that returns CODE_RESULT, to be put into memory. */
extern const u8 fep_code[5], result_code[6];

#define CODE_RESULT	0x12345678ull

static inline u64 call_code(u64 at)
{
	return ((u64 (*)(void))at)();
}

/*
 * Four levels of page tables, in the pages from @tables on, lead from an address
 * that the guest's other tables do not map to the page that follows them.  The
 * VMM has to map the root of the tables that the guest starts with.
 */
#define FAR_GVA		0x600000000000ull
#define ROOT_GVA	0x190000000ull

void build_far_tables(u64 tables, u64 flags);

/*
 * A function that makes the hypercall of the other vendor, and that KVM makes
 * right by writing to it.
 */
void put_wrong_hypercall(u64 at);
void call_wrong_hypercall(u64 at);

/*
 * A guest that calls what the VMM tells it to, one function after the other, and
 * syncs after each.
 */
struct guest_command {
	u64 (*fn)(u64 arg);
	u64 arg;
	u64 result;
};

extern struct guest_command guest_command;

void guest_obey(void);

static inline void vm_command(struct kvm_vm *vm, const void *fn, u64 arg)
{
	guest_global(vm, guest_command)->fn = fn;
	guest_global(vm, guest_command)->arg = arg;
}

static inline u64 vm_command_result(struct kvm_vm *vm)
{
	return guest_global(vm, guest_command)->result;
}

#endif /* SELFTEST_KVM_MEM_GUEST_H */
