/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM guest_memfd: what common KVM code calls.  What architectures and the
 * rest of KVM call to reach a private page is in <linux/kvm_host.h>.
 */
#ifndef __KVM_GUEST_MEMFD_H__
#define __KVM_GUEST_MEMFD_H__

#include <linux/errno.h>
#include <linux/types.h>

struct kvm;
struct kvm_enable_cap;
struct kvm_memory_slot;

#ifdef CONFIG_KVM_PRIVATE_MEM
/* KVM_CREATE_GUEST_MEMFD.  Returns a file descriptor or an errno. */
int kvm_gmem_create(struct kvm *kvm, void __user *argp);

/*
 * KVM_CAP_GUEST_MEMFD_BACKING_FLAGS: which flags VMs like @kvm can have (NULL:
 * any VM), and KVM_ENABLE_CAP of them.
 */
u64 kvm_gmem_supported_flags(struct kvm *kvm);
int kvm_gmem_enable_flags(struct kvm *kvm, struct kvm_enable_cap *cap);

/*
 * Back @slot, which is not visible yet, with the part of the guest_memfd @fd
 * that starts at @offset; and undo that, once @slot is not visible any more.
 * The caller holds kvm->slots_lock, except to unbind while the VM is
 * destroyed.  kvm_gmem_unbind() takes any memslot.
 */
int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot, u32 fd,
		  u64 offset);
void kvm_gmem_unbind(struct kvm *kvm, struct kvm_memory_slot *slot);
#else
static inline int kvm_gmem_create(struct kvm *kvm, void __user *argp)
{
	return -ENOTTY;
}

static inline u64 kvm_gmem_supported_flags(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_gmem_enable_flags(struct kvm *kvm,
					struct kvm_enable_cap *cap)
{
	return -EINVAL;
}

static inline int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot,
				u32 fd, u64 offset)
{
	return -EINVAL;
}

static inline void kvm_gmem_unbind(struct kvm *kvm,
				   struct kvm_memory_slot *slot)
{
}
#endif /* CONFIG_KVM_PRIVATE_MEM */

#endif /* __KVM_GUEST_MEMFD_H__ */
