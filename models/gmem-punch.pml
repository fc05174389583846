/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PUNCH_HOLE of a guest_memfd against faults and KVM's own accesses
 *
 * Models
 *
 *   virt/kvm/guest_memfd.c	kvm_gmem_punch_piece() :512, kvm_gmem_get_page() :465,
 *				kvm_gmem_lookup() :394, kvm_gmem_get_folio() :303
 *   virt/kvm/guest_memfd_folio.c  kvm_gmem_unlink_folio() :283, kvm_gmem_free_one() :322,
 *				kvm_gmem_make_holes() :360, kvm_gmem_fill_holes() :102,
 *				kvm_gmem_put_page() :451, kvm_gmem_wipe_hole() :434
 *   virt/kvm/mem_attrs.c	kvm_gfn_range_invalidate_begin() :682, _end() :705
 *   virt/kvm/guest_access.c	access_private() :195
 *   virt/kvm/pfncache.c	hva_to_pfn_retry() :179, gpc_invalidate() :32
 *   arch/x86/kvm/mmu/mmu.c	kvm_faultin_pfn() :4170, direct_page_fault() :4264
 *
 * The line numbers are those of the composed tree, and approximate.
 *
 * The file has one folio: a page, which is freed, or a large folio of two pages, the first
 * of which becomes a hole.  PUNCH_HOLE of the first page runs beside a vCPU that faults
 * and writes, an access of KVM with a page reference, and a gfn_to_pfn_cache.
 *
 * Store buffers delay what is read without a lock, or orders data: folio->mapping, the number
 * of holes, and the content of the page, as written by KVM's access and by PUNCH_HOLE.  A
 * store becomes visible at any time, at the latest at the next smp_mb() of the task, or when
 * the task drops a reference, which is a full barrier as well.
 *
 * Simplified
 *
 *   - The large folio is not removed as a whole: kvm_gmem_free_one() is the same for any size.
 *   - What a task does under mmu_lock, gpc->lock or holes->lock is one step.
 *   - The guest's TLB, and the guest's stores, are not delayed: the flush waits for both.
 *   - A page that is added to the file later is another one.  It is zeroed by the allocator,
 *     and no more is asked of it.  A hole that is filled is the same page.
 *
 * Asserted
 *
 *   - When the last reference to a page is dropped, its content is zero, nothing maps it, and
 *     no store to it is on its way.  So a later owner sees and gets nothing.
 *   - When PUNCH_HOLE has returned, the guest does not map the page, unless a fault has
 *     filled the hole.
 *   - A page that fills a hole is zero.  Only a write of KVM that began before PUNCH_HOLE may
 *     still end there: it is the same GFN of the same VM.
 *   - What the guest has written since is not wiped.
 *   - In the end, a hole is zero.
 *   - Each task ends.
 *
 * FAULT
 *
 *   1	no smp_mb() in kvm_gmem_put_page()
 *   2	no smp_mb() in kvm_gmem_free_one()
 *   3	KVM's access puts the page without kvm_gmem_put_page()
 *   4	the folio is wiped before it has left the page cache
 *   5	the invalidation ends before the page has left the page cache
 *   6	the range of the invalidation is not widened to the large folio
 *   7	gfn_to_pfn caches are not invalidated
 *   8	no smp_mb() in kvm_gmem_make_holes()
 *   9	kvm_gmem_wipe_hole() does not test the page's bit
 *   10	the fault does not check for an invalidation under mmu_lock
 *   11	kvm_gmem_put_page() does not look at holes
 *   12	hva_to_pfn_retry() does not check for invalidations
 */
#ifndef FAULT
#define FAULT 0
#endif

bool large;

/* The content of the page. */
#define ZEROES	0
#define SECRET	1	/* of before */
#define NEW	2	/* what the guest has written to the filled hole */
byte content;

/* Stores to it on their way: by KVM's access, and by PUNCH_HOLE. */
#define NOTHING	0
#define A_WIPE	1
#define A_WRITE	2
byte access_store, punch_store;

/* The file: the page cache, and what a look at the folio tells. */
bool in_cache = true;
bool mapping_buffered = true;
bool mapping = true;
bool hole;
bool nr_holes_buffered, nr_holes;
bool invalidate_lock;
/* The page cache has one. */
byte refs = 1;
bool freed;
bool filled;

/* Of the page: an SPTE of its own, or one of the whole large folio. */
bool spte, huge_spte;
byte seq;
byte in_progress;
byte mn_active;
bool gpc_valid;

/* Not in the code: KVM's access began before, and has not ended. */
bool access_in_flight;

inline write_page(v)
{
	assert(!freed);
	content = v
}

inline apply(s)
{
	if
	:: s == A_WIPE ->
		assert(!freed && !(filled && content == NEW));
		content = ZEROES
	:: s == A_WRITE -> write_page(SECRET)
	:: else
	fi;
	s = NOTHING
}

/* smp_mb() of either task. */
inline punch_mb()
{
	atomic {
		apply(punch_store);
		mapping = mapping_buffered;
		nr_holes = nr_holes_buffered
	}
}

inline access_mb()
{
	atomic { apply(access_store) }
}

inline put_ref()
{
	atomic {
		refs--;
		if
		:: refs == 0 ->
			assert(content == ZEROES && access_store == NOTHING &&
			       punch_store == NOTHING);
			assert(!spte && !huge_spte && !gpc_valid);
			freed = true
		:: else
		fi
	}
}

/* The store buffers. */
active proctype store_buffers()
{
end:
	do
	:: atomic { access_store != NOTHING -> apply(access_store) }
	:: atomic { punch_store != NOTHING -> apply(punch_store) }
	:: atomic { mapping != mapping_buffered -> mapping = mapping_buffered }
	:: atomic { nr_holes != nr_holes_buffered -> nr_holes = nr_holes_buffered }
	od
}

/* kvm_gfn_range_invalidate_end() */
inline invalidate_end()
{
	/* A reader that sees the new count also sees what was stored before mmu_lock was taken. */
	atomic { nr_holes = nr_holes_buffered; seq++; in_progress-- }
	mn_active--
}

/* Under mmu_lock: is this GFN in the range of the invalidation? */
#if FAULT == 6
#define in_range(p)	((p) == 0)
#else
#define in_range(p)	true
#endif

/* kvm_gmem_punch_piece() */
proctype punch_hole()
{
	atomic { !invalidate_lock -> invalidate_lock = true }

	/* kvm_gfn_range_invalidate_begin() */
	mn_active++;
#if FAULT != 7
	gpc_valid = false;
#endif
	atomic {
		in_progress++;
		spte = false;
		huge_spte = false
	}
#if FAULT == 5
	invalidate_end();
#endif

	if
	:: large ->
		/* kvm_gmem_make_holes(); holes->lock is held for one step. */
		atomic { hole = true; nr_holes_buffered = true }
#if FAULT != 8
		punch_mb();
#endif
		punch_store = A_WIPE
	:: !large ->
#if FAULT == 4
		punch_store = A_WIPE;
		punch_mb();
#endif
		/*
		 * kvm_gmem_unlink_folio().  The reference of the page cache becomes that
		 * of the list.
		 */
		in_cache = false;
		mapping_buffered = false
	fi;

#if FAULT != 5
	invalidate_end();
#endif
	/* A release: the next holder of the lock sees the hole's content. */
	atomic { apply(punch_store); invalidate_lock = false }

	/* kvm_gmem_free_one() */
	if
	:: !large ->
#if FAULT != 2
		punch_mb();
#endif
#if FAULT != 4
		punch_store = A_WIPE;
#endif
		punch_mb();
		put_ref()
	:: large -> punch_mb()
	fi;
	assert(filled || (!spte && !huge_spte))
}

/* Faults, and writes to what it gets. */
proctype vcpu()
{
	byte tries, mmu_seq, p;
	bool whole, stale;

	do
	:: tries < 2 ->
		atomic {
			tries++;
			if
			:: p = 0
			/* Beside the hole: only a mapping of the whole folio matters. */
			:: large -> p = 1
			fi
		}
		mmu_seq = seq;

		/* kvm_gmem_lookup(), then kvm_gmem_is_whole() */
		if
		:: atomic { in_cache && (p == 1 || !hole) -> refs++ }
			whole = large && !nr_holes
		:: atomic { in_cache && p == 0 && hole && !invalidate_lock ->
			/* kvm_gmem_get_folio(): invalidate_lock is taken shared. */
			assert(content == ZEROES || access_in_flight);
			refs++;
			hole = false;
			nr_holes = false;
			nr_holes_buffered = false;
			filled = true;
			whole = true
		   }
		/* The VM gets another page. */
		:: !in_cache -> goto next
		fi;

		/* direct_page_fault() */
		atomic {
#if FAULT == 10
			stale = false;
#else
			stale = (in_progress && in_range(p)) || seq != mmu_seq;
#endif
			if
			:: !stale && whole -> huge_spte = true
			:: !stale && !whole && p == 0 -> spte = true
			:: else
			fi
		}
		put_ref();
next:
		/* The guest writes, if it still can. */
		atomic {
			if
			:: spte || huge_spte -> write_page((filled -> NEW : SECRET))
			:: true
			fi;
			whole = false;
			stale = false;
			mmu_seq = 0
		}
	:: else -> break
	od
}

/* access_private(): a write by KVM. */
proctype kvm_access()
{
	bool left;

	/* kvm_gmem_lookup() */
	atomic {
		if
		:: in_cache && !hole ->
			refs++;
			access_in_flight = !filled
		:: else -> goto out
		fi
	}
	access_store = A_WRITE;

	/* kvm_gmem_put_page() */
#if FAULT != 3
#if FAULT != 1
	access_mb();
#endif
	left = !mapping;
	if
	:: left ->
		access_mb();
		access_store = A_WIPE
#if FAULT != 11
	:: !left && nr_holes ->
		/* kvm_gmem_wipe_hole(): holes->lock orders this against filling the hole. */
		atomic {
			if
#if FAULT == 9
			:: true ->
#else
			:: hole ->
#endif
				apply(access_store);
				access_store = A_WIPE;
				apply(access_store)
			:: else
			fi
		}
#endif
	:: else
	fi;
#endif
	access_mb();
	access_in_flight = false;
	put_ref();
out:
	skip
}

proctype pfn_cache()
{
	byte mmu_seq;
	bool found;

	/* hva_to_pfn_retry(), which gives up instead of the retry */
	mmu_seq = seq;
	atomic {
		if
		:: in_cache && !hole -> refs++
		:: else -> goto out
		fi
	}
	atomic {
#if FAULT == 12
		gpc_valid = true
#else
		gpc_valid = mn_active == 0 && seq == mmu_seq
#endif
	}
	put_ref();

	/* The use, with gpc->lock held for read. */
	atomic {
		if
		:: gpc_valid -> write_page((filled -> NEW : SECRET))
		:: else
		fi
	}
out:
	skip
}

init {
	atomic {
		if
		:: large = true
		:: true
		fi;
		if
		:: content = SECRET
		:: true
		fi;
		run punch_hole();
		run vcpu();
		run kvm_access();
		run pfn_cache()
	}
	/* The store buffers are the last process. */
	_nr_pr == 2 && access_store == NOTHING && punch_store == NOTHING ->
	assert(!hole || content == ZEROES);
	assert(large || freed)
}
