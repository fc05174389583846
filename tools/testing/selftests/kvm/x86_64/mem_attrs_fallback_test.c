// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a VMM sees when it probes for memory attributes and private memory.
 *
 * Capabilities and ioctls must agree on every kernel: one without the feature
 * (also an unpatched one), one where it is configured out, and every type of
 * VM.  What is absent answers with mainline's errno, so that a VMM can fall
 * back.  The test therefore never skips.
 */
#include <errno.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

static void expect_errno(int ret, int expected, const char *what)
{
	TEST_ASSERT(ret == -1 && errno == expected,
		    "%s should fail with errno %i, rc: %i errno: %i (%s)",
		    what, expected, ret, errno, strerror(errno));
}

/* One without attributes has no attribute ioctl at all. */
static void test_attribute_ioctls_absent(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_extent extent;
	struct kvm_memory_attributes_update update = {
		.size = vm->page_size,
		.set = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};
	struct kvm_update_memory_attributes updates = {
		.updates = (uintptr_t)&update,
		.nr_updates = 1,
	};
	struct kvm_get_memory_attributes get = {
		.size = vm->page_size,
		.extents = (uintptr_t)&extent,
		.nr_extents = 1,
	};
	u64 mask;

	expect_errno(__vm_set_memory_attributes(vm, 0, vm->page_size, 0),
		     ENOTTY, "KVM_SET_MEMORY_ATTRIBUTES");
	expect_errno(__vm_ioctl(vm, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, &mask),
		     ENOTTY, "KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES");
	expect_errno(__vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get),
		     ENOTTY, "KVM_GET_MEMORY_ATTRIBUTES");
	expect_errno(__vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &updates),
		     ENOTTY, "KVM_UPDATE_MEMORY_ATTRIBUTES");
}

/* A host that can enforce none of them has an empty mask, but the ioctls. */
static bool kvm_has_attributes(void)
{
	return kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES) ||
	       kvm_check_cap(KVM_CAP_GET_MEMORY_ATTRIBUTES);
}

static void test_attributes(struct kvm_vm *vm)
{
	u64 mask = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES);
	u64 bit;
	int i;

	if (!kvm_has_attributes()) {
		ASSERT_EQ(mask, 0);
		test_attribute_ioctls_absent(vm);
		return;
	}

	for (i = 0; i < 64; i++) {
		bit = 1ull << i;
		if (mask & bit)
			continue;
		expect_errno(__vm_set_memory_attributes(vm, 0, vm->page_size,
							bit),
			     EINVAL, "Setting an attribute that is not in the mask");
	}
}

static void test_region2(struct kvm_vm *vm)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = 5,
		.guest_phys_addr = 1ull << 32,
		.memory_size = vm->page_size,
	};
	void *mem = mmap(NULL, vm->page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	TEST_ASSERT(mem != MAP_FAILED, "mmap() should succeed");
	region.userspace_addr = (uintptr_t)mem;

	if (!kvm_check_cap(KVM_CAP_USER_MEMORY2)) {
		expect_errno(__vm_set_region2(vm, &region), ENOTTY,
			     "KVM_SET_USER_MEMORY_REGION2");
		return;
	}

	ret = __vm_set_region2(vm, &region);
	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_SET_USER_MEMORY_REGION2, ret));
	region.memory_size = 0;
	ret = __vm_set_region2(vm, &region);
	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_SET_USER_MEMORY_REGION2, ret));

	if (vm_check_cap(vm, KVM_CAP_GUEST_MEMFD))
		return;
	region.memory_size = vm->page_size;
	region.flags = KVM_MEM_GUEST_MEMFD;
	expect_errno(__vm_set_region2(vm, &region), EINVAL,
		     "A guest_memfd memslot in a VM without private memory");
}

/*
 * Without private memory the file may exist, as in mainline: there is no
 * memslot that would take it.
 */
static void test_guest_memfd(struct kvm_vm *vm)
{
	int fd = __vm_create_guest_memfd(vm, vm->page_size, 0);

	if (!kvm_has_attributes())
		expect_errno(fd, ENOTTY, "KVM_CREATE_GUEST_MEMFD");
	if (fd >= 0)
		close(fd);
	else
		TEST_ASSERT(!vm_check_cap(vm, KVM_CAP_GUEST_MEMFD),
			    "A VM that takes guest_memfds should create them");
}

static void test_pre_fault(void)
{
	u64 gpa = 0, size = getpagesize();
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int ret;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);
	if (kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		TEST_ASSERT(!ret, "KVM_PRE_FAULT_MEMORY should map memslot 0, errno: %i",
			    errno);
	else
		TEST_ASSERT(ret == -1 && (errno == ENOTTY || errno == EINVAL ||
					  errno == EOPNOTSUPP),
			    "KVM_PRE_FAULT_MEMORY should not be there, rc: %i errno: %i",
			    ret, errno);
	kvm_vm_free(vm);
}

/* What KVM_CAP_VM_TYPES lists can be created, and nothing else. */
static void test_vm_types(void)
{
	unsigned long types = kvm_check_cap(KVM_CAP_VM_TYPES), type;
	int kvm_fd = open_kvm_dev_path_or_exit();
	int fd;

	TEST_ASSERT(!types || (types & (1ul << KVM_X86_DEFAULT_VM)),
		    "KVM_CAP_VM_TYPES should list the default type, is %#lx",
		    types);

	for (type = 1; type < 64; type++) {
		fd = __kvm_ioctl(kvm_fd, KVM_CREATE_VM, (void *)type);
		if (types & (1ul << type))
			TEST_ASSERT(fd >= 0, "VM type %lu is listed and should work, errno: %i",
				    type, errno);
		else
			expect_errno(fd, EINVAL, "Creating a VM of a type that is not listed");
		if (fd >= 0)
			close(fd);
	}
	close(kvm_fd);
}

static void test_vm(unsigned long type)
{
	struct kvm_vm *vm = vm_create_barebones_type(type);

	test_attributes(vm);
	test_region2(vm);
	test_guest_memfd(vm);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	test_vm(KVM_X86_DEFAULT_VM);
	if (vm_type_is_supported(KVM_X86_SW_PROTECTED_VM))
		test_vm(KVM_X86_SW_PROTECTED_VM);
	test_vm_types();
	test_pre_fault();

	pr_info("attributes %#x, VM types %#x, guest_memfd %u\n",
		kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES),
		kvm_check_cap(KVM_CAP_VM_TYPES),
		kvm_check_cap(KVM_CAP_GUEST_MEMFD));
	return 0;
}
