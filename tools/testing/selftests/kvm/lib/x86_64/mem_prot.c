// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers for the tests of the protections: the attributes NR, NW and NX.
 */
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_prot.h"

void prot_mem_set(struct prot_mem *m)
{
	vm_set_user_memory_region(m->vm, m->slot, m->flags, m->gpa, m->size,
				  m->hva);
}

void prot_mem_unset(struct prot_mem *m)
{
	vm_set_user_memory_region(m->vm, m->slot, 0, m->gpa, 0, m->hva);
}

void prot_mem_create(struct prot_mem *m, struct kvm_vm *vm, u32 slot,
		     u32 flags, u64 gpa, u64 size,
		     enum vm_mem_backing_src_type src)
{
	*m = (struct prot_mem) {
		.vm = vm,
		.slot = slot,
		.flags = flags,
		.gpa = gpa,
		.size = size,
		.src = src,
	};
	m->hva = backing_mmap(src, size, &m->map_start, &m->map_size);
	prot_mem_set(m);
}

/* At identical guest virtual and physical addresses */
void prot_mem_map(struct prot_mem *m, int level)
{
	virt_map_level(m->vm, m->gpa, m->gpa, m->size, level);
}

void prot_mem_destroy(struct prot_mem *m)
{
	munmap(m->map_start, m->map_size);
}

/*
 * All of the mapping and not only what is in the memslot: 6.1 WARNs when a mapping
 * of hugetlb pages is split.
 */
void prot_mem_unmap(struct prot_mem *m)
{
	TEST_ASSERT(!mprotect(m->map_start, m->map_size, PROT_NONE) &&
		    !mprotect(m->map_start, m->map_size,
			      PROT_READ | PROT_WRITE),
		    "mprotect() should succeed, errno: %i (%s)", errno,
		    strerror(errno));
}

u64 vm_supported_attributes(struct kvm_vm *vm)
{
	u64 mask;

	if (__vm_ioctl(vm, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, &mask))
		return 0;
	return mask;
}

/* Tried where no test has memory. */
bool vm_accepts_attributes(struct kvm_vm *vm, u64 attributes)
{
	const u64 gpa = 1ull << 35;

	if (__vm_set_memory_attributes(vm, gpa, vm->page_size, attributes)) {
		TEST_ASSERT(errno == EINVAL,
			    "Attributes %#lx should be refused with EINVAL, errno: %i (%s)",
			    attributes, errno, strerror(errno));
		return false;
	}
	vm_set_memory_attributes(vm, gpa, vm->page_size, 0);
	return true;
}

bool protections_are_supported(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	u64 mask = vm_supported_attributes(vm);

	kvm_vm_free(vm);
	return (mask & NOTHING) == NOTHING;
}

u64 vcpu_run_to_refusal(struct kvm_vcpu *vcpu, u64 gpa)
{
	struct kvm_run *run = vcpu->run;
	u64 flags;

	vcpu_run_to_memory_fault(vcpu);
	flags = run->memory_fault.flags;
	TEST_ASSERT(run->memory_fault.gpa == gpa &&
		    run->memory_fault.size == vcpu->vm->page_size,
		    "The exit should name the page at %#lx, names %#llx, size %#llx, flags %#lx",
		    gpa, run->memory_fault.gpa, run->memory_fault.size, flags);
	TEST_ASSERT(__builtin_popcountl(flags & (EXIT_R | EXIT_W | EXIT_X)) == 1 &&
		    !(flags & ~(EXIT_R | EXIT_W | EXIT_X | EXIT_P)),
		    "The exit should name exactly one access, flags: %#lx",
		    flags);
	return flags;
}
