/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM pre-fault - KVM_PRE_FAULT_MEMORY: virt/kvm/pre_fault.c */
#ifndef __KVM_PRE_FAULT_H
#define __KVM_PRE_FAULT_H

#ifndef __KVM_HOST_H
#error "include <linux/kvm_host.h> instead"
#endif

/*
 * Arch: map the page at @gpa, as large as it may be;
 * returns how many bytes from @gpa on are mapped, at most @size, or an errno,
 * -EAGAIN if it has to be called again without kvm->srcu held in between.
 */
#ifdef CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY
int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, void __user *argp);
long kvm_arch_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size);
#else
static inline int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu,
					    void __user *argp)
{
	return -ENOTTY;
}
#endif /* CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY */

#endif /* __KVM_PRE_FAULT_H */
