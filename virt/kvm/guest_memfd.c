// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM guest_memfd: memory that only the private GFNs of one VM can reach.
 *
 * Model
 *
 * A guest_memfd is a file without read, write and mmap, of fixed size, whose
 * page cache is the memory.  Its inode lives on a pseudo filesystem of its own,
 * which is mounted only while a guest_memfd exists.  The inode cannot be opened a
 * second time: inode and file are created and released together.
 *
 * A memslot that is bound to the file takes a run of its pages, as long as the
 * memslot.  The bindings are nodes of an interval tree keyed by page offset, and are
 * embedded in the memslots.  So a binding costs nothing per page, cannot fail for
 * lack of memory, and no page of the file is ever in two memslots.
 *
 * A page becomes part of the file when it is first needed (guest access, KVM's
 * own access, fallocate) and leaves it by FALLOC_FL_PUNCH_HOLE or when the file
 * is closed.  It is charged to the memory cgroup of the task that needed it first,
 * is zero at that time, and is wiped when it leaves.  In between it is neither
 * moved, swapped, split nor written back.  guest_memfd_folio.c describes the life
 * of a folio, its conversion to private memory, and holes in large folios.
 *
 * Words
 *
 *  binding	A memslot and the pages of the file that it takes.
 *  piece	Up to 16 MiB of the file that are removed between two yield points.
 *  hole	A page of a large folio that is not in the file, see
 *		guest_memfd_folio.c.
 *
 * Large folios
 *
 * A file created with KVM_GUEST_MEMFD_HUGE_PAGES allocates 2 MiB at once where the
 * file has nothing yet in those 2 MiB.  It falls back to single pages where there is
 * something, or where no 2 MiB are available.
 *
 * Locks, outermost first
 *
 *  kvm->slots_lock	   slot->gmem.file.  Bind, unbind and one step of release
 *			   exclude one another.
 *  mapping->		   Shared to add a page, exclusive to remove a piece.
 *    invalidate_lock	   Exclusive, with gmem->lock, to change the tree of
 *			   bindings; either of the two is enough to read it.
 *  folio lock		   A folio being added to, or removed from, the file.
 *  gmem->lock		   See invalidate_lock.  Memory failure needs the tree
 *			   with a folio locked, too late for invalidate_lock.
 *  kvm->mmu_lock	   Taken by kvm_gfn_range_invalidate_begin() and _end().
 *  RCU			   Looking up a page that is in the file: no other lock.
 *
 * Faults add pages within kvm->srcu.  So a task that holds invalidate_lock must not
 * wait for kvm->srcu, nor for accesses of KVM to guest memory.
 *
 * Removal against use
 *
 * Pages are removed piece by piece.  Guest mappings of the piece are invalidated, and
 * the invalidation stays in progress until the pages have left the page cache.
 * A fault that looked a page up earlier finds mmu_invalidate_seq changed before it
 * can map the page, and retries.  Then the invalidation ends, invalidate_lock is
 * dropped, and the pages are wiped and freed, before the next piece begins.  So faults
 * and memslot updates wait for the removal of one piece from the page cache, and
 * not for wiping.
 *
 * KVM's own accesses hold a page reference, but removal does not wait for them: their
 * result is that of an access to a page that is being freed.  kvm_gmem_put_page()
 * wipes what they have written.
 *
 * The range of an invalidation is widened to whole large folios: a fault beside
 * a hole that is being made must not map the folio as a whole.
 *
 * Lifetimes
 *
 * The file pins the VM: a file descriptor may outlive the VM's.  A memslot does
 * not pin the file: a VM may outlive its guest_memfds.  When the last reference to
 * the file is dropped, release detaches the memslots one by one, unmaps what they
 * have mapped, and frees the pages.  So slot->gmem.file points to a live struct file
 * until release or unbind clears it under slots_lock, but the count of the file may
 * be zero: get_file_rcu() before anything that sleeps.  The inode, and struct
 * kvm_gmem with it, may outlive the file (O_PATH, inotify), but then has neither
 * pages nor bindings.
 *
 * What userspace can rely on
 *
 *  - a new page is zero, and only the VM's private GFNs see its content;
 *  - when PUNCH_HOLE returns, the pages are gone from the guest as well, and wiped.
 *    If a signal interrupts it, it has done so for a part and fails with EINTR;
 *  - st_size is the size at creation, st_blocks what is allocated right now;
 *  - a page with a hardware memory error stays and fails with EHWPOISON, until
 *    a hole is punched there.
 *
 * As with KVM's other file descriptors, the inode is private to the kernel
 * (S_PRIVATE; the function that labels inodes is not exported to modules).  Access
 * control is that of /dev/kvm and of passing file descriptors.
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
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#include <trace/events/kvm_mem_attrs.h>

#include "guest_memfd.h"
#include "guest_memfd_folio.h"

#define KVM_GMEM_MAGIC 0x474d454d	/* "GMEM" */

struct kvm_gmem {
	/* Pinned until release, the bindings hold nothing afterwards. */
	struct kvm *kvm;
	/* KVM_GUEST_MEMFD_* of the creation. */
	u64 flags;
	/* Innermost sleeping lock, see the head of this file. */
	struct mutex lock;
	/* kvm_memory_slot::gmem.node of every bound memslot, by page offset. */
	struct rb_root_cached bindings;
	unsigned int nr_bindings;
	/* Folios of 4 KiB, of 2 MiB, and holes in these, at this moment. */
	atomic_long_t nr_small;
	atomic_long_t nr_huge;
	atomic_long_t nr_holes;
};

static struct vfsmount *kvm_gmem_mnt;
static int kvm_gmem_mnt_count;

static const struct file_operations kvm_gmem_fops;

static struct kvm_gmem *kvm_gmem_of(struct address_space *mapping)
{
	return mapping->host->i_private;
}

/*
 * The file gets folios of 4 KiB and of 2 MiB, and holes, or (negative) loses them.  The
 * VM's statistics are the sums of its files.
 */
static void kvm_gmem_count(struct kvm_gmem *gmem, long small, long huge,
			   long holes)
{
	struct kvm_vm_stat_generic *stat = &gmem->kvm->stat.generic;

	if (small) {
		atomic_long_add(small, &gmem->nr_small);
		atomic64_add(small, &stat->gmem_pages_4k);
	}
	if (huge) {
		atomic_long_add(huge, &gmem->nr_huge);
		atomic64_add(huge, &stat->gmem_pages_2m);
	}
	if (holes) {
		atomic_long_add(holes, &gmem->nr_holes);
		atomic64_add(holes, &stat->gmem_holes);
	}
}

static void kvm_gmem_fill(struct kvm_gmem *gmem, struct folio *folio,
			  pgoff_t first, pgoff_t last)
{
	long filled = kvm_gmem_fill_holes(folio, first, last);

	kvm_gmem_count(gmem, 0, 0, -filled);
}

/* Once no lock is held: free what has been removed. */
static void kvm_gmem_free_removed(struct address_space *mapping,
				  const struct kvm_gmem_removal *removal)
{
	kvm_gmem_count(kvm_gmem_of(mapping), -removal->small, -removal->huge,
		       -removal->holes);
	kvm_gmem_free_unlinked(mapping->host, removal->unlinked);
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

/*
 * Allocate a folio for @index, which it is aligned to, and make it part of the
 * file.  Returns -EEXIST if another task was faster, or if there is something
 * in its place.
 */
static struct folio *kvm_gmem_new_folio(struct address_space *mapping,
					pgoff_t index, gfp_t gfp,
					unsigned int order)
{
	struct kvm_gmem *gmem = kvm_gmem_of(mapping);
	struct folio *folio;
	u64 start = 0;
	int r;

	lockdep_assert_held(&mapping->invalidate_lock);

	if (trace_kvm_gmem_alloc_enabled())
		start = ktime_get_ns();

	folio = kvm_gmem_alloc_folio(gmem->kvm, gfp, order, gmem->flags);
	if (IS_ERR(folio))
		return folio;

	r = filemap_add_folio(mapping, folio, index, gfp);
	if (r) {
		kvm_gmem_discard_folio(folio);
		return ERR_PTR(r);
	}

	/*
	 * There is nothing to write back to, but code that drops clean page
	 * cache, e.g. soft offlining, would not ask KVM.
	 */
	folio_mark_dirty(folio);
	kvm_gmem_count(gmem, !order, !!order, 0);
	folio_unlock(folio);
	if (start)
		trace_kvm_gmem_alloc(mapping->host, index, order,
				     ktime_get_ns() - start);
	return folio;
}

/* Returns NULL if single pages have to do. */
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

	/* Do not zero 2 MiB for nothing: a page that is there stays. */
	if (filemap_range_has_page(mapping, (loff_t)start << PAGE_SHIFT,
				   ((loff_t)last << PAGE_SHIFT)))
		return NULL;

	/* Fall back to 4 KiB instead of reclaiming hard or invoking the OOM killer. */
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

	/* -EEXIST: another task added the page, and invalidate_lock keeps it. */
	do {
		folio = filemap_get_folio(mapping, index);
		if (!folio)
			folio = kvm_gmem_new_huge_folio(mapping, index);
		if (!folio)
			folio = kvm_gmem_new_folio(mapping, index, gfp, 0);
	} while (folio == ERR_PTR(-EEXIST));

	if (!IS_ERR(folio))
		kvm_gmem_fill(kvm_gmem_of(mapping), folio, index, index);
	return folio;
}

static int kvm_gmem_migrate_folio(struct address_space *mapping,
				  struct folio *dst, struct folio *src,
				  enum migrate_mode mode)
{
	/*
	 * Guest mappings hold no reference and have no rmap, so migration would
	 * move the page while the guest uses it.  -EAGAIN would mean to retry.
	 */
	return -EINVAL;
}

/* Unmap the folio.  The guest can fault in the pages that are not poisoned. */
static void kvm_gmem_poison_folio(struct folio *folio)
{
	struct kvm_gmem *gmem = kvm_gmem_of(folio->mapping);
	pgoff_t last = folio->index + folio_nr_pages(folio) - 1;

	kvm_gmem_mark_poisoned(folio);

	mutex_lock(&gmem->lock);
	kvm_gmem_invalidate_begin(gmem, folio->index, last);
	kvm_gmem_invalidate_end(gmem, folio->index, last);
	mutex_unlock(&gmem->lock);
}

/*
 * Memory failure, with the page locked: unmap it from the guest but leave it in
 * the file, so that the next access gets -EHWPOISON instead of a new page full of
 * zeroes.  memory_failure() reports the reference that the file keeps as a failure
 * to isolate the page.  That is harmless: PG_hwpoison keeps the page from being
 * used again.
 */
static int kvm_gmem_error_remove_page(struct address_space *mapping,
				      struct page *page)
{
	kvm_gmem_poison_folio(page_folio(page));
	return 0;
}

/*
 * Called to split a large folio.  Always refused: a folio is converted back as it was
 * converted, as a whole.  Memory failure calls this after it has marked the folio,
 * and stops when it is refused, so the folio is unmapped from the guest here.
 */
static bool kvm_gmem_release_folio(struct folio *folio, gfp_t gfp)
{
	if (folio_test_large(folio) && PageHasHWPoisoned(&folio->page))
		kvm_gmem_poison_folio(folio);

	return false;
}

/* Private data stays until the folio is converted back. */
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
 * The largest order of a mapping of @gfn: the order of the folio, if the folio has no
 * holes and is aligned in the guest as it is in the file.
 */
static int kvm_gmem_max_order(struct kvm *kvm, struct folio *folio,
			      pgoff_t index, gfn_t gfn)
{
	unsigned long nr = folio_nr_pages(folio);
	int order = 0;

	if (kvm_gmem_is_whole(folio) && !((gfn ^ index) & (nr - 1)))
		order = folio_order(folio);

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

/* Pages that are removed at a time: 16 MiB. */
#define KVM_GMEM_PIECE_NR	(SZ_16M >> PAGE_SHIFT)

/* Take the pages [@first, @end) out of the file, and make holes at its edges. */
static void kvm_gmem_unlink_range(struct address_space *mapping, pgoff_t first,
				  pgoff_t end, struct kvm_gmem_removal *removal)
{
	kvm_gmem_punch_edge(mapping, first, &first, &end, removal);
	if (first < end)
		kvm_gmem_punch_edge(mapping, end - 1, &first, &end, removal);
	if (first < end)
		kvm_gmem_unlink(mapping, first, end, removal);
}

/* Remove the pages [@first, @end), which lie in one piece. */
static void kvm_gmem_punch_piece(struct address_space *mapping, pgoff_t first,
				 pgoff_t end)
{
	struct kvm_gmem *gmem = kvm_gmem_of(mapping);
	struct kvm_gmem_removal removal = {};
	pgoff_t from = first, to = end - 1;

	/* See the head of this file.  That wraps only where no page can be. */
	if (gmem->flags & KVM_GUEST_MEMFD_HUGE_PAGES) {
		from = round_down(from, KVM_GMEM_HUGE_NR);
		to |= KVM_GMEM_HUGE_NR - 1;
	}

	filemap_invalidate_lock(mapping);
	kvm_gmem_invalidate_begin(gmem, from, to);
	kvm_gmem_unlink_range(mapping, first, end, &removal);
	kvm_gmem_invalidate_end(gmem, from, to);
	filemap_invalidate_unlock(mapping);

	kvm_gmem_free_removed(mapping, &removal);
}

/* Remove the pages of a file without bindings. */
static void kvm_gmem_remove_piece(struct address_space *mapping, pgoff_t first,
				  pgoff_t end)
{
	struct kvm_gmem_removal removal = {};

	filemap_invalidate_lock(mapping);
	kvm_gmem_unlink(mapping, first, end, &removal);
	filemap_invalidate_unlock(mapping);

	kvm_gmem_free_removed(mapping, &removal);
}

/* Move @first to the next page in the file.  False: there is none before @end. */
static bool kvm_gmem_skip_absent(struct address_space *mapping, pgoff_t *first,
				 pgoff_t end)
{
	return *first < end &&
	       xa_find(&mapping->i_pages, first, end - 1, XA_PRESENT);
}

static pgoff_t kvm_gmem_piece_end(pgoff_t first, pgoff_t end)
{
	return min(end, round_down(first, KVM_GMEM_PIECE_NR) +
			KVM_GMEM_PIECE_NR);
}

/*
 * Returns 0, or -EINTR with a part done.  Repeated calls end: parts that are done are
 * skipped without a look for signals.
 */
static int kvm_gmem_punch_hole(struct address_space *mapping, loff_t offset,
			       loff_t len)
{
	struct kvm_gmem *gmem = kvm_gmem_of(mapping);
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	pgoff_t next, first = offset >> PAGE_SHIFT;
	bool begun = false;

	while (kvm_gmem_skip_absent(mapping, &first, end)) {
		if (begun && signal_pending(current))
			return -EINTR;
		kvm_gfn_range_invalidate_pause(gmem->kvm);
		next = kvm_gmem_piece_end(first, end);
		kvm_gmem_punch_piece(mapping, first, next);
		first = next;
		begun = true;
		cond_resched();
	}
	return 0;
}

/*
 * Allocate the pages of one folio, from @index on.  Returns the page behind them, or
 * an errno.
 */
static long kvm_gmem_allocate_some(struct address_space *mapping, pgoff_t index,
				   pgoff_t end)
{
	struct folio *folio;
	pgoff_t next;

	filemap_invalidate_lock_shared(mapping);
	folio = kvm_gmem_get_folio(mapping, index);
	if (IS_ERR(folio)) {
		filemap_invalidate_unlock_shared(mapping);
		return PTR_ERR(folio);
	}

	next = min(end, folio->index + folio_nr_pages(folio));
	kvm_gmem_fill(kvm_gmem_of(mapping), folio, index, next - 1);
	filemap_invalidate_unlock_shared(mapping);

	folio_put(folio);
	return next;
}

static int kvm_gmem_allocate(struct address_space *mapping, loff_t offset,
			     loff_t len)
{
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	long next = offset >> PAGE_SHIFT;

	/* The size is fixed. */
	if (offset + len > i_size_read(mapping->host))
		return -EINVAL;

	while (next < end) {
		if (signal_pending(current))
			return -EINTR;

		next = kvm_gmem_allocate_some(mapping, next, end);
		if (next < 0)
			return next;
		cond_resched();
	}
	return 0;
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

	return kvm_gmem_punch_hole(file->f_mapping, offset, len);
}

/*
 * Detach one memslot of a file that is being released, and tell which GFNs it has.
 * slots_lock keeps the memslot from being unbound, thus freed, meanwhile.
 */
static bool kvm_gmem_detach_slot(struct inode *inode, gfn_t *start, gfn_t *end)
{
	struct kvm_gmem *gmem = inode->i_private;
	struct interval_tree_node *node;

	mutex_lock(&gmem->kvm->slots_lock);
	filemap_invalidate_lock(inode->i_mapping);
	mutex_lock(&gmem->lock);
	node = interval_tree_iter_first(&gmem->bindings, 0, ULONG_MAX);
	if (node) {
		*start = kvm_gmem_gfn_start(node, 0);
		*end = kvm_gmem_gfn_end(node, ULONG_MAX);
		interval_tree_remove(node, &gmem->bindings);
		gmem->nr_bindings--;
		RCU_INIT_POINTER(kvm_gmem_slot(node)->gmem.file, NULL);
	}
	mutex_unlock(&gmem->lock);
	filemap_invalidate_unlock(inode->i_mapping);
	mutex_unlock(&gmem->kvm->slots_lock);

	return node;
}

/* Pages that release unmaps at a time: 128 MiB. */
#define KVM_GMEM_UNMAP_NR	(SZ_128M >> PAGE_SHIFT)

/*
 * Unmap the GFNs of a detached memslot.  A fault that still saw the file finds
 * mmu_invalidate_seq changed, retries, and finds the file gone.  If the memslot has been
 * replaced meanwhile, mappings of the new one are lost, which costs a fault each.
 */
static void kvm_gmem_unmap_gfns(struct kvm *kvm, gfn_t start, gfn_t end)
{
	gfn_t next;

	for (; start < end; start = next) {
		next = min(end, start + KVM_GMEM_UNMAP_NR);
		kvm_gfn_range_invalidate_pause(kvm);
		kvm_gfn_range_invalidate_begin(kvm, start, next);
		kvm_gfn_range_invalidate_end(kvm, start, next);
		cond_resched();
	}
}

/*
 * The last reference to the file is gone, so no page can be added, and no memslot
 * be bound.  Memory failure may still look for bindings.  Once no memslot
 * leads to the pages, they are removed without an invalidation.
 */
static int kvm_gmem_release(struct inode *inode, struct file *file)
{
	struct kvm_gmem *gmem = inode->i_private;
	struct kvm *kvm = gmem->kvm;
	pgoff_t first = 0, next;
	gfn_t start, end;

	while (kvm_gmem_detach_slot(inode, &start, &end))
		kvm_gmem_unmap_gfns(kvm, start, end);

	/* Here and not on eviction, which an O_PATH reference can put off. */
	while (kvm_gmem_skip_absent(inode->i_mapping, &first, ULONG_MAX)) {
		next = kvm_gmem_piece_end(first, ULONG_MAX);
		kvm_gmem_remove_piece(inode->i_mapping, first, next);
		first = next;
		cond_resched();
	}

	kvm_put_kvm(kvm);
	simple_release_fs(&kvm_gmem_mnt, &kvm_gmem_mnt_count);
	return 0;
}

/* As many lines as there may be memslots would hold up memslots for long. */
#define KVM_GMEM_SHOW_BINDINGS	128

static void kvm_gmem_show_bindings(struct seq_file *m, struct kvm_gmem *gmem)
{
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	unsigned int n = 0;

	mutex_lock(&gmem->lock);
	seq_printf(m, "gmem-bindings:\t%u\n", gmem->nr_bindings);
	node = interval_tree_iter_first(&gmem->bindings, 0, ULONG_MAX);
	for (; node && n < KVM_GMEM_SHOW_BINDINGS; n++) {
		slot = kvm_gmem_slot(node);
		seq_printf(m, "gmem-binding:\tslot %d as %d gpa %#llx-%#llx offset %#llx\n",
			   slot->id, slot->as_id, gfn_to_gpa(slot->base_gfn),
			   gfn_to_gpa(slot->base_gfn + slot->npages) - 1,
			   (u64)node->start << PAGE_SHIFT);
		node = interval_tree_iter_next(node, 0, ULONG_MAX);
	}
	mutex_unlock(&gmem->lock);
}

/* In bytes.  For those who may trace the task that has the file open. */
static void kvm_gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct kvm_gmem *gmem = kvm_gmem_of(file->f_mapping);
	u64 small = atomic_long_read(&gmem->nr_small) * PAGE_SIZE;
	u64 huge = atomic_long_read(&gmem->nr_huge) * KVM_GMEM_HUGE_NR * PAGE_SIZE;
	u64 holes = atomic_long_read(&gmem->nr_holes) * PAGE_SIZE;

	seq_printf(m, "gmem-size:\t%lld\n", i_size_read(file_inode(file)));
	seq_printf(m, "gmem-flags:\t%#llx\n", gmem->flags);
	seq_printf(m, "gmem-allocated:\t%llu\n", small + huge - holes);
	seq_printf(m, "gmem-huge:\t%llu\n", huge);
	seq_printf(m, "gmem-holes:\t%llu\n", holes);
	kvm_gmem_show_bindings(m, gmem);
}

static const struct file_operations kvm_gmem_fops = {
	.owner		= THIS_MODULE,
	.release	= kvm_gmem_release,
	.show_fdinfo	= IS_ENABLED(CONFIG_PROC_FS) ? kvm_gmem_show_fdinfo : NULL,
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

/* A flag that was enabled stays enabled. */
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
		r = kvm_gmem_direct_map_init();
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
		gmem->nr_bindings++;
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
	 * release needs slots_lock to detach this memslot.
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
	gmem->nr_bindings--;
	RCU_INIT_POINTER(slot->gmem.file, NULL);
	mutex_unlock(&gmem->lock);
	filemap_invalidate_unlock(file->f_mapping);
}
