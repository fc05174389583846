/* SPDX-License-Identifier: GPL-2.0-only */
/* KVM memory attributes - what mem_attrs.c and guest_access.c share */
#ifndef __KVM_MEM_ATTRS_PRIV_H
#define __KVM_MEM_ATTRS_PRIV_H

#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/rcuwait.h>
#include <linux/spinlock.h>

#include "mem_attrs_store.h"

/*
 * One change: every page of [first, last] goes from old to (old & keep) | set.
 *
 * @narrows: the change takes access away from a page, or changes its backing
 * @unreads: the change takes read access away from a page, or changes its
 *	     backing, so what KVM has read from the page must be dropped
 * @uniform: all pages have the attributes @old before the change
 * @changed: a page has got another value
 * @nr_changed, @nr_extents: if traced, how many pages change, in how many extents
 */
struct kvm_mem_attrs_op {
	gfn_t first;
	gfn_t last;
	unsigned long keep;
	unsigned long set;
	bool narrows;
	bool unreads;
	bool uniform;
	unsigned long old;
	bool changed;
	u64 nr_changed;
	u64 nr_extents;
};

/* Locks and lifetimes: see mem_attrs.c.  @op: the change in progress, if any. */
struct kvm_mem_attrs {
	struct kvm_attr_store store;
	const struct kvm_mem_attrs_op *op;
	rwlock_t access;

	/* Tracked kvm_host_maps, and the change that waits for their unmap. */
	raw_spinlock_t maps_lock;
	struct list_head maps;
	struct rcuwait maps_wait;
};

void kvm_guest_access_init(struct kvm_mem_attrs *attrs);
void kvm_guest_access_wait(struct kvm *kvm, const struct kvm_mem_attrs_op *op);

/* The vCPU that the current task runs, if it is one of @kvm. */
static inline struct kvm_vcpu *kvm_running_vcpu_of(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu = kvm_get_running_vcpu();

	return vcpu && vcpu->kvm == kvm ? vcpu : NULL;
}

/* mem_attrs_stat.c */
void kvm_mem_attrs_count_set(struct kvm *kvm, const struct kvm_mem_attrs_op *op,
			     u64 ns);
void kvm_mem_attrs_note_refused(struct kvm *kvm, gfn_t gfn, u64 access,
				u64 flags);

#endif /* __KVM_MEM_ATTRS_PRIV_H */
