/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A change of attributes against page faults, MMU notifiers and memslot updates
 *
 * Models
 *
 *   virt/kvm/mem_attrs.c	mem_attrs_change() :576, mem_attrs_zap() :497, mem_attrs_commit()
 *				:530, mem_attrs_yield() :408, kvm_mem_attrs_forbidden() :179,
 *				__kvm_mem_attrs_uniform_order() :157
 *   virt/kvm/kvm_main.c	kvm_mmu_invalidate_begin() :736, _add() :756, _end() :830, the MMU
 *				notifiers :783 and :849, __kvm_handle_hva_range() :578,
 *				kvm_swap_active_memslots() :1588, kvm_invalidate_memslot() :1764
 *   arch/x86/kvm/mmu/mmu.c	fast_page_fault() :3331, kvm_faultin_pfn() :4170,
 *				is_page_fault_stale() :4240, direct_page_fault() :4264
 *   arch/x86/kvm/mmu/mem_attrs.c  kvm_mmu_faultin_attrs() :453, forbid_write() :190,
 *				kvm_mmu_attrs_mapping_level() :379
 *   arch/x86/kvm/mmu/spte.c	make_spte() :138, also as FNAME(sync_page) calls it
 *
 * The line numbers are those of the composed tree, and approximate.
 *
 * The VM has three pages, the first two of which can be mapped by a hugepage.  The set changes
 * pages 1 and 2, so an end of it lies within the hugepage.  A piece of the set is one page.  The
 * host replaces page 2, which is told by an MMU notifier.  Beside set and vCPU there run either
 * the MMU notifier and a task that deletes and creates the memslot, or a task that makes
 * SPTEs from SPTEs.
 *
 * Simplified
 *
 *   - Either the notifier or the task that makes SPTEs: the former zaps, which gives the latter
 *     less to start from.
 *   - One vCPU.  Faults that hold mmu_lock for read replace SPTEs by compare-and-exchange.
 *     They race with the other processes here, not with one another: none of the rules is
 *     about two faults.
 *   - What a task does under mmu_lock without dropping it is one step, unless code without
 *     the lock can see the difference.
 *   - One TLB stands for those of all CPUs.  kvm_flush_remote_tlbs() waits for all of them.
 *   - Attributes are NW, which narrows SPTEs in place, and PRIVATE, which zaps them.  NR and
 *     NX zap as PRIVATE does, and are checked as NW is.
 *   - Memory is sequentially consistent.  All stores here are made under mmu_lock, and the one
 *     ordered load without it, of mmu_invalidate_seq, is FAULT 1.
 *
 * Asserted
 *
 *   - While no set is in progress, neither an SPTE nor the TLB allows what the attributes
 *     forbid, or maps the wrong backing.
 *   - When the host frees a page after invalidate_range_start(), nothing maps it, and
 *     nothing maps it later.
 *   - When a memslot has been deleted, nothing of it is mapped.
 *   - The count of invalidations is never negative, and is zero at the end.
 *   - Each task ends: no deadlock.
 *
 * FAULT
 *
 *   1	kvm_faultin_pfn() samples mmu_invalidate_seq after it has read the attributes
 *   2	the fault does not check for an invalidation under mmu_lock
 *   3	kvm_mmu_invalidate_end() does not raise mmu_invalidate_seq
 *   4	mem_attrs_yield() drops mmu_lock without a flush
 *   5	kvm_mmu_invalidate_add() replaces the range instead of widening it
 *   6	a hugepage beside the range of a set reaches into the range
 *   7	a change of memslots does not wait for MMU notifiers
 *   8	kvm_mem_attrs_forbidden() does not look at the change in progress
 *   9	write protection leaves the SPTE MMU-writable
 *   10	the set ends its invalidation when it drops mmu_lock before the last piece of commit
 *   11	a change of memslots does not wait for SRCU
 */
#ifndef FAULT
#define FAULT 0
#endif

#define PAGES	3
#define FIRST	1
#define LAST	2

/* Attributes. */
#define NW	1
#define PRIVATE	2

/* What an SPTE maps; the MMU may make RO_TRACKED writable again without mmu_lock. */
#define NONE		0
#define RO		1
#define RO_TRACKED	2
#define RW		3
#define PRIVATE_RW	4
#define KIND		7
/* Set in a mapping of the page that the host has after the MMU notifier. */
#define NEW_PFN		8

#define is_shared(m)	(((m) & KIND) >= RO && ((m) & KIND) <= RW)
#define notified(p)	((p) == 2)

/* Memslots. */
#define GONE	0
#define VALID	1
#define INVALID	2

byte attrs[PAGES];
byte spte[PAGES];
byte huge_spte;
byte tlb[PAGES];

bool mmu_lock, slots_lock;
byte seq;
short in_progress;
byte range_start, range_end;

/* mem_attrs->op, if there is one. */
bool op;
byte op_set;

byte memslot;
byte mn_active;
byte vcpu_srcu, notifier_srcu;

/* Of the host: its page table has the new page, and the old one is free. */
bool host_new;

/* Not in the code: the ioctl has been called, and has not returned. */
bool in_set;

#define in_huge(p)	((p) < 2)
#define mapping(p)	(in_huge(p) && huge_spte != NONE -> huge_spte : spte[p])
#define in_range(p)	((p) >= FIRST && (p) <= LAST)

#define allowed(m, p)							\
	((m & KIND) == NONE || (attrs[p] == PRIVATE && (m & KIND) == PRIVATE_RW) ||	\
	 (attrs[p] != PRIVATE && (m & KIND) != PRIVATE_RW &&		\
	  !(attrs[p] == NW && (m & KIND) == RW)))
#define freed(m, p)	(host_new && notified(p) && is_shared(m) && !(m & NEW_PFN))

#define check_page(p)							\
	assert(in_set || allowed(mapping(p), p));			\
	assert(in_set || allowed(tlb[p], p));				\
	assert(!freed(mapping(p), p) && !freed(tlb[p], p))

inline check()
{
	check_page(0);
	check_page(1);
	check_page(2)
}

inline flush_tlbs()
{
	tlb[0] = NONE;
	tlb[1] = NONE;
	tlb[2] = NONE
}

inline zap_page(p, zapped)
{
	if
	:: mapping(p) != NONE ->
		spte[p] = NONE;
		huge_spte = (in_huge(p) -> NONE : huge_spte);
		zapped = true
	:: else
	fi
}

/* spte_forbid_write() of one SPTE. */
inline forbid_write_one(m, changed)
{
	if
#if FAULT == 9
	:: (m & KIND) == RW ->
		m = (m & NEW_PFN) | RO_TRACKED;
#else
	:: (m & KIND) == RW || (m & KIND) == RO_TRACKED ->
		m = (m & NEW_PFN) | RO;
#endif
		changed = true
	:: else
	fi
}

inline invalidate_begin()
{
	in_progress++;
	if
	:: in_progress == 1 ->
		range_start = 255;
		range_end = 0
	:: else
	fi
}

inline invalidate_add(start, end)
{
#if FAULT == 5
	range_start = start;
	range_end = end
#else
	range_start = (range_start < start -> range_start : start);
	range_end = (range_end > end -> range_end : end)
#endif
}

inline invalidate_end()
{
#if FAULT != 3
	seq++;
#endif
	in_progress--;
	assert(in_progress >= 0)
}

inline yield()
{
	if
	:: true
	:: true ->
		atomic {
#if FAULT != 4
			if
			:: flush -> flush_tlbs()
			:: else
			fi;
			flush = false;
#endif
			mmu_lock = false
		}
		atomic { !mmu_lock -> mmu_lock = true }
	fi
}

/* One set, from any attributes to any others. */
proctype setter()
{
	byte old, new, p;
	bool flush, ended;

	atomic {
		!slots_lock -> slots_lock = true;
		old = attrs[FIRST];
		if
		:: old != 0 -> new = 0
		:: old != NW -> new = NW
		:: old != PRIVATE -> new = PRIVATE
		fi;
		in_set = true
	}
	atomic {
		!mmu_lock -> mmu_lock = true;
		invalidate_begin();
		invalidate_add(FIRST, LAST + 1);
		op = true;
		op_set = new
	}

	/* mem_attrs_zap(); granting write access takes nothing away. */
	p = FIRST;
	do
	:: p <= LAST && !(old == NW && new == 0) ->
		atomic {
			if
			:: memslot == GONE
			:: memslot != GONE && new == NW && old == 0 ->
				forbid_write_one(spte[p], flush);
				if
				:: in_huge(p) -> forbid_write_one(huge_spte, flush)
				:: else
				fi
			:: else -> zap_page(p, flush)
			fi;
			p++
		}
		yield()
	:: else -> break
	od;
	atomic {
		if
		:: flush -> flush_tlbs()
		:: else
		fi;
		flush = false;
		p = FIRST
	}

	/* mem_attrs_commit() */
	do
	:: p < LAST ->
		atomic {
			attrs[p] = new;
			p++;
#if FAULT == 10
			invalidate_end();
			op = false;
			ended = true;
#endif
			mmu_lock = false
		}
		atomic { !mmu_lock -> mmu_lock = true }
	:: else -> break
	od;
	atomic {
		attrs[p] = new;
		op = false;
		if
		:: !ended -> invalidate_end()
		:: else
		fi;
		mmu_lock = false
	}
	atomic {
		in_set = false;
		check();
		slots_lock = false
	}
}

/* Resolves up to two faults, and uses what is mapped. */
proctype vcpu()
{
	byte tries, p, m, mmu_seq, a, slot;
	bool write, stale, is_huge;

	do
	:: tries < 2 ->
		atomic {
			tries++;
			if
			:: p = 0
			:: p = 1
			:: p = 2
			:: p = 1; write = true
			:: p = 2; write = true
			fi
		}
		atomic {
			if
			/* The page walk of the CPU. */
			:: mapping(p) != NONE ->
				tlb[p] = mapping(p);
				check_page(p);
				goto next
			/* A fault.  kvm->srcu is held outside of the guest. */
			:: vcpu_srcu = 1; slot = memslot; m = mapping(p)
			fi
		}
		if
		:: write && (m & KIND) == RO_TRACKED && slot == VALID ->
			/* fast_page_fault(): compare-and-exchange, no lock. */
			atomic {
				if
				:: spte[p] == m -> spte[p] = (m & NEW_PFN) | RW; check_page(p)
				:: in_huge(p) && huge_spte == m ->
					huge_spte = RW;
					check_page(p)
				:: else
				fi
			}
			goto out
		:: else
		fi;

		/* kvm_faultin_pfn(), kvm_mmu_faultin_attrs() */
#if FAULT != 1
		mmu_seq = seq;
#endif
		atomic {
			a = attrs[p];
			if
			:: slot != VALID || (a == NW && write) -> goto out
			:: else
			fi
		}
#if FAULT == 1
		mmu_seq = seq;
#endif
		if
		:: a == PRIVATE -> m = PRIVATE_RW
		/* GUP */
		:: a != PRIVATE && host_new && notified(p) -> m = RW | NEW_PFN
		:: a != PRIVATE && !(host_new && notified(p)) -> m = RW
		fi;

		/* direct_page_fault() */
		atomic {
			!mmu_lock;
#if FAULT == 2
			stale = false;
#else
			stale = (in_progress && p >= range_start && p < range_end) ||
				seq != mmu_seq;
#endif
			if
			:: stale -> goto out
			:: else
			fi;

			/* make_spte(): kvm_mem_attrs_forbidden() */
#if FAULT == 8
			a = attrs[p];
#else
			a = (op && in_range(p) -> attrs[p] | op_set : attrs[p]);
#endif
			if
			:: (a & NW) && (m & KIND) == RW -> m = (m & NEW_PFN) | RO
			:: else
			fi;

			/* kvm_mmu_attrs_mapping_level().  The hugepage overlaps the range. */
#if FAULT == 6
			is_huge = in_huge(p) && attrs[0] == attrs[1];
#else
			is_huge = in_huge(p) && attrs[0] == attrs[1] && !op;
#endif
			if
			:: is_huge -> spte[0] = NONE; spte[1] = NONE; huge_spte = m
			:: in_huge(p) && huge_spte != NONE ->
				huge_spte = NONE;
				flush_tlbs();
				spte[p] = m
			:: else -> spte[p] = m
			fi;
			tlb[p] = m;
			check()
		}
out:
		vcpu_srcu = 0;
next:
		atomic {
			m = 0; a = 0; slot = 0; p = 0; mmu_seq = 0;
			write = false; stale = false; is_huge = false
		}
	:: else -> break
	od
}

/* What makes an SPTE from the SPTE that is there, without a look at invalidations. */
proctype mmu_worker()
{
	byte p, n;

	do
	:: n < 2 ->
		n++;
		if
		:: p = 1
		:: p = 2
		fi;
		if
		/* sync_page(): write access that only the guest page table denied. */
		:: atomic {
			!mmu_lock && is_shared(spte[p]) ->
#if FAULT == 8
			if
			:: !(attrs[p] & NW) -> spte[p] = (spte[p] & NEW_PFN) | RW
#else
			if
			:: !((op && in_range(p) -> attrs[p] | op_set : attrs[p]) & NW) ->
				spte[p] = (spte[p] & NEW_PFN) | RW
#endif
			:: else
			fi;
			check_page(p)
		   }
		/* Dirty logging write-protects, with a flush. */
		:: atomic {
			!mmu_lock && (spte[p] & KIND) == RW ->
			spte[p] = (spte[p] & NEW_PFN) | RO_TRACKED;
			flush_tlbs()
		   }
		/* Eager splitting. */
		:: atomic {
			!mmu_lock && huge_spte != NONE ->
			spte[0] = huge_spte;
			spte[1] = huge_spte;
			huge_spte = NONE;
			flush_tlbs()
		   }
		:: true
		fi
	:: else -> break
	od
}

proctype mmu_notifier()
{
	byte slot;
	bool flush;

	/* invalidate_range_start().  Without a memslot, mmu_lock is not taken. */
	atomic { mn_active++; notifier_srcu = 1; slot = memslot }
	if
	:: slot != GONE ->
		atomic {
			!mmu_lock;
			invalidate_begin();
			invalidate_add(2, 3);
			zap_page(2, flush);
			if
			:: flush -> flush_tlbs()
			:: else
			fi
		}
	:: else
	fi;

	/* The host replaces its page and frees the old one. */
	atomic { notifier_srcu = 0; host_new = true; check() }

	/* invalidate_range_end() */
	atomic { notifier_srcu = 1; slot = memslot }
	if
	:: slot != GONE -> atomic { !mmu_lock; invalidate_end() }
	:: else
	fi;
	atomic { notifier_srcu = 0; mn_active--; slot = 0 }
}

/* kvm_swap_active_memslots() */
inline swap_memslots(to)
{
#if FAULT == 7
	memslot = to;
#else
	atomic { mn_active == 0 -> memslot = to }
#endif
#if FAULT != 11
	!vcpu_srcu;
	!notifier_srcu
#endif
}

/* Deletes the memslot and creates it again. */
proctype memslot_update()
{
	bool zapped;

	atomic { !slots_lock -> slots_lock = true }
	swap_memslots(INVALID);
	/* kvm_arch_flush_shadow_memslot() */
	atomic {
		!mmu_lock;
		zap_page(0, zapped);
		zap_page(1, zapped);
		zap_page(2, zapped);
		flush_tlbs()
	}
	swap_memslots(GONE);
	assert(!huge_spte && !spte[0] && !spte[1] && !spte[2]);
	assert(!tlb[0] && !tlb[1] && !tlb[2]);
	slots_lock = false;

	atomic { !slots_lock -> slots_lock = true }
	swap_memslots(VALID);
	slots_lock = false
}

init {
	byte a;

	atomic {
		memslot = VALID;
		if
		:: a = 0
		:: a = NW
		:: a = PRIVATE
		fi;
		attrs[1] = a;
		attrs[2] = a;
		/* The page beside the range, so the hugepage is uniform or is not. */
		if
		:: true
		:: attrs[0] = a
		fi;
		run setter();
		run vcpu();
		if
		:: run mmu_worker()
		:: run mmu_notifier(); run memslot_update()
		fi
	}
	_nr_pr == 1 -> assert(in_progress == 0 && mn_active == 0)
}
