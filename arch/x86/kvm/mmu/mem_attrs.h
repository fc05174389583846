/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM x86 MMU - per-page memory attributes: what the MMU's hooks call */
#ifndef __KVM_X86_MMU_MEM_ATTRS_H
#define __KVM_X86_MMU_MEM_ATTRS_H

struct kvm_page_fault;

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES

int kvm_mmu_faultin_attrs(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
int kvm_mmu_attrs_max_level(struct kvm *kvm, gfn_t gfn, int max_level);
bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn, int nr);

#else

static inline int kvm_mmu_faultin_attrs(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault)
{
	return 0; /* RET_PF_CONTINUE */
}

static inline int kvm_mmu_attrs_max_level(struct kvm *kvm, gfn_t gfn,
					  int max_level)
{
	return max_level;
}

static inline bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn,
						int nr)
{
	return true;
}

#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

#endif /* __KVM_X86_MMU_MEM_ATTRS_H */
