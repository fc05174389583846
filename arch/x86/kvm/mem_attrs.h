/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM x86 - per-page memory attributes: what the hooks in x86.c and mmu/ call */
#ifndef __KVM_X86_MEM_ATTRS_H
#define __KVM_X86_MEM_ATTRS_H

#include <linux/kvm_host.h>

#include "xen.h"

struct kvm_page_fault;

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES
bool kvm_is_vm_type_supported(unsigned long type);
int kvm_mem_attrs_check_extension(long ext);
int kvm_mem_attrs_init_vm_type(struct kvm *kvm);
int kvm_mem_attrs_disable(struct kvm *kvm);
bool kvm_async_pf_page_allowed(struct kvm_vcpu *vcpu);
bool kvm_emulate_write_refused(struct kvm_vcpu *vcpu, gva_t addr,
			       unsigned int bytes);

/* mmu/mem_attrs.c */
int kvm_mmu_faultin_attrs(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
int kvm_mmu_attrs_mapping_level(struct kvm *kvm,
				const struct kvm_memory_slot *slot, gfn_t gfn,
				int max_level);
bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn, int nr);
unsigned int __kvm_mmu_attrs_access(struct kvm *kvm,
				    const struct kvm_memory_slot *slot,
				    gfn_t gfn, unsigned int access);
#else
static inline bool kvm_is_vm_type_supported(unsigned long type)
{
	return type == KVM_X86_DEFAULT_VM;
}

static inline int kvm_mem_attrs_check_extension(long ext)
{
	return 0;
}

static inline int kvm_mem_attrs_init_vm_type(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_mem_attrs_disable(struct kvm *kvm)
{
	return 0;
}

static inline bool kvm_async_pf_page_allowed(struct kvm_vcpu *vcpu)
{
	return true;
}

static inline bool kvm_emulate_write_refused(struct kvm_vcpu *vcpu, gva_t addr,
					     unsigned int bytes)
{
	return false;
}

static inline int kvm_mmu_faultin_attrs(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault)
{
	return 0; /* RET_PF_CONTINUE */
}

static inline int kvm_mmu_attrs_mapping_level(struct kvm *kvm,
					      const struct kvm_memory_slot *slot,
					      gfn_t gfn, int max_level)
{
	return max_level;
}

static inline bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn,
						int nr)
{
	return true;
}

static inline unsigned int
__kvm_mmu_attrs_access(struct kvm *kvm, const struct kvm_memory_slot *slot,
		       gfn_t gfn, unsigned int access)
{
	return access;
}
#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

/* What is left of @access, ACC_*, for a mapping of @gfn; under mmu_lock. */
static inline unsigned int
kvm_mmu_attrs_access(struct kvm *kvm, const struct kvm_memory_slot *slot,
		     gfn_t gfn, unsigned int access)
{
	if (!kvm_gfn_has_mem_attrs(kvm, gfn))
		return access;

	return __kvm_mmu_attrs_access(kvm, slot, gfn, access);
}

bool __kvm_record_steal_time_attrs(struct kvm_vcpu *vcpu);

/*
 * Whether record_steal_time() has nothing left to do: steal time is off, which spares
 * most VM-Entries the call, or has been recorded.  Xen's runstate is not affected.
 */
static inline bool kvm_record_steal_time_attrs(struct kvm_vcpu *vcpu)
{
	if (kvm_xen_msr_enabled(vcpu->kvm))
		return false;

	if (!(vcpu->arch.st.msr_val & KVM_MSR_ENABLED))
		return true;

	return kvm_has_mem_attrs(vcpu->kvm) &&
	       __kvm_record_steal_time_attrs(vcpu);
}

/* Only for VMs with kvm_has_mem_attrs(). */
void kvm_steal_time_set_preempted_attrs(struct kvm_vcpu *vcpu, gpa_t gpa);
int kvm_vcpu_cmpxchg_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *old,
			   const void *new, int len);
int kvm_vcpu_fetch_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *data, int len);
int kvm_emulate_refused_exit(struct kvm_vcpu *vcpu);
bool kvm_emulate_dst_refused(struct kvm_vcpu *vcpu);
bool kvm_task_switch_refused(struct kvm_vcpu *vcpu, u16 selector, int reason);

/* The exit of a page walk that could not use a page of the guest's page tables. */
static inline int kvm_page_walk_refused_exit(struct kvm_vcpu *vcpu)
{
	return __kvm_guest_access_refused_exit(vcpu,
					       KVM_MEMORY_FAULT_BY_PAGE_WALK);
}

/* What was MMIO when the vCPU cached that it is, and has become private since. */
static inline bool kvm_mmio_is_private(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	return kvm_mem_is_private(vcpu->kvm, gpa_to_gfn(gpa)) &&
	       (gpa & PAGE_MASK) != APIC_DEFAULT_PHYS_BASE;
}

/*
 * Complete an intercepted load of a control register, which has begun with
 * kvm_guest_access_clear_refused().  If attributes refuse the read of the PDPTRs, exit to
 * userspace instead of injecting #GP.
 */
static inline int kvm_complete_cr_load(struct kvm_vcpu *vcpu, int err)
{
	if (err && kvm_guest_access_refused(vcpu))
		return kvm_guest_access_refused_exit(vcpu);

	return kvm_complete_insn_gp(vcpu, err);
}

#endif /* __KVM_X86_MEM_ATTRS_H */
