// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM guest_memfd: the folios of private memory
 *
 * Model
 *
 * This file knows one folio at a time: how it becomes private memory and ordinary
 * memory again, what part of it is in use, and when its content is wiped.  It knows
 * neither memslots nor VMs beyond what it passes to the architecture.
 * guest_memfd.c knows the files that the folios belong to, and calls this one.
 *
 * Conversion
 *
 * Memory becomes private in kvm_gmem_alloc_folio() and ordinary in
 * kvm_gmem_restore_folio(), and nowhere else: never on a fault, never on a zap.
 * There the architecture is told, once per folio of any size, and the folio leaves
 * and returns to the kernel's direct map if the file was created so.  A folio is
 * converted before it can be found in the file, and converted back after it can
 * no longer be found.  So a folio in the file is always ready for use.
 *
 * Holes
 *
 * A large folio is never split.  A split would need a second way to convert memory,
 * can fail, and is not exported to modules.  Instead, pages that are punched out of a
 * large folio are wiped and become holes: pages of a folio that are absent from the
 * file.  Allocating such a page fills the hole.  The folio is freed once all of its
 * pages are holes, and is mapped as a whole only while it has none.
 *
 * Removal
 *
 * Removing pages has two steps.  kvm_gmem_unlink() takes folios out of the page
 * cache and collects them.  The caller holds invalidate_lock, and keeps them from
 * being mapped.  kvm_gmem_free_unlinked() wipes them, converts them back and frees
 * them.  It needs no lock, and takes nearly all of the time.
 *
 * Wiping races with KVM's own accesses, which hold a reference to a page but are not
 * waited for.  kvm_gmem_put_page() wipes the page again if it has left the file, or
 * has become a hole, in the meantime.  The barriers on both sides make sure that
 * one of the two wipes comes after the access and before the page is reused.
 *
 * Locks
 *
 *  invalidate_lock	   Of the mapping.  Shared to add pages or fill holes, exclusive
 *			   to unlink folios or make holes.
 *  folio lock		   A folio being added to, or removed from, the file.
 *  holes->lock		   The holes of a large folio.  Innermost, any context.
 *  RCU			   Keeps struct kvm_gmem_holes for lookups without a lock.
 *
 * Lifetimes
 *
 * The file holds a reference to a folio.  kvm_gmem_unlink() passes one on to the list
 * of unlinked folios.  KVM's own accesses hold another.  Guest mappings hold none.
 */
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>

#include <trace/events/kvm_mem_attrs.h>

#include "guest_memfd_folio.h"

/*
 * The private data of a large folio, while the folio is private memory; freed by RCU.
 * A folio with private data is split only with the consent of release_folio(), so this
 * also keeps the folio in one piece.
 */
struct kvm_gmem_holes {
	/* Any context.  Wiping a hole excludes filling it. */
	spinlock_t lock;
	/* The weight of @map, for a look without the lock. */
	unsigned int nr;
	DECLARE_BITMAP(map, KVM_GMEM_HUGE_NR);
	/* A page has a hardware memory error: map the others one by one. */
	bool poisoned;
	/* The next unlinked folio. */
	struct folio *next;
	struct rcu_head rcu;
};

/* NULL for a folio of one page, or one that has left the file. */
static struct kvm_gmem_holes *kvm_gmem_holes(struct folio *folio)
{
	return folio_test_large(folio) ? READ_ONCE(folio->private) : NULL;
}

bool kvm_gmem_is_hole(struct folio *folio, pgoff_t index)
{
	struct kvm_gmem_holes *holes;
	bool hole;

	rcu_read_lock();
	holes = kvm_gmem_holes(folio);
	hole = holes && READ_ONCE(holes->nr) &&
	       test_bit(index - folio->index, holes->map);
	rcu_read_unlock();

	return hole;
}

unsigned int kvm_gmem_fill_holes(struct folio *folio, pgoff_t first,
				 pgoff_t last)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);
	unsigned int filled;
	unsigned long flags;

	if (!holes || !READ_ONCE(holes->nr))
		return 0;

	spin_lock_irqsave(&holes->lock, flags);
	filled = holes->nr;
	bitmap_clear(holes->map, first - folio->index, last - first + 1);
	WRITE_ONCE(holes->nr, bitmap_weight(holes->map, KVM_GMEM_HUGE_NR));
	filled -= holes->nr;
	spin_unlock_irqrestore(&holes->lock, flags);
	return filled;
}

static int kvm_gmem_attach_holes(struct folio *folio)
{
	struct kvm_gmem_holes *holes;

	if (!folio_test_large(folio))
		return 0;

	holes = kzalloc(sizeof(*holes), GFP_KERNEL_ACCOUNT);
	if (!holes)
		return -ENOMEM;

	spin_lock_init(&holes->lock);
	folio_attach_private(folio, holes);
	return 0;
}

static void kvm_gmem_detach_holes(struct folio *folio)
{
	struct kvm_gmem_holes *holes = folio_detach_private(folio);

	if (holes)
		kfree_rcu(holes, rcu);
}

static void kvm_gmem_wipe_page(struct page *page)
{
	void *p;

	/* A poisoned page is never reused, and must not be touched. */
	if (PageHWPoison(page))
		return;

	p = kvm_gmem_map_local(page);
	clear_page(p);
	kvm_gmem_unmap_local(p);
}

static void kvm_gmem_wipe_folio(struct folio *folio)
{
	long i;

	for (i = 0; i < folio_nr_pages(folio); i++) {
		kvm_gmem_wipe_page(folio_page(folio, i));
		cond_resched();
	}
}

/* From private to ordinary memory, the opposite of kvm_gmem_prepare_folio(). */
static void kvm_gmem_restore_folio(struct folio *folio)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);
	int r = kvm_gmem_direct_map_restore(folio);

	/*
	 * Leak a large folio with a poisoned page.  The page allocator sees the poison
	 * of a page that is freed alone, but not of one in a large folio that goes to
	 * a CPU's list and comes back from there.
	 */
	if (holes && READ_ONCE(holes->poisoned))
		folio_get(folio);

	/* Leak the folio if its direct map cannot be restored. */
	if (WARN_ON_ONCE(r)) {
		trace_kvm_gmem_convert_fail(folio_pfn(folio),
					    folio_order(folio), false, r);
		folio_get(folio);
	}

	kvm_arch_gmem_invalidate(&folio->page, folio_order(folio));
	kvm_gmem_detach_holes(folio);
}

static int kvm_gmem_prepare_folio(struct kvm *kvm, struct folio *folio,
				  u64 flags)
{
	int r;

	r = kvm_gmem_attach_holes(folio);
	if (r)
		return r;

	r = kvm_arch_gmem_prepare(kvm, &folio->page, folio_order(folio));
	if (r) {
		kvm_gmem_detach_holes(folio);
		return r;
	}

	if (flags & KVM_GUEST_MEMFD_NO_DIRECT_MAP)
		r = kvm_gmem_direct_map_remove(folio);
	if (r)
		kvm_gmem_restore_folio(folio);
	return r;
}

/*
 * A folio full of zeroes.  The page allocator zeroes a large folio without a yield
 * point, so that is done here, unless the host's settings have the page allocator do
 * it anyway.
 */
static struct folio *kvm_gmem_alloc_zeroed(gfp_t gfp, unsigned int order)
{
	struct folio *folio;
	long i;

	if (!order)
		return filemap_alloc_folio(gfp | __GFP_ZERO, 0);

	folio = filemap_alloc_folio(gfp, order);
	if (!folio || want_init_on_alloc(gfp))
		return folio;

	for (i = 0; i < folio_nr_pages(folio); i++) {
		clear_highpage(folio_page(folio, i));
		cond_resched();
	}
	return folio;
}

struct folio *kvm_gmem_alloc_folio(struct kvm *kvm, gfp_t gfp,
				   unsigned int order, u64 flags)
{
	struct folio *folio = kvm_gmem_alloc_zeroed(gfp, order);
	int r;

	if (!folio)
		return ERR_PTR(-ENOMEM);

	r = kvm_gmem_prepare_folio(kvm, folio, flags);
	if (r) {
		trace_kvm_gmem_convert_fail(folio_pfn(folio), order, true, r);
		folio_put(folio);
		return ERR_PTR(r);
	}

	/* Lookups do not check for readiness: the folio must be complete. */
	folio_mark_uptodate(folio);
	return folio;
}

void kvm_gmem_discard_folio(struct folio *folio)
{
	kvm_gmem_restore_folio(folio);
	folio_put(folio);
}

/*
 * The generic removal of a folio from the page cache.  kvm_gmem_unlink() wipes later,
 * and marks its folios, so this is the end of a folio that others remove.
 */
void kvm_gmem_free_folio(struct folio *folio)
{
	if (folio_test_checked(folio))
		return;

	/*
	 * Order the store of NULL to folio->mapping before the wipe.  Pairs
	 * with the barrier in kvm_gmem_put_page().
	 */
	smp_mb();
	kvm_gmem_wipe_folio(folio);
	kvm_gmem_restore_folio(folio);
}

/* Where an unlinked folio keeps the next one. */
static struct folio **kvm_gmem_next_unlinked(struct folio *folio)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);

	return holes ? &holes->next : (struct folio **)&folio->private;
}

static void kvm_gmem_unlink_folio(struct address_space *mapping,
				  struct folio *folio,
				  struct kvm_gmem_removal *removal)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);

	if (holes) {
		removal->huge++;
		removal->holes += holes->nr;
	} else {
		removal->small++;
	}

	folio_lock(folio);
	folio_set_checked(folio);
	WARN_ON_ONCE(generic_error_remove_page(mapping, &folio->page));
	folio_unlock(folio);

	*kvm_gmem_next_unlinked(folio) = removal->unlinked;
	removal->unlinked = folio;
}

void kvm_gmem_unlink(struct address_space *mapping, pgoff_t first, pgoff_t end,
		     struct kvm_gmem_removal *removal)
{
	struct folio_batch batch;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios(mapping, &first, end - 1, &batch)) {
		/* The references of the batch become those of the list. */
		for (i = 0; i < folio_batch_count(&batch); i++)
			kvm_gmem_unlink_folio(mapping, batch.folios[i],
					      removal);
		folio_batch_init(&batch);
		cond_resched();
	}
}

static void kvm_gmem_free_one(struct inode *inode, struct folio *folio)
{
	unsigned int order = folio_order(folio);
	pgoff_t index = folio->index;
	u64 start = 0;

	if (trace_kvm_gmem_free_enabled())
		start = ktime_get_ns();

	/* As in kvm_gmem_free_folio(). */
	smp_mb();
	kvm_gmem_wipe_folio(folio);
	kvm_gmem_restore_folio(folio);
	folio_clear_checked(folio);
	folio_put(folio);

	if (start)
		trace_kvm_gmem_free(inode, index, order,
				    ktime_get_ns() - start);
}

void kvm_gmem_free_unlinked(struct inode *inode, struct folio *folio)
{
	struct folio **link, *next;

	for (; folio; folio = next) {
		link = kvm_gmem_next_unlinked(folio);
		next = *link;
		*link = NULL;
		kvm_gmem_free_one(inode, folio);
		cond_resched();
	}
}

/*
 * Make holes of the pages [@first, @end) of a large folio, and wipe them.
 * Returns whether nothing else is left of it.
 */
static bool kvm_gmem_make_holes(struct folio *folio, pgoff_t first, pgoff_t end,
				struct kvm_gmem_removal *removal)
{
	DECLARE_BITMAP(old, KVM_GMEM_HUGE_NR);
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);
	unsigned long i;

	spin_lock_irq(&holes->lock);
	bitmap_copy(old, holes->map, KVM_GMEM_HUGE_NR);
	bitmap_set(holes->map, first - folio->index, end - first);
	removal->holes += holes->nr;
	WRITE_ONCE(holes->nr, bitmap_weight(holes->map, KVM_GMEM_HUGE_NR));
	removal->holes -= holes->nr;
	spin_unlock_irq(&holes->lock);

	/* Order the bits before the wipe.  Pairs with kvm_gmem_put_page(). */
	smp_mb();

	for (i = first - folio->index; i < end - folio->index; i++) {
		if (!test_bit(i, old))
			kvm_gmem_wipe_page(folio_page(folio, i));
		cond_resched();
	}

	return holes->nr == KVM_GMEM_HUGE_NR;
}

void kvm_gmem_punch_edge(struct address_space *mapping, pgoff_t index,
			 pgoff_t *first, pgoff_t *end,
			 struct kvm_gmem_removal *removal)
{
	struct folio *folio = filemap_get_folio(mapping, index);
	pgoff_t from, next;
	bool gone;

	if (!folio)
		return;

	from = folio->index;
	next = from + folio_nr_pages(folio);
	if (*first > from || *end < next) {
		gone = kvm_gmem_make_holes(folio, max(*first, from),
					   min(*end, next), removal);
		if (*first >= from)
			*first = gone ? from : next;
		if (*end <= next)
			*end = gone ? next : from;
	}

	folio_put(folio);
}

void kvm_gmem_mark_poisoned(struct folio *folio)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);

	if (holes)
		WRITE_ONCE(holes->poisoned, true);
}

bool kvm_gmem_is_whole(struct folio *folio)
{
	struct kvm_gmem_holes *holes;
	bool whole;

	rcu_read_lock();
	holes = kvm_gmem_holes(folio);
	whole = holes && !READ_ONCE(holes->nr) && !READ_ONCE(holes->poisoned);
	rcu_read_unlock();

	return whole;
}

/* For kvm_gmem_put_page(): wipe the page if it is a hole by now. */
static void kvm_gmem_wipe_hole(struct folio *folio, struct page *page)
{
	struct kvm_gmem_holes *holes;
	unsigned long flags;

	rcu_read_lock();
	holes = kvm_gmem_holes(folio);
	if (holes && READ_ONCE(holes->nr)) {
		/* Once the hole is filled, the content is the guest's. */
		spin_lock_irqsave(&holes->lock, flags);
		if (test_bit(folio_page_idx(folio, page), holes->map))
			kvm_gmem_wipe_page(page);
		spin_unlock_irqrestore(&holes->lock, flags);
	}
	rcu_read_unlock();
}

void kvm_gmem_put_page(struct page *page)
{
	struct folio *folio = page_folio(page);

	/*
	 * Order the caller's stores to the page before the load of the mapping.
	 * Pairs with the barriers in kvm_gmem_free_folio(),
	 * kvm_gmem_free_unlinked() and kvm_gmem_make_holes(): either this sees
	 * that the page has left the file, or the wipe there comes after the
	 * stores.
	 */
	smp_mb();

	if (!READ_ONCE(folio->mapping))
		kvm_gmem_wipe_page(page);
	else
		kvm_gmem_wipe_hole(folio, page);

	folio_put(folio);
}
EXPORT_SYMBOL_GPL(kvm_gmem_put_page);
