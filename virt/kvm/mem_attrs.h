/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM memory attributes - what mem_attrs.c and guest_access.c share */
#ifndef __KVM_MEM_ATTRS_PRIV_H
#define __KVM_MEM_ATTRS_PRIV_H

#include <linux/kvm_types.h>
#include <linux/spinlock.h>

#include "mem_attrs_store.h"

/* One change: every page of [first, last] goes to (old & keep) | set. */
struct kvm_mem_attrs_op {
	gfn_t first;
	gfn_t last;
	unsigned long keep;
	unsigned long set;
};

/* Locks and lifetimes: see mem_attrs.c.  @op: the change in progress, if any. */
struct kvm_mem_attrs {
	struct kvm_attr_store store;
	const struct kvm_mem_attrs_op *op;
	rwlock_t access;
};

#endif /* __KVM_MEM_ATTRS_PRIV_H */
