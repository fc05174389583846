// SPDX-License-Identifier: GPL-2.0-only
/*
 * What runs in the guests of the tests of memory attributes.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_guest.h"

u64 insn_rip;
bool insn_forced;

const u8 fep_code[] = { 0x0f, 0x0b, 'k', 'v', 'm' };

/* mov $CODE_RESULT, %eax; ret */
const u8 result_code[] = { 0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3 };

void fill_bytes(u64 gpa, int n, u8 first)
{
	int i;

	for (i = 0; i < n; i++)
		WRITE_ONCE(((u8 *)gpa)[i], first + i);
}

void expect_bytes(u64 gpa, int n, u8 first)
{
	u8 value;
	int i;

	for (i = 0; i < n; i++) {
		value = READ_ONCE(((u8 *)gpa)[i]);
		GUEST_ASSERT_2(value == (u8)(first + i), i, value);
	}
}

u64 random_next(u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

void build_far_tables(u64 tables, u64 flags)
{
	u64 at = tables + (FAR_GVA >> 39) * 8;
	int i;

	memcpy((void *)tables, (void *)ROOT_GVA, PAGE_SIZE);
	flags |= PTE_PRESENT_MASK | PTE_WRITABLE_MASK;
	for (i = 1; i <= 4; i++) {
		poke(at, (tables + i * PAGE_SIZE) | flags);
		at = tables + i * PAGE_SIZE;
	}
	asm volatile("mov %0, %%cr3" :: "r"(tables) : "memory");
}

static const u8 hypercalls[][4] = {
	{ 0x0f, 0x01, 0xd9, 0xc3 },	/* vmmcall; ret */
	{ 0x0f, 0x01, 0xc1, 0xc3 },	/* vmcall; ret */
};

void put_wrong_hypercall(u64 at)
{
	memcpy((void *)at, hypercalls[!is_intel_cpu()], 4);
}

void call_wrong_hypercall(u64 at)
{
	u64 ret;

	asm volatile("call *%1" : "=a"(ret)
		     : "r"(at), "a"(0x7777), "b"(0), "c"(0), "d"(0), "S"(0)
		     : CLOBBERS);
	expect(ret, -1000);	/* KVM_ENOSYS */
	GUEST_ASSERT(!memcmp((void *)at, hypercalls[is_intel_cpu()], 4));
}

struct guest_command guest_command;

void guest_obey(void)
{
	for (;;) {
		guest_command.result = guest_command.fn(guest_command.arg);
		GUEST_SYNC(0);
	}
}
