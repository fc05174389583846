// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM memory attributes - range store
 *
 * Model
 *
 * A total function from page index (0 .. KVM_ATTR_MAX_INDEX) to a small
 * value; almost all of it is zero.  It is kept in an XArray of multi-index
 * entries in canonical form:
 *
 *  - zero is no entry;
 *  - a naturally aligned block of 2^k pages with one value is one entry of
 *    order k, unless it is part of a larger such block (two equal buddies are
 *    always merged);
 *  - a node exists only if the block it covers is not uniform, and the root is
 *    the lowest one that holds every entry.
 *
 * So the contents determine the tree, storage follows the number of boundaries
 * between different values, and the order of an entry says how far around a
 * page nothing changes.
 *
 * A change is new(old) = (old & keep) | set for each page of a range.  It is
 * split in two:
 *
 *  prepare() cuts the entries that straddle an end of the range, and creates
 *  the nodes that commit() will store into, held in place by reserved entries
 *  (XA_ZERO_ENTRY), which read as zero.  It may sleep and fail.  No reader can
 *  tell: every page keeps its value.
 *
 *  commit() stores the new values, merges, and gives back the nodes that became
 *  superfluous; abort() merges and gives back without having stored anything.
 *  Neither allocates, sleeps or fails.
 *
 * Why commit() never needs a node that is not there
 *
 * commit() stores maximal aligned blocks of runs of equal new value.  Storing
 * block B of order k needs the node one slot of which covers B or a part of B;
 * that node covers more than B, at least P, B's parent of order k + 1.  P has a
 * page outside of the run, so it holds both sides of one end of the run:
 *
 *  - An end within the range: new() differs across it, so the old values did.
 *    One of them is not zero, and its entry lies within P without being P.
 *    All nodes above an entry exist, B's among them.
 *  - An end of the range itself, in an entry that changes: prepare() cut that
 *    entry there, and one of the parts lies within P.
 *  - An end of the range itself, in a stretch of zeroes that changes: prepare()
 *    has stored a reserved entry, or found the node, for the largest block
 *    at that end.  B's node is that one or above it.
 *  - B is all that the root covers, there is no P below the root: prepare()
 *    has foreseen it and put another root on top.
 *
 * No step of commit() takes away a node that a later step needs: new() is
 * idempotent, so a page that still has its old value equals a new value only
 * if that is its own new value too, and whatever has been merged stays merged.
 * If set is zero nodes may become empty, but zeroes need no nodes, and what
 * lies left of a cleared run is final by the time the root shrinks, since
 * runs are stored in ascending order.
 *
 * Locks
 *
 *  ===============  =======================================================
 *  the caller's     serialises prepare .. commit/abort; taken before prepare,
 *  writer mutex     held until after commit or abort; also excludes writers
 *  (slots_lock)     from those readers that need an exact answer about a range
 *  xa_lock          the nodes while the tree is changed; innermost, taken and
 *                   released here, nests inside mmu_lock (commit)
 *  RCU              nodes stay allocated while a reader walks them
 *  ===============  =======================================================
 *
 * What lockless readers see
 *
 * A page's old value or its new one, never anything else, and its new one once
 * commit() has returned.  Different pages may be seen to change in any order.
 * The order returned by kvm_attr_store_uniform_order() can be too small while a
 * writer is between prepare and commit or abort; whether it is still right
 * when it is used is for the caller to check, as for any lockless lookup.
 *
 * Lifetimes
 *
 * Nodes are charged to the memory cgroup of the task in prepare(), and are
 * freed after a grace period.  kvm_attr_store_destroy() needs all readers and
 * writers to be gone.
 */
#include <linux/bitops.h>
#include <linux/bug.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/xarray.h>

#include "mem_attrs_store.h"

/* Pages [first, last] that shall all get attrs; changes: not all have it yet. */
struct attr_run {
	unsigned long first;
	unsigned long last;
	unsigned long attrs;
	bool changes;
};

static unsigned long attr_new(unsigned long old, unsigned long keep,
			      unsigned long set)
{
	return (old & keep) | set;
}

static void *attr_to_entry(unsigned long attrs)
{
	return attrs ? xa_mk_value(attrs) : NULL;
}

/* Log2 of the slots that the entry at offset occupies in its node. */
static unsigned int slot_order(const struct xarray *xa,
			       const struct xa_node *node, unsigned int offset)
{
	unsigned int order = 0;

	while (offset + (1U << order) < XA_CHUNK_SIZE &&
	       xa_entry(xa, node, offset + (1U << order)) ==
	       xa_mk_sibling(offset))
		order++;

	return order;
}

static unsigned int entry_order(const struct xa_state *xas)
{
	const struct xa_node *node = xas->xa_node;

	if (!node)
		return 0;

	return node->shift + slot_order(xas->xa, node, xas->xa_offset);
}

/* The order of the largest aligned block that starts at first. */
static unsigned int head_order(unsigned long first, unsigned long last)
{
	unsigned int order = ilog2(last - first + 1);

	return first ? min_t(unsigned int, order, __ffs(first)) : order;
}

/* The order of the largest aligned block that ends at last. */
static unsigned int tail_order(unsigned long first, unsigned long last)
{
	return min_t(unsigned int, ilog2(last - first + 1), __ffs(last + 1));
}

/*
 * Moves on to the next entry and describes it, all of it, even where it begins
 * before the index at which the walk started.  False: none up to last.
 */
static bool next_entry(struct xa_state *xas, unsigned long last,
		       struct kvm_attr_extent *extent)
{
	unsigned int order;
	void *entry;

	/* Reserved entries read as zero; retry entries mean: start over. */
	while ((entry = xas_find(xas, last)) && !xa_is_value(entry))
		xas_retry(xas, entry);
	if (!entry)
		return false;

	order = entry_order(xas);
	extent->first = xas->xa_index >> order << order;
	extent->last = extent->first + (1UL << order) - 1;
	extent->attrs = xa_to_value(entry);
	xas_advance(xas, extent->last);
	return true;
}

void kvm_attr_store_init(struct kvm_attr_store *store)
{
	xa_init_flags(&store->xa, XA_FLAGS_ACCOUNT);
}

void kvm_attr_store_destroy(struct kvm_attr_store *store)
{
	xa_destroy(&store->xa);
}

unsigned long kvm_attr_store_get(struct kvm_attr_store *store,
				 unsigned long index)
{
	void *entry = xa_load(&store->xa, index);

	return entry ? xa_to_value(entry) : 0;
}

static bool slots_are_zero(const struct xarray *xa, const struct xa_node *node,
			   unsigned int offset, unsigned int order)
{
	unsigned int end = offset + (1U << order);
	void *entry;

	for (; offset < end; offset++) {
		entry = xa_entry(xa, node, offset);
		if (entry && !xa_is_zero(entry))
			return false;
	}

	return true;
}

/* Order of the zeroes around a slot without an entry. */
static unsigned int zero_order(const struct xarray *xa,
			       const struct xa_node *node, unsigned int offset)
{
	unsigned int order = 0;

	while (order < XA_CHUNK_SHIFT &&
	       slots_are_zero(xa, node, offset ^ (1U << order), order)) {
		offset &= ~(1U << order);
		order++;
	}

	return node->shift + order;
}

/*
 * Outside of the tree all is zero, and an aligned block reaches into the tree
 * exactly if it starts at 0.
 */
static unsigned int outer_order(const struct xarray *xa, unsigned long index,
				unsigned int max_order)
{
	if (xa_empty(xa) || !index)
		return max_order;

	return __fls(index);
}

unsigned int kvm_attr_store_uniform_order(struct kvm_attr_store *store,
					  unsigned long index,
					  unsigned int max_order)
{
	XA_STATE(xas, &store->xa, index);
	unsigned int order;
	void *entry;

	rcu_read_lock();
	do {
		entry = xas_load(&xas);
		if (xa_is_zero(entry))
			entry = NULL;
	} while (xas_retry(&xas, entry));

	if (entry)
		order = entry_order(&xas);
	else if (xas_is_node(&xas))
		order = zero_order(&store->xa, xas.xa_node, xas.xa_offset);
	else
		order = outer_order(&store->xa, index, max_order);
	rcu_read_unlock();

	return min(order, max_order);
}

bool kvm_attr_store_range_has(struct kvm_attr_store *store,
			      unsigned long first, unsigned long last,
			      unsigned long mask, unsigned long attrs)
{
	XA_STATE(xas, &store->xa, first);
	struct kvm_attr_extent entry;
	bool has = true;

	rcu_read_lock();
	while (has && first <= last && next_entry(&xas, last, &entry)) {
		has = (entry.attrs & mask) == attrs &&
		      (!attrs || entry.first <= first);
		first = entry.last + 1;
	}
	rcu_read_unlock();

	return has && (!attrs || first > last);
}

void kvm_attr_store_extent(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   struct kvm_attr_extent *extent)
{
	XA_STATE(xas, &store->xa, first);
	struct kvm_attr_extent entry;
	bool found;

	*extent = (struct kvm_attr_extent){ .first = first, .last = last };

	rcu_read_lock();
	found = next_entry(&xas, last, &entry);
	if (found && entry.first > first) {
		extent->last = entry.first - 1;
	} else if (found) {
		extent->attrs = entry.attrs;
		do {
			extent->last = entry.last;
		} while (extent->last < last &&
			 next_entry(&xas, last, &entry) &&
			 entry.first == extent->last + 1 &&
			 entry.attrs == extent->attrs);
		extent->last = min(extent->last, last);
	}
	rcu_read_unlock();
}

/* Are these 2^order slots one entry, and this one? */
static bool slots_hold(const struct xarray *xa, const struct xa_node *node,
		       unsigned int offset, unsigned int order,
		       const void *entry)
{
	unsigned int end = offset + (1U << order) - 1;

	if (xa_entry_locked(xa, node, offset) != entry)
		return false;

	return !order || xa_entry_locked(xa, node, end) == xa_mk_sibling(offset);
}

/*
 * The order of the block that 2^order slots at offset belong to, once they hold
 * entry and have been merged with their equal buddies.
 */
static unsigned int merged_order(const struct xarray *xa,
				 const struct xa_node *node,
				 unsigned int offset, unsigned int order,
				 const void *entry)
{
	const struct xa_node *parent;

	while (slots_hold(xa, node, offset ^ (1U << order), order, entry)) {
		offset &= ~(1U << order);
		if (order + 1 < XA_CHUNK_SHIFT) {
			order++;
			continue;
		}

		/* All of the node: it is about to become one slot above. */
		parent = xa_parent_locked(xa, node);
		if (WARN_ON_ONCE(!parent))
			break;
		offset = node->offset;
		node = parent;
		order = 0;
	}

	return node->shift + order;
}

/* Restores the canonical form around a page: merges what can be merged. */
static void merge_at(struct kvm_attr_store *store, unsigned long index)
{
	XA_STATE(xas, &store->xa, index);
	void *entry = xas_load(&xas);
	unsigned int order, merged;

	if (!xa_is_value(entry) || !xas_is_node(&xas))
		return;

	order = slot_order(&store->xa, xas.xa_node, xas.xa_offset);
	merged = merged_order(&store->xa, xas.xa_node, xas.xa_offset, order,
			      entry);
	if (merged == xas.xa_node->shift + order)
		return;

	xas_set_order(&xas, index, merged);
	xas_store(&xas, entry);
}

/* One aligned block, and merging, in one store. */
static void store_block(struct kvm_attr_store *store, unsigned long index,
			unsigned int order, void *entry)
{
	XA_STATE_ORDER(xas, &store->xa, index, order);
	unsigned int merged;

	xas_load(&xas);
	if (entry && xas_is_node(&xas)) {
		merged = merged_order(&store->xa, xas.xa_node, xas.xa_offset,
				      order % XA_CHUNK_SHIFT, entry);
		if (merged != order)
			xas_set_order(&xas, index, merged);
	}

	xas_store(&xas, entry);
	WARN_ON_ONCE(xas_error(&xas));
}

static void store_run(struct kvm_attr_store *store, const struct attr_run *run)
{
	unsigned int order = head_order(run->first, run->last);
	void *entry = attr_to_entry(run->attrs);
	unsigned long index = run->first;
	XA_STATE(xas, &store->xa, index);

	if (run->last - index == (1UL << order) - 1) {
		store_block(store, index, order, entry);
		return;
	}

	/* The blocks of a run cannot be merged with one another. */
	for (; index <= run->last; index += 1UL << order) {
		order = head_order(index, run->last);
		xas_set_order(&xas, index, order);
		xas_store(&xas, entry);
		WARN_ON_ONCE(xas_error(&xas));
	}

	if (entry) {
		merge_at(store, run->first);
		merge_at(store, run->last);
	}
}

/*
 * Makes [first, last] with value old part of the run, or of a new run once the
 * one so far is stored.  Runs are cut to what changes: what surrounds it may
 * be parts of larger entries.  Returns whether the tree has changed.
 */
static bool run_add(struct kvm_attr_store *store, struct attr_run *run,
		    unsigned long first, unsigned long last,
		    unsigned long old, unsigned long new)
{
	bool stored = false;

	if (run->changes && run->attrs != new) {
		store_run(store, run);
		run->changes = false;
		stored = true;
	}

	if (old != new) {
		if (!run->changes)
			run->first = first;
		run->last = last;
		run->attrs = new;
		run->changes = true;
	}

	return stored;
}

/* XArray has no call that lowers the root, but removing an entry does it. */
static void lower_root(struct kvm_attr_store *store)
{
	void *head = xa_head_locked(&store->xa);
	XA_STATE(xas, &store->xa, 0);
	struct xa_node *root;
	void *entry;

	if (!xa_is_node(head))
		return;

	root = xa_to_node(head);
	entry = xa_entry_locked(&store->xa, root, 0);
	if (root->count != 1 || !entry || (root->shift && !xa_is_node(entry)))
		return;

	xas_set_order(&xas, 1UL << root->shift, root->shift);
	xas_store(&xas, XA_ZERO_ENTRY);
	xas_store(&xas, NULL);
}

/* Drops a reserved entry, and the nodes that only it has kept. */
static void release(struct kvm_attr_store *store, unsigned long index)
{
	XA_STATE(xas, &store->xa, index);

	if (xa_is_zero(xas_load(&xas)))
		xas_store(&xas, NULL);
}

static void release_top(struct kvm_attr_store *store)
{
	void *head = xa_head_locked(&store->xa);

	if (xa_is_node(head))
		release(store, 1UL << xa_to_node(head)->shift);
}

/*
 * Cuts the entry that has pages on both sides of at, if its value changes, so
 * that an entry starts there.  Halves it again and again: that gives exactly
 * the blocks of the canonical form, and needs a node every XA_CHUNK_SHIFT
 * steps, half filled with either half.  All are allocated beforehand.
 */
static int split_at(struct kvm_attr_store *store, unsigned long at,
		    unsigned long keep, unsigned long set)
{
	unsigned int nr_nodes, order, end_order;
	XA_STATE(xas, &store->xa, at);
	void *entry;

	rcu_read_lock();
	entry = xas_load(&xas);
	order = xa_is_value(entry) ? entry_order(&xas) : 0;
	rcu_read_unlock();

	/* An aligned entry of order 0 needs no cut, nor does one from at on. */
	if (!order || !(at & ((1UL << order) - 1)) ||
	    attr_new(xa_to_value(entry), keep, set) == xa_to_value(entry))
		return 0;

	end_order = __ffs(at);
	nr_nodes = order / XA_CHUNK_SHIFT - end_order / XA_CHUNK_SHIFT;
	xas_set_order(&xas, 0, XA_CHUNK_SHIFT - 1);
	while (nr_nodes--) {
		xas_split_alloc(&xas, entry, XA_CHUNK_SHIFT,
				GFP_KERNEL_ACCOUNT);
		if (xas_error(&xas))
			return xas_error(&xas);
	}

	xas_lock(&xas);
	for (; order > end_order; order--) {
		xas_set_order(&xas, at, order - 1);
		xas_split(&xas, entry, order);
	}
	xas_unlock(&xas);
	return 0;
}

/* After a failed store: the nodes it had already added are superfluous. */
static void remove_empty_nodes(struct kvm_attr_store *store,
			       unsigned long index)
{
	XA_STATE(xas, &store->xa, index);

	xas_lock(&xas);
	xas_load(&xas);
	if (xas_is_node(&xas) && !xas.xa_node->count)
		xa_delete_node(xas.xa_node, NULL);
	lower_root(store);
	xas_unlock(&xas);
}

/* Makes sure that a block of zeroes can be given a value. */
static int reserve(struct kvm_attr_store *store, unsigned long index,
		   unsigned int order)
{
	XA_STATE_ORDER(xas, &store->xa, index, order);
	bool exists;

	rcu_read_lock();
	exists = xas_load(&xas) ||
		 (xas_is_node(&xas) && xas.xa_node->shift == xas.xa_shift);
	rcu_read_unlock();
	if (exists)
		return 0;

	do {
		xas_lock(&xas);
		xas_store(&xas, XA_ZERO_ENTRY);
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));

	if (xas_error(&xas))
		remove_empty_nodes(store, index);

	return xas_error(&xas);
}

/* The number of pages that the tree covers. */
static unsigned long tree_size(struct kvm_attr_store *store)
{
	unsigned long size;
	void *head;

	rcu_read_lock();
	head = xa_head(&store->xa);
	if (xa_is_node(head))
		size = XA_CHUNK_SIZE << xa_to_node(head)->shift;
	else
		size = head ? 1 : 0;
	rcu_read_unlock();

	return size;
}

/* The nodes for the zeroes at either end of a range that gets a value. */
static int reserve_ends(struct kvm_attr_store *store, unsigned long first,
			unsigned long last)
{
	unsigned long size = tree_size(store);
	unsigned long low = first;
	unsigned int order;
	int ret;

	/* A lone page 0 lives in the head, without a node. */
	if (!last && size <= 1)
		return 0;

	/* The last end first, it also gives the tree its height. */
	if (last >= size)
		low = max(first, size);
	order = tail_order(low, last);
	ret = reserve(store, last + 1 - (1UL << order), order);
	if (ret || !first)
		return ret;

	return reserve(store, first, head_order(first, last));
}

/* Will all pages below size have one value, and not zero? */
static bool becomes_uniform(struct kvm_attr_store *store, unsigned long size,
			    const struct attr_run *range, unsigned long keep)
{
	unsigned long index = 0, attrs = 0, new;
	struct kvm_attr_extent extent;

	while (index < size) {
		bool in = index >= range->first && index <= range->last;
		unsigned long end = size - 1;

		if (in)
			end = min(end, range->last);
		else if (index < range->first)
			end = min(end, range->first - 1);

		kvm_attr_store_extent(store, index, end, &extent);
		new = in ? attr_new(extent.attrs, keep, range->attrs) :
			   extent.attrs;
		if (!new || (index && new != attrs))
			return false;
		attrs = new;
		index = extent.last + 1;
	}

	return size;
}

/*
 * An entry that covers all that the root does goes into a slot of a node above
 * it: put that there in time.
 */
static int reserve_top(struct kvm_attr_store *store, unsigned long first,
		       unsigned long last, unsigned long keep,
		       unsigned long set)
{
	struct attr_run range = { .first = first, .last = last, .attrs = set };
	unsigned long size = tree_size(store);

	if (size <= 1 || !becomes_uniform(store, size, &range, keep))
		return 0;

	return reserve(store, size, ilog2(size));
}

int kvm_attr_store_prepare(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   unsigned long keep, unsigned long set)
{
	int ret;

	ret = split_at(store, first, keep, set);
	if (!ret)
		ret = split_at(store, last + 1, keep, set);
	if (!ret && set)
		ret = reserve_ends(store, first, last);
	if (!ret)
		ret = reserve_top(store, first, last, keep, set);
	if (ret)
		kvm_attr_store_abort(store, first, last);

	return ret;
}

void kvm_attr_store_commit(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   unsigned long keep, unsigned long set)
{
	XA_STATE(xas, &store->xa, first);
	struct attr_run run = { };
	struct kvm_attr_extent entry;
	bool found, stored;

	xas_lock(&xas);
	do {
		stored = false;
		found = next_entry(&xas, last, &entry);
		if (!found)
			entry.first = last + 1;
		if (entry.first > first)
			stored = run_add(store, &run, first, entry.first - 1,
					 0, set);
		if (!found)
			break;

		stored |= run_add(store, &run, max(entry.first, first),
				  min(entry.last, last), entry.attrs,
				  attr_new(entry.attrs, keep, set));
		first = entry.last + 1;
		if (stored)
			xas_set(&xas, first);
	} while (first <= last);

	if (run.changes)
		store_run(store, &run);
	release_top(store);
	lower_root(store);
	xas_unlock(&xas);
}

void kvm_attr_store_abort(struct kvm_attr_store *store,
			  unsigned long first, unsigned long last)
{
	xa_lock(&store->xa);
	release(store, first);
	release(store, last);
	release_top(store);
	merge_at(store, first);
	merge_at(store, last);
	xa_unlock(&store->xa);
}
