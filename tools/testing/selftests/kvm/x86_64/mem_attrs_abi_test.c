// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ABI of KVM_SET_MEMORY_ATTRIBUTES: numbers, capabilities, and that a call
 * which is refused changes nothing.
 */
#include <assert.h>
#include <stddef.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG	0x1000ull
#define TOP	(-PG)	/* the last page of the address space */

/* The numbers that mainline's VMMs were compiled with. */
static_assert(KVM_SET_USER_MEMORY_REGION2 == 0x40a0ae49, "mainline's number");
static_assert(KVM_SET_MEMORY_ATTRIBUTES == 0x4020aed2, "mainline's number");
static_assert(KVM_CREATE_GUEST_MEMFD == 0xc040aed4, "mainline's number");
static_assert(KVM_PRE_FAULT_MEMORY == 0xc040aed5, "mainline's number");
static_assert(KVM_CAP_USER_MEMORY2 == 231, "mainline's number");
static_assert(KVM_CAP_MEMORY_FAULT_INFO == 232, "mainline's number");
static_assert(KVM_CAP_MEMORY_ATTRIBUTES == 233, "mainline's number");
static_assert(KVM_CAP_GUEST_MEMFD == 234, "mainline's number");
static_assert(KVM_CAP_VM_TYPES == 235, "mainline's number");
static_assert(KVM_CAP_PRE_FAULT_MEMORY == 236, "mainline's number");
static_assert(KVM_EXIT_MEMORY_FAULT == 39, "mainline's number");
static_assert(KVM_MEMORY_ATTRIBUTE_PRIVATE == 8, "mainline's bit");
static_assert(KVM_MEMORY_EXIT_FLAG_PRIVATE == 8, "mainline's bit");
static_assert(KVM_MEM_GUEST_MEMFD == 4, "mainline's bit");
static_assert(KVM_X86_SW_PROTECTED_VM == 1, "mainline's VM type");

/* The numbers of what mainline has not. */
static_assert(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES == 0x8008aed2, "fixed");
static_assert(_IOC_NR(KVM_UPDATE_MEMORY_ATTRIBUTES) == 0xdc, "fixed");
static_assert(_IOC_NR(KVM_GET_MEMORY_ATTRIBUTES) == 0xdd, "fixed");
static_assert(KVM_MEMORY_ATTRIBUTE_NR == 1, "fixed");
static_assert(KVM_MEMORY_ATTRIBUTE_NW == 2, "fixed");
static_assert(KVM_MEMORY_ATTRIBUTE_NX == 4, "fixed");
static_assert(KVM_MEMORY_EXIT_FLAG_READ == 1, "fixed");
static_assert(KVM_MEMORY_EXIT_FLAG_WRITE == 2, "fixed");
static_assert(KVM_MEMORY_EXIT_FLAG_EXEC == 4, "fixed");

static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "layout");
static_assert(offsetof(struct kvm_userspace_memory_region2, guest_memfd) == 40,
	      "layout");
static_assert(offsetof(struct kvm_memory_attributes, flags) == 24, "layout");
static_assert(offsetof(struct kvm_run, memory_fault.gpa) ==
	      offsetof(struct kvm_run, memory_fault.flags) + 8, "layout");

static void expect_einval(struct kvm_vm *vm, struct kvm_memory_attributes *args,
			  const char *why)
{
	int ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, args);

	TEST_ASSERT(ret == -1 && errno == EINVAL,
		    "%s should be EINVAL, address %#llx size %#llx attributes %#llx flags %#llx, rc: %i errno: %i",
		    why, args->address, args->size, args->attributes,
		    args->flags, ret, errno);
}

static const struct {
	const char *why;
	u64 address;
	u64 size;
} bad_ranges[] = {
	{ "size 0",				16 * PG, 0 },
	{ "size 0 at 0",			0, 0 },
	{ "size of a byte",			16 * PG, 1 },
	{ "size a byte short of a page",	16 * PG, PG - 1 },
	{ "size a byte over a page",		16 * PG, PG + 1 },
	{ "half a page",			16 * PG, PG / 2 },
	{ "address off by one",			16 * PG + 1, PG },
	{ "address off by half a page",		16 * PG + PG / 2, PG },
	{ "both unaligned, end aligned",	16 * PG + PG / 2, PG / 2 },
	{ "end exactly at 2^64",		TOP, PG },
	{ "end beyond 2^64",			TOP, 2 * PG },
	{ "end wraps to the start",		16 * PG, TOP + PG },
	{ "end wraps into the range",		16 * PG, TOP },
	{ "end wraps to a low page",		1ull << 63, (1ull << 63) + PG },
	{ "size -1",				0, -1ull },
};

/*
 * Three pages in the middle of the space carry the attribute, so that a call
 * which fails late would show.
 */
static void assert_untouched(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_extent e[4];
	struct kvm_get_memory_attributes get = {
		.size = TOP,
		.extents = (uintptr_t)e,
		.nr_extents = ARRAY_SIZE(e),
	};

	vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
	TEST_ASSERT(get.nr_extents == 3 && !get.size &&
		    e[1].address == 16 * PG && e[1].size == 3 * PG &&
		    e[1].attributes == MEM_ATTR_PRIVATE &&
		    !e[0].attributes && !e[2].attributes,
		    "A call that was refused should change nothing, but there are %u extents",
		    get.nr_extents);
}

static void test_refused(struct kvm_vm *vm)
{
	u64 supported = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES);
	struct kvm_memory_attributes args;
	int i;

	vm_set_private(vm, 16 * PG, 3 * PG);

	for (i = 0; i < ARRAY_SIZE(bad_ranges); i++) {
		args = (struct kvm_memory_attributes) {
			.address = bad_ranges[i].address,
			.size = bad_ranges[i].size,
		};
		expect_einval(vm, &args, bad_ranges[i].why);
		args.attributes = MEM_ATTR_PRIVATE;
		expect_einval(vm, &args, bad_ranges[i].why);
		assert_untouched(vm);
	}

	args = (struct kvm_memory_attributes) { .address = 17 * PG, .size = PG };
	for (i = 0; i < 64; i++) {
		args.flags = 1ull << i;
		expect_einval(vm, &args, "A flag");
	}
	args.flags = 0;
	for (i = 0; i < 64; i++) {
		if (supported & (1ull << i))
			continue;
		args.attributes = 1ull << i;
		expect_einval(vm, &args, "An unsupported attribute");
		args.attributes |= MEM_ATTR_PRIVATE;
		expect_einval(vm, &args, "An unsupported attribute among supported ones");
	}
	assert_untouched(vm);

	TEST_ASSERT(ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, 8) == -1 &&
		    errno == EFAULT, "An unreadable argument should be EFAULT");
	assert_untouched(vm);
	vm_set_shared(vm, 0, TOP);
}

static const struct {
	u64 address;
	u64 size;
} good_ranges[] = {
	{ 0, PG },			/* the first page */
	{ TOP - PG, PG },		/* the last that a range can name */
	{ 0, TOP },			/* all of them */
	{ PG, TOP - PG },
	{ 1ull << 51, PG },		/* beyond any guest's MAXPHYADDR */
	{ (1ull << 52) - PG, 2 * PG },
	{ 511 * PG, 2 * PG },		/* over a 2 MiB edge */
	{ (1ull << 30) - PG, (1ull << 30) + 2 * PG },
};

/* No memslot is anywhere, attributes do not care. */
static void test_accepted(struct kvm_vm *vm)
{
	u64 address, end;
	int i;

	for (i = 0; i < ARRAY_SIZE(good_ranges); i++) {
		address = good_ranges[i].address;
		end = address + good_ranges[i].size;

		vm_set_private(vm, address, end - address);
		ASSERT_EQ(vm_get_memory_attributes(vm, address),
			  MEM_ATTR_PRIVATE);
		ASSERT_EQ(vm_get_memory_attributes(vm, end - PG),
			  MEM_ATTR_PRIVATE);
		if (address)
			ASSERT_EQ(vm_get_memory_attributes(vm, address - PG), 0);
		if (end != TOP)
			ASSERT_EQ(vm_get_memory_attributes(vm, end), 0);

		/* Setting what is set already is no error, nor is clearing it. */
		vm_set_private(vm, address, end - address);
		vm_set_shared(vm, address, end - address);
		vm_set_shared(vm, address, end - address);
		ASSERT_EQ(vm_get_memory_attributes(vm, address), 0);
	}
}

/* The VM's answer is exact, the one of /dev/kvm is the union. */
static void test_capabilities(struct kvm_vm *vm, bool private)
{
	u64 all = kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES);
	u64 mask = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES);
	u64 supported;

	vm_ioctl(vm, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, &supported);
	TEST_ASSERT(supported == mask,
		    "KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES should be the capability's value %#lx, is %#lx",
		    mask, supported);
	TEST_ASSERT(!(mask & ~all),
		    "/dev/kvm's mask %#lx should contain the VM's, %#lx", all,
		    mask);
	TEST_ASSERT(!!(mask & MEM_ATTR_PRIVATE) == private,
		    "PRIVATE should %sbe in the mask %#lx",
		    private ? "" : "not ", mask);
	TEST_ASSERT(!!vm_check_cap(vm, KVM_CAP_GUEST_MEMFD) == private,
		    "KVM_CAP_GUEST_MEMFD should be %i", private);
	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_USER_MEMORY2) &&
		    vm_check_cap(vm, KVM_CAP_MEMORY_FAULT_INFO) &&
		    vm_check_cap(vm, KVM_CAP_GET_MEMORY_ATTRIBUTES) &&
		    vm_check_cap(vm, KVM_CAP_UPDATE_MEMORY_ATTRIBUTES),
		    "What comes with memory attributes should be announced");
}

/* A VM that has no private memory takes no PRIVATE, but 0 is no attribute. */
static void test_default_vm(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_memory_attributes args = {
		.size = PG,
		.attributes = MEM_ATTR_PRIVATE,
	};

	test_capabilities(vm, false);
	expect_einval(vm, &args, "PRIVATE in a VM of the default type");
	vm_set_shared(vm, 0, TOP);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GET_MEMORY_ATTRIBUTES));
	test_default_vm();

	TEST_REQUIRE_PROTECTED_VM();
	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	test_capabilities(vm, true);
	test_refused(vm);
	test_accepted(vm);
	kvm_vm_free(vm);
	return 0;
}
