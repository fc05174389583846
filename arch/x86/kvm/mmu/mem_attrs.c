// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 MMU - per-page memory attributes
 *
 * What the x86 MMU does with the attributes of virt/kvm/mem_attrs.c, the same
 * for the TDP MMU and the shadow MMU, which differ only in how they zap:
 *
 *   zap	   SPTEs of an extent are zapped if PRIVATE changes or if read or
 *		   execute access is taken away, write-protected in place if only
 *		   write access is taken away, and left alone if access is granted:
 *		   a fault widens a mapping
 *   shadow pages  of guest page tables are zapped if the page table can no longer
 *		   be read, or has a new backing; if it only can no longer be
 *		   written they stay, as KVM write-protects it anyway
 *   fault	   kvm_mmu_faultin_attrs() refuses the access, or takes the
 *		   place of the lookup by HVA for a private GFN
 *   SPTE	   make_spte(), and code that lets a split SPTE execute, get only
 *		   the access that kvm_mmu_attrs_access() leaves
 *   level	   kvm_mmu_attrs_mapping_level() clamps a mapping to the uniform
 *		   region around the GFN, as told by the shape of the store
 *   prefetch	   only GFNs without attributes are mapped ahead of a fault
 *
 * Hugepage eligibility is not stored.  One lookup under mmu_lock, where attributes
 * cannot change (see virt/kvm/mem_attrs.c), derives it.  It needs no upkeep when
 * attributes or memslots change, and costs nothing in a VM without attributes.
 *
 * A huge SPTE can reach beyond the GFNs that lose write access.  Write-protecting
 * it takes too much away.  The next write to its other pages faults, and gets
 * smaller mappings.  No mapping ever allows more than each of the GFNs it covers,
 * so granting access needs no work.
 *
 * Write-protection in place races with fast_page_fault(), which takes no lock.  Both
 * use compare-and-exchange, and fast_page_fault() makes an SPTE writable only if
 * the value that it replaces is MMU-writable.  Write-protection clears that bit.
 * Accessed and dirty bits, dirty logging and access tracking do not set it, and do
 * not make an SPTE writable without it.
 *
 * Locks
 *
 *   kvm->srcu		 faults: memslots, and with them guest_memfd bindings
 *   kvm->mmu_lock	 zap and shadow pages: for write; level, SPTEs and prefetch:
 *			 for read (TDP MMU) or write
 *
 * Lifetimes: a page of a guest_memfd is held by reference until the fault has been
 * handled.  The mapping itself holds no reference.  It is removed by the
 * invalidation that precedes the removal of the page from the file.
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

	if (kvm && READ_ONCE(kvm->arch.mem_attrs_disabled))
		return 0;

	if (kvm ? kvm_arch_has_private_mem(kvm) :
		  kvm_is_vm_type_supported(KVM_X86_SW_PROTECTED_VM))
		attrs |= KVM_MEMORY_ATTRIBUTE_PRIVATE;

	return attrs;
}

/* EPT has read, write and execute bits, other formats a present bit for the first. */
static bool can_map_execute_only(void)
{
	return tdp_enabled && !(shadow_present_mask & PT_PRESENT_MASK);
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

/* Returns whether a TLB may still allow writing. */
static bool spte_forbid_write(u64 *sptep, u64 spte)
{
	u64 writable = PT_WRITABLE_MASK | shadow_mmu_writable_mask;

	do {
		if (!(spte & writable))
			return false;
	} while (!try_cmpxchg64(sptep, &spte, spte & ~writable));

	return true;
}

/* The SPTEs for GFNs within [start, end) of the page table below @iter. */
static bool table_forbid_write(const struct tdp_iter *iter, gfn_t start,
			       gfn_t end)
{
	gfn_t first = max(start, iter->gfn);
	gfn_t last = min(end, iter->gfn + SPTE_ENT_PER_PAGE) - 1;
	tdp_ptep_t child = spte_to_child_pt(iter->old_spte, iter->level);
	u64 *table = rcu_dereference(child), *sptep, spte;
	bool flush = false;

	for (sptep = table + (first - iter->gfn);
	     sptep <= table + (last - iter->gfn); sptep++) {
		spte = READ_ONCE(*sptep);
		if (is_shadow_present_pte(spte))
			flush |= spte_forbid_write(sptep, spte);
	}
	return flush;
}

/* SPTEs that are looked at before mmu_lock may be dropped. */
#define FORBID_WRITE_SPTES	8192

/*
 * Write-protect some SPTEs from @start on.  Returns the GFN to go on with, @end if
 * nothing is left.  Page tables of the lowest level are handled as a whole.
 */
static gfn_t root_forbid_write(struct kvm_mmu_page *root, gfn_t start,
			       gfn_t end, bool *flush)
{
	int budget = FORBID_WRITE_SPTES;
	struct tdp_iter iter;
	gfn_t next = end;

	rcu_read_lock();
	for_each_tdp_pte_min_level(iter, root, PG_LEVEL_2M, start, end) {
		if (budget <= 0) {
			next = max(start, iter.gfn);
			break;
		}
		budget--;
		if (!is_shadow_present_pte(iter.old_spte))
			continue;

		if (is_last_spte(iter.old_spte, iter.level)) {
			*flush |= spte_forbid_write(rcu_dereference(iter.sptep),
						    iter.old_spte);
		} else if (iter.level == PG_LEVEL_2M) {
			budget -= SPTE_ENT_PER_PAGE;
			*flush |= table_forbid_write(&iter, start, end);
		}
	}
	rcu_read_unlock();
	return next;
}

static gfn_t tdp_mmu_forbid_write(struct kvm *kvm,
				  const struct kvm_memory_slot *slot,
				  gfn_t start, gfn_t end, bool *flush)
{
	struct kvm_mmu_page *root;
	gfn_t next = end;

	if (!is_tdp_mmu_enabled(kvm))
		return end;

	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		if (kvm_mmu_page_as_id(root) == slot->as_id)
			next = min(next, root_forbid_write(root, start, end,
							   flush));
	return next;
}

/*
 * Pages whose rmaps are handled before mmu_lock may be dropped.  Rmaps are walked
 * page by page, mapped or not.
 */
#define RMAP_PAGES	256

static gfn_t rmap_end(struct kvm *kvm, const struct kvm_gfn_range *range)
{
	if (!kvm_memslots_have_rmaps(kvm))
		return range->end;

	return min(range->end, range->start + RMAP_PAGES);
}

static bool forbid_write(struct kvm *kvm, struct kvm_gfn_range *range)
{
	gfn_t end = rmap_end(kvm, range), next;
	bool flush = false;

	next = tdp_mmu_forbid_write(kvm, range->slot, range->start, end,
				    &flush);
	if (kvm_memslots_have_rmaps(kvm))
		flush |= kvm_mmu_rmaps_forbid_write(range->slot, range->start,
						    next);
	range->start = next;
	return flush;
}

bool kvm_arch_unmap_gfns(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct kvm_gfn_range part = *range;

	part.end = rmap_end(kvm, range);
	range->start = part.end;
	return kvm_unmap_gfn_range(kvm, &part);
}

bool kvm_arch_zap_mem_attrs(struct kvm *kvm, struct kvm_gfn_range *range,
			    unsigned long old, unsigned long new)
{
	unsigned long taken = new & ~old;

	/* Changing PRIVATE changes the backing page: no SPTE can stay. */
	if ((old ^ new) & KVM_MEMORY_ATTRIBUTE_PRIVATE)
		return kvm_arch_unmap_gfns(kvm, range);

	if (!kvm_mem_attrs_apply(range->slot)) {
		range->start = range->end;
		return false;
	}

	if (taken == KVM_MEMORY_ATTRIBUTE_NW)
		return forbid_write(kvm, range);

	return kvm_arch_unmap_gfns(kvm, range);
}

/* Zap what shadows a guest page table in [start, end), of one hash bucket. */
static bool zap_shadow_bucket(struct kvm *kvm, struct hlist_head *bucket,
			      gfn_t start, gfn_t end, struct list_head *invalid)
{
	struct kvm_mmu_page *sp;
	bool zapped = false;

	/* A zapped page stays on this list until the zap is committed. */
	hlist_for_each_entry(sp, bucket, hash_link) {
		if (sp->role.direct || sp->role.invalid)
			continue;
		if (sp->gfn < start || sp->gfn >= end)
			continue;
		kvm_mmu_prepare_zap_page(kvm, sp, invalid);
		zapped = true;
	}
	return zapped;
}

/* A root in use is zapped, but freed later: then @invalid can be empty. */
static void commit_zap(struct kvm *kvm, struct list_head *invalid, bool zapped)
{
	if (zapped && list_empty(invalid))
		kvm_flush_remote_tlbs(kvm);
	kvm_mmu_commit_zap_page(kvm, invalid);
}

/*
 * Shadow pages hold translations that were read from guest page tables, of the guest
 * and of its nested guests, in both address spaces.  KVM learns of writes to such
 * a page table, but neither of a lost right to read it nor of a new backing.
 *
 * Shadow pages of these GFNs can still be created, but not be filled: the page walk
 * reads the guest's entry again before it links anything, see FNAME(fetch).
 */
void kvm_arch_drop_shadow_pages(struct kvm *kvm, gfn_t start, gfn_t end)
{
	gfn_t i, nr = min_t(gfn_t, end - start, KVM_NUM_MMU_PAGES);
	LIST_HEAD(invalid);
	bool zapped = false;
	unsigned int nr_bucket;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!kvm->arch.indirect_shadow_pages)
		return;

	for (i = 0; i < nr; i++) {
		nr_bucket = nr < KVM_NUM_MMU_PAGES ?
			    kvm_page_table_hashfn(start + i) : i;
		zapped |= zap_shadow_bucket(kvm,
					    &kvm->arch.mmu_page_hash[nr_bucket],
					    start, end, &invalid);
		if (!need_resched() && !rwlock_is_contended(&kvm->mmu_lock))
			continue;

		commit_zap(kvm, &invalid, zapped);
		zapped = false;
		write_unlock(&kvm->mmu_lock);
		cond_resched();
		write_lock(&kvm->mmu_lock);
	}
	commit_zap(kvm, &invalid, zapped);
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
 * The role of @sp, which splits a huge mapping, for its SPTE at @index.  A hugepage that
 * is not executable because it is huge is split into SPTEs that are executable, unless
 * attributes forbid that.
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

/* SPTEs that are looked at to find a mapping. */
#define NEXT_MAPPING_SPTES	2048

static gfn_t root_next_mapping(struct kvm_mmu_page *root, gfn_t start,
			       gfn_t end)
{
	int budget = NEXT_MAPPING_SPTES;
	struct tdp_iter iter;
	gfn_t next = end;

	rcu_read_lock();
	for_each_tdp_pte(iter, root, start, end) {
		if (!budget-- || (is_shadow_present_pte(iter.old_spte) &&
				  is_last_spte(iter.old_spte, iter.level))) {
			next = max(start, iter.gfn);
			break;
		}
	}
	rcu_read_unlock();
	return next;
}

gfn_t kvm_arch_next_mapping(struct kvm *kvm, gfn_t start, gfn_t end)
{
	struct kvm_mmu_page *root;

	lockdep_assert_held_write(&kvm->mmu_lock);

	/* Rmaps tell page by page, which is no faster than zapping. */
	if (kvm_memslots_have_rmaps(kvm))
		return start;

	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		end = root_next_mapping(root, start, end);

	return end;
}

/*
 * The end of kvm_mmu_max_mapping_level() for a VM with attributes.  Returns the largest
 * level, at most @max_level, at which a mapping around @gfn has the same attributes
 * everywhere.  The memslot allows @max_level and all smaller levels.  The host's
 * mapping limits only shared pages; @max_level already limits a private page.
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
 * Whether all of [gfn, gfn + nr) may be mapped by HVA ahead of a fault.  The fault that
 * prefetches has checked for an invalidation of its own GFN only, and INVLPG has not
 * checked at all.
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

/* A prefault is not a guest access: do not prepare an exit for it. */
static int fault_exit(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      u64 flags, int err)
{
	if (!fault->prefetch)
		kvm_mem_attrs_prepare_exit(vcpu, gfn_to_gpa(fault->gfn), flags,
					   KVM_MEMORY_FAULT_BY_HARDWARE);
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
