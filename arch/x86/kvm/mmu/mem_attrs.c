// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 MMU - per-page memory attributes
 *
 * What the x86 MMU does with the attributes of virt/kvm/mem_attrs.c, the same
 * for the TDP MMU and the shadow MMU, which differ only in how they zap:
 *
 *   pre hook	   the mappings of an extent are zapped if its attributes turn
 *		   private or shared or take something away, write-protected in
 *		   place if they take away writing only, and left alone if they
 *		   grant: a fault widens a mapping
 *   fault	   kvm_mmu_faultin_attrs() refuses the access, or takes the
 *		   place of the lookup by HVA for a private GFN
 *   SPTE	   whoever makes an SPTE or lets a split one execute gets only
 *		   the access that kvm_mmu_attrs_access() leaves of it
 *   level	   kvm_mmu_attrs_mapping_level() clamps a mapping to the uniform
 *		   region around the GFN, as told by the shape of the store
 *   prefetch	   only GFNs without attributes are mapped ahead of a fault
 *
 * Hugepage eligibility is not stored anywhere.  It is derived under mmu_lock,
 * where attributes can not change (see mem_attrs.c), from one lookup, so it
 * needs no upkeep when attributes change or memslots come and go, and costs
 * nothing in a VM without attributes.
 *
 * A huge SPTE may reach beyond the GFNs that are narrowed.  Write-protecting it
 * takes too much away then, which the next write to its other parts makes good
 * with smaller mappings.  The other way round no mapping ever allows more than
 * all of the GFNs it covers do, so that granting needs no work.
 *
 * Narrowing in place and fast_page_fault(), which takes no lock: both use
 * compare-and-exchange, and the latter only sets what the MMU-writable bit of
 * the very value that it replaces allows.  Accessed and dirty bits, dirty logging
 * and access tracking neither set that bit nor give writability back without it.
 *
 * Locks
 *
 *   kvm->srcu		 faults: memslots, and with them guest_memfd bindings
 *   kvm->mmu_lock	 pre hook: for write; level, SPTEs and prefetch: for read
 *			 (TDP MMU) or write
 *
 * Lifetimes: a page taken from a guest_memfd is held by reference until the
 * fault has been handled.  The mapping itself holds none, the invalidation that
 * comes before a truncation takes it away.
 */

#include <linux/kvm_host.h>
#include <linux/sizes.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "mem_attrs.h"
#include "spte.h"
#include "tdp_iter.h"
#include "tdp_mmu.h"

u64 kvm_arch_supported_mem_attrs(struct kvm *kvm)
{
	u64 attrs = KVM_MEMORY_ATTRIBUTES_RWX;

	if (kvm && READ_ONCE(kvm->arch.mem_attrs_forgone))
		return 0;

	if (kvm ? kvm_arch_has_private_mem(kvm) :
		  kvm_is_vm_type_supported(KVM_X86_SW_PROTECTED_VM))
		attrs |= KVM_MEMORY_ATTRIBUTE_PRIVATE;

	return attrs;
}

/* EPT has read, write and execute bits, other formats a present bit. */
static bool can_map_execute_only(void)
{
	return tdp_enabled && !shadow_present_mask;
}

bool kvm_arch_mem_attrs_valid(struct kvm *kvm, u64 attrs)
{
	if (attrs & ~kvm_arch_supported_mem_attrs(kvm))
		return false;
	if (!(attrs & KVM_MEMORY_ATTRIBUTE_NR))
		return true;
	if (!(attrs & KVM_MEMORY_ATTRIBUTE_NW))
		return false;

	return (attrs & KVM_MEMORY_ATTRIBUTE_NX) || can_map_execute_only();
}

unsigned int kvm_arch_max_mapping_order(void)
{
	return KVM_HPAGE_GFN_SHIFT(KVM_MAX_HUGEPAGE_LEVEL);
}

#ifdef CONFIG_X86_64
/* Returns whether a TLB may hold what is not allowed any more. */
static bool spte_forbid_write(u64 *sptep, u64 spte)
{
	u64 writable = PT_WRITABLE_MASK | shadow_mmu_writable_mask;

	do {
		if (!(spte & writable))
			return false;
	} while (!try_cmpxchg64(sptep, &spte, spte & ~writable));

	return true;
}

static bool root_forbid_write(struct kvm_mmu_page *root, gfn_t start, gfn_t end)
{
	struct tdp_iter iter;
	bool flush = false;

	rcu_read_lock();
	for_each_tdp_pte(iter, root, start, end) {
		if (is_shadow_present_pte(iter.old_spte) &&
		    is_last_spte(iter.old_spte, iter.level))
			flush |= spte_forbid_write(rcu_dereference(iter.sptep),
						   iter.old_spte);
	}
	rcu_read_unlock();
	return flush;
}

static bool tdp_mmu_forbid_write(struct kvm *kvm,
				 const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end)
{
	struct kvm_mmu_page *root;
	bool flush = false;

	if (!is_tdp_mmu_enabled(kvm))
		return false;

	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		if (kvm_mmu_page_as_id(root) == slot->as_id)
			flush |= root_forbid_write(root, start, end);

	return flush;
}
#else
static bool tdp_mmu_forbid_write(struct kvm *kvm,
				 const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end)
{
	return false;
}
#endif

/*
 * How much is write-protected before mmu_lock may be dropped.  Rmaps are walked
 * page by page, mapped or not, TDP MMU page tables only where there are any.
 */
#define FORBID_WRITE_PAGES_RMAP	(SZ_64M >> PAGE_SHIFT)
#define FORBID_WRITE_PAGES_TDP	(SZ_1G >> PAGE_SHIFT)

static bool forbid_write(struct kvm *kvm, struct kvm_gfn_range *range)
{
	bool rmaps = kvm_memslots_have_rmaps(kvm), flush = false;
	gfn_t chunk, start, end;

	chunk = rmaps ? FORBID_WRITE_PAGES_RMAP : FORBID_WRITE_PAGES_TDP;
	for (start = range->start; start < range->end; start = end) {
		end = min(range->end, round_up(start + 1, chunk));
		if (rmaps)
			flush |= kvm_mmu_rmaps_forbid_write(range->slot, start,
							    end);
		flush |= tdp_mmu_forbid_write(kvm, range->slot, start, end);

		if (!range->may_block || !need_resched())
			continue;

		/* Before mmu_lock is dropped, see mem_attrs_flush(). */
		if (flush)
			kvm_flush_remote_tlbs(kvm);
		flush = false;
		cond_resched_rwlock_write(&kvm->mmu_lock);
	}
	return flush;
}

/* Going private or shared changes what backs the page: nothing can stay. */
bool kvm_arch_pre_set_mem_attrs(struct kvm *kvm, struct kvm_gfn_range *range,
				unsigned long old, unsigned long new)
{
	unsigned long taken = new & ~old;

	if ((old ^ new) & KVM_MEMORY_ATTRIBUTE_PRIVATE)
		return kvm_unmap_gfn_range(kvm, range);

	if (!taken || !kvm_mem_attrs_apply(range->slot))
		return false;

	if (taken == KVM_MEMORY_ATTRIBUTE_NW)
		return forbid_write(kvm, range);

	return kvm_unmap_gfn_range(kvm, range);
}

unsigned int __kvm_mmu_attrs_access(struct kvm *kvm,
				    const struct kvm_memory_slot *slot,
				    gfn_t gfn, unsigned int access)
{
	unsigned long attrs;

	if (!kvm_mem_attrs_apply(slot))
		return access;

	attrs = kvm_mem_attrs_forbidden(kvm, gfn);
	if (attrs & KVM_MEMORY_ATTRIBUTE_NR)
		access &= ~ACC_USER_MASK;
	if (attrs & KVM_MEMORY_ATTRIBUTE_NW)
		access &= ~ACC_WRITE_MASK;
	if (attrs & KVM_MEMORY_ATTRIBUTE_NX)
		access &= ~ACC_EXEC_MASK;
	return access;
}

/*
 * The role of @sp, which splits a huge mapping, for its SPTE at @index: a huge
 * page that may not execute because it is huge becomes small ones that may,
 * unless they may not themselves.
 */
union kvm_mmu_page_role kvm_mmu_attrs_role(struct kvm *kvm,
					   struct kvm_mmu_page *sp, int index)
{
	union kvm_mmu_page_role role = sp->role;
	gfn_t gfn = sp->gfn + index * KVM_PAGES_PER_HPAGE(role.level);

	if (kvm_has_mem_attrs(kvm) &&
	    (kvm_mem_attrs_forbidden(kvm, gfn) & KVM_MEMORY_ATTRIBUTE_NX))
		role.access &= ~ACC_EXEC_MASK;

	return role;
}

#ifdef CONFIG_X86_64
static bool root_has_leafs(struct kvm_mmu_page *root, gfn_t start, gfn_t end)
{
	struct tdp_iter iter;
	bool found = false;

	rcu_read_lock();
	for_each_tdp_pte(iter, root, start, end) {
		if (is_shadow_present_pte(iter.old_spte) &&
		    is_last_spte(iter.old_spte, iter.level)) {
			found = true;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

bool kvm_arch_may_have_mappings(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_mmu_page *root;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (kvm_memslots_have_rmaps(kvm))
		return true;

	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		if (root_has_leafs(root, start, end))
			return true;

	return false;
}
#else
bool kvm_arch_may_have_mappings(struct kvm *kvm, gfn_t start, gfn_t end)
{
	return true;
}
#endif

/*
 * The end of kvm_mmu_max_mapping_level() for a VM with attributes: the largest
 * level <= @max_level, which the memslot allows, and so it does all below, at
 * which a mapping around @gfn has the same attributes everywhere.  What the
 * host maps there matters only to shared pages; a private page's order is in
 * @max_level already.
 */
int kvm_mmu_attrs_mapping_level(struct kvm *kvm,
				const struct kvm_memory_slot *slot, gfn_t gfn,
				int max_level)
{
	unsigned int order;

	lockdep_assert_held(&kvm->mmu_lock);

	order = __kvm_mem_attrs_uniform_order(kvm, gfn,
					      KVM_HPAGE_GFN_SHIFT(max_level));
	while (KVM_HPAGE_GFN_SHIFT(max_level) > order)
		max_level--;

	if (max_level == PG_LEVEL_4K || kvm_mem_is_private(kvm, gfn))
		return max_level;

	return min(max_level, host_pfn_mapping_level(kvm, gfn, slot));
}

/*
 * Whether all of [gfn, gfn + nr) may be mapped by HVA ahead of a fault.  The
 * fault that comes along has looked for an invalidation of its own GFN only, and
 * INVLPG for none at all.
 */
bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn, int nr)
{
	if (!kvm_has_mem_attrs(kvm))
		return true;
	if (kvm->mmu_invalidate_in_progress)
		return false;

	for (; nr > 0; nr--, gfn++)
		if (kvm_mem_attrs_get(kvm, gfn))
			return false;

	return true;
}

/* Nobody is told of an access that is not the guest's. */
static int fault_exit(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      u64 flags, int err)
{
	if (!fault->prefetch)
		kvm_prepare_memory_fault_exit(vcpu, gfn_to_gpa(fault->gfn),
					      PAGE_SIZE, flags);
	return err;
}

static u64 fault_access(const struct kvm_page_fault *fault)
{
	if (fault->exec)
		return KVM_MEMORY_EXIT_FLAG_EXEC;
	if (fault->write)
		return KVM_MEMORY_EXIT_FLAG_WRITE;
	return KVM_MEMORY_EXIT_FLAG_READ;
}

/* Level of the largest mapping in a naturally aligned run of 2^order pages. */
static u8 max_level_for_order(int order)
{
	u8 level = KVM_MAX_HUGEPAGE_LEVEL;

	while (level > PG_LEVEL_4K && KVM_HPAGE_GFN_SHIFT(level) > order)
		level--;

	return level;
}

/*
 * Resolve a fault by the attributes of the GFN.  Called after
 * mmu_invalidate_seq was sampled.  Returns RET_PF_CONTINUE, with fault->pfn set
 * if fault->is_private, else the shared mapping is what backs the page, or
 * -EFAULT or -EHWPOISON with an exit to userspace prepared.
 */
int kvm_mmu_faultin_attrs(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	unsigned long attrs = kvm_mem_attrs_get(vcpu->kvm, fault->gfn);
	u64 private = attrs & KVM_MEMORY_EXIT_FLAG_PRIVATE;
	struct page *page;
	int order, r;
	u64 refused;

	fault->is_private = IS_ENABLED(CONFIG_KVM_PRIVATE_MEM) && private;
	if (fault->is_private && !kvm_slot_can_be_private(fault->slot))
		return fault_exit(vcpu, fault, private, -EFAULT);

	refused = kvm_mem_attrs_refuse(attrs, fault_access(fault));
	if (refused && kvm_mem_attrs_apply(fault->slot))
		return fault_exit(vcpu, fault, refused | private, -EFAULT);

	if (!fault->is_private)
		return RET_PF_CONTINUE;

	r = kvm_gmem_get_page(vcpu->kvm, fault->slot, fault->gfn, true, &page,
			      &order);
	if (r)
		return fault_exit(vcpu, fault, private,
				  r == -EHWPOISON ? r : -EFAULT);

	fault->pfn = page_to_pfn(page);
	fault->map_writable = true;
	fault->max_level = min(fault->max_level, max_level_for_order(order));
	return RET_PF_CONTINUE;
}
