/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM memory attributes - range store
 *
 * A map from page index (GFN) to a small non-zero value, kept as naturally
 * aligned power-of-two runs.  See mem_attrs_store.c for the model, the locks
 * and the lifetimes.  No KVM types and no KVM locks here: the same source is
 * built in userspace for its tests.
 */
#ifndef __KVM_MEM_ATTRS_STORE_H
#define __KVM_MEM_ATTRS_STORE_H

#include <linux/rcupdate.h>
#include <linux/types.h>
#include <linux/xarray.h>

/* Highest page index: 2^52 pages are the 64-bit guest physical space. */
#define KVM_ATTR_MAX_ORDER	52
#define KVM_ATTR_MAX_INDEX	((1UL << KVM_ATTR_MAX_ORDER) - 1)

struct kvm_attr_store {
	struct xarray xa;
	unsigned int nr_commits;
	/* Pages whose nodes may wait to be freed: see kvm_attr_store_relax(). */
	unsigned long nr_stepped;
	/* For statistics: nodes, and extents whose value is not zero. */
	unsigned long nr_nodes;
	unsigned long nr_extents;
	/* nr_extents is not known: see kvm_attr_store_count(). */
	bool recount;
};

/* [first, last], both included, all of it with value attrs (0: no entry). */
struct kvm_attr_extent {
	unsigned long first;
	unsigned long last;
	unsigned long attrs;
};

void kvm_attr_store_init(struct kvm_attr_store *store);
void kvm_attr_store_destroy(struct kvm_attr_store *store);

/* Lockless readers: any context, no lock. */
static inline bool kvm_attr_store_empty(const struct kvm_attr_store *store)
{
	return !rcu_access_pointer(store->xa.xa_head);
}

unsigned long kvm_attr_store_get(struct kvm_attr_store *store,
				 unsigned long index);
/*
 * Largest order k <= max_order such that all of the naturally aligned block
 * of 2^k pages around index carries one value (0 included).
 */
unsigned int kvm_attr_store_uniform_order(struct kvm_attr_store *store,
					  unsigned long index,
					  unsigned int max_order);

/* From here on writers must be excluded: the caller serialises as for a set. */
/* The maximal run of equal values from first on, cut at last. */
void kvm_attr_store_extent(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   struct kvm_attr_extent *extent);

/*
 * Counts a bounded number of extents from *next on, which it moves, and adds them to
 * *nr.  Returns whether there are more.  If store->recount is set, the caller begins at
 * 0, and stores the sum in nr_extents.
 */
bool kvm_attr_store_count(struct kvm_attr_store *store, unsigned long *next,
			  unsigned long *nr);

/*
 * Cuts a range down to the pages from the first to the last that a change of it, as
 * below, changes.  *old gets the value of the first of these pages.  Returns
 * KVM_ATTR_ONE if all of them are known to have that value, KVM_ATTR_SOME otherwise,
 * KVM_ATTR_NONE if no page changes, or -EAGAIN after a bounded number of blocks: call
 * again with what is left of the range.
 */
enum kvm_attr_trimmed {
	KVM_ATTR_NONE,
	KVM_ATTR_SOME,
	KVM_ATTR_ONE,
};

int kvm_attr_store_trim(struct kvm_attr_store *store,
			unsigned long *first, unsigned long *last,
			unsigned long keep, unsigned long set,
			unsigned long *old);

/*
 * All maximal runs of equal values in [first, last], in ascending order, each
 * found from where the one before it ended.  The store must not change between
 * init and the last next; the members are private.
 */
struct kvm_attr_iter {
	struct xa_state xas;
	unsigned long next;
	unsigned long last;
	struct kvm_attr_extent part;
	bool ahead;
};

void kvm_attr_iter_init(struct kvm_attr_iter *iter,
			struct kvm_attr_store *store,
			unsigned long first, unsigned long last);
bool kvm_attr_iter_next(struct kvm_attr_iter *iter,
			struct kvm_attr_extent *extent);

/*
 * Writers, serialised by the caller: prepare, then commit or abort of the same
 * range; a prepare that failed has left nothing to abort.  Only prepare sleeps
 * or fails, only commit changes what readers see.  Each page's new value is
 * (old & keep) | set.
 *
 * commit does a bounded part of the change, from *first on, and moves *first
 * behind it.  Returns whether there is more to do: call again, with the same
 * other arguments.  With uniform, all pages are known to have one old value, and all
 * of the change is one part.
 */
int kvm_attr_store_prepare(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   unsigned long keep, unsigned long set);
bool kvm_attr_store_commit(struct kvm_attr_store *store,
			   unsigned long *first, unsigned long last,
			   unsigned long keep, unsigned long set, bool uniform);
/* Between two steps of commit, without locks: sleeps now and then. */
void kvm_attr_store_relax(struct kvm_attr_store *store);
void kvm_attr_store_abort(struct kvm_attr_store *store,
			  unsigned long first, unsigned long last);

#endif /* __KVM_MEM_ATTRS_STORE_H */
