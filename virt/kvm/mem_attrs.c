// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM per-page memory attributes - VM level
 *
 * Attributes belong to GFNs and live in a range store (mem_attrs_store.c) that
 * a VM gets with its first attribute.  Until then kvm->mem_attrs is NULL and
 * nothing in KVM does more than test that pointer.
 *
 * Model of a change
 *
 *   look     find the first and the last page that really change; if there is
 *	      none, or a page would end up with a combination of attributes
 *	      that the VM can not enforce, the call ends here
 *   prepare  make the store ready, the only step that can fail
 *   pre      under mmu_lock, with an invalidation of the affected GFNs begun:
 *	      the arch zaps or narrows the mappings of each extent that changes
 *   commit   still under mmu_lock: the store takes the new values
 *   end      the invalidation ends
 *   revoke   with mmu_lock dropped, only if something was taken away: gfn_to_pfn
 *	      caches of the range are invalidated, vCPUs whose nested guest uses
 *	      pages directly are kicked, kvm_host_maps of the range waited for
 *
 * There is no post hook: which hugepages are uniform is what the shape of the
 * store says, so the MMU asks the store under mmu_lock instead of keeping
 * flags per memslot that would have to be recomputed here, and in every new
 * memslot, and could be seen half updated.
 *
 * The invalidation covers more than the pages that change: it is widened to
 * whole mappings of the largest size.  A vCPU that faults beside the range
 * while the arch drops mmu_lock in the middle of a zap could otherwise install
 * a huge mapping that reaches into it, still seeing the old, uniform values.
 *
 * What readers can rely on
 *
 *   - A page fault that reads attributes after it sampled mmu_invalidate_seq
 *     and checks mmu_invalidate_retry_gfn() under mmu_lock maps nothing that
 *     the attributes forbid: either the set had committed when they were read,
 *     or the check fails, or the mapping was there before pre and is gone.
 *   - Attributes read with mmu_lock held, and not within the range of an
 *     invalidation, stay what they are until mmu_lock is dropped.
 *   - An access by KVM itself is made in the section of guest_access.c and
 *     sees either the old attributes, and is over before commit, or the new.
 *
 * So when the ioctl returns, nothing uses the old attributes any more.
 *
 * Locks
 *
 *   kvm->slots_lock	 (mutex) serialises all changes of attributes, and
 *			 keeps memslots from changing under the zap
 *   kvm->mmu_lock	 for write: pre, commit, the invalidation counters and
 *			 mem_attrs->op, the change in progress
 *   mem_attrs->access	 (rwlock) readers: one access of KVM to guest memory,
 *			 which never sleeps; writer: commit, which so waits
 *			 for accesses that saw the old values
 *   RCU		 the nodes of the store, for lookups without a lock
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
 *   the VM has gone, so code that finds it off can not miss the pointer.
 */

#include <linux/kvm_host.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

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

unsigned int __kvm_mem_attrs_uniform_order(struct kvm *kvm, gfn_t gfn,
					   unsigned int max_order)
{
	return kvm_attr_store_uniform_order(&kvm->mem_attrs->store, gfn,
					    max_order);
}

/*
 * What a mapping of @gfn must not allow that is made while attributes may be on
 * their way.  A set drops mmu_lock in the middle of its zapping and narrowing,
 * when the store still has the old values.  A fault would notice, as it looks at
 * the invalidation in progress, but who makes a new SPTE out of one that is
 * there, already narrowed, does not.
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

/* Give the VM a store.  Nobody can be in the middle of an access yet. */
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

/* Pages of the range are about to have attributes. */
static int kvm_mem_attrs_activate(struct kvm *kvm,
				  const struct kvm_mem_attrs_op *op)
{
	u64 regions = mem_attrs_regions(op->first, op->last);
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	if (!kvm->mem_attrs) {
		/* Arch code may have given up on this VM in the meantime. */
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
	static_branch_dec(&kvm_mem_attrs_in_use);
}

/*
 * Whether the VM can enforce what an update would leave on each page.  A set
 * has one result, which the ioctl has looked at.
 */
static bool mem_attrs_results_valid(struct kvm *kvm,
				    const struct kvm_mem_attrs_op *op)
{
	struct kvm_attr_extent ext;
	struct kvm_attr_iter iter;

	if (!op->keep)
		return true;

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, op->first, op->last);
	while (kvm_attr_iter_next(&iter, &ext)) {
		if (!kvm_arch_mem_attrs_valid(kvm, op_result(op, ext.attrs)))
			return false;
		cond_resched();
	}
	return true;
}

/* Fewer pages than this are zapped without dropping mmu_lock. */
#define ZAP_ATOMIC_PAGES	512

static bool mem_attrs_pre_slots(struct kvm *kvm, int as_id,
				const struct kvm_attr_extent *ext,
				unsigned long new, bool may_block)
{
	struct kvm_memslots *slots = __kvm_memslots(kvm, as_id);
	struct kvm_gfn_range range = { .may_block = may_block };
	struct kvm_memslot_iter iter;
	bool flush = false;

	kvm_for_each_memslot_in_gfn_range(&iter, slots, ext->first,
					  ext->last + 1) {
		range.slot = iter.slot;
		range.start = max_t(gfn_t, ext->first, iter.slot->base_gfn);
		range.end = min_t(gfn_t, ext->last + 1, iter.slot->base_gfn +
							iter.slot->npages);
		flush |= kvm_arch_pre_set_mem_attrs(kvm, &range, ext->attrs,
						    new);
	}
	return flush;
}

/*
 * TLBs are flushed before mmu_lock may be dropped.  An MMU notifier that comes
 * in between finds nothing mapped any more, does not flush either, and the page
 * would be freed with the guest still using it.
 */
static bool mem_attrs_flush(struct kvm *kvm, bool flush)
{
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	return false;
}

static bool mem_attrs_pre_extent(struct kvm *kvm,
				 const struct kvm_attr_extent *ext,
				 unsigned long new, bool flush)
{
	bool may_block = ext->last - ext->first >= ZAP_ATOMIC_PAGES;
	int i;

	if (need_resched()) {
		flush = mem_attrs_flush(kvm, flush);
		KVM_MMU_UNLOCK(kvm);
		cond_resched();
		KVM_MMU_LOCK(kvm);
	}

	for (i = 0; i < KVM_ADDRESS_SPACE_NUM; i++) {
		if (may_block)
			flush = mem_attrs_flush(kvm, flush);
		flush |= mem_attrs_pre_slots(kvm, i, ext, new, may_block);
	}
	return flush;
}

/*
 * One look per ZAP_ATOMIC_PAGES decides for all the small extents in there, of
 * which there may be many, whether there is anything to zap.  @known is how far
 * the last look went.  The answer stays true while the invalidation is in
 * progress, except that things get zapped.
 */
static bool mem_attrs_may_be_mapped(struct kvm *kvm,
				    const struct kvm_mem_attrs_op *op,
				    const struct kvm_attr_extent *ext,
				    gfn_t *known, bool *mapped)
{
	if (ext->first == op->first && ext->last == op->last)
		return true;
	if (ext->last - ext->first >= ZAP_ATOMIC_PAGES)
		return true;

	if (ext->last >= *known) {
		*known = round_up(ext->last + 1, ZAP_ATOMIC_PAGES);
		*mapped = kvm_arch_may_have_mappings(kvm, ext->first, *known);
	}
	return *mapped;
}

/* Whether nothing that was possible before stops to be, or means another page. */
static bool mem_attrs_only_grants(unsigned long old, unsigned long new)
{
	return !(new & ~old) && !((old ^ new) & KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

/*
 * Zap or narrow what is mapped of each extent that changes.  Returns whether that
 * takes anything away.
 */
static bool mem_attrs_pre(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	bool mapped, flush = false, taken = false;
	struct kvm_attr_extent ext;
	struct kvm_attr_iter iter;
	gfn_t known = 0;

	lockdep_assert_held_write(&kvm->mmu_lock);

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, op->first, op->last);
	while (kvm_attr_iter_next(&iter, &ext)) {
		unsigned long new = op_result(op, ext.attrs);

		if (mem_attrs_only_grants(ext.attrs, new))
			continue;

		taken = true;
		if (mem_attrs_may_be_mapped(kvm, op, &ext, &known, &mapped))
			flush = mem_attrs_pre_extent(kvm, &ext, new, flush);
	}

	mem_attrs_flush(kvm, flush);
	return taken;
}

/*
 * New values: accesses of KVM that saw the old ones are over on return.  Returns
 * whether vCPUs have to be kicked to make that true of pages they keep in use.
 */
static bool mem_attrs_commit(struct kvm *kvm, const struct kvm_mem_attrs_op *op,
			     bool taken)
{
	struct kvm_mem_attrs *attrs = kvm->mem_attrs;
	bool kick;

	lockdep_assert_held_write(&kvm->mmu_lock);

	write_lock(&attrs->access);
	kvm_attr_store_commit(&attrs->store, op->first, op->last, op->keep,
			      op->set);
	kick = taken && kvm_arch_mem_attrs_taken(kvm);
	write_unlock(&attrs->access);
	return kick;
}

/*
 * What is done without mmu_lock once the new values hold: take away what was
 * resolved by the old ones and is in use across sections.
 */
static void mem_attrs_revoke(struct kvm *kvm, const struct kvm_mem_attrs_op *op,
			     bool kick)
{
	/*
	 * A refresh of a cache that resolved a GFN by its old attributes either
	 * has finished, and is undone here, or sees the new sequence count.
	 */
	gfn_to_pfn_cache_invalidate_gfns(kvm, op->first, op->last + 1);

	/* Out of the guest, where hardware writes to pages kept for it. */
	if (kick)
		kvm_make_all_cpus_request(kvm, KVM_REQ_OUTSIDE_GUEST_MODE);

	kvm_guest_access_wait(kvm, op);
}

static int mem_attrs_apply(struct kvm *kvm, struct kvm_mem_attrs_op *op)
{
	gfn_t mask = (1ULL << kvm_arch_max_mapping_order()) - 1;
	unsigned long first = op->first, last = op->last;
	bool taken, kick;
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

	if (!mem_attrs_results_valid(kvm, op))
		return -EINVAL;

	if (!kvm_attr_store_trim(&kvm->mem_attrs->store, &first, &last,
				 op->keep, op->set))
		return 0;

	op->first = first;
	op->last = last;

	r = kvm_attr_store_prepare(&kvm->mem_attrs->store, op->first, op->last,
				   op->keep, op->set);
	if (r)
		return r;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_begin(kvm);
	kvm_mmu_invalidate_add(kvm, op->first & ~mask, (op->last | mask) + 1);
	kvm->mem_attrs->op = op;
	taken = mem_attrs_pre(kvm, op);
	kick = mem_attrs_commit(kvm, op, taken);
	kvm->mem_attrs->op = NULL;
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);

	if (taken)
		mem_attrs_revoke(kvm, op, kick);
	return 0;
}

/*
 * Unmap what the visible memslots map.  The memslot that a guest_memfd is bound
 * to will not do: it may be about to be created, without rmaps as yet, or be on
 * its way out.
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
			flush = mem_attrs_flush(kvm, flush);
			flush |= kvm_unmap_gfn_range(kvm, &range);
		}
	}
	return flush;
}

void kvm_gfn_range_invalidate_begin(struct kvm *kvm, gfn_t start, gfn_t end)
{
	int idx;

	/*
	 * Neither do the visible memslots change while this is raised, nor are
	 * gfn_to_pfn caches refreshed, as for an MMU notifier.
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

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);

	spin_lock(&kvm->mn_invalidate_lock);
	wake = --kvm->mn_active_invalidate_count == 0;
	spin_unlock(&kvm->mn_invalidate_lock);

	/* At most one waiter: it holds slots_lock. */
	if (wake)
		rcuwait_wake_up(&kvm->mn_memslots_update_rcuwait);
}

static int kvm_vm_set_mem_attrs(struct kvm *kvm, void __user *argp)
{
	struct kvm_memory_attributes args;
	struct kvm_mem_attrs_op op;
	int r;

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

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	r = mem_attrs_apply(kvm, &op);
	mutex_unlock(&kvm->slots_lock);
	return r;
}

static int mem_attrs_update_one(struct kvm *kvm,
				const struct kvm_memory_attributes_update *u)
{
	struct kvm_mem_attrs_op op;
	int r;

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

	if (mutex_lock_killable(&kvm->slots_lock))
		return -EINTR;
	r = mem_attrs_apply(kvm, &op);
	mutex_unlock(&kvm->slots_lock);
	return r;
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
 * Extents are gathered with slots_lock held, which makes the call a snapshot,
 * and copied out without it, so that a fault on the caller's array never
 * blocks a set.  A larger array is filled by the next call: 1.5 MiB of bounce
 * buffer is enough that the ioctl itself no longer matters.
 */
#define KVM_GET_ATTRS_MAX	65536

static void mem_attrs_emit(struct kvm_get_memory_attributes *args,
			   const struct kvm_attr_extent *ext,
			   struct kvm_memory_attributes_extent *uext)
{
	uext->address = gfn_to_gpa(ext->first);
	uext->size = gfn_to_gpa(ext->last - ext->first + 1);
	uext->attributes = ext->attrs;

	args->address += uext->size;
	args->size -= uext->size;
}

static void mem_attrs_collect(struct kvm *kvm,
			      struct kvm_get_memory_attributes *args,
			      struct kvm_memory_attributes_extent *extents)
{
	struct kvm_attr_extent ext = {
		.first = gpa_to_gfn(args->address),
		.last = gpa_to_gfn(args->address + args->size - 1),
	};
	u32 room = args->nr_extents, i = 0;
	struct kvm_attr_iter iter;

	lockdep_assert_held(&kvm->slots_lock);

	if (!kvm->mem_attrs) {
		mem_attrs_emit(args, &ext, &extents[i++]);
	} else {
		kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, ext.first,
				   ext.last);
		while (i < room && kvm_attr_iter_next(&iter, &ext)) {
			mem_attrs_emit(args, &ext, &extents[i++]);
			cond_resched();
		}
	}
	args->nr_extents = i;
}

static int kvm_vm_get_mem_attrs(struct kvm *kvm, void __user *argp)
{
	struct kvm_memory_attributes_extent *extents;
	struct kvm_get_memory_attributes args;
	int r;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags || memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;
	if (!args.nr_extents || !mem_attrs_range_valid(args.address, args.size))
		return -EINVAL;

	args.nr_extents = min_t(u32, args.nr_extents, KVM_GET_ATTRS_MAX);
	extents = kvcalloc(args.nr_extents, sizeof(*extents),
			   GFP_KERNEL_ACCOUNT);
	if (!extents)
		return -ENOMEM;

	r = -EINTR;
	if (mutex_lock_killable(&kvm->slots_lock))
		goto out;
	mem_attrs_collect(kvm, &args, extents);
	mutex_unlock(&kvm->slots_lock);
	r = 0;

	if (copy_to_user(u64_to_user_ptr(args.extents), extents,
			 array_size(args.nr_extents, sizeof(*extents))) ||
	    copy_to_user(argp, &args, sizeof(args)))
		r = -EFAULT;
out:
	kvfree(extents);
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
