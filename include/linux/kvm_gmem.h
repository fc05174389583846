/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM guest_memfd - how KVM reaches private pages, and what architectures provide
 *
 * virt/kvm/guest_memfd.c has the model, the locks and the lifetimes.  Included by
 * <linux/kvm_host.h>.
 */
#ifndef __KVM_GMEM_H
#define __KVM_GMEM_H

#ifndef __KVM_HOST_H
#error "include <linux/kvm_host.h> instead"
#endif

#include <linux/highmem.h>

#ifdef CONFIG_KVM_PRIVATE_MEM
/* Arch: whether @kvm can have private memory. */
bool kvm_arch_has_private_mem(struct kvm *kvm);

/*
 * Get the page that backs @gfn when it is private, with a reference, and the
 * order of what it may be mapped with.  @max_order may be NULL.  @slot must be
 * protected by kvm->srcu or kvm->slots_lock.
 *
 * With @alloc a page that is absent is allocated, which may sleep.  Without it
 * the function may be called from any context.
 *
 * The reference does not keep the page in the file.  A caller that maps the page must
 * check mmu_invalidate_seq, taken before the call, under mmu_lock.
 *
 * Returns 0, -EFAULT (no guest_memfd, or it was closed), -EHWPOISON, -ENOENT (only
 * without @alloc), -ENOMEM.
 */
int kvm_gmem_get_page(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		      bool alloc, struct page **page, int *max_order);

/*
 * Drop the reference of kvm_gmem_get_page().  A caller that may have written to the
 * page must use this and not put_page().  May be called from any context.
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
 * of @kvm; respectively, has become ordinary memory, with its content wiped.
 * Called in pairs, once per folio: when it is allocated, before a lookup can
 * find it, and when it is freed.  Not called per fault or per mapping: a folio that
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
 * @kvm got from kvm_gmem_get_page().  The page may be about to leave the
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
 * kvm_gmem_direct_map_remove() takes a folio out of the direct map, or fails and changes
 * nothing.  kvm_gmem_direct_map_restore() puts a folio back that is out, and fails only if
 * the direct map is not what it was.  Both sleep.  kvm_gmem_direct_map_init() must
 * succeed before the first removal.
 *
 * kvm_gmem_map_local() maps a page for one access, in the direct map or not, from any
 * context.  It does not nest, and the caller must not sleep until
 * kvm_gmem_unmap_local().  kvm_gmem_map() maps a page for longer, and sleeps.
 */
#ifdef CONFIG_KVM_GMEM_NO_DIRECT_MAP
int kvm_gmem_direct_map_init(void);
int kvm_gmem_direct_map_remove(struct folio *folio);
int kvm_gmem_direct_map_restore(struct folio *folio);
void *kvm_gmem_map_local(struct page *page);
void kvm_gmem_unmap_local(void *p);
void *kvm_gmem_map(struct page *page);
void kvm_gmem_unmap(struct page *page, void *p);
#else
static inline int kvm_gmem_direct_map_init(void)
{
	return -EINVAL;
}

static inline int kvm_gmem_direct_map_remove(struct folio *folio)
{
	return -EINVAL;
}

static inline int kvm_gmem_direct_map_restore(struct folio *folio)
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

#endif /* __KVM_GMEM_H */
