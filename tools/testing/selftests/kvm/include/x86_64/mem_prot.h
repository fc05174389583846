/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for the tests of the protections: the attributes NR, NW and NX.
 *
 * A struct prot_mem is a memslot of a VM of the default type.  It is kept apart
 * from the library's own regions so that it can be deleted, moved and created
 * again with its contents intact.
 */
#ifndef SELFTEST_KVM_MEM_PROT_H
#define SELFTEST_KVM_MEM_PROT_H

#include "mem_attrs.h"

#define NR	KVM_MEMORY_ATTRIBUTE_NR
#define NW	KVM_MEMORY_ATTRIBUTE_NW
#define NX	KVM_MEMORY_ATTRIBUTE_NX
#define NOTHING	(NR | NW | NX)		/* no access at all */

#define EXIT_R	KVM_MEMORY_EXIT_FLAG_READ
#define EXIT_W	KVM_MEMORY_EXIT_FLAG_WRITE
#define EXIT_X	KVM_MEMORY_EXIT_FLAG_EXEC
#define EXIT_P	KVM_MEMORY_EXIT_FLAG_PRIVATE

struct prot_mem {
	struct kvm_vm *vm;
	u32 slot;
	u32 flags;
	u64 gpa;
	u64 size;
	enum vm_mem_backing_src_type src;
	u8 *hva;
	void *map_start;
	size_t map_size;
};

void prot_mem_create(struct prot_mem *m, struct kvm_vm *vm, u32 slot,
		     u32 flags, u64 gpa, u64 size,
		     enum vm_mem_backing_src_type src);
void prot_mem_set(struct prot_mem *m);
void prot_mem_unset(struct prot_mem *m);
void prot_mem_map(struct prot_mem *m, int level);
void prot_mem_destroy(struct prot_mem *m);

static inline u8 *prot_mem_hva(struct prot_mem *m, u64 gpa)
{
	return m->hva + (gpa - m->gpa);
}

/* Have KVM drop its mappings of host memory that keeps its contents. */
void prot_mem_unmap(struct prot_mem *m);

/* What this VM, on this host, can enforce. */
u64 vm_supported_attributes(struct kvm_vm *vm);
bool vm_accepts_attributes(struct kvm_vm *vm, u64 attributes);
bool protections_are_supported(void);

#define TEST_REQUIRE_PROTECTIONS()						\
	__TEST_REQUIRE(protections_are_supported(),			\
		       "KVM has no NR, NW and NX attributes here")

/*
 * Run the vCPU into an access that a protection refuses to the page at @gpa;
 * returns the flags of the exit.
 */
u64 vcpu_run_to_refusal(struct kvm_vcpu *vcpu, u64 gpa);

#endif /* SELFTEST_KVM_MEM_PROT_H */
