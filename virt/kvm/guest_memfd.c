// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM guest_memfd: memory that only the private GFNs of one VM can reach.
 *
 * Model
 *
 * A guest_memfd is a file without read, write and mmap, of fixed size, whose
 * page cache is the memory.  Its inode lives on a pseudo filesystem of its own,
 * mounted only while a guest_memfd exists, and can not be opened a second time:
 * inode and file come and go together.
 *
 * A memslot that is bound to the file takes a run of its pages, one run per
 * memslot, as long as the memslot.  The runs are nodes, embedded in the
 * memslots, of an interval tree keyed by page offset: bookkeeping costs nothing
 * per page, binding can not fail for lack of memory, and no page of the file
 * is ever in two memslots.
 *
 * A page becomes part of the file when it is first needed (guest access, KVM's
 * own access, fallocate) and leaves it by FALLOC_FL_PUNCH_HOLE or when the file
 * is closed.  It is charged to the memory cgroup of whoever needed it first,
 * is zero at that time, and is wiped when it leaves.  In between nothing moves
 * it, swaps it, splits it or writes it back.
 *
 * Conversion
 *
 * Memory becomes private in kvm_gmem_alloc_folio() and ceases to be in
 * kvm_gmem_free_folio(), and nowhere else: never on a fault, never on a zap.
 * There the architecture is told, once a folio, whatever its size, and the
 * folio leaves and returns to the kernel's direct map, if the file was created
 * so.  Both come before the folio can be found, respectively after it can not
 * any more, so what is in the file is always ready for use.
 *
 * Large folios
 *
 * A file created with KVM_GUEST_MEMFD_HUGE_PAGES takes 2 MiB at once where the
 * file has nothing yet in that piece, and falls back to single pages where
 * there is something, or where 2 MiB are not to be had.  Such a folio is never
 * split, neither by a hole in it: that would take a second way to convert
 * memory, can fail, and is not open to modules.  Pages that are punched out of
 * it are wiped and remembered as holes (struct kvm_gmem_holes), look absent
 * from then on, and are filled by whatever else allocates a page.  Once all
 * of it is holes the folio is freed.  It is mapped as a whole only while it has
 * no hole.
 *
 * Locks, outermost first
 *
 *  kvm->slots_lock	   slot->gmem.file.  Bind, unbind and release exclude
 *			   one another.
 *  mapping->		   Shared to add pages, exclusive to remove pages.
 *    invalidate_lock	   Exclusive, with gmem->lock, to change the tree;
 *			   either of the two is enough to read it.
 *  folio lock		   A folio being added to, or removed from, the file.
 *  gmem->lock		   See invalidate_lock.  Memory failure needs the tree
 *			   with a folio locked, too late for invalidate_lock.
 *  holes->lock		   The holes of a large folio.  They are made with
 *			   invalidate_lock held exclusive, filled with it shared.
 *  kvm->mmu_lock	   Taken by kvm_gfn_range_invalidate_begin() and _end().
 *  RCU			   Looking up a page that is there: no lock at all.
 *
 * Faults add pages inside kvm->srcu.  So nobody may wait for kvm->srcu, or for
 * KVM's accesses to guest memory in flight, with invalidate_lock held.
 *
 * Removal against use
 *
 * Before a page leaves the file, guest mappings of its GFNs are invalidated,
 * and the invalidation stays in progress until the page is gone.  A fault that
 * looked the page up earlier finds mmu_invalidate_seq changed before it can
 * map it, and retries.  Guest mappings hold no page reference.
 *
 * KVM's own accesses do, but removal does not wait for them: their result is
 * that of an access to a page that is being freed.  Whoever finishes last wipes
 * the page, see kvm_gmem_put_page().
 *
 * The range of an invalidation is widened to whole large folios: a fault next
 * to a hole in the making must not map the folio as a whole.
 *
 * Lifetimes
 *
 * The file pins the VM: a file descriptor may outlive the VM's.  A memslot does
 * not pin the file: a VM may outlive its guest_memfds, and when the last
 * reference to the file goes away, release zaps the guest's mappings, frees the
 * pages and leaves the memslots without private backing.  So slot->gmem.file
 * points to a live struct file until release or unbind clears it under
 * slots_lock, but its count may be zero: get_file_rcu() before anything that
 * sleeps.  The inode, and struct kvm_gmem with it, may outlive the file
 * (O_PATH, inotify), but then has neither pages nor bindings.
 *
 * What userspace can rely on
 *
 *  - a new page is zero, and only the VM's private GFNs see its content;
 *  - when PUNCH_HOLE returns, the pages are gone from the guest as well;
 *  - st_size is the size at creation, st_blocks what is allocated right now;
 *  - a page with a hardware memory error stays and fails with EHWPOISON, until
 *    a hole is punched there.
 *
 * As with KVM's other file descriptors, the inode is private to the kernel
 * (S_PRIVATE; what would label it is not exported to modules): access control
 * is that of /dev/kvm and of passing file descriptors.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs_context.h>
#include <linux/highmem.h>
#include <linux/interval_tree.h>
#include <linux/huge_mm.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>

#include "guest_memfd.h"

#define KVM_GMEM_MAGIC 0x474d454d	/* "GMEM" */

/* Large folios are of the size of a PMD, what one mapping can span. */
#define KVM_GMEM_HUGE_ORDER	(PMD_SHIFT - PAGE_SHIFT)
#define KVM_GMEM_HUGE_NR	BIT(KVM_GMEM_HUGE_ORDER)

struct kvm_gmem {
	/* Pinned until release, the bindings hold nothing afterwards. */
	struct kvm *kvm;
	/* KVM_GUEST_MEMFD_* of the creation. */
	u64 flags;
	/* Innermost sleeping lock, see the head of this file. */
	struct mutex lock;
	/* kvm_memory_slot::gmem.node of every bound memslot, by page offset. */
	struct rb_root_cached bindings;
};

/*
 * The private data of a large folio, from before it is in the file until it has
 * left it; freed by RCU.  As a folio with private data needs the consent of
 * kvm_gmem_release_folio() to be split, it also keeps the folio in one piece.
 */
struct kvm_gmem_holes {
	/* Any context.  Wiping a hole excludes filling it. */
	spinlock_t lock;
	/* The weight of the bitmap, for a look without the lock. */
	unsigned int nr;
	DECLARE_BITMAP(map, KVM_GMEM_HUGE_NR);
	/* A page has a hardware memory error: map the others one by one. */
	bool poisoned;
	struct rcu_head rcu;
};

static struct vfsmount *kvm_gmem_mnt;
static int kvm_gmem_mnt_count;

static const struct file_operations kvm_gmem_fops;

static struct kvm_gmem *kvm_gmem_of(struct address_space *mapping)
{
	return mapping->host->i_private;
}

static struct kvm_memory_slot *kvm_gmem_slot(struct interval_tree_node *node)
{
	return container_of(node, struct kvm_memory_slot, gmem.node);
}

/* The GFNs, [start, end), of the part of a binding within [@first, @last]. */
static gfn_t kvm_gmem_gfn_start(struct interval_tree_node *node, pgoff_t first)
{
	return kvm_gmem_slot(node)->base_gfn +
	       (max(first, node->start) - node->start);
}

static gfn_t kvm_gmem_gfn_end(struct interval_tree_node *node, pgoff_t last)
{
	return kvm_gmem_slot(node)->base_gfn +
	       (min(last, node->last) - node->start) + 1;
}

/*
 * Take the pages [@first, @last] from the guest, and keep them from it until
 * kvm_gmem_invalidate_end().  The bindings must not change in between.
 */
static void kvm_gmem_invalidate_begin(struct kvm_gmem *gmem, pgoff_t first,
				      pgoff_t last)
{
	struct interval_tree_node *node;

	for (node = interval_tree_iter_first(&gmem->bindings, first, last);
	     node; node = interval_tree_iter_next(node, first, last))
		kvm_gfn_range_invalidate_begin(gmem->kvm,
					       kvm_gmem_gfn_start(node, first),
					       kvm_gmem_gfn_end(node, last));
}

static void kvm_gmem_invalidate_end(struct kvm_gmem *gmem, pgoff_t first,
				    pgoff_t last)
{
	struct interval_tree_node *node;

	for (node = interval_tree_iter_first(&gmem->bindings, first, last);
	     node; node = interval_tree_iter_next(node, first, last))
		kvm_gfn_range_invalidate_end(gmem->kvm,
					     kvm_gmem_gfn_start(node, first),
					     kvm_gmem_gfn_end(node, last));
}

/* NULL for a folio of one page, or one that has left the file. */
static struct kvm_gmem_holes *kvm_gmem_holes(struct folio *folio)
{
	return folio_test_large(folio) ? READ_ONCE(folio->private) : NULL;
}

/* Whether the page is absent although its folio is there. */
static bool kvm_gmem_is_hole(struct folio *folio, pgoff_t index)
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

/* The pages [@first, @last] of the folio are in use from now on. */
static void kvm_gmem_fill_holes(struct folio *folio, pgoff_t first,
				pgoff_t last)
{
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);
	unsigned long flags;

	if (!holes || !READ_ONCE(holes->nr))
		return;

	spin_lock_irqsave(&holes->lock, flags);
	bitmap_clear(holes->map, first - folio->index, last - first + 1);
	WRITE_ONCE(holes->nr, bitmap_weight(holes->map, KVM_GMEM_HUGE_NR));
	spin_unlock_irqrestore(&holes->lock, flags);
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

	/* Nobody will get poisoned memory, and touching it is an error. */
	if (PageHWPoison(page))
		return;

	p = kvm_gmem_map_local(page);
	clear_page(p);
	kvm_gmem_unmap_local(p);
}

/* From private to ordinary memory, the opposite of kvm_gmem_prepare_folio(). */
static void kvm_gmem_restore_folio(struct folio *folio)
{
	/* What can not be restored must not return to circulation. */
	if (WARN_ON_ONCE(kvm_gmem_show(folio)))
		folio_get(folio);

	kvm_arch_gmem_invalidate(&folio->page, folio_order(folio));
	kvm_gmem_detach_holes(folio);
}

static int kvm_gmem_prepare_folio(struct kvm_gmem *gmem, struct folio *folio)
{
	int r;

	r = kvm_gmem_attach_holes(folio);
	if (r)
		return r;

	r = kvm_arch_gmem_prepare(gmem->kvm, &folio->page, folio_order(folio));
	if (r) {
		kvm_gmem_detach_holes(folio);
		return r;
	}

	if (gmem->flags & KVM_GUEST_MEMFD_NO_DIRECT_MAP)
		r = kvm_gmem_hide(folio);
	if (r)
		kvm_gmem_restore_folio(folio);
	return r;
}

/* The one place where memory becomes private. */
static struct folio *kvm_gmem_alloc_folio(struct kvm_gmem *gmem, gfp_t gfp,
					  unsigned int order)
{
	struct folio *folio = filemap_alloc_folio(gfp | __GFP_ZERO, order);
	int r;

	if (!folio)
		return ERR_PTR(-ENOMEM);

	r = kvm_gmem_prepare_folio(gmem, folio);
	if (r) {
		folio_put(folio);
		return ERR_PTR(r);
	}

	return folio;
}

/*
 * Allocate a folio for @index, which it is aligned to, and make it part of the
 * file.  Returns -EEXIST if another task was faster, or if there is something
 * in its place.
 */
static struct folio *kvm_gmem_new_folio(struct address_space *mapping,
					pgoff_t index, gfp_t gfp,
					unsigned int order)
{
	struct folio *folio;
	int r;

	lockdep_assert_held(&mapping->invalidate_lock);

	folio = kvm_gmem_alloc_folio(kvm_gmem_of(mapping), gfp, order);
	if (IS_ERR(folio))
		return folio;

	/* Lookups do not look for readiness, so it must be complete before. */
	folio_mark_uptodate(folio);

	r = filemap_add_folio(mapping, folio, index, gfp);
	if (r) {
		kvm_gmem_restore_folio(folio);
		folio_put(folio);
		return ERR_PTR(r);
	}

	/*
	 * There is nothing to write back to, but a clean folio is fair game for
	 * whoever drops page cache, e.g. soft offlining, without asking KVM.
	 */
	folio_mark_dirty(folio);
	folio_unlock(folio);
	return folio;
}

/* NULL if it has to be single pages. */
static struct folio *kvm_gmem_new_huge_folio(struct address_space *mapping,
					     pgoff_t index)
{
	pgoff_t start = round_down(index, KVM_GMEM_HUGE_NR);
	pgoff_t last = start + KVM_GMEM_HUGE_NR - 1;
	gfp_t gfp = mapping_gfp_mask(mapping);
	struct folio *folio;

	if (!(kvm_gmem_of(mapping)->flags & KVM_GUEST_MEMFD_HUGE_PAGES))
		return NULL;

	if (last >= i_size_read(mapping->host) >> PAGE_SHIFT)
		return NULL;

	/* Do not zero 2 MiB in vain: once there is something, it stays. */
	if (filemap_range_has_page(mapping, (loff_t)start << PAGE_SHIFT,
				   ((loff_t)last << PAGE_SHIFT)))
		return NULL;

	/* Neither reclaim hard, nor kill anybody, for what can be done without. */
	folio = kvm_gmem_new_folio(mapping, start,
				   gfp | __GFP_NORETRY | __GFP_NOWARN,
				   KVM_GMEM_HUGE_ORDER);
	return IS_ERR(folio) ? NULL : folio;
}

/*
 * Look up or allocate.  The folio is returned with a reference, and without a
 * hole at @index.
 */
static struct folio *kvm_gmem_get_folio(struct address_space *mapping,
					pgoff_t index)
{
	gfp_t gfp = mapping_gfp_mask(mapping);
	struct folio *folio;

	/* invalidate_lock keeps what beat kvm_gmem_new_folio() to it there. */
	do {
		folio = filemap_get_folio(mapping, index);
		if (!folio)
			folio = kvm_gmem_new_huge_folio(mapping, index);
		if (!folio)
			folio = kvm_gmem_new_folio(mapping, index, gfp, 0);
	} while (folio == ERR_PTR(-EEXIST));

	if (!IS_ERR(folio))
		kvm_gmem_fill_holes(folio, index, index);
	return folio;
}

/* The folio left the file: the one place where memory ceases to be private. */
static void kvm_gmem_free_folio(struct folio *folio)
{
	long i;

	/*
	 * Order the store of NULL to folio->mapping before the wipe.  Pairs
	 * with the barrier in kvm_gmem_put_page().
	 */
	smp_mb();

	for (i = 0; i < folio_nr_pages(folio); i++)
		kvm_gmem_wipe_page(folio_page(folio, i));

	kvm_gmem_restore_folio(folio);
}

static int kvm_gmem_migrate_folio(struct address_space *mapping,
				  struct folio *dst, struct folio *src,
				  enum migrate_mode mode)
{
	/*
	 * Guest mappings hold no reference and have no rmap, migration would
	 * move the page from under the guest.  Not -EAGAIN: do not try again.
	 */
	return -EINVAL;
}

/* Take the folio from the guest, which may fault in what is not poisoned. */
static void kvm_gmem_poison_folio(struct folio *folio)
{
	struct kvm_gmem *gmem = kvm_gmem_of(folio->mapping);
	pgoff_t last = folio->index + folio_nr_pages(folio) - 1;
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);

	if (holes)
		WRITE_ONCE(holes->poisoned, true);

	mutex_lock(&gmem->lock);
	kvm_gmem_invalidate_begin(gmem, folio->index, last);
	kvm_gmem_invalidate_end(gmem, folio->index, last);
	mutex_unlock(&gmem->lock);
}

/*
 * Memory failure, with the page locked: take it from the guest but leave it in
 * the file, so that the next access gets -EHWPOISON instead of a fresh page
 * full of zeroes.  memory_failure() reports the reference that the file keeps
 * as a failure to isolate the page.  No harm in that: PG_hwpoison keeps the
 * page from being used again.
 */
static int kvm_gmem_error_remove_page(struct address_space *mapping,
				      struct page *page)
{
	kvm_gmem_poison_folio(page_folio(page));
	return 0;
}

/*
 * Somebody wants to split a large folio.  Never: what was converted as one is
 * converted back as one.  Memory failure asks after it has marked the folio,
 * and goes no further when refused, so take the folio from the guest here.
 */
static bool kvm_gmem_release_folio(struct folio *folio, gfp_t gfp)
{
	if (folio_test_large(folio) && PageHasHWPoisoned(&folio->page))
		kvm_gmem_poison_folio(folio);

	return false;
}

/* Private data stays until kvm_gmem_free_folio(). */
static void kvm_gmem_invalidate_folio(struct folio *folio, size_t offset,
				      size_t len)
{
}

static const struct address_space_operations kvm_gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= kvm_gmem_migrate_folio,
	.error_remove_page	= kvm_gmem_error_remove_page,
	.release_folio		= kvm_gmem_release_folio,
	.invalidate_folio	= kvm_gmem_invalidate_folio,
	.free_folio		= kvm_gmem_free_folio,
};

/*
 * Find the folio at @index without sleeping and without a reference to the
 * file, both struct file and the inode are freed by RCU.
 */
static struct folio *kvm_gmem_lookup(struct kvm_memory_slot *slot,
				     pgoff_t index)
{
	struct folio *folio = ERR_PTR(-EFAULT);
	struct file *file;

	rcu_read_lock();
	file = rcu_dereference(slot->gmem.file);
	if (file)
		folio = filemap_get_folio(file->f_mapping, index);
	rcu_read_unlock();

	if (IS_ERR_OR_NULL(folio))
		return folio ?: ERR_PTR(-ENOENT);

	if (kvm_gmem_is_hole(folio, index)) {
		folio_put(folio);
		return ERR_PTR(-ENOENT);
	}

	return folio;
}

static struct file *kvm_gmem_get_file(struct kvm_memory_slot *slot)
{
	struct file *file;

	rcu_read_lock();
	file = rcu_dereference(slot->gmem.file);
	if (file && !get_file_rcu(file))
		file = NULL;
	rcu_read_unlock();

	return file;
}

static struct folio *kvm_gmem_lookup_or_alloc(struct kvm_memory_slot *slot,
					      pgoff_t index)
{
	struct folio *folio;
	struct file *file;

	file = kvm_gmem_get_file(slot);
	if (!file)
		return ERR_PTR(-EFAULT);

	filemap_invalidate_lock_shared(file->f_mapping);
	folio = kvm_gmem_get_folio(file->f_mapping, index);
	filemap_invalidate_unlock_shared(file->f_mapping);

	fput(file);
	return folio;
}

/*
 * The order of what @gfn may be mapped with: all of the folio, if it lies in the
 * guest as it does in the file, and all of it is there.
 */
static int kvm_gmem_max_order(struct kvm *kvm, struct folio *folio,
			      pgoff_t index, gfn_t gfn)
{
	unsigned long nr = folio_nr_pages(folio);
	struct kvm_gmem_holes *holes;
	int order = 0;

	rcu_read_lock();
	holes = kvm_gmem_holes(folio);
	if (holes && !READ_ONCE(holes->nr) && !READ_ONCE(holes->poisoned) &&
	    !((gfn ^ index) & (nr - 1)))
		order = folio_order(folio);
	rcu_read_unlock();

	return kvm_arch_gmem_max_order(kvm, folio_file_page(folio, index),
				       order);
}

int kvm_gmem_get_page(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		      bool alloc, struct page **page, int *max_order)
{
	pgoff_t index = gfn - slot->base_gfn + slot->gmem.node.start;
	struct folio *folio;

	might_sleep_if(alloc);
	lockdep_assert(srcu_read_lock_held(&kvm->srcu) ||
		       lockdep_is_held(&kvm->slots_lock));

	/* An invalid memslot is a copy that was never bound. */
	if (slot->flags & KVM_MEMSLOT_INVALID)
		return -EFAULT;

	folio = kvm_gmem_lookup(slot, index);
	if (folio == ERR_PTR(-ENOENT) && alloc)
		folio = kvm_gmem_lookup_or_alloc(slot, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	*page = folio_file_page(folio, index);
	if (PageHWPoison(*page)) {
		folio_put(folio);
		return -EHWPOISON;
	}

	if (max_order)
		*max_order = kvm_gmem_max_order(kvm, folio, index, gfn);
	return 0;
}
EXPORT_SYMBOL_GPL(kvm_gmem_get_page);

/* For kvm_gmem_put_page(): wipe the page if it is a hole by now. */
static void kvm_gmem_wipe_hole(struct folio *folio, struct page *page)
{
	struct kvm_gmem_holes *holes;
	unsigned long flags;

	rcu_read_lock();
	holes = kvm_gmem_holes(folio);
	if (holes && READ_ONCE(holes->nr)) {
		/* Once the hole is filled, the content is somebody's. */
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
	 * Pairs with the barriers in kvm_gmem_free_folio() and
	 * kvm_gmem_make_holes(): either this sees that the page left the file,
	 * or the wipe there comes after them.
	 */
	smp_mb();

	if (!READ_ONCE(folio->mapping))
		kvm_gmem_wipe_page(page);
	else
		kvm_gmem_wipe_hole(folio, page);

	folio_put(folio);
}
EXPORT_SYMBOL_GPL(kvm_gmem_put_page);

/*
 * Make holes of the pages [@first, @end) of a large folio, and wipe them.
 * Returns whether nothing else is left of it.
 */
static bool kvm_gmem_make_holes(struct folio *folio, pgoff_t first, pgoff_t end)
{
	DECLARE_BITMAP(old, KVM_GMEM_HUGE_NR);
	struct kvm_gmem_holes *holes = kvm_gmem_holes(folio);
	unsigned long i;

	spin_lock_irq(&holes->lock);
	bitmap_copy(old, holes->map, KVM_GMEM_HUGE_NR);
	bitmap_set(holes->map, first - folio->index, end - first);
	WRITE_ONCE(holes->nr, bitmap_weight(holes->map, KVM_GMEM_HUGE_NR));
	spin_unlock_irq(&holes->lock);

	/* Order the bits before the wipe.  Pairs with kvm_gmem_put_page(). */
	smp_mb();

	for (i = first - folio->index; i < end - folio->index; i++)
		if (!test_bit(i, old))
			kvm_gmem_wipe_page(folio_page(folio, i));

	return holes->nr == KVM_GMEM_HUGE_NR;
}

/*
 * If [@*first, @*end) takes away part of the large folio at @index, do that,
 * and move the end of the range on that side so that the rest of the range has
 * either all of the folio, if nothing is left of it, or none.
 */
static void kvm_gmem_punch_edge(struct address_space *mapping, pgoff_t index,
				pgoff_t *first, pgoff_t *end)
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
					   min(*end, next));
		if (*first >= from)
			*first = gone ? from : next;
		if (*end <= next)
			*end = gone ? next : from;
	}

	folio_put(folio);
}

/* Free the pages [@first, @end), with invalidate_lock held exclusive. */
static void kvm_gmem_truncate(struct address_space *mapping, pgoff_t first,
			      pgoff_t end)
{
	kvm_gmem_punch_edge(mapping, first, &first, &end);
	if (first < end)
		kvm_gmem_punch_edge(mapping, end - 1, &first, &end);
	if (first < end)
		truncate_inode_pages_range(mapping, (loff_t)first << PAGE_SHIFT,
					   ((loff_t)end << PAGE_SHIFT) - 1);
}

static void kvm_gmem_punch_hole(struct address_space *mapping, loff_t offset,
				loff_t len)
{
	pgoff_t last = (offset + len - 1) >> PAGE_SHIFT;
	struct kvm_gmem *gmem = kvm_gmem_of(mapping);
	pgoff_t first = offset >> PAGE_SHIFT;
	pgoff_t from = first, to = last;

	/* See the head of this file.  That wraps only where no page can be. */
	if (gmem->flags & KVM_GUEST_MEMFD_HUGE_PAGES) {
		from = round_down(first, KVM_GMEM_HUGE_NR);
		to = last | (KVM_GMEM_HUGE_NR - 1);
	}

	filemap_invalidate_lock(mapping);
	kvm_gmem_invalidate_begin(gmem, from, to);
	kvm_gmem_truncate(mapping, first, last + 1);
	kvm_gmem_invalidate_end(gmem, from, to);
	filemap_invalidate_unlock(mapping);
}

static int kvm_gmem_allocate(struct address_space *mapping, loff_t offset,
			     loff_t len)
{
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	pgoff_t index = offset >> PAGE_SHIFT;
	struct folio *folio;
	pgoff_t next;
	int r = 0;

	/* The size is fixed. */
	if (offset + len > i_size_read(mapping->host))
		return -EINVAL;

	filemap_invalidate_lock_shared(mapping);
	while (index < end) {
		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}

		folio = kvm_gmem_get_folio(mapping, index);
		if (IS_ERR(folio)) {
			r = PTR_ERR(folio);
			break;
		}

		next = min(end, folio->index + folio_nr_pages(folio));
		kvm_gmem_fill_holes(folio, index, next - 1);
		folio_put(folio);
		index = next;
		cond_resched();
	}
	filemap_invalidate_unlock_shared(mapping);

	return r;
}

/* vfs_fallocate() has made sure that @offset + @len does not overflow. */
static long kvm_gmem_fallocate(struct file *file, int mode, loff_t offset,
			       loff_t len)
{
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;

	if (!(mode & FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;

	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(len))
		return -EINVAL;

	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		return kvm_gmem_allocate(file->f_mapping, offset, len);

	kvm_gmem_punch_hole(file->f_mapping, offset, len);
	return 0;
}

/*
 * The last reference to the file is gone, so no page can be added any more and
 * nobody else gets hold of invalidate_lock; memory failure may still come by.
 * slots_lock keeps the memslots from being unbound, thus freed, meanwhile.
 */
static int kvm_gmem_release(struct inode *inode, struct file *file)
{
	struct kvm_gmem *gmem = inode->i_private;
	struct interval_tree_node *node;
	struct kvm *kvm = gmem->kvm;

	mutex_lock(&kvm->slots_lock);
	filemap_invalidate_lock(inode->i_mapping);

	/* Who still sees the file with this in progress has to retry. */
	kvm_gmem_invalidate_begin(gmem, 0, ULONG_MAX);
	for (node = interval_tree_iter_first(&gmem->bindings, 0, ULONG_MAX);
	     node; node = interval_tree_iter_next(node, 0, ULONG_MAX))
		RCU_INIT_POINTER(kvm_gmem_slot(node)->gmem.file, NULL);

	/* Here and not on eviction, which an O_PATH reference can put off. */
	truncate_inode_pages(inode->i_mapping, 0);
	kvm_gmem_invalidate_end(gmem, 0, ULONG_MAX);

	mutex_lock(&gmem->lock);
	gmem->bindings = RB_ROOT_CACHED;
	mutex_unlock(&gmem->lock);

	filemap_invalidate_unlock(inode->i_mapping);
	mutex_unlock(&kvm->slots_lock);

	kvm_put_kvm(kvm);
	simple_release_fs(&kvm_gmem_mnt, &kvm_gmem_mnt_count);
	return 0;
}

static const struct file_operations kvm_gmem_fops = {
	.owner		= THIS_MODULE,
	.release	= kvm_gmem_release,
	.fallocate	= kvm_gmem_fallocate,
};

static int kvm_gmem_setattr(struct user_namespace *mnt_userns,
			    struct dentry *dentry, struct iattr *attr)
{
	/* The size is fixed, and the rest has no meaning. */
	return -EINVAL;
}

static const struct inode_operations kvm_gmem_iops = {
	.getattr	= simple_getattr,
	.setattr	= kvm_gmem_setattr,
};

static void kvm_gmem_evict_inode(struct inode *inode)
{
	truncate_inode_pages_final(inode->i_mapping);
	clear_inode(inode);
	kfree(inode->i_private);
}

static const struct super_operations kvm_gmem_sops = {
	.evict_inode	= kvm_gmem_evict_inode,
	.statfs		= simple_statfs,
};

/* The name in /proc/PID/fd is mainline's.  dynamic_dname() is not exported. */
static char *kvm_gmem_dname(struct dentry *dentry, char *buffer, int buflen)
{
	static const char name[] = "anon_inode:[kvm-gmem]";

	if (buflen < (int)sizeof(name))
		return ERR_PTR(-ENAMETOOLONG);

	return memcpy(buffer + buflen - sizeof(name), name, sizeof(name));
}

static const struct dentry_operations kvm_gmem_dops = {
	.d_dname	= kvm_gmem_dname,
};

static int kvm_gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, KVM_GMEM_MAGIC);

	if (!ctx)
		return -ENOMEM;

	ctx->ops = &kvm_gmem_sops;
	ctx->dops = &kvm_gmem_dops;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	return 0;
}

static struct file_system_type kvm_gmem_fs = {
	.name			= "kvm-gmem",
	.owner			= THIS_MODULE,
	.init_fs_context	= kvm_gmem_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static struct inode *kvm_gmem_new_inode(struct super_block *sb,
					struct kvm *kvm, loff_t size, u64 flags)
{
	struct kvm_gmem *gmem;
	struct inode *inode;

	gmem = kzalloc(sizeof(*gmem), GFP_KERNEL_ACCOUNT);
	if (!gmem)
		return ERR_PTR(-ENOMEM);

	gmem->kvm = kvm;
	gmem->flags = flags;
	gmem->bindings = RB_ROOT_CACHED;
	mutex_init(&gmem->lock);

	inode = alloc_anon_inode(sb);
	if (IS_ERR(inode)) {
		kfree(gmem);
		return inode;
	}

	inode->i_private = gmem;
	inode->i_op = &kvm_gmem_iops;
	inode->i_mode |= S_IFREG;
	inode->i_size = size;
	inode->i_mapping->a_ops = &kvm_gmem_aops;
	mapping_set_unevictable(inode->i_mapping);
	if (flags & KVM_GUEST_MEMFD_HUGE_PAGES)
		mapping_set_large_folios(inode->i_mapping);
	/* Not movable: keeps the pages out of ZONE_MOVABLE and CMA. */
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER);
	return inode;
}

/* The new file owns a reference to @kvm, to the mount and to the module. */
static struct file *kvm_gmem_new_file(struct kvm *kvm, loff_t size, u64 flags)
{
	struct inode *inode;
	struct file *file;
	int r;

	r = simple_pin_fs(&kvm_gmem_fs, &kvm_gmem_mnt, &kvm_gmem_mnt_count);
	if (r)
		return ERR_PTR(r);

	inode = kvm_gmem_new_inode(kvm_gmem_mnt->mnt_sb, kvm, size, flags);
	if (IS_ERR(inode)) {
		file = ERR_CAST(inode);
		goto err_release_fs;
	}

	file = alloc_file_pseudo(inode, kvm_gmem_mnt, "[kvm-gmem]",
				 O_RDWR | O_LARGEFILE, &kvm_gmem_fops);
	if (IS_ERR(file))
		goto err_put_inode;

	__module_get(kvm_gmem_fops.owner);
	kvm_get_kvm(kvm);
	return file;

err_put_inode:
	iput(inode);
err_release_fs:
	simple_release_fs(&kvm_gmem_mnt, &kvm_gmem_mnt_count);
	return file;
}

u64 kvm_gmem_supported_flags(struct kvm *kvm)
{
	u64 flags = KVM_GUEST_MEMFD_HUGE_PAGES;

	if (!(kvm_mem_attrs_supported(kvm) & KVM_MEMORY_ATTRIBUTE_PRIVATE))
		return 0;

	if (IS_ENABLED(CONFIG_KVM_GMEM_NO_DIRECT_MAP))
		flags |= KVM_GUEST_MEMFD_NO_DIRECT_MAP;
	return flags;
}

/* Enabled for good: what was a valid flag once stays one. */
int kvm_gmem_enable_flags(struct kvm *kvm, struct kvm_enable_cap *cap)
{
	if (cap->flags || (cap->args[0] & ~kvm_gmem_supported_flags(kvm)))
		return -EINVAL;

	mutex_lock(&kvm->lock);
	kvm->gmem_flags |= cap->args[0];
	mutex_unlock(&kvm->lock);
	return 0;
}

int kvm_gmem_create(struct kvm *kvm, void __user *argp)
{
	struct kvm_create_guest_memfd args;
	struct file *file;
	loff_t size;
	int fd, r;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	if (args.flags & ~kvm->gmem_flags)
		return -EINVAL;

	size = args.size;
	if (size <= 0 || !PAGE_ALIGNED(size))
		return -EINVAL;

	if (args.flags & KVM_GUEST_MEMFD_NO_DIRECT_MAP) {
		r = kvm_gmem_hide_init();
		if (r)
			return r;
	}

	/* Inherited across exec, unlike KVM's other files: mainline's ABI. */
	fd = get_unused_fd_flags(0);
	if (fd < 0)
		return fd;

	file = kvm_gmem_new_file(kvm, size, args.flags);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	fd_install(fd, file);
	return fd;
}

static int kvm_gmem_bind_file(struct kvm *kvm, struct kvm_memory_slot *slot,
			      struct file *file, u64 offset)
{
	u64 size = (u64)slot->npages << PAGE_SHIFT;
	struct address_space *mapping = file->f_mapping;
	struct kvm_gmem *gmem;
	int r = -EEXIST;

	if (file->f_op != &kvm_gmem_fops)
		return -EINVAL;

	gmem = kvm_gmem_of(mapping);
	if (gmem->kvm != kvm)
		return -EINVAL;

	if (!PAGE_ALIGNED(offset) || offset + size < offset ||
	    offset + size > i_size_read(mapping->host))
		return -EINVAL;

	slot->gmem.node.start = offset >> PAGE_SHIFT;
	slot->gmem.node.last = slot->gmem.node.start + slot->npages - 1;

	filemap_invalidate_lock(mapping);
	mutex_lock(&gmem->lock);
	if (!interval_tree_iter_first(&gmem->bindings, slot->gmem.node.start,
				      slot->gmem.node.last)) {
		interval_tree_insert(&slot->gmem.node, &gmem->bindings);
		rcu_assign_pointer(slot->gmem.file, file);
		r = 0;
	}
	mutex_unlock(&gmem->lock);
	filemap_invalidate_unlock(mapping);

	return r;
}

int kvm_gmem_bind(struct kvm *kvm, struct kvm_memory_slot *slot, u32 fd,
		  u64 offset)
{
	struct file *file;
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	file = fget(fd);
	if (!file)
		return -EBADF;

	r = kvm_gmem_bind_file(kvm, slot, file, offset);

	/* If this is the last reference, release waits for slots_lock. */
	fput(file);
	return r;
}

void kvm_gmem_unbind(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct kvm_gmem *gmem;
	struct file *file;

	/*
	 * With users_count at zero every guest_memfd has been released, as they
	 * pin the VM.  Otherwise the file may be about to be released, but its
	 * release needs slots_lock to go on.
	 */
	file = rcu_dereference_protected(slot->gmem.file,
					 lockdep_is_held(&kvm->slots_lock) ||
					 !refcount_read(&kvm->users_count));
	if (!file)
		return;

	gmem = kvm_gmem_of(file->f_mapping);

	filemap_invalidate_lock(file->f_mapping);
	mutex_lock(&gmem->lock);
	interval_tree_remove(&slot->gmem.node, &gmem->bindings);
	RCU_INIT_POINTER(slot->gmem.file, NULL);
	mutex_unlock(&gmem->lock);
	filemap_invalidate_unlock(file->f_mapping);
}
