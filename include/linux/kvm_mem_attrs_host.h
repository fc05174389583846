/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM per-page memory attributes - the in-kernel interface
 *
 * virt/kvm/mem_attrs.c has the model, the locks, and what readers can rely on.
 *
 * Included by <linux/kvm_host.h> once struct kvm is known, so that call sites need no
 * #ifdef: without CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES everything below folds to
 * constants.  The name is not that of the uapi header: <linux/kvm.h> includes that
 * one as <linux/kvm_mem_attrs.h>, and would find a file of this directory instead.
 */
#ifndef __KVM_MEM_ATTRS_HOST_H
#define __KVM_MEM_ATTRS_HOST_H

#ifndef __KVM_HOST_H
#error "include <linux/kvm_host.h> instead"
#endif

#include <linux/wait_bit.h>

struct kvm_mem_attrs;

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES

int kvm_mem_attrs_init_vm(struct kvm *kvm);
void kvm_mem_attrs_destroy_vm(struct kvm *kvm);
long kvm_mem_attrs_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
			    void __user *argp);
u64 kvm_mem_attrs_supported(struct kvm *kvm);
void kvm_mem_attrs_create_debugfs(struct kvm *kvm);
void kvm_mem_attrs_refresh_stats(struct kvm *kvm);

unsigned long __kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn);
unsigned int __kvm_mem_attrs_uniform_order(struct kvm *kvm, gfn_t gfn,
					   unsigned int max_order);

unsigned long kvm_mem_attrs_forbidden(struct kvm *kvm, gfn_t gfn);

/* On while any VM of this host has attributes. */
DECLARE_STATIC_KEY_FALSE(kvm_mem_attrs_in_use);

static inline bool __kvm_has_mem_attrs(struct kvm *kvm)
{
	/* Pairs with smp_store_release() in mem_attrs_init(). */
	return smp_load_acquire(&kvm->mem_attrs);
}

/*
 * False until a page of the VM gets its first attribute, true from then on.  This test
 * is all that a VM without attributes pays.  It is a no-op instruction while no VM of
 * the host has attributes.
 */
#define kvm_has_mem_attrs(kvm)						\
	(static_branch_unlikely(&kvm_mem_attrs_in_use) &&		\
	 __kvm_has_mem_attrs(kvm))

/*
 * A region is one of 64 sets of GFNs: each 2 MiB of GFNs belong to the next region, round
 * robin.  Attributes in a few places mark few regions, in small and large VMs.  GFNs of
 * the other regions are handled as in a VM without attributes.
 */
#define KVM_MEM_ATTRS_REGIONS		64
#define KVM_MEM_ATTRS_REGION_SHIFT	9

static inline bool __kvm_gfn_has_mem_attrs(struct kvm *kvm, gfn_t gfn)
{
	gfn_t region = gfn >> KVM_MEM_ATTRS_REGION_SHIFT;

	/* Pairs with smp_store_release() in kvm_mem_attrs_activate(). */
	return smp_load_acquire(&kvm->mem_attrs_regions) &
	       BIT_ULL(region % KVM_MEM_ATTRS_REGIONS);
}

/* False until a page in the region of @gfn gets its first attribute. */
#define kvm_gfn_has_mem_attrs(kvm, gfn)					\
	(static_branch_unlikely(&kvm_mem_attrs_in_use) &&		\
	 __kvm_gfn_has_mem_attrs(kvm, gfn))

/* The attributes of @gfn: any context, no lock; stale as soon as returned. */
static inline unsigned long kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn)
{
	return kvm_gfn_has_mem_attrs(kvm, gfn) ?
	       __kvm_mem_attrs_get(kvm, gfn) : 0;
}

/* Attributes apply to memslots of userspace, not to KVM's internal ones or MMIO. */
static inline bool kvm_mem_attrs_apply(const struct kvm_memory_slot *slot)
{
	return slot && slot->id < KVM_USER_MEM_SLOTS;
}

/*
 * The part of @access, KVM_MEMORY_EXIT_FLAG_*, that @attrs refuse: an attribute
 * is the same bit as the access that it takes away.
 */
static_assert(KVM_MEMORY_ATTRIBUTE_NR == KVM_MEMORY_EXIT_FLAG_READ);
static_assert(KVM_MEMORY_ATTRIBUTE_NW == KVM_MEMORY_EXIT_FLAG_WRITE);
static_assert(KVM_MEMORY_ATTRIBUTE_NX == KVM_MEMORY_EXIT_FLAG_EXEC);

#define KVM_MEMORY_ATTRIBUTES_RWX	(KVM_MEMORY_ATTRIBUTE_NR | \
					 KVM_MEMORY_ATTRIBUTE_NW | \
					 KVM_MEMORY_ATTRIBUTE_NX)

static inline u64 kvm_mem_attrs_refuse(unsigned long attrs, u64 access)
{
	return attrs & access & KVM_MEMORY_ATTRIBUTES_RWX;
}

/*
 * Arch: the attributes that VMs like @kvm can have (NULL: any VM), and whether it
 * can enforce this combination of them.
 */
u64 kvm_arch_supported_mem_attrs(struct kvm *kvm);
bool kvm_arch_mem_attrs_valid(struct kvm *kvm, u64 attrs);
/*
 * Arch: zap or narrow the mappings of @range, as its attributes are about to go
 * from @old to @new; respectively, unmap @range.  @range lies within one memslot.
 *
 * Called with mmu_lock held for write and an invalidation of the range in progress.
 * Handles pages from range->start on, and moves range->start behind them.  Returns
 * before others have waited too long for mmu_lock, or drops and retakes it if
 * range->may_block.  Returns whether remote TLBs have to be flushed.
 */
bool kvm_arch_zap_mem_attrs(struct kvm *kvm, struct kvm_gfn_range *range,
			    unsigned long old, unsigned long new);
bool kvm_arch_unmap_gfns(struct kvm *kvm, struct kvm_gfn_range *range);
/*
 * Arch: no page of [start, return value) is mapped.  The return value is at most
 * @end.  It may be too small, which only costs time.  Called with mmu_lock held for
 * write; looks at a bounded number of SPTEs.
 */
gfn_t kvm_arch_next_mapping(struct kvm *kvm, gfn_t start, gfn_t end);
/*
 * Arch: forget what was read from guest page tables in the GFNs [start, end), which
 * can no longer be read, or have other content.  Called with mmu_lock held for
 * write, which may be dropped and retaken.
 */
void kvm_arch_drop_shadow_pages(struct kvm *kvm, gfn_t start, gfn_t end);
/*
 * Arch: something was taken away, or has a new backing.  Make vCPUs that keep pages of
 * the guest mapped across VM-Enter look them up again before the next use.  Returns
 * whether there are such vCPUs.  Called with mem_attrs->access held for write.
 */
bool kvm_arch_revoke_nested_pages(struct kvm *kvm);

#else /* !CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

static inline void kvm_mem_attrs_destroy_vm(struct kvm *kvm)
{
}

static inline void kvm_mem_attrs_create_debugfs(struct kvm *kvm)
{
}

static inline void kvm_mem_attrs_refresh_stats(struct kvm *kvm)
{
}

static inline long kvm_mem_attrs_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
					  void __user *argp)
{
	return -ENOTTY;
}

static inline bool kvm_has_mem_attrs(struct kvm *kvm)
{
	return false;
}

static inline bool kvm_gfn_has_mem_attrs(struct kvm *kvm, gfn_t gfn)
{
	return false;
}

static inline unsigned long kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn)
{
	return 0;
}

#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

/*
 * Unmap the GFNs [start, end) from the guest and from gfn_to_pfn caches, and keep
 * faults from mapping them again until the matching kvm_gfn_range_invalidate_end().
 * In between, changes of memslots wait.
 *
 * kvm_gfn_range_invalidate_pause() lets a change of memslots that waits proceed.
 * A task that invalidates piece by piece calls it before each piece, without locks
 * and without an invalidation in progress.
 */
void kvm_gfn_range_invalidate_begin(struct kvm *kvm, gfn_t start, gfn_t end);
void kvm_gfn_range_invalidate_end(struct kvm *kvm, gfn_t start, gfn_t end);
void kvm_gfn_range_invalidate_pause(struct kvm *kvm);

/* The change of memslots no longer waits for invalidations. */
static inline void kvm_memslots_swapped(struct kvm *kvm)
{
	if (!IS_ENABLED(CONFIG_KVM_PRIVATE_MEM))
		return;

	/*
	 * Order finish_rcuwait() before the look at the wait queue.  Pairs with
	 * set_current_state() in kvm_gfn_range_invalidate_pause().
	 */
	smp_mb();
	wake_up_var(&kvm->mn_memslots_update_rcuwait);
}

static inline bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	return IS_ENABLED(CONFIG_KVM_PRIVATE_MEM) &&
	       (kvm_mem_attrs_get(kvm, gfn) & KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

#endif /* __KVM_MEM_ATTRS_HOST_H */
