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
 * Words
 *
 *  block	2^k pages that begin at a multiple of 2^k
 *  entry	a stored block: one value for all of its pages
 *  run		neighbouring pages with one value
 *  extent	a run that is as long as it can be
 *  part	what a walk over a range visits at a time: an entry, or the pages of
 *		neighbouring empty slots
 *  step	what one call of commit() does of a change
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
 *  - An end of the range itself, in a run of zeroes that changes: prepare()
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
 * A change in steps
 *
 * commit() frees nodes, and looks at old values, in proportion to the number of
 * boundaries in the range.  So a call of it does only a step, and all steps
 * together are the commit.  Each step ends at the end of the range, or at a page q
 * whose old value differs from that of page q + 1.  The next one begins at q + 1.
 *
 * No step needs a node that is not there.  Any run that a step stores begins at a
 * page r, and the page before it in the range has its new value already.  That
 * value differs from the one of r: if it were equal, new(r) would be equal too,
 * as new() is idempotent, and r would not change.  At its end the run has the
 * old boundary behind q.  So the tree is not uniform across either end, and the
 * argument above holds for the step alone.  For the same reason the tree below
 * the root cannot be uniform before the last step, and only that one releases
 * the root that prepare() has put on top.
 *
 * Between two steps the tree has the canonical form of values that are partly
 * new, apart from reserved entries at the range's ends.
 *
 * Counts
 *
 * An extent begins at a page whose value is neither zero nor that of the page before.
 * commit() counts the extents that begin within a change and right behind it, before and
 * after the change.  If all of many extents get one value it would have to visit each of
 * them only for that, and leaves it to kvm_attr_store_count().  Nodes are counted where
 * they are allocated, and by a callback of the XArray where they are freed.
 *
 * Locks
 *
 *  ===============  =======================================================
 *  the caller's     serialises prepare .. commit/abort; taken before prepare,
 *  writer mutex     held until after commit or abort; also excludes writers
 *  (slots_lock)     from those readers that need an exact answer about a range
 *  xa_lock          the nodes while the tree is changed, and counts;
 *                   innermost, taken and released here, nests inside mmu_lock
 *  RCU              nodes stay allocated while a reader walks them
 *  nr_commits       no lock: tells readers that a commit came in between
 *  ===============  =======================================================
 *
 * What lockless readers see
 *
 * get and uniform_order need no lock; what looks at a range needs writers
 * excluded.  A page reads as its old value or as its new one, never as anything
 * else, and as its new one once commit() has returned.  Different pages may be
 * seen to change in any order.
 *
 * A page within an entry takes two loads: its own slot says where the entry
 * begins, then that slot gives the value.  In between the page may be cut off,
 * and the other slot be given a value that is not this page's.  The cut is
 * prepare()'s, the value is commit()'s, and nr_commits goes up in between:
 * readers look at it before and after, and start over if it has changed.
 *
 * The order that kvm_attr_store_uniform_order() returns can be too small while
 * a writer is between prepare and commit or abort; whether it is still right
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
#include <linux/sched.h>
#include <linux/xarray.h>

#include <asm/barrier.h>

#include "mem_attrs_store.h"

/*
 * How much is done before the caller gets a chance to let others run, each of them
 * some 100,000 instructions at most: blocks that trim looks at, extents that prepare
 * looks at, nodes whose extents are counted, pages of a step of commit in which each
 * page's new value depends on its old one, or all get one and only nodes have to be
 * freed.
 */
#define TRIM_BLOCKS		512
#define UNIFORM_EXTENTS		64
#define COUNT_NODES		64
#define STEP_PAGES_EACH		128
#define STEP_PAGES_ONE		8192UL

/*
 * A step frees one node for every 64 of its pages, by an RCU callback.  RCU runs the
 * callbacks in softirqs, which delay the task that they interrupt, for example a vCPU
 * in KVM_RUN.  One softirq runs up to ten batches of 1/128 of the pending callbacks,
 * and beyond 10,000 pending callbacks it runs for milliseconds.  Limit the number of
 * pending callbacks: wait for them after 2,048 nodes.
 */
#define PAGES_PER_BARRIER	(2048 * 64)

/* Pages [first, last] that shall all get attrs; changes: there are any. */
struct attr_run {
	unsigned long first;
	unsigned long last;
	unsigned long attrs;
	bool changes;
};

struct attr_change {
	unsigned long first;
	unsigned long last;
	unsigned long keep;
	unsigned long set;
};

static unsigned long attr_new(const struct attr_change *change,
			      unsigned long old)
{
	return (old & change->keep) | change->set;
}

/* The XArray calls this for a node that has changed, the last time to free it. */
static void node_changed(struct xa_node *node)
{
	struct kvm_attr_store *store;

	store = container_of(node->array, struct kvm_attr_store, xa);
	if (!node->count)
		store->nr_nodes--;
}

/* As XA_STATE(), to store with. */
#define DEFINE_STORE_STATE(name, store, index)				\
	struct xa_state name = {					\
		.xa = &(store)->xa,					\
		.xa_index = index,					\
		.xa_node = XAS_RESTART,					\
		.xa_update = node_changed,				\
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

/* With head_order(): is that block all of it? */
static bool is_block(unsigned long first, unsigned long last,
		     unsigned int order)
{
	return last - first == (1UL << order) - 1;
}

/*
 * The slot for xas->xa_index, which comes right behind xas's last one, found
 * without a walk from the root.
 */
static void *next_slot(struct xa_state *xas)
{
	struct xa_node *node = xas->xa_node;
	unsigned int offset = xas->xa_offset;
	void *entry;

	while (offset == XA_CHUNK_SIZE) {
		offset = node->offset + 1;
		node = xa_parent(xas->xa, node);
		if (!node) {
			xas->xa_node = XAS_BOUNDS;
			return NULL;
		}
	}

	entry = xa_entry(xas->xa, node, offset);
	while (node->shift && xa_is_node(entry)) {
		node = xa_to_node(entry);
		offset = 0;
		entry = xa_entry(xas->xa, node, 0);
	}

	xas->xa_node = node;
	xas->xa_offset = offset;
	return entry;
}

/* The end of the empty slots from xas on, or of the slot for page last. */
static unsigned int skip_zeroes(const struct xa_state *xas, unsigned long last)
{
	const struct xa_node *node = xas->xa_node;
	unsigned long node_mask = (XA_CHUNK_SIZE << node->shift) - 1;
	unsigned int offset = xas->xa_offset + 1;
	unsigned int end = XA_CHUNK_SIZE;
	void *entry;

	if (last <= (xas->xa_index | node_mask))
		end = ((last & node_mask) >> node->shift) + 1;

	for (; offset < end; offset++) {
		entry = xa_entry(xas->xa, node, offset);
		if (entry && !xa_is_zero(entry) && !xa_is_sibling(entry))
			break;
	}

	return offset;
}

/*
 * Describes the pages from xas->xa_index on that are in one entry, or in
 * neighbouring empty slots, and moves xas behind them.  Needs writers excluded.
 */
static void next_part(struct xa_state *xas, unsigned long last,
		      struct kvm_attr_extent *part)
{
	unsigned int shift, order;
	void *entry;

	entry = xas_is_node(xas) ? next_slot(xas) : xas_load(xas);
	part->first = xas->xa_index;
	if (!xas_is_node(xas)) {
		part->attrs = entry ? xa_to_value(entry) : 0;
		part->last = entry ? 0 : last;
		xas_set(xas, part->last + 1);
		return;
	}

	shift = xas->xa_node->shift;
	if (xa_is_value(entry)) {
		order = slot_order(xas->xa, xas->xa_node, xas->xa_offset);
		part->attrs = xa_to_value(entry);
		part->last = part->first | ((1UL << (shift + order)) - 1);
		xas->xa_offset += 1U << order;
	} else {
		xas->xa_offset = skip_zeroes(xas, last);
		part->attrs = 0;
		part->last = (((part->first >> shift & ~XA_CHUNK_MASK) +
			       xas->xa_offset) << shift) - 1;
	}
	xas->xa_index = part->last + 1;
}

void kvm_attr_store_init(struct kvm_attr_store *store)
{
	xa_init_flags(&store->xa, XA_FLAGS_ACCOUNT);
	store->nr_commits = 0;
	store->nr_stepped = 0;
	store->nr_nodes = 0;
	store->nr_extents = 0;
	store->recount = false;
}

/*
 * For lookups that follow a sibling, which takes two loads: has a commit come between
 * them?  @nr_commits was read before the first load, with smp_load_acquire().
 */
static bool commit_began(const struct kvm_attr_store *store,
			 unsigned int nr_commits)
{
	/* Pairs with smp_store_release() and the stores after it in commit. */
	smp_rmb();
	return READ_ONCE(store->nr_commits) != nr_commits;
}

/* Has xas_load() followed a sibling while a commit began? */
static bool is_stale(struct kvm_attr_store *store, const struct xa_state *xas,
		     unsigned int nr_commits)
{
	const struct xa_node *node = xas->xa_node;

	if (!xas_is_node(xas) ||
	    xas->xa_offset == ((xas->xa_index >> node->shift) & XA_CHUNK_MASK))
		return false;

	return commit_began(store, nr_commits);
}

/* The entry for a page, NULL for zero; for readers without locks but RCU. */
static void *load_entry(struct kvm_attr_store *store, struct xa_state *xas)
{
	unsigned int nr_commits;
	void *entry;

	/* Another turn means that a commit has come along. */
	for (;; xas_reset(xas)) {
		/* Pairs with smp_store_release() in commit. */
		nr_commits = smp_load_acquire(&store->nr_commits);
		entry = xas_load(xas);
		if (!xa_is_retry(entry) && !is_stale(store, xas, nr_commits))
			break;
	}

	return xa_is_zero(entry) ? NULL : entry;
}

/*
 * Follow the sibling in the slot at @offset to the slot that holds the entry.  Returns
 * XA_RETRY_ENTRY if a commit began meanwhile: the two loads may then disagree.
 */
static void *shared_entry(const struct kvm_attr_store *store,
			  const struct xa_node *node, unsigned int offset)
{
	unsigned int nr_commits;
	void *entry;

	/* Pairs with smp_store_release() in commit. */
	nr_commits = smp_load_acquire(&store->nr_commits);
	entry = xa_entry(&store->xa, node, offset);
	if (!xa_is_sibling(entry))
		return entry;

	entry = xa_entry(&store->xa, node, xa_to_sibling(entry));
	return commit_began(store, nr_commits) ? XA_RETRY_ENTRY : entry;
}

/* Fast path: walk to the slot that covers @index; usually it holds the value itself. */
static void *own_entry(const struct kvm_attr_store *store, unsigned long index)
{
	void *entry = xa_head(&store->xa);
	const struct xa_node *node;
	unsigned int offset;

	/* Without a node there is no page but the first. */
	if (!xa_is_node(entry))
		return index ? NULL : entry;

	node = xa_to_node(entry);
	if (index >> node->shift >= XA_CHUNK_SIZE)
		return NULL;

	for (;;) {
		offset = (index >> node->shift) & XA_CHUNK_MASK;
		entry = xa_entry(&store->xa, node, offset);
		if (xa_is_sibling(entry))
			return shared_entry(store, node, offset);
		if (!node->shift || !xa_is_node(entry))
			return entry;
		node = xa_to_node(entry);
	}
}

static unsigned long get_slowly(struct kvm_attr_store *store,
				unsigned long index)
{
	XA_STATE(xas, &store->xa, index);
	void *entry = load_entry(store, &xas);

	return entry ? xa_to_value(entry) : 0;
}

unsigned long kvm_attr_store_get(struct kvm_attr_store *store,
				 unsigned long index)
{
	unsigned long attrs;
	void *entry;

	rcu_read_lock();
	entry = own_entry(store, index);
	if (!entry)
		attrs = 0;
	else if (xa_is_value(entry))
		attrs = xa_to_value(entry);
	else	/* A zero entry, or the tree has changed during the walk. */
		attrs = get_slowly(store, index);
	rcu_read_unlock();

	return attrs;
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
	if (!xa_head(xa) || !index)
		return max_order;

	return __fls(index);
}

/* The largest uniform block around a page, and its value. */
static unsigned int uniform_block(struct kvm_attr_store *store,
				  unsigned long index, unsigned int max_order,
				  unsigned long *attrs)
{
	XA_STATE(xas, &store->xa, index);
	unsigned int order;
	void *entry;

	rcu_read_lock();
	entry = load_entry(store, &xas);
	if (entry)
		order = entry_order(&xas);
	else if (xas_is_node(&xas))
		order = zero_order(&store->xa, xas.xa_node, xas.xa_offset);
	else
		order = outer_order(&store->xa, index, max_order);
	rcu_read_unlock();

	*attrs = entry ? xa_to_value(entry) : 0;
	return min(order, max_order);
}

unsigned int kvm_attr_store_uniform_order(struct kvm_attr_store *store,
					  unsigned long index,
					  unsigned int max_order)
{
	unsigned long attrs;

	return uniform_block(store, index, max_order, &attrs);
}

void kvm_attr_iter_init(struct kvm_attr_iter *iter,
			struct kvm_attr_store *store,
			unsigned long first, unsigned long last)
{
	iter->xas = (struct xa_state)__XA_STATE(&store->xa, first, 0, 0);
	iter->next = first;
	iter->last = last;
	iter->ahead = false;
}

static void __iter_next(struct kvm_attr_iter *iter,
			struct kvm_attr_extent *extent)
{
	if (!iter->ahead)
		next_part(&iter->xas, iter->last, &iter->part);

	iter->ahead = false;
	*extent = iter->part;
	while (extent->last < iter->last) {
		next_part(&iter->xas, iter->last, &iter->part);
		if (iter->part.attrs != extent->attrs) {
			iter->ahead = true;
			return;
		}
		extent->last = iter->part.last;
	}
	extent->last = iter->last;
}

bool kvm_attr_iter_next(struct kvm_attr_iter *iter,
			struct kvm_attr_extent *extent)
{
	if (iter->next > iter->last)
		return false;

	rcu_read_lock();
	__iter_next(iter, extent);
	rcu_read_unlock();

	iter->next = extent->last + 1;
	return true;
}

void kvm_attr_store_extent(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   struct kvm_attr_extent *extent)
{
	struct kvm_attr_iter iter;

	kvm_attr_iter_init(&iter, store, first, last);
	kvm_attr_iter_next(&iter, extent);
}

/* The extents that begin in a node, from xas on, up to a slot that holds a node. */
static unsigned long count_node(struct xa_state *xas, const void **before)
{
	const struct xa_node *node = xas->xa_node;
	unsigned int offset;
	unsigned long nr = 0;
	const void *entry;

	for (offset = xas->xa_offset; offset < XA_CHUNK_SIZE; offset++) {
		entry = xa_entry(xas->xa, node, offset);
		if (xa_is_sibling(entry))
			continue;
		if (xa_is_node(entry))
			break;
		if (xa_is_value(entry) && entry != *before)
			nr++;
		*before = entry;
	}

	xas->xa_index &= ~((XA_CHUNK_SIZE << node->shift) - 1);
	xas->xa_index += (unsigned long)offset << node->shift;
	xas->xa_offset = offset;
	return nr;
}

bool kvm_attr_store_count(struct kvm_attr_store *store, unsigned long *next,
			  unsigned long *nr)
{
	unsigned int budget = COUNT_NODES;
	XA_STATE(xas, &store->xa, *next);
	const void *before, *entry;
	bool more;

	before = *next ? attr_to_entry(kvm_attr_store_get(store, *next - 1)) :
			 NULL;
	rcu_read_lock();
	entry = xas_load(&xas);
	/* Without a node only page 0 has a value. */
	if (!xas_is_node(&xas))
		*nr += xa_is_value(entry);
	while (xas_is_node(&xas) && budget--) {
		*nr += count_node(&xas, &before);
		next_slot(&xas);
	}
	more = xas_is_node(&xas);
	rcu_read_unlock();

	*next = xas.xa_index;
	return more;
}

/* From the back, where there is a page that changes. */
static int trim_back(struct kvm_attr_store *store, struct attr_change *change,
		     unsigned int budget)
{
	unsigned long mask, old;

	for (; budget; budget--) {
		mask = (1UL << uniform_block(store, change->last,
					     KVM_ATTR_MAX_ORDER, &old)) - 1;
		if (attr_new(change, old) != old)
			return KVM_ATTR_SOME;
		change->last = (change->last & ~mask) - 1;
	}

	return -EAGAIN;
}

/* From either end, block by block, to the first page that changes. */
static int trim(struct kvm_attr_store *store, struct attr_change *change,
		unsigned long *old)
{
	unsigned int budget;
	unsigned long mask;

	for (budget = TRIM_BLOCKS; budget; budget--) {
		mask = (1UL << uniform_block(store, change->first,
					     KVM_ATTR_MAX_ORDER, old)) - 1;
		if (attr_new(change, *old) != *old)
			break;
		change->first = (change->first | mask) + 1;
		if (change->first > change->last)
			return KVM_ATTR_NONE;
	}
	if (!budget)
		return -EAGAIN;

	/* All of it may be in one block, and often is one page. */
	if ((change->first | mask) >= change->last)
		return KVM_ATTR_ONE;

	return trim_back(store, change, budget);
}

int kvm_attr_store_trim(struct kvm_attr_store *store,
			unsigned long *first, unsigned long *last,
			unsigned long keep, unsigned long set,
			unsigned long *old)
{
	struct attr_change change = { *first, *last, keep, set };
	int ret = trim(store, &change, old);

	if (ret) {
		*first = change.first;
		*last = change.last;
	}
	return ret;
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
	DEFINE_STORE_STATE(xas, store, index);
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

/*
 * Stores an aligned block, merged with its equal buddies.  xas has been set up
 * for the block and walked to it.
 */
static void store_merged(struct xa_state *xas, unsigned int order, void *entry)
{
	unsigned int merged;

	if (entry && xas_is_node(xas)) {
		merged = merged_order(xas->xa, xas->xa_node, xas->xa_offset,
				      order % XA_CHUNK_SHIFT, entry);
		if (merged != order)
			xas_set_order(xas, xas->xa_index, merged);
	}

	xas_store(xas, entry);
	WARN_ON_ONCE(xas_error(xas));
}

static void store_run(struct kvm_attr_store *store, const struct attr_run *run)
{
	unsigned int order = head_order(run->first, run->last);
	void *entry = attr_to_entry(run->attrs);
	unsigned long index = run->first;
	DEFINE_STORE_STATE(xas, store, index);

	if (is_block(index, run->last, order)) {
		xas_set_order(&xas, index, order);
		xas_load(&xas);
		store_merged(&xas, order, entry);
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
 * Adds a part whose value shall be new to the run, or begins another run with it
 * once the one so far is stored.  Runs are cut to what changes: what surrounds
 * it may be parts of larger entries.  Returns whether the tree has changed.
 */
static bool run_add(struct kvm_attr_store *store, struct attr_run *run,
		    const struct kvm_attr_extent *part, unsigned long new)
{
	bool stored = false;

	if (run->changes && run->attrs != new) {
		store_run(store, run);
		run->changes = false;
		stored = true;
	}

	if (part->attrs != new) {
		if (!run->changes)
			run->first = part->first;
		run->last = part->last;
		run->attrs = new;
		run->changes = true;
	}

	return stored;
}

/* XArray has no call that lowers the root, but removing an entry does it. */
static void lower_root(struct kvm_attr_store *store)
{
	void *head = xa_head_locked(&store->xa);
	DEFINE_STORE_STATE(xas, store, 0);
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

/*
 * Drops a reserved entry, or the empty nodes that were meant for one when its
 * store ran out of memory.
 */
static void release(struct kvm_attr_store *store, unsigned long index)
{
	DEFINE_STORE_STATE(xas, store, index);

	if (xa_is_zero(xas_load(&xas)))
		xas_store(&xas, NULL);
	else if (xas_is_node(&xas) && !xas.xa_node->count)
		xa_delete_node(xas.xa_node, node_changed);
}

/* Drops the node above the root that prepare_top() has put there. */
static void release_top(struct kvm_attr_store *store)
{
	void *head = xa_head_locked(&store->xa);
	struct xa_node *root;

	if (!xa_is_node(head))
		return;

	root = xa_to_node(head);
	if (xa_is_zero(xa_entry_locked(&store->xa, root, 1)))
		release(store, 1UL << root->shift);
}

/*
 * Halves an entry of 2^order slots again and again, until a part begins at page
 * at, or is the one slot that has pages on both sides of at.  Each time it is
 * the upper half that gets an entry of its own; all slots read the same, and
 * count the same, before and after and in between.
 */
static void cut_slots(struct xa_node *node, unsigned int offset,
		      unsigned int order, unsigned long at, void *entry)
{
	unsigned long node_at = at & ((XA_CHUNK_SIZE << node->shift) - 1);
	unsigned int mid, end, i;

	while (order && node_at != (unsigned long)offset << node->shift) {
		order--;
		mid = offset + (1U << order);
		end = mid + (1U << order);
		rcu_assign_pointer(node->slots[mid], entry);
		for (i = mid + 1; i < end; i++)
			rcu_assign_pointer(node->slots[i], xa_mk_sibling(mid));

		if (node_at >= (unsigned long)mid << node->shift)
			offset = mid;
	}
}

/*
 * Cuts the entry at xas, of 2^order pages, so that a part begins at page at.
 * That gives exactly the blocks of the canonical form.  A slot that has pages
 * on both sides of at is replaced with a node, whose halves then are an entry
 * each; xas_split() can do that one level at a time.  The nodes are allocated
 * beforehand.
 */
static int cut(struct kvm_attr_store *store, struct xa_state *xas,
	       unsigned long at, unsigned int order, void *entry)
{
	struct xa_node *node = xas->xa_node;
	unsigned int offset = xas->xa_offset;
	unsigned int nr_nodes, i;

	nr_nodes = order / XA_CHUNK_SHIFT - __ffs(at) / XA_CHUNK_SHIFT;
	xas_set_order(xas, at, XA_CHUNK_SHIFT - 1);
	for (i = 0; i < nr_nodes; i++) {
		xas_split_alloc(xas, entry, XA_CHUNK_SHIFT, GFP_KERNEL_ACCOUNT);
		if (xas_error(xas))
			return xas_error(xas);
	}

	xas_lock(xas);
	store->nr_nodes += nr_nodes;
	cut_slots(node, offset, order - node->shift, at, entry);
	while (at & ((1UL << node->shift) - 1)) {
		order = node->shift;
		xas_set_order(xas, at, order - 1);
		xas_split(xas, entry, order);
		node = xa_to_node(xa_entry_locked(xas->xa, xas->xa_node,
						  xas->xa_offset));
		offset = (at >> node->shift) & (XA_CHUNK_SIZE / 2);
		cut_slots(node, offset, XA_CHUNK_SHIFT - 1, at, entry);
	}
	xas_unlock(xas);
	return 0;
}

/* The number of pages that the tree covers. */
static unsigned long tree_size(const struct xarray *xa)
{
	const void *head = xa_head(xa);

	if (xa_is_node(head))
		return XA_CHUNK_SIZE << xa_to_node(head)->shift;

	return head ? 1 : 0;
}

/*
 * The nodes above page @index, or only those that are not above page 0 as well.  The
 * node of a page covers page 0 if no bit of the page is left above the node's slots.
 */
static unsigned int nodes_above(const struct xarray *xa, unsigned long index,
				bool beside)
{
	void *entry = xa_head_locked(xa);
	const struct xa_node *node;
	unsigned int nr = 0;

	if (index >= tree_size(xa))
		return 0;

	while (xa_is_node(entry)) {
		node = xa_to_node(entry);
		if (!beside || index >> node->shift >> XA_CHUNK_SHIFT)
			nr++;
		entry = xa_entry_locked(xa, node,
					(index >> node->shift) & XA_CHUNK_MASK);
	}

	return nr;
}

/* Stores, and counts the nodes that this takes: above the block, or a new root. */
static void store_counted(struct kvm_attr_store *store, struct xa_state *xas,
			  void *entry)
{
	unsigned long index = xas->xa_index;

	store->nr_nodes -= nodes_above(xas->xa, 0, false) +
			   nodes_above(xas->xa, index, true);
	xas_store(xas, entry);
	store->nr_nodes += nodes_above(xas->xa, 0, false) +
			   nodes_above(xas->xa, index, true);
}

/* Makes sure that a block of zeroes can be given a value. */
static int reserve(struct kvm_attr_store *store, struct xa_state *xas,
		   unsigned long index, unsigned int order)
{
	xas_set_order(xas, index, order);
	do {
		xas_lock(xas);
		store_counted(store, xas, XA_ZERO_ENTRY);
		xas_unlock(xas);
	} while (xas_nomem(xas, GFP_KERNEL_ACCOUNT));

	return xas_error(xas);
}

/*
 * The nodes for zeroes at an end of the range that get a value; xas has been
 * walked there.  Zeroes outside of the tree are not part of a block with what
 * is in it: the root may yet be too low for such a block.
 */
static int reserve_end(struct kvm_attr_store *store, struct xa_state *xas,
		       const struct attr_change *change, bool tail)
{
	unsigned long index = change->first, size;
	unsigned int order;

	if (!tail) {
		order = head_order(index, change->last);
	} else {
		rcu_read_lock();
		size = tree_size(xas->xa);
		rcu_read_unlock();
		if (change->last >= size)
			index = max(index, size);
		order = tail_order(index, change->last);
		index = change->last + 1 - (1UL << order);
	}

	if (xas_is_node(xas) && xas->xa_node->shift <= order)
		return 0;

	return reserve(store, xas, index, order);
}

/* Page 0 needs nothing at its lower end, nor does it need a node if alone. */
static bool end_is_open(const struct xa_state *xas,
			const struct attr_change *change, bool tail)
{
	if (tail)
		return !change->last && !xas_is_node(xas);

	return !change->first;
}

/* Where the range starts, or ends (tail), an entry must be able to. */
static int prepare_end(struct kvm_attr_store *store,
		       const struct attr_change *change, bool tail)
{
	unsigned long index = tail ? change->last : change->first;
	unsigned long at = index + tail;
	DEFINE_STORE_STATE(xas, store, index);
	unsigned int order;
	unsigned long old;
	void *entry;

	rcu_read_lock();
	entry = xas_load(&xas);
	old = xa_is_value(entry) ? xa_to_value(entry) : 0;
	order = old ? entry_order(&xas) : 0;
	rcu_read_unlock();

	if (attr_new(change, old) == old || end_is_open(&xas, change, tail))
		return 0;
	if (old)
		return at & ((1UL << order) - 1) ?
		       cut(store, &xas, at, order, entry) : 0;
	/* The other end's block can be this end's too. */
	if (entry)
		return 0;

	return reserve_end(store, &xas, change, tail);
}

/*
 * Can all pages below size come to have one value that is not zero?  Looks at a
 * bounded number of extents: a wrong yes costs a node for the time of the change.
 */
static bool may_become_uniform(struct kvm_attr_store *store, unsigned long size,
			       const struct attr_change *change)
{
	unsigned long index = 0, attrs = 0, new, end;
	unsigned int budget = UNIFORM_EXTENTS;
	struct kvm_attr_extent extent;
	bool in;

	for (; index < size && budget--; index = extent.last + 1) {
		in = index >= change->first && index <= change->last;
		if (in)
			end = min(size - 1, change->last);
		else if (index < change->first)
			end = min(size, change->first) - 1;
		else
			end = size - 1;

		kvm_attr_store_extent(store, index, end, &extent);
		new = in ? attr_new(change, extent.attrs) : extent.attrs;
		if (!new || (index && new != attrs))
			return false;
		attrs = new;
	}

	return true;
}

/*
 * An entry that covers all that the root does goes into a slot of a node above
 * it: put that there in time.
 */
static int prepare_top(struct kvm_attr_store *store,
		       const struct attr_change *change)
{
	DEFINE_STORE_STATE(xas, store, 0);
	struct xa_node *root;
	unsigned long size;
	bool filled;
	void *head;

	rcu_read_lock();
	head = xa_head(&store->xa);
	size = tree_size(&store->xa);
	root = xa_is_node(head) ? xa_to_node(head) : NULL;
	filled = root &&
		 (!change->first || xa_entry(&store->xa, root, 0)) &&
		 (change->last >= size - 1 ||
		  xa_entry(&store->xa, root, XA_CHUNK_SIZE - 1));
	rcu_read_unlock();

	if (!filled || !may_become_uniform(store, size, change))
		return 0;

	return reserve(store, &xas, size, ilog2(size));
}

/* An aligned block that is some slots of a node, and no part of an entry. */
static bool block_has_slots(struct kvm_attr_store *store, unsigned long index,
			    unsigned int order)
{
	XA_STATE_ORDER(xas, &store->xa, index, order);
	bool has;

	rcu_read_lock();
	xas_load(&xas);
	has = xas_is_node(&xas) && xas.xa_node->shift == xas.xa_shift &&
	      slot_order(&store->xa, xas.xa_node, xas.xa_offset) <=
	      order % XA_CHUNK_SHIFT;
	rcu_read_unlock();

	return has;
}

int kvm_attr_store_prepare(struct kvm_attr_store *store,
			   unsigned long first, unsigned long last,
			   unsigned long keep, unsigned long set)
{
	const struct attr_change change = { first, last, keep, set };
	unsigned int order = head_order(first, last);
	int ret = 0;

	might_sleep();

	if (!is_block(first, last, order) ||
	    !block_has_slots(store, first, order)) {
		ret = prepare_end(store, &change, false);
		if (!ret)
			ret = prepare_end(store, &change, true);
	}
	if (!ret)
		ret = prepare_top(store, &change);
	if (ret)
		kvm_attr_store_abort(store, first, last);

	return ret;
}

/* Whether an extent begins at a page. */
static bool begins(unsigned long attrs, unsigned long before)
{
	return attrs && attrs != before;
}

static unsigned long value_before(struct kvm_attr_store *store,
				  unsigned long first)
{
	return first ? kvm_attr_store_get(store, first - 1) : 0;
}

static unsigned long value_behind(struct kvm_attr_store *store,
				  unsigned long last)
{
	return last < KVM_ATTR_MAX_INDEX ?
	       kvm_attr_store_get(store, last + 1) : 0;
}

/* A range that had one value is about to get another one. */
static void count_uniform(struct kvm_attr_store *store,
			  const struct attr_change *change,
			  unsigned long old, unsigned long new)
{
	unsigned long before = value_before(store, change->first);
	unsigned long behind = value_behind(store, change->last);

	store->nr_extents += begins(new, before) + begins(behind, new);
	store->nr_extents -= begins(old, before) + begins(behind, old);
}

/* The usual change: of a block that had one value and had been a block. */
static bool commit_block(struct kvm_attr_store *store,
			 const struct attr_change *change)
{
	unsigned int order = head_order(change->first, change->last);
	unsigned int slots = order % XA_CHUNK_SHIFT;
	DEFINE_STORE_STATE(xas, store, change->first);
	unsigned long old = 0, new;
	void *entry;

	if (!is_block(change->first, change->last, order))
		return false;

	xas_set_order(&xas, change->first, order);
	entry = xas_load(&xas);
	if (!xas_is_node(&xas) || xas.xa_node->shift != xas.xa_shift)
		return false;

	if (xa_is_value(entry)) {
		if (slot_order(&store->xa, xas.xa_node, xas.xa_offset) < slots)
			return false;
		old = xa_to_value(entry);
	} else if (!slots_are_zero(&store->xa, xas.xa_node, xas.xa_offset,
				   slots)) {
		return false;
	}

	new = attr_new(change, old);
	if (new != old) {
		count_uniform(store, change, old, new);
		store_merged(&xas, order, attr_to_entry(new));
	}

	return true;
}

static void commit_runs(struct kvm_attr_store *store,
			const struct attr_change *change)
{
	unsigned long before = value_before(store, change->first);
	unsigned long behind = value_behind(store, change->last);
	XA_STATE(xas, &store->xa, change->first);
	unsigned long new, new_before = before;
	struct kvm_attr_extent part;
	struct attr_run run = { };

	do {
		next_part(&xas, change->last, &part);
		part.last = min(part.last, change->last);
		new = attr_new(change, part.attrs);
		store->nr_extents += begins(new, new_before);
		store->nr_extents -= begins(part.attrs, before);
		before = part.attrs;
		new_before = new;
		/* The tree has changed: xas has to walk it again. */
		if (run_add(store, &run, &part, new))
			xas_set(&xas, part.last + 1);
	} while (part.last < change->last);

	store->nr_extents += begins(behind, new_before);
	store->nr_extents -= begins(behind, before);
	if (run.changes)
		store_run(store, &run);
}

/* All pages get one value: what is between the ends does not matter. */
static void commit_run(struct kvm_attr_store *store,
		       const struct attr_change *change, bool uniform)
{
	struct attr_change trimmed = *change;
	struct attr_run run;
	unsigned long old;
	int ret;

	/* Pages that do not change have one value, so they are few blocks. */
	ret = trim(store, &trimmed, &old);
	WARN_ON_ONCE(ret < 0);
	if (!ret)
		return;

	if (uniform || ret == KVM_ATTR_ONE)
		count_uniform(store, &trimmed, old, change->set);
	else
		store->recount = true;

	run.first = trimmed.first;
	run.last = trimmed.last;
	run.attrs = change->set;
	store_run(store, &run);
}

/*
 * Cuts a change to what can be done in one go.  It must end where an old value
 * does, see "A change in steps" in the head of this file.
 */
static void first_step(struct kvm_attr_store *store, struct attr_change *change)
{
	unsigned long pages = change->keep ? STEP_PAGES_EACH : STEP_PAGES_ONE;
	unsigned long last = change->first | (pages - 1);
	struct kvm_attr_extent extent;

	if (last >= change->last)
		return;

	kvm_attr_store_extent(store, last, change->last, &extent);
	change->last = extent.last;
}

static void commit_step(struct kvm_attr_store *store,
			struct attr_change *change, bool uniform)
{
	if (commit_block(store, change))
		return;

	if (!uniform)
		first_step(store, change);
	if (change->keep)
		commit_runs(store, change);
	else
		commit_run(store, change, uniform);
}

bool kvm_attr_store_commit(struct kvm_attr_store *store,
			   unsigned long *first, unsigned long last,
			   unsigned long keep, unsigned long set, bool uniform)
{
	struct attr_change change = { *first, last, keep, set };

	xa_lock(&store->xa);
	/*
	 * Pairs with load_entry(), shared_entry() and commit_began(): after what prepare
	 * did, before new values.
	 */
	smp_store_release(&store->nr_commits, store->nr_commits + 1);
	commit_step(store, &change, uniform);
	store->nr_stepped += min(change.last - *first + 1, STEP_PAGES_ONE);
	*first = change.last + 1;
	if (change.last == last) {
		release_top(store);
		lower_root(store);
	}
	xa_unlock(&store->xa);

	return change.last != last;
}

void kvm_attr_store_abort(struct kvm_attr_store *store,
			  unsigned long first, unsigned long last)
{
	xa_lock(&store->xa);
	/* Merge first: what was one entry of the root needs that root again. */
	merge_at(store, first);
	merge_at(store, last);
	release(store, first);
	release(store, last);
	release_top(store);
	lower_root(store);
	xa_unlock(&store->xa);
}

void kvm_attr_store_relax(struct kvm_attr_store *store)
{
	if (store->nr_stepped < PAGES_PER_BARRIER) {
		cond_resched();
		return;
	}

	store->nr_stepped = 0;
	rcu_barrier();
}

/* Clears it in steps, as nodes may be many.  Clearing all needs no prepare. */
void kvm_attr_store_destroy(struct kvm_attr_store *store)
{
	unsigned long first = 0;

	while (kvm_attr_store_commit(store, &first, KVM_ATTR_MAX_INDEX, 0, 0,
				     false))
		kvm_attr_store_relax(store);

	WARN_ON_ONCE(store->nr_nodes);
	xa_destroy(&store->xa);
}
