// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 MMU - per-page memory attributes
 *
 * What the x86 MMU does with the attributes of virt/kvm/mem_attrs.c, the same
 * for the TDP MMU and the shadow MMU, which differ only in how they zap:
 *
 *   pre hook	   the mappings of an extent whose attributes change are zapped
 *   fault	   kvm_mmu_faultin_attrs() takes the place of the lookup by HVA
 *		   for a private GFN, or refuses the access
 *   level	   kvm_mmu_attrs_mapping_level() clamps a mapping to the uniform
 *		   region around the GFN, as told by the shape of the store
 *   prefetch	   only GFNs without attributes are mapped ahead of a fault
 *
 * Hugepage eligibility is not stored anywhere.  It is derived under mmu_lock,
 * where attributes can not change (see mem_attrs.c), from one lookup, so it
 * needs no upkeep when attributes change or memslots come and go, and costs
 * nothing in a VM without attributes.
 *
 * Locks
 *
 *   kvm->srcu		 faults: memslots, and with them guest_memfd bindings
 *   kvm->mmu_lock	 pre hook: for write; level and prefetch: for read (TDP
 *			 MMU) or write
 *
 * Lifetimes: a page taken from a guest_memfd is held by reference until the
 * fault has been handled.  The mapping itself holds none, the invalidation that
 * comes before a truncation takes it away.
 */

#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "mem_attrs.h"
#include "spte.h"
#include "tdp_iter.h"

u64 kvm_arch_supported_mem_attrs(struct kvm *kvm)
{
	if (kvm ? kvm_arch_has_private_mem(kvm) :
		  kvm_is_vm_type_supported(KVM_X86_SW_PROTECTED_VM))
		return KVM_MEMORY_ATTRIBUTE_PRIVATE;

	return 0;
}

bool kvm_arch_mem_attrs_valid(struct kvm *kvm, u64 attrs)
{
	return !(attrs & ~kvm_arch_supported_mem_attrs(kvm));
}

unsigned int kvm_arch_max_mapping_order(void)
{
	return KVM_HPAGE_GFN_SHIFT(KVM_MAX_HUGEPAGE_LEVEL);
}

/* Going private or shared changes what backs the page: nothing can stay. */
bool kvm_arch_pre_set_mem_attrs(struct kvm *kvm, struct kvm_gfn_range *range,
				unsigned long old, unsigned long new)
{
	return kvm_unmap_gfn_range(kvm, range);
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

/* Whether all of [gfn, gfn + nr) may be mapped by HVA ahead of a fault. */
bool kvm_mmu_attrs_allow_prefetch(struct kvm *kvm, gfn_t gfn, int nr)
{
	for (; nr > 0; nr--, gfn++)
		if (kvm_mem_attrs_get(kvm, gfn))
			return false;

	return true;
}

static int fault_exit(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      int err)
{
	kvm_prepare_memory_fault_exit(vcpu, gfn_to_gpa(fault->gfn), PAGE_SIZE,
				      KVM_MEMORY_EXIT_FLAG_PRIVATE);
	return err;
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
	struct page *page;
	int order, r;

	fault->is_private = kvm_mem_is_private(vcpu->kvm, fault->gfn);
	if (!fault->is_private)
		return RET_PF_CONTINUE;

	if (!kvm_slot_can_be_private(fault->slot))
		return fault_exit(vcpu, fault, -EFAULT);

	r = kvm_gmem_get_page(vcpu->kvm, fault->slot, fault->gfn, true, &page,
			      &order);
	if (r)
		return fault_exit(vcpu, fault,
				  r == -EHWPOISON ? r : -EFAULT);

	fault->pfn = page_to_pfn(page);
	fault->map_writable = true;
	fault->max_level = min(fault->max_level, max_level_for_order(order));
	return RET_PF_CONTINUE;
}
