/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM x86 - the debug table of owners of private memory: load and unload */
#ifndef __KVM_X86_GMEM_OWNER_H
#define __KVM_X86_GMEM_OWNER_H

#ifdef CONFIG_KVM_GMEM_OWNER_DEBUG
void kvm_gmem_owner_init(void);
void kvm_gmem_owner_exit(void);
#else
static inline void kvm_gmem_owner_init(void)
{
}

static inline void kvm_gmem_owner_exit(void)
{
}
#endif

#endif /* __KVM_X86_GMEM_OWNER_H */
