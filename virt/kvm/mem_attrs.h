/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM memory attributes - what mem_attrs.c and guest_access.c share */
#ifndef __KVM_MEM_ATTRS_PRIV_H
#define __KVM_MEM_ATTRS_PRIV_H

#include <linux/spinlock.h>

#include "mem_attrs_store.h"

/* Locks and lifetimes: see mem_attrs.c. */
struct kvm_mem_attrs {
	struct kvm_attr_store store;
	rwlock_t access;
};

#endif /* __KVM_MEM_ATTRS_PRIV_H */
