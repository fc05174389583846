/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for the tests of memory attributes and private memory.
 *
 * As everywhere in this library, __foo() returns what the system call
 * returned and foo() asserts that it succeeded.
 */
#ifndef SELFTEST_KVM_MEM_ATTRS_H
#define SELFTEST_KVM_MEM_ATTRS_H

#include "kvm_util.h"
#include "exit_story.h"

#define MEM_ATTR_PRIVATE	KVM_MEMORY_ATTRIBUTE_PRIVATE

/*
 * A memslot with both backings, kept apart from the library's own regions,
 * which know nothing of guest_memfd.  @hva is the shared backing, mapped twice
 * as large as the hugepages it is made of demand.  The guest sees the slot at
 * identical virtual and physical addresses once private_slot_map() was called.
 */
struct private_slot {
	struct kvm_vm *vm;
	u32 slot;
	u32 flags;
	u64 gpa;
	u64 size;
	int memfd;
	u64 memfd_offset;
	u8 *hva;
	enum vm_mem_backing_src_type src;
	void *map_start;
	size_t map_size;
};

/* VMs */
bool vm_type_is_supported(unsigned long type);
struct kvm_vm *vm_create_barebones_type(unsigned long type);
struct kvm_vm *vm_create_protected_with_vcpus(u32 nr_vcpus,
					      u64 extra_mem_pages,
					      void *guest_code,
					      struct kvm_vcpu *vcpus[]);

static inline struct kvm_vm *vm_create_protected(struct kvm_vcpu **vcpu,
						 u64 extra_mem_pages,
						 void *guest_code)
{
	return vm_create_protected_with_vcpus(1, extra_mem_pages, guest_code,
					      vcpu);
}

#define TEST_REQUIRE_PROTECTED_VM()						\
	__TEST_REQUIRE(vm_type_is_supported(KVM_X86_SW_PROTECTED_VM),		\
		       "KVM has no software-protected VMs here")

/*
 * Whether guest_memfd is this series' and not mainline's, to which a series for a
 * kernel that has one leaves it: no flags, and other errors in places.
 */
static inline bool memfd_is_ours(void)
{
	return kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);
}

/* guest_memfd and memslots */
static inline int __vm_create_guest_memfd(struct kvm_vm *vm, u64 size,
					  u64 flags)
{
	struct kvm_create_guest_memfd args = { .size = size, .flags = flags };

	return __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
}

int vm_create_guest_memfd(struct kvm_vm *vm, u64 size, u64 flags);

/* Flags of KVM_CREATE_GUEST_MEMFD have to be enabled before. */
int __vm_enable_memfd_flags(struct kvm_vm *vm, u64 flags);
void vm_enable_memfd_flags(struct kvm_vm *vm, u64 flags);
u64 memfd_allocated(int memfd);

static inline int __vm_set_region2(struct kvm_vm *vm,
				   struct kvm_userspace_memory_region2 *region)
{
	return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, region);
}

/*
 * Memory for a memslot, aligned to the pages it is made of.  *@start and
 * *@mapped say what is to be unmapped in the end.
 */
void *backing_mmap(enum vm_mem_backing_src_type src, size_t size,
		   void **start, size_t *mapped);

int __private_slot_set(struct private_slot *s);
void private_slot_set(struct private_slot *s);
void private_slot_unset(struct private_slot *s);
void private_slot_create(struct private_slot *s, struct kvm_vm *vm,
			 u32 slot, u64 gpa, u64 size,
			 enum vm_mem_backing_src_type src);
void private_slot_create_flags(struct private_slot *s, struct kvm_vm *vm,
			       u32 slot, u64 gpa, u64 size,
			       enum vm_mem_backing_src_type src, u64 flags);
void private_slot_map(struct private_slot *s);
void private_slot_destroy(struct private_slot *s);

/* A VM with a vCPU and a memslot that its guest sees. */
struct kvm_vm *vm_create_with_slot(struct kvm_vcpu **vcpu, void *guest_code,
				   struct private_slot *s, u32 slot, u64 gpa,
				   u64 size);

static inline u8 *private_slot_hva(struct private_slot *s, u64 gpa)
{
	return s->hva + (gpa - s->gpa);
}

void private_slot_punch(struct private_slot *s, u64 gpa, u64 size);

/* Is each byte of @p equal to @byte? */
bool mem_is_filled(const void *p, u8 byte, size_t size);

/* Attributes */
static inline int __vm_set_memory_attributes(struct kvm_vm *vm, u64 gpa,
					     u64 size, u64 attributes)
{
	struct kvm_memory_attributes args = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &args);
}

void vm_set_memory_attributes(struct kvm_vm *vm, u64 gpa, u64 size,
			      u64 attributes);

static inline void vm_set_private(struct kvm_vm *vm, u64 gpa,
				  u64 size)
{
	vm_set_memory_attributes(vm, gpa, size, MEM_ATTR_PRIVATE);
}

static inline void vm_set_shared(struct kvm_vm *vm, u64 gpa, u64 size)
{
	vm_set_memory_attributes(vm, gpa, size, 0);
}

/*
 * The attributes of one page, through KVM_GET_MEMORY_ATTRIBUTES.
 */
u64 vm_get_memory_attributes(struct kvm_vm *vm, u64 gpa);

/* vCPUs */
int __vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, u64 *gpa,
			    u64 *size);
void vcpu_run_to_memory_fault(struct kvm_vcpu *vcpu);
void vcpu_expect_memory_fault(struct kvm_vcpu *vcpu, u64 flags,
			      u64 gpa);
u64 vcpu_run_to_ucall(struct kvm_vcpu *vcpu, struct ucall *uc);
void vcpu_run_to_sync(struct kvm_vcpu *vcpu, u64 stage);
void vcpu_run_to_done(struct kvm_vcpu *vcpu);
u64 vcpu_get_rip(struct kvm_vcpu *vcpu);

/* By KVM_TRANSLATE; -1 where there is no translation. */
u64 vcpu_translate(struct kvm_vcpu *vcpu, u64 gva);

/* A port that counts bytes up from 1, and expects the guest to do so. */
void serve_counting_port(struct kvm_run *run, int *done);

/* The machine the test runs on */
static inline bool is_hugetlb(enum vm_mem_backing_src_type src)
{
	return is_backing_src_hugetlb(src) || src == VM_MEM_SRC_SHARED_HUGETLB;
}

void require_hugetlb_pages(unsigned long nr);

/*
 * The table of owners of private memory, in kernels that have one, else 0: a
 * count by its name in debugfs; and have the @n-th allocation from now on fail.
 */
bool has_owner_table(void);
u64 owner_stat(const char *name);
void owner_fail_in(u64 n);
bool enable_forced_emulation(void);

/* An option that takes a number. */
struct number_option {
	char letter;
	const char *help;
	int *value;
	int min;
	int max;
};

/* These options, and -s, which says what backs memory. */
void parse_options(int argc, char *argv[], const struct number_option *options,
		   int nr_options, enum vm_mem_backing_src_type *src);

#endif /* SELFTEST_KVM_MEM_ATTRS_H */
