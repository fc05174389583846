/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ABI of KVM's memory attributes for programs that use the system's <linux/kvm.h>.
 * Others put -I/usr/include/kvm-mem-attrs first (pkg-config --cflags kvm-mem-attrs) and
 * include <linux/kvm.h>, which then has everything.
 */
#ifndef KVM_MEM_ATTRS_H
#define KVM_MEM_ATTRS_H

#include <linux/kvm.h>
#include <kvm-mem-attrs/linux/kvm_mem_attrs.h>

/* As kvm_run::memory_fault, which the system's header does not have. */
struct kvm_run_memory_fault {
	__u64 flags;
	__u64 gpa;
	__u64 size;
};

/* Valid after KVM_RUN has failed with EFAULT and exit_reason KVM_EXIT_MEMORY_FAULT. */
static inline const struct kvm_run_memory_fault *
kvm_run_memory_fault(const struct kvm_run *run)
{
	return (const struct kvm_run_memory_fault *)run->padding;
}

#endif /* KVM_MEM_ATTRS_H */
