/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM guest_memfd: the folios of private memory, for guest_memfd.c.  Model, locks
 * and lifetimes are in guest_memfd_folio.c.
 */
#ifndef __KVM_GUEST_MEMFD_FOLIO_H__
#define __KVM_GUEST_MEMFD_FOLIO_H__

#include <linux/bits.h>
#include <linux/mm.h>
#include <linux/types.h>

struct address_space;
struct inode;
struct kvm;

/* Large folios have the size of a PMD, which one mapping can span. */
#define KVM_GMEM_HUGE_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define KVM_GMEM_HUGE_NR	BIT(KVM_GMEM_HUGE_ORDER)

/*
 * Allocate a folio of zeroes and make it private memory of @kvm.  @flags are the
 * KVM_GUEST_MEMFD_* of the file.  kvm_gmem_discard_folio() undoes this for a folio
 * that was never in a file.
 */
struct folio *kvm_gmem_alloc_folio(struct kvm *kvm, gfp_t gfp,
				   unsigned int order, u64 flags);
void kvm_gmem_discard_folio(struct folio *folio);

/*
 * What has been removed from a file: the folios that are to be freed, how many of them
 * are small and large, and the holes that the file has lost with them.  Holes that have
 * been made instead count negative.
 */
struct kvm_gmem_removal {
	struct folio *unlinked;
	long small;
	long huge;
	long holes;
};

/* address_space_operations::free_folio */
void kvm_gmem_free_folio(struct folio *folio);

/*
 * Remove the folios of the pages [@first, @end) from the file, with invalidate_lock
 * held exclusively, and add them to @removal.  No folio may reach beyond the range.
 * Free them later, without locks.  Both sleep.
 */
void kvm_gmem_unlink(struct address_space *mapping, pgoff_t first, pgoff_t end,
		     struct kvm_gmem_removal *removal);
void kvm_gmem_free_unlinked(struct inode *inode, struct folio *unlinked);

/* Whether the page is absent although its folio is in the file.  Any context. */
bool kvm_gmem_is_hole(struct folio *folio, pgoff_t index);
/*
 * The pages [@first, @last] of the folio are in use from now on.  Returns how many of
 * them were holes.
 */
unsigned int kvm_gmem_fill_holes(struct folio *folio, pgoff_t first,
				 pgoff_t last);
/*
 * If [@*first, @*end) covers a part of the large folio at @index, make holes of that
 * part.  Then move the end of the range on that side, so that the rest of the range
 * has either all of the folio, if all of it is holes, or none of it.
 */
void kvm_gmem_punch_edge(struct address_space *mapping, pgoff_t index,
			 pgoff_t *first, pgoff_t *end,
			 struct kvm_gmem_removal *removal);

/* A page of the folio has a hardware memory error. */
void kvm_gmem_mark_poisoned(struct folio *folio);
/* Whether a large folio may be mapped as a whole.  Any context. */
bool kvm_gmem_is_whole(struct folio *folio);

#endif /* __KVM_GUEST_MEMFD_FOLIO_H__ */
