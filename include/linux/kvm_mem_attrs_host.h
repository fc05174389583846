/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM per-page memory attributes - the in-kernel interface
 *
 * Not named as the uapi header is, which this directory would then hide from
 * <linux/kvm.h>.  Included by <linux/kvm_host.h> once struct kvm is known, so that call sites
 * need no #ifdef: without CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES everything below
 * folds to constants.
 *
 * virt/kvm/mem_attrs.c says who holds which lock when attributes change and
 * what readers can rely on, virt/kvm/guest_access.c how KVM's own accesses to
 * guest memory honour them.
 */
#ifndef __KVM_MEM_ATTRS_HOST_H
#define __KVM_MEM_ATTRS_HOST_H

#ifndef __KVM_HOST_H
#error "include <linux/kvm_host.h> instead"
#endif

#include <linux/highmem.h>
#include <linux/wait_bit.h>

struct kvm_mem_attrs;

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES

int kvm_mem_attrs_init_vm(struct kvm *kvm);
void kvm_mem_attrs_destroy_vm(struct kvm *kvm);
long kvm_mem_attrs_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
			    void __user *argp);
u64 kvm_mem_attrs_supported(struct kvm *kvm);

unsigned long __kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn);
unsigned int __kvm_mem_attrs_uniform_order(struct kvm *kvm, gfn_t gfn,
					   unsigned int max_order);

unsigned long kvm_mem_attrs_forbidden(struct kvm *kvm, gfn_t gfn);
int kvm_refused_exit(struct kvm_vcpu *vcpu);

/* On while any VM of this host has attributes. */
DECLARE_STATIC_KEY_FALSE(kvm_mem_attrs_in_use);

static inline bool __kvm_has_mem_attrs(struct kvm *kvm)
{
	/* Pairs with smp_store_release() in mem_attrs_init(). */
	return smp_load_acquire(&kvm->mem_attrs);
}

/*
 * False as long as no page of the VM ever had an attribute, true for good once
 * one had: all that a VM without attributes pays for.  Where no VM has any it
 * is a no-op instruction.
 */
#define kvm_has_mem_attrs(kvm)						\
	(static_branch_unlikely(&kvm_mem_attrs_in_use) &&		\
	 __kvm_has_mem_attrs(kvm))

/*
 * GFNs are dealt out to 64 regions, 2 MiB at a time.  So what has attributes in
 * one place of the VM costs nothing in most of the others, be the VM small or
 * large.
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

/*
 * As kvm_has_mem_attrs() of the region of @gfn: false as long as none of its
 * pages ever had an attribute.
 */
#define kvm_gfn_has_mem_attrs(kvm, gfn)					\
	(static_branch_unlikely(&kvm_mem_attrs_in_use) &&		\
	 __kvm_gfn_has_mem_attrs(kvm, gfn))

/* The attributes of @gfn: any context, no lock; stale as soon as returned. */
static inline unsigned long kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn)
{
	return kvm_gfn_has_mem_attrs(kvm, gfn) ?
	       __kvm_mem_attrs_get(kvm, gfn) : 0;
}

/*
 * An access of KVM on behalf of a guest instruction that attributes refuse
 * fails as one to unbacked memory does.  What tells the two apart is noted in
 * the vCPU, see guest_access.c: until kvm_clear_refused(), which is called where
 * an instruction or a page walk starts, or kvm_refused_exit(), which prepares
 * the exit for it and returns -EFAULT.
 */
static inline bool kvm_access_refused(struct kvm_vcpu *vcpu)
{
	return static_branch_unlikely(&kvm_mem_attrs_in_use) &&
	       vcpu->refused_flags;
}

static inline void kvm_clear_refused(struct kvm_vcpu *vcpu)
{
	vcpu->refused_flags = 0;
}

/*
 * Attributes belong to what userspace calls memory.  What KVM put into the
 * guest physical address space for its own purposes is not, nor is MMIO.
 */
static inline bool kvm_mem_attrs_apply(const struct kvm_memory_slot *slot)
{
	return slot && slot->id < KVM_USER_MEM_SLOTS;
}

/*
 * The access, a KVM_MEMORY_EXIT_FLAG_*, if attributes refuse it, or 0: an
 * attribute is the same bit as the access that it takes away.
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
 * Arch: compare and exchange 1, 2, 4 or 8 bytes of userspace memory with page
 * faults disabled: 0, 1 if another value was found (now in *@old), or -EFAULT.
 */
int kvm_arch_cmpxchg_user(void __user *uaddr, void *old, const void *new,
			  int len);
/*
 * Arch: something was taken away, or changed what backs it.  Have vCPUs that keep
 * pages of the guest in use across VM-Enter look for them anew before they touch
 * them again; returns whether there are any.  Called with interrupts and
 * preemption as they are within a spinlock.
 */
bool kvm_arch_mem_attrs_taken(struct kvm *kvm);
/* Arch: one mapping never spans more than 2^order naturally aligned pages. */
unsigned int kvm_arch_max_mapping_order(void);

#else /* !CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

static inline void kvm_mem_attrs_destroy_vm(struct kvm *kvm)
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

static inline bool kvm_access_refused(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvm_clear_refused(struct kvm_vcpu *vcpu)
{
}

static inline int kvm_refused_exit(struct kvm_vcpu *vcpu)
{
	return -EFAULT;
}

static inline unsigned long kvm_mem_attrs_get(struct kvm *kvm, gfn_t gfn)
{
	return 0;
}

#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

/*
 * virt/kvm/guest_access.c.  Every call stands behind kvm_has_mem_attrs() or
 * kvm_gfn_has_mem_attrs(), so that without attributes in the kernel none is left
 * to link.
 */
int kvm_read_guest_attrs(struct kvm *kvm, gpa_t gpa, void *data,
			 unsigned long len);
int kvm_write_guest_attrs(struct kvm *kvm, gpa_t gpa, const void *data,
			  unsigned long len);
int kvm_vcpu_read_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *data,
			      unsigned long len);
int kvm_vcpu_write_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
			       const void *data, unsigned long len);
int kvm_read_guest_page_attrs(struct kvm *kvm, gfn_t gfn, void *data,
			      int offset, int len);
int kvm_write_guest_page_attrs(struct kvm *kvm, gfn_t gfn, const void *data,
			       int offset, int len);
int kvm_vcpu_read_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn, void *data,
				   int offset, int len);
int kvm_vcpu_read_guest_atomic_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
				     void *data, unsigned long len);
int kvm_vcpu_write_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn,
				    const void *data, int offset, int len);
int kvm_guest_access_fetch(struct kvm *kvm, struct kvm_memory_slot *slot,
			   gfn_t gfn, void *data, int offset, int len);
int kvm_guest_access_write_atomic(struct kvm *kvm, gpa_t gpa,
				  const void *data, int len);
int kvm_guest_access_cmpxchg(struct kvm *kvm, struct kvm_memory_slot *slot,
			     gfn_t gfn, int offset, void *old, const void *new,
			     int len);
kvm_pfn_t kvm_guest_access_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
			       gfn_t gfn, bool *private);
int kvm_guest_access_map(struct kvm *kvm, gfn_t gfn, struct kvm_host_map *map);
void kvm_guest_access_unmap(struct kvm_vcpu *vcpu, struct kvm_host_map *map,
			    bool dirty);
void kvm_guest_access_keep(struct kvm *kvm, struct kvm_host_map *map);
void kvm_guest_access_use(struct kvm *kvm, struct kvm_host_map *map);
bool kvm_guest_access_check(struct kvm_vcpu *vcpu, gfn_t gfn);
bool kvm_guest_access_allowed(struct kvm *kvm, gpa_t gpa, unsigned long len);

void kvm_guest_access_lock(struct kvm *kvm);
void kvm_guest_access_unlock(struct kvm *kvm);

static inline bool kvm_host_map_has_attrs(const struct kvm_host_map *map)
{
	return IS_ENABLED(CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES) &&
	       map->has_attrs;
}

/*
 * kvm_vcpu_map() of a page that will be in use for longer than the handling of a
 * VM-Exit.  Nobody waits for the end of that: the owner has to give the page up
 * when he is asked to by kvm_arch_mem_attrs_taken().
 */
static inline int kvm_vcpu_map_keep(struct kvm_vcpu *vcpu, gfn_t gfn,
				    struct kvm_host_map *map)
{
	int r = kvm_vcpu_map(vcpu, gfn, map);

	if (!r && kvm_host_map_has_attrs(map))
		kvm_guest_access_keep(vcpu->kvm, map);
	return r;
}

/* virt/kvm/guest_memfd.c.  Arch: whether @kvm can have private memory. */
#ifdef CONFIG_KVM_PRIVATE_MEM
bool kvm_arch_has_private_mem(struct kvm *kvm);

/*
 * Get the page that backs @gfn when it is private, with a reference, and the
 * order of what it may be mapped with.  @max_order may be NULL.  @slot must be
 * protected by kvm->srcu or kvm->slots_lock.
 *
 * With @alloc a page that is absent is allocated, which may sleep.  Without it
 * the function may be called from any context.
 *
 * The reference does not keep the page in use: who maps it must check
 * mmu_invalidate_seq, taken before the call, under mmu_lock.
 *
 * Returns 0, -EFAULT (no guest_memfd, or it was closed), -EHWPOISON, -ENOENT (only
 * without @alloc), -ENOMEM.
 */
int kvm_gmem_get_page(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		      bool alloc, struct page **page, int *max_order);

/*
 * Drop the reference of kvm_gmem_get_page().  Whoever may have written to the page
 * has to use this and not put_page().  May be called from any context.
 */
void kvm_gmem_put_page(struct page *page);
#else
static inline bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return false;
}

static inline int kvm_gmem_get_page(struct kvm *kvm,
				    struct kvm_memory_slot *slot, gfn_t gfn,
				    bool alloc, struct page **page,
				    int *max_order)
{
	return -EFAULT;
}

static inline void kvm_gmem_put_page(struct page *page)
{
}
#endif /* CONFIG_KVM_PRIVATE_MEM */

/*
 * Arch: a folio, 2^order pages from @page on, is about to become private memory
 * of @kvm, respectively has ceased to be private, with its content wiped.
 * Called in pairs, once a folio: when it is allocated, before anybody
 * can find it, and when it is freed.  Not per fault, and not per mapping: what
 * is mapped with 4 KiB is still owned as a whole.  May sleep.
 *
 * If prepare fails, the allocation does, with its errno.
 */
#ifdef CONFIG_HAVE_KVM_GMEM_CONVERT
int kvm_arch_gmem_prepare(struct kvm *kvm, struct page *page,
			  unsigned int order);
void kvm_arch_gmem_invalidate(struct page *page, unsigned int order);
#else
static inline int kvm_arch_gmem_prepare(struct kvm *kvm, struct page *page,
					unsigned int order)
{
	return 0;
}

static inline void kvm_arch_gmem_invalidate(struct page *page,
					    unsigned int order)
{
}
#endif /* CONFIG_HAVE_KVM_GMEM_CONVERT */

/*
 * Arch: the largest order, at most @order, of a mapping of @page, which
 * @kvm got from kvm_gmem_get_page().  The page may be on its way out of the
 * file.
 */
#ifdef CONFIG_HAVE_KVM_GMEM_MAX_ORDER
int kvm_arch_gmem_max_order(struct kvm *kvm, struct page *page, int order);
#else
static inline int kvm_arch_gmem_max_order(struct kvm *kvm, struct page *page,
					  int order)
{
	return order;
}
#endif /* CONFIG_HAVE_KVM_GMEM_MAX_ORDER */

/*
 * Private memory outside of the direct map: arch/x86/kvm/gmem_direct_map.c.
 *
 * kvm_gmem_hide() takes a folio out, or fails and changes nothing;
 * kvm_gmem_show() puts back what is out, and fails only if the direct map is
 * not what it was.  Both sleep; kvm_gmem_hide_init() comes before the first.
 *
 * kvm_gmem_map_local() maps a page for the moment of an access, whether it is
 * hidden or not, any context.  Not nested, nothing may sleep in between.
 * kvm_gmem_map() is for longer, and sleeps.
 */
#ifdef CONFIG_KVM_GMEM_NO_DIRECT_MAP
int kvm_gmem_hide_init(void);
int kvm_gmem_hide(struct folio *folio);
int kvm_gmem_show(struct folio *folio);
void *kvm_gmem_map_local(struct page *page);
void kvm_gmem_unmap_local(void *p);
void *kvm_gmem_map(struct page *page);
void kvm_gmem_unmap(struct page *page, void *p);
#else
static inline int kvm_gmem_hide_init(void)
{
	return -EINVAL;
}

static inline int kvm_gmem_hide(struct folio *folio)
{
	return -EINVAL;
}

static inline int kvm_gmem_show(struct folio *folio)
{
	return 0;
}

static inline void *kvm_gmem_map_local(struct page *page)
{
	return kmap_local_page(page);
}

static inline void kvm_gmem_unmap_local(void *p)
{
	kunmap_local(p);
}

static inline void *kvm_gmem_map(struct page *page)
{
	return kmap(page);
}

static inline void kvm_gmem_unmap(struct page *page, void *p)
{
	kunmap(page);
}
#endif /* CONFIG_KVM_GMEM_NO_DIRECT_MAP */

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

/*
 * virt/kvm/pre_fault.c.  Arch: map the page at @gpa, as large as it may be;
 * returns how many bytes from @gpa on are mapped, at most @size, or an errno,
 * -EAGAIN if it has to be called again without kvm->srcu held in between.
 */
#ifdef CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY
int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, void __user *argp);
long kvm_arch_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size);
#else
static inline int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu,
					    void __user *argp)
{
	return -ENOTTY;
}
#endif /* CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY */

static inline bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	return IS_ENABLED(CONFIG_KVM_PRIVATE_MEM) &&
	       (kvm_mem_attrs_get(kvm, gfn) & KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

#endif /* __KVM_MEM_ATTRS_HOST_H */
