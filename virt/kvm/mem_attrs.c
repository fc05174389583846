// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM per-page memory attributes - VM level
 *
 * Attributes belong to GFNs and live in a range store (mem_attrs_store.c) that
 * a VM gets with its first attribute.  Until then kvm->mem_attrs is NULL and
 * nothing in KVM does more than test that pointer.
 *
 * Words
 *
 *   extent	Neighbouring GFNs with equal attributes, as many as there are.
 *   region	One of 64 sets of GFNs, see kvm_gfn_has_mem_attrs().
 *   section	One access of KVM to one page, see guest_access.c.
 *   piece	What is done of a change until the next yield point.
 *
 * Model of a change
 *
 *   look	Cut the range down to the pages that change, and find out what the
 *		change does to them.  The call ends here if no page changes, or
 *		if a page would get attributes that the VM cannot enforce.
 *   prepare	Make the store ready.  This is the last step that can fail or be
 *		killed; nothing has changed so far.
 *   zap	Under mmu_lock, within an invalidation of the range: zap or
 *		write-protect the SPTEs of each extent that loses something.
 *   commit	Under mmu_lock, within the invalidation: store the new values.
 *   unread	Under mmu_lock: drop shadow pages of guest page tables in the range.
 *		Needed only if a page can no longer be read, or has a new backing.
 *   revoke	Without mmu_lock, if the change takes something away: invalidate
 *		gfn_to_pfn caches of the range, kick vCPUs whose nested guest uses
 *		pages directly, and wait for kvm_host_maps of the range.
 *
 * There is no post hook.  The shape of the store tells which hugepages are
 * uniform, and the MMU asks the store under mmu_lock.  Flags per memslot would
 * have to be recomputed for each change and each new memslot.
 *
 * Yield points
 *
 * A range can have millions of extents.  So zap, commit and unread work in pieces
 * of some 100,000 instructions at most.  In between they drop mmu_lock if the task
 * should be rescheduled or another task waits for the lock, see mem_attrs_yield().
 * mem_attrs->access is held for one piece of commit at a time.  look runs without
 * spinlocks, yields, and can be killed.
 *
 * While mmu_lock is dropped, mem_attrs->op describes the change:
 *
 *   - A fault in the range finds the invalidation in progress, and retries.
 *   - A fault beside the range proceeds, but with a mapping that does not reach
 *     into the range: __kvm_mem_attrs_uniform_order() stops at its ends.
 *   - An SPTE that is made from another SPTE gets neither what the old attributes
 *     forbid nor what the change takes away: kvm_mem_attrs_forbidden().
 *   - An access by KVM sees the old attributes of a page until its piece is
 *     committed, and the new ones afterwards.
 *
 * unread comes after commit.  A page walk that read a guest page table by the old
 * attributes reads the entry again under mmu_lock before it links a shadow page.
 * After the commit that read is refused, or reaches the new backing.  Hence no
 * shadow page with old content is linked once unread has passed.
 *
 * What readers can rely on
 *
 *   - A page fault that reads attributes after it sampled mmu_invalidate_seq
 *     and checks mmu_invalidate_retry_gfn() under mmu_lock maps nothing that
 *     the attributes forbid.  Either the change was committed when the fault read
 *     the attributes, or the check fails, or zap has removed the mapping.
 *   - Attributes of a GFN outside of the range of an invalidation do not change
 *     while mmu_lock is held.
 *   - An access by KVM is made in a section, see guest_access.c.  It either sees
 *     the old attributes and ends before their commit, or sees the new ones.
 *
 * So when the ioctl returns, nothing uses the old attributes any more.
 *
 * Locks
 *
 *   kvm->slots_lock	 (mutex) Serialises changes of attributes.  Keeps memslots
 *			 from changing while a change is in progress.
 *   kvm->mmu_lock	 For write: zap, commit, unread, the invalidation counters,
 *			 and mem_attrs->op.  For read: to use mem_attrs->op.
 *   mem_attrs->access	 (rwlock) Read: one access of KVM to guest memory, which
 *			 never sleeps.  Write: one piece of commit, which thereby
 *			 waits for accesses that saw the old values.
 *   RCU		 The nodes of the store, for lookups without a lock.
 *
 *   Order: slots_lock, mmu_lock, mem_attrs->access, the store's xa_lock.
 *
 * Lifetimes
 *
 *   kvm->mem_attrs is set once, under slots_lock or before the VM has users,
 *   and freed with the VM.  The bits of kvm->mem_attrs_regions are set under
 *   slots_lock and never cleared.  Accesses of KVM that saw NULL, or their bit
 *   clear, hold kvm->srcu, so activation waits for an SRCU grace period: with
 *   the first attribute of a region, and never for a VM type that starts out
 *   with attributes.
 *
 *   The static key kvm_mem_attrs_in_use counts the VMs that have one.  It is
 *   raised before the pointer is published and lowered after the last user of
 *   the VM has gone, so code that finds it off cannot miss the pointer.
 */

#include <linux/kvm_host.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>

#include <trace/events/kvm_mem_attrs.h>

#include "kvm_mm.h"
#include "mem_attrs.h"

static_assert(sizeof(struct kvm_memory_attributes) == 32);
static_assert(sizeof(struct kvm_memory_attributes_extent) == 24);
static_assert(sizeof(struct kvm_get_memory_attributes) == 64);
static_assert(sizeof(struct kvm_memory_attributes_update) == 32);
static_assert(sizeof(struct kvm_update_memory_attributes) == 64);

DEFINE_STATIC_KEY_FALSE(kvm_mem_attrs_in_use);
EXPORT_SYMBOL_GPL(kvm_mem_attrs_in_use);

static unsigned long op_result(const struct kvm_mem_attrs_op *op,
			       unsigned long old)
{
	return (old & op->keep) | op->set;
}

/* GFNs of a byte range that mainline's rules allow, see the uapi header. */
static bool mem_attrs_range_valid(u64 address, u64 size)
{
	return size && address + size > address &&
	       PAGE_ALIGNED(address) && PAGE_ALIGNED(size);
}

u64 kvm_mem_attrs_supported(struct kvm *kvm)
{
	return kvm_arch_supported_mem_attrs(kvm);
}

unsigned long __kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn)
{
	return kvm_attr_store_get(&kvm->mem_attrs->store, gfn);
}
EXPORT_SYMBOL_GPL(__kvm_mem_attrs_get);

static bool op_overlaps(const struct kvm_mem_attrs_op *op, gfn_t gfn,
			unsigned int order)
{
	gfn_t mask = (1ULL << order) - 1;

	return (gfn & ~mask) <= op->last && (gfn | mask) >= op->first;
}

/*
 * The largest order, at most @max_order, of a mapping around @gfn that has the same
 * attributes everywhere, and will keep them as long as mmu_lock is held or
 * dropped by a change in progress.
 */
unsigned int __kvm_mem_attrs_uniform_order(struct kvm *kvm, gfn_t gfn,
					   unsigned int max_order)
{
	const struct kvm_mem_attrs_op *op = kvm->mem_attrs->op;
	unsigned int order;

	lockdep_assert_held(&kvm->mmu_lock);

	order = kvm_attr_store_uniform_order(&kvm->mem_attrs->store, gfn,
					     max_order);
	while (order && op && op_overlaps(op, gfn, order))
		order--;

	return order;
}

/*
 * What a mapping of @gfn must not allow.  A change that has dropped mmu_lock after
 * it write-protected the SPTE of @gfn has not committed yet.  A fault finds the
 * invalidation in progress and retries, but an SPTE can also be made from the
 * SPTE that is there, which looks at no invalidation.
 */
unsigned long kvm_mem_attrs_forbidden(struct kvm *kvm, gfn_t gfn)
{
	const struct kvm_mem_attrs_op *op = kvm->mem_attrs->op;
	unsigned long attrs = __kvm_mem_attrs_get(kvm, gfn);

	lockdep_assert_held(&kvm->mmu_lock);

	if (op && gfn >= op->first && gfn <= op->last)
		attrs |= op->set;

	return attrs & KVM_MEMORY_ATTRIBUTES_RWX;
}

static int mem_attrs_init(struct kvm *kvm)
{
	struct kvm_mem_attrs *attrs;

	attrs = kzalloc(sizeof(*attrs), GFP_KERNEL_ACCOUNT);
	if (!attrs)
		return -ENOMEM;

	kvm_attr_store_init(&attrs->store);
	kvm_guest_access_init(attrs);
	static_branch_inc(&kvm_mem_attrs_in_use);

	/* Pairs with smp_load_acquire() in kvm_has_mem_attrs(). */
	smp_store_release(&kvm->mem_attrs, attrs);
	return 0;
}

/* Give a new VM a store.  No access can be in progress yet. */
int kvm_mem_attrs_init_vm(struct kvm *kvm)
{
	int r = mem_attrs_init(kvm);

	if (!r)
		kvm->mem_attrs_regions = ~0ULL;
	return r;
}

/* The regions that a range has a part in, as bits. */
static u64 mem_attrs_regions(gfn_t first, gfn_t last)
{
	first >>= KVM_MEM_ATTRS_REGION_SHIFT;
	last >>= KVM_MEM_ATTRS_REGION_SHIFT;
	if (last - first >= KVM_MEM_ATTRS_REGIONS)
		return ~0ULL;

	return rol64(GENMASK_ULL(last - first, 0),
		     first % KVM_MEM_ATTRS_REGIONS);
}

/* Make the store and the region bits ready for the first attribute in the range. */
static int kvm_mem_attrs_activate(struct kvm *kvm,
				  const struct kvm_mem_attrs_op *op)
{
	u64 regions = mem_attrs_regions(op->first, op->last);
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	if (!kvm->mem_attrs) {
		/* Arch code may have disabled attributes of this VM in the meantime. */
		if (op->set & ~kvm_arch_supported_mem_attrs(kvm))
			return -EINVAL;
		r = mem_attrs_init(kvm);
		if (r)
			return r;
	}

	if (!(regions & ~kvm->mem_attrs_regions))
		return 0;

	/* Pairs with smp_load_acquire() in kvm_gfn_has_mem_attrs(). */
	smp_store_release(&kvm->mem_attrs_regions,
			  kvm->mem_attrs_regions | regions);

	/* Accesses that found no attributes do not enter the section. */
	synchronize_srcu_expedited(&kvm->srcu);
	return 0;
}

void kvm_mem_attrs_destroy_vm(struct kvm *kvm)
{
	if (!kvm->mem_attrs)
		return;

	kvm_attr_store_destroy(&kvm->mem_attrs->store);
	kfree(kvm->mem_attrs);
	/* The last VM patches all places that test the key, without a break. */
	cond_resched();
	static_branch_dec(&kvm_mem_attrs_in_use);
	cond_resched();
}

/* Cut the range down to what changes.  Returns 1, 0 for nothing, or -EINTR. */
static int mem_attrs_trim(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	unsigned long first = op->first, last = op->last;
	int r;

	while ((r = kvm_attr_store_trim(&kvm->mem_attrs->store, &first, &last,
					op->keep, op->set, &op->old)) < 0) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}

	op->first = first;
	op->last = last;
	op->uniform = r == KVM_ATTR_ONE;
	return r != KVM_ATTR_NONE;
}

static bool op_changes_backing(const struct kvm_mem_attrs_op *op,
			       unsigned long old)
{
	return (op_result(op, old) ^ old) & KVM_MEMORY_ATTRIBUTE_PRIVATE;
}

/* Whether the change takes something away from pages with the attributes @old. */
static bool op_narrows(const struct kvm_mem_attrs_op *op, unsigned long old)
{
	return (op_result(op, old) & ~old) || op_changes_backing(op, old);
}

static bool op_unreads(const struct kvm_mem_attrs_op *op, unsigned long old)
{
	return (op_result(op, old) & ~old & KVM_MEMORY_ATTRIBUTE_NR) ||
	       op_changes_backing(op, old);
}

/* Whether no other page of a set can have more effects than those seen so far. */
static bool op_is_known(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	if (op->keep || !op->narrows)
		return false;

	return op->unreads || (!(op->set & KVM_MEMORY_ATTRIBUTE_NR) &&
			       !kvm_arch_has_private_mem(kvm));
}

/* The same for pages that have the attributes @old.  Returns 0 or -EINVAL. */
static int mem_attrs_look_at(struct kvm *kvm, struct kvm_mem_attrs_op *op,
			     unsigned long old)
{
	/* The caller has checked the result of a set, the same for all pages. */
	if (op->keep && !kvm_arch_mem_attrs_valid(kvm, op_result(op, old)))
		return -EINVAL;

	op->narrows |= op_narrows(op, old);
	op->unreads |= op_unreads(op, old);
	return 0;
}

/*
 * Find out what the change does.  Returns 0, -EINVAL if it would leave a page with
 * attributes that the VM cannot enforce, or -EINTR.
 */
static int mem_attrs_look(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	struct kvm_attr_extent ext;
	struct kvm_attr_iter iter;
	unsigned long seen = 0;
	int r;

	if (op->uniform)
		return mem_attrs_look_at(kvm, op, op->old);

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, op->first, op->last);
	while (kvm_attr_iter_next(&iter, &ext)) {
		if (!(seen & BIT(ext.attrs))) {
			seen |= BIT(ext.attrs);
			r = mem_attrs_look_at(kvm, op, ext.attrs);
			if (r)
				return r;
			op->uniform = ext.first == op->first &&
				      ext.last == op->last;
		}
		if (op->uniform || op_is_known(kvm, op))
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* For those who trace: how much changes.  Returns 0 or -EINTR. */
static int mem_attrs_measure(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	struct kvm_attr_extent ext;
	struct kvm_attr_iter iter;

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, op->first, op->last);
	while (kvm_attr_iter_next(&iter, &ext)) {
		if (op_result(op, ext.attrs) != ext.attrs) {
			op->nr_changed += ext.last - ext.first + 1;
			op->nr_extents++;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

#ifdef KVM_HAVE_MMU_RWLOCK
#define mmu_lock_wanted(kvm)	rwlock_is_contended(&(kvm)->mmu_lock)
#else
#define mmu_lock_wanted(kvm)	spin_is_contended(&(kvm)->mmu_lock)
#endif

/*
 * TLBs are flushed before mmu_lock may be dropped.  An MMU notifier that runs
 * meanwhile finds nothing mapped, does not flush either, and the page would be
 * freed while the guest still uses it.
 */
static bool mem_attrs_flush(struct kvm *kvm, bool flush)
{
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	return false;
}

/*
 * The yield point within a change: let other tasks have the CPU, or mmu_lock.
 * Returns whether TLBs are still to be flushed.
 */
static bool mem_attrs_yield(struct kvm *kvm, bool flush)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!need_resched() && !mmu_lock_wanted(kvm))
		return flush;

	flush = mem_attrs_flush(kvm, flush);
	KVM_MMU_UNLOCK(kvm);
	cond_resched();
	KVM_MMU_LOCK(kvm);
	return flush;
}

/* Up to this many pages, the arch zaps without dropping mmu_lock. */
#define ZAP_ATOMIC_PAGES	512

/* Zap or narrow the part of an extent that lies within one memslot. */
static bool mem_attrs_zap_slot(struct kvm *kvm, struct kvm_gfn_range *range,
			       unsigned long old, unsigned long new, bool flush)
{
	gfn_t start = range->start;

	range->may_block = range->end - range->start > ZAP_ATOMIC_PAGES;

	while (range->start < range->end) {
		if (range->may_block)
			flush = mem_attrs_flush(kvm, flush);
		flush |= kvm_arch_zap_mem_attrs(kvm, range, old, new);
		flush = mem_attrs_yield(kvm, flush);
	}

	if (kvm_mem_attrs_apply(range->slot))
		trace_kvm_mem_attrs_zap(kvm, range->slot, start, range->end,
					old, new);
	return flush;
}

static bool mem_attrs_zap_extent(struct kvm *kvm,
				 const struct kvm_attr_extent *ext,
				 unsigned long new, bool flush)
{
	struct kvm_gfn_range range = {};
	struct kvm_memslot_iter iter;
	struct kvm_memslots *slots;
	int i;

	for (i = 0; i < KVM_ADDRESS_SPACE_NUM; i++) {
		slots = __kvm_memslots(kvm, i);
		kvm_for_each_memslot_in_gfn_range(&iter, slots, ext->first,
						  ext->last + 1) {
			range.slot = iter.slot;
			range.start = max_t(gfn_t, ext->first,
					    iter.slot->base_gfn);
			range.end = min_t(gfn_t, ext->last + 1,
					  iter.slot->base_gfn +
					  iter.slot->npages);
			flush = mem_attrs_zap_slot(kvm, &range, ext->attrs, new,
						   flush);
		}
	}
	return flush;
}

/* How many pages of small extents are zapped before mappings are looked for again. */
#define ZAP_WINDOW_PAGES	512

/* Zap the extents from @gfn on, up to the end of a window.  Returns what is next. */
static gfn_t mem_attrs_zap_window(struct kvm *kvm,
				  const struct kvm_mem_attrs_op *op, gfn_t gfn,
				  bool *flush)
{
	gfn_t end = gfn | (ZAP_WINDOW_PAGES - 1);
	struct kvm_attr_extent ext;
	struct kvm_attr_iter iter;

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, gfn, op->last);
	while (kvm_attr_iter_next(&iter, &ext)) {
		if (op_narrows(op, ext.attrs))
			*flush = mem_attrs_zap_extent(kvm, &ext,
						      op_result(op, ext.attrs),
						      *flush);
		if (ext.last >= end)
			break;
	}
	return ext.last + 1;
}

/* Zap or narrow what is mapped of each extent that loses something. */
static void mem_attrs_zap(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	struct kvm_attr_extent ext = { op->first, op->last, op->old };
	bool flush = false;
	gfn_t gfn;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (op->uniform) {
		flush = mem_attrs_zap_extent(kvm, &ext, op_result(op, op->old),
					     false);
		mem_attrs_flush(kvm, flush);
		return;
	}

	/*
	 * Where nothing is mapped, extents are skipped, of which there may be
	 * many.  Nothing new is mapped: the invalidation is in progress.
	 */
	for (gfn = op->first; gfn <= op->last;) {
		flush = mem_attrs_yield(kvm, flush);
		gfn = kvm_arch_next_mapping(kvm, gfn, op->last + 1);
		if (gfn <= op->last)
			gfn = mem_attrs_zap_window(kvm, op, gfn, &flush);
	}
	mem_attrs_flush(kvm, flush);
}

/*
 * Store the new values.  On return, accesses of KVM that saw the old ones are over.
 * Returns whether vCPUs must leave the guest for that to be true of the pages that
 * a nested guest uses directly.
 */
static bool mem_attrs_commit(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	struct kvm_mem_attrs *attrs = kvm->mem_attrs;
	unsigned long next = op->first;
	bool more, kick = false;

	lockdep_assert_held_write(&kvm->mmu_lock);

	for (;;) {
		write_lock(&attrs->access);
		more = kvm_attr_store_commit(&attrs->store, &next, op->last,
					     op->keep, op->set, op->uniform);
		if (!more && op->narrows)
			kick = kvm_arch_revoke_nested_pages(kvm);
		write_unlock(&attrs->access);

		if (!more)
			return kick;

		KVM_MMU_UNLOCK(kvm);
		kvm_attr_store_relax(&attrs->store);
		KVM_MMU_LOCK(kvm);
	}
}

/*
 * Without mmu_lock, once the new values hold: revoke what was resolved by the old
 * ones and is in use for longer than a section.
 */
static void mem_attrs_revoke(struct kvm *kvm, const struct kvm_mem_attrs_op *op,
			     bool kick)
{
	/*
	 * A refresh of a cache that resolved a GFN by its old attributes either
	 * has finished, and is undone here, or sees the new sequence count.
	 */
	gfn_to_pfn_cache_invalidate_gfns(kvm, op->first, op->last + 1);

	/* Hardware must stop writing to pages that a nested guest uses. */
	if (kick)
		kvm_make_all_cpus_request(kvm, KVM_REQ_OUTSIDE_GUEST_MODE);

	kvm_guest_access_wait(kvm, op);
}

/* Make the prepared change.  This cannot fail. */
static void mem_attrs_change(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	bool kick;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_begin(kvm);
	kvm_mmu_invalidate_add(kvm, op->first, op->last + 1);
	kvm->mem_attrs->op = op;
	if (op->narrows)
		mem_attrs_zap(kvm, op);
	kick = mem_attrs_commit(kvm, op);
	if (op->unreads)
		kvm_arch_drop_shadow_pages(kvm, op->first, op->last + 1);
	kvm->mem_attrs->op = NULL;
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);

	if (op->narrows)
		mem_attrs_revoke(kvm, op, kick);
}

static int mem_attrs_apply(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	if (op->set) {
		r = kvm_mem_attrs_activate(kvm, op);
		if (r)
			return r;
	}

	/* Without a store every page has no attributes already. */
	if (!kvm->mem_attrs)
		return 0;

	r = mem_attrs_trim(kvm, op);
	if (r <= 0)
		return r;

	r = mem_attrs_look(kvm, op);
	if (!r && trace_kvm_mem_attrs_set_enabled())
		r = mem_attrs_measure(kvm, op);
	if (r)
		return r;

	r = kvm_attr_store_prepare(&kvm->mem_attrs->store, op->first, op->last,
				   op->keep, op->set);
	if (r)
		return r;

	mem_attrs_change(kvm, op);
	op->changed = true;
	return 0;
}

/* Make the change that a VMM asks for.  Counts it, and lets those who trace see it. */
static int mem_attrs_call(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	gfn_t first = op->first, npages = op->last - op->first + 1;
	u64 start = ktime_get_ns(), ns;
	int r;

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	r = mem_attrs_apply(kvm, op);
	ns = ktime_get_ns() - start;
	if (!r)
		kvm_mem_attrs_count_set(kvm, op, ns);
	mutex_unlock(&kvm->slots_lock);

	trace_kvm_mem_attrs_set(kvm, first, npages, op, r, ns);
	return r;
}

/*
 * Unmap what the visible memslots map.  The memslot that a guest_memfd is bound
 * to is not enough: it may be about to be created, still without rmaps, or about
 * to be deleted.
 */
static bool mem_attrs_unmap(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_gfn_range range = { .may_block = true };
	struct kvm_memslot_iter iter;
	struct kvm_memslots *slots;
	bool flush = false;
	int i;

	for (i = 0; i < KVM_ADDRESS_SPACE_NUM; i++) {
		slots = __kvm_memslots(kvm, i);
		kvm_for_each_memslot_in_gfn_range(&iter, slots, start, end) {
			range.slot = iter.slot;
			range.start = max(start, iter.slot->base_gfn);
			range.end = min(end, iter.slot->base_gfn +
					     iter.slot->npages);
			while (range.start < range.end) {
				flush = mem_attrs_flush(kvm, flush);
				flush |= kvm_arch_unmap_gfns(kvm, &range);
				flush = mem_attrs_yield(kvm, flush);
			}
		}
	}
	return flush;
}

void kvm_gfn_range_invalidate_begin(struct kvm *kvm, gfn_t start, gfn_t end)
{
	int idx;

	/*
	 * While the count is raised, visible memslots do not change and
	 * gfn_to_pfn caches are not refreshed, as for an MMU notifier.
	 */
	spin_lock(&kvm->mn_invalidate_lock);
	kvm->mn_active_invalidate_count++;
	spin_unlock(&kvm->mn_invalidate_lock);

	gfn_to_pfn_cache_invalidate_gfns(kvm, start, end);

	idx = srcu_read_lock(&kvm->srcu);
	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_begin(kvm);
	kvm_mmu_invalidate_add(kvm, start, end);
	mem_attrs_flush(kvm, mem_attrs_unmap(kvm, start, end));
	KVM_MMU_UNLOCK(kvm);
	srcu_read_unlock(&kvm->srcu, idx);
}

void kvm_gfn_range_invalidate_end(struct kvm *kvm, gfn_t start, gfn_t end)
{
	bool wake;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	KVM_MMU_LOCK(kvm);
	/* Guest page tables in the range have lost their content. */
	kvm_arch_drop_shadow_pages(kvm, start, end);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
	srcu_read_unlock(&kvm->srcu, idx);

	spin_lock(&kvm->mn_invalidate_lock);
	wake = --kvm->mn_active_invalidate_count == 0;
	spin_unlock(&kvm->mn_invalidate_lock);

	/* At most one waiter: it holds slots_lock. */
	if (wake)
		rcuwait_wake_up(&kvm->mn_memslots_update_rcuwait);
}

static bool memslots_update_waits(struct kvm *kvm)
{
	return rcuwait_active(&kvm->mn_memslots_update_rcuwait);
}

void kvm_gfn_range_invalidate_pause(struct kvm *kvm)
{
	/* set_current_state() pairs with smp_mb() in kvm_memslots_swapped(). */
	wait_var_event(&kvm->mn_memslots_update_rcuwait,
		       !memslots_update_waits(kvm));
}

static int kvm_vm_set_mem_attrs(struct kvm *kvm, void __user *argp)
{
	struct kvm_memory_attributes args;
	struct kvm_mem_attrs_op op;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags)
		return -EINVAL;
	if (args.attributes & ~kvm_mem_attrs_supported(kvm))
		return -EINVAL;
	if (!kvm_arch_mem_attrs_valid(kvm, args.attributes))
		return -EINVAL;
	if (!mem_attrs_range_valid(args.address, args.size))
		return -EINVAL;

	op = (struct kvm_mem_attrs_op) {
		.first = gpa_to_gfn(args.address),
		.last = gpa_to_gfn(args.address + args.size - 1),
		.set = args.attributes,
	};

	trace_kvm_vm_set_mem_attributes(op.first, op.last + 1, op.set);
	return mem_attrs_call(kvm, &op);
}

static int mem_attrs_update_one(struct kvm *kvm,
				const struct kvm_memory_attributes_update *u)
{
	struct kvm_mem_attrs_op op;

	if ((u->set | u->clear) & ~kvm_mem_attrs_supported(kvm))
		return -EINVAL;
	if ((u->set & u->clear) || !(u->set | u->clear))
		return -EINVAL;
	if (!mem_attrs_range_valid(u->address, u->size))
		return -EINVAL;

	op = (struct kvm_mem_attrs_op) {
		.first = gpa_to_gfn(u->address),
		.last = gpa_to_gfn(u->address + u->size - 1),
		.keep = ~u->clear,
		.set = u->set,
	};

	return mem_attrs_call(kvm, &op);
}

/* Apply the updates from args->done on, which counts what took effect. */
static int mem_attrs_update(struct kvm *kvm,
			    struct kvm_update_memory_attributes *args)
{
	struct kvm_memory_attributes_update __user *updates;
	struct kvm_memory_attributes_update u;
	int r;

	updates = u64_to_user_ptr(args->updates);

	while (args->done < args->nr_updates) {
		if (copy_from_user(&u, updates + args->done, sizeof(u)))
			return -EFAULT;

		r = mem_attrs_update_one(kvm, &u);
		if (r)
			return r;

		args->done++;
		cond_resched();
		if (args->done < args->nr_updates && signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int kvm_vm_update_mem_attrs(struct kvm *kvm, void __user *argp)
{
	struct kvm_update_memory_attributes args;
	int r;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags || args.pad ||
	    memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;
	if (!args.nr_updates || args.done > args.nr_updates)
		return -EINVAL;

	r = mem_attrs_update(kvm, &args);

	if (copy_to_user(argp, &args, sizeof(args)))
		return -EFAULT;
	return r;
}

/*
 * Extents are collected with slots_lock held, which makes the call a snapshot, and
 * copied out without it, so that a fault on the caller's array never blocks a change.
 * They are collected in single pages, which take no long time to allocate and to
 * copy.  A larger array is filled by the next call: 1.5 MiB of pages is enough that
 * the cost of the ioctl itself does not matter.
 */
#define KVM_GET_ATTRS_MAX	65536

struct extents_page {
	struct list_head list;
	u32 nr;
	struct kvm_memory_attributes_extent extents[];
};

#define EXTENTS_PER_PAGE						\
	((PAGE_SIZE - sizeof(struct extents_page)) /			\
	 sizeof(struct kvm_memory_attributes_extent))

static struct extents_page *extents_page_add(struct list_head *pages)
{
	struct extents_page *page = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);

	if (page) {
		page->nr = 0;
		list_add_tail(&page->list, pages);
	}
	return page;
}

static void extents_pages_free(struct list_head *pages)
{
	struct extents_page *page, *next;

	list_for_each_entry_safe(page, next, pages, list) {
		kfree(page);
		cond_resched();
	}
}

static void mem_attrs_emit(struct kvm_get_memory_attributes *args,
			   const struct kvm_attr_extent *ext,
			   struct kvm_memory_attributes_extent *uext)
{
	uext->address = gfn_to_gpa(ext->first);
	uext->size = gfn_to_gpa(ext->last - ext->first + 1);
	uext->attributes = ext->attrs;

	args->address += uext->size;
	args->size -= uext->size;
	args->nr_extents++;
}

/* Returns 0, -ENOMEM or -EINTR.  What was collected counts only with 0. */
static int mem_attrs_collect(struct kvm *kvm,
			     struct kvm_get_memory_attributes *args,
			     struct list_head *pages)
{
	u32 room = min_t(u32, args->nr_extents, KVM_GET_ATTRS_MAX);
	struct extents_page *page = NULL;
	struct kvm_attr_extent ext = {
		.first = gpa_to_gfn(args->address),
		.last = gpa_to_gfn(args->address + args->size - 1),
	};
	struct kvm_attr_iter iter;

	lockdep_assert_held(&kvm->slots_lock);

	args->nr_extents = 0;
	if (kvm->mem_attrs)
		kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, ext.first,
				   ext.last);

	while (args->size && args->nr_extents < room) {
		if (!page || page->nr == EXTENTS_PER_PAGE)
			page = extents_page_add(pages);
		if (!page)
			return -ENOMEM;
		if (fatal_signal_pending(current))
			return -EINTR;

		/* Without a store all of the range is one extent. */
		if (kvm->mem_attrs && !kvm_attr_iter_next(&iter, &ext))
			break;
		mem_attrs_emit(args, &ext, &page->extents[page->nr++]);
		cond_resched();
	}
	return 0;
}

static int mem_attrs_copy_extents(void __user *to, struct list_head *pages)
{
	struct extents_page *page;
	size_t size;

	list_for_each_entry(page, pages, list) {
		size = page->nr * sizeof(*page->extents);
		if (copy_to_user(to, page->extents, size))
			return -EFAULT;
		to += size;
		cond_resched();
	}
	return 0;
}

static int kvm_vm_get_mem_attrs(struct kvm *kvm, void __user *argp)
{
	struct kvm_get_memory_attributes args;
	LIST_HEAD(pages);
	int r;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags || memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;
	if (!args.nr_extents || !mem_attrs_range_valid(args.address, args.size))
		return -EINVAL;

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	r = mem_attrs_collect(kvm, &args, &pages);
	mutex_unlock(&kvm->slots_lock);

	if (!r)
		r = mem_attrs_copy_extents(u64_to_user_ptr(args.extents),
					   &pages);
	if (!r && copy_to_user(argp, &args, sizeof(args)))
		r = -EFAULT;

	extents_pages_free(&pages);
	return r;
}

static int kvm_vm_get_supported_mem_attrs(struct kvm *kvm, void __user *argp)
{
	u64 mask = kvm_mem_attrs_supported(kvm);

	return copy_to_user(argp, &mask, sizeof(mask)) ? -EFAULT : 0;
}

long kvm_mem_attrs_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
			    void __user *argp)
{
	switch (ioctl) {
	case KVM_SET_MEMORY_ATTRIBUTES:
		return kvm_vm_set_mem_attrs(kvm, argp);
	case KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES:
		return kvm_vm_get_supported_mem_attrs(kvm, argp);
	case KVM_UPDATE_MEMORY_ATTRIBUTES:
		return kvm_vm_update_mem_attrs(kvm, argp);
	case KVM_GET_MEMORY_ATTRIBUTES:
		return kvm_vm_get_mem_attrs(kvm, argp);
	default:
		return -ENOTTY;
	}
}
