/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The lookup of a page's attributes without a lock, against prepare, commit and abort
 *
 * Models
 *
 *   virt/kvm/mem_attrs_store.c	 kvm_attr_store_get() :451, own_entry() :417, shared_entry()
 *				 :400, load_entry() :379, is_stale() :366, commit_began()
 *				 :357; kvm_attr_store_prepare() :1164, prepare_end() :1059,
 *				 cut_slots() :899, cut() :925, reserve() :1006;
 *				 kvm_attr_store_commit() :1341, store_run() :789, merge_at()
 *				 :751; kvm_attr_store_abort() :1365
 *   lib/xarray.c		 xas_descend() :201, xas_store() :777, xas_split() :1059,
 *				 xas_free_nodes() :525, xas_delete_node() :483
 *
 * The line numbers are those of the composed tree, and approximate.
 *
 * Four pages.  Two slots of a node cover two pages each.  A slot holds a value, or a node of
 * two slots, one for each page; the second slot can be a sibling of the first.  So there is each
 * kind of entry, and an entry that spans slots can be cut, merged, and replaced with nodes.
 *
 * Stores of the writer go to a store buffer and become visible in any order, at any time.  A
 * release (rcu_assign_pointer(), smp_store_release(), xa_unlock()) waits until what was stored
 * before is visible.  This is weaker than x86, and what the kernel's memory model allows.
 *
 * Simplified
 *
 *   - The root of the tree does not change.  It is replaced as a node is: the new entry is
 *     published by a release, the old node is freed after a grace period.
 *   - A change gives all pages of a range one value (keep is 0), in one step of commit.  An
 *     update stores its runs in the same way.  A further step begins with another increment
 *     of nr_commits.
 *   - One reader, one lookup: readers do not see one another.  Page 0 is not looked up: like
 *     page 1, it is in the first slot, to which no sibling leads.
 *   - A grace period begins once all stores are visible: call_rcu() is ordered after what the
 *     writer stored before.  xas_delete_node() calls it a few instructions before it clears the
 *     parent's slot.  The model clears the slot first.  A grace period that begins within these
 *     instructions is FAULT 7.
 *   - A reader does not reorder its loads, except for those of nr_commits, where barriers
 *     (FAULT 4 and 5) are all that keeps them in place.
 *
 * Asserted
 *
 *   - A lookup returns a value that the page had at some time during the lookup.  During the
 *     commit of a change, that is the old value or the new one.
 *   - A lookup reads no slot of a node that is not initialized, or that has been freed.
 *   - Each lookup and each change ends.
 *
 * FAULT
 *
 *   1	a node is published without a release
 *   2	commit raises nr_commits after it has stored the new values
 *   3	the lookup does not check nr_commits
 *   4	no smp_rmb() before nr_commits is checked
 *   5	the first load of nr_commits is no acquire
 *   6	nodes are freed without a grace period
 *   7	a grace period begins between the call_rcu() and the store in xas_delete_node()
 *   8	commit does not raise nr_commits
 */
#ifndef FAULT
#define FAULT 0
#endif

/* What a slot holds. */
#define ZERO		0	/* NULL */
#define A		1
#define B		2
#define RESERVED	3	/* XA_ZERO_ENTRY */
#define RETRY		4
#define SIBLING		5	/* of the first slot */
#define POISON		6	/* the slot of a node that is not initialized, or is freed */
#define NODE		8	/* + the number of the node */

#define is_value(e)	((e) == A || (e) == B)
#define is_node(e)	((e) >= NODE)

/*
 * The places in memory: 0 and 1 are the slots above, 2 + 2 * n and 3 + 2 * n are those of node
 * n, and the last one is nr_commits.
 */
#define NODES		3
#define CHANGES		2
#define slot_of(e, p)	(2 + 2 * ((e) - NODE) + ((p) & 1))
#define NR_COMMITS	(2 + 2 * NODES)
#define PLACES		(NR_COMMITS + 1)

byte mem[PLACES];
/* The store buffer. */
byte buffer[PLACES];
bool buffered[PLACES];
byte nr_buffered;

/* Nodes. */
#define FREE		0
#define IN_USE		1
#define CALL_RCU	2	/* waits for a grace period to begin */
#define GRACE_PERIOD	3	/* waits for its end */

bool xa_lock;

byte node[NODES];
bool node_waits[NODES];

/* Of the reader: it is within rcu_read_lock(), and the page that it looks up. */
bool reading;
byte page;

/*
 * Not in the code: the values of the pages, the change whose commit has begun, and what
 * the reader may return.
 */
byte value[4];
bool committing;
byte first, last, new;
byte may_see;

/* What the writer sees, which is its own stores. */
#define own(x)	(buffered[x] -> buffer[x] : mem[x])

/* WRITE_ONCE(), RCU_INIT_POINTER() */
inline store(x, v)
{
	atomic {
		!buffered[x];
		buffer[x] = v;
		buffered[x] = true;
		nr_buffered++
	}
}

/* rcu_assign_pointer(), smp_store_release() */
inline store_release(x, v)
{
	atomic {
		nr_buffered == 0;
		buffer[x] = v;
		buffered[x] = true;
		nr_buffered++
	}
}

active proctype store_buffer()
{
	byte x;

end:
	do
	:: atomic {
		nr_buffered > 0 ->
		if
		:: buffered[0] -> x = 0
		:: buffered[1] -> x = 1
		:: buffered[2] -> x = 2
		:: buffered[3] -> x = 3
		:: buffered[4] -> x = 4
		:: buffered[5] -> x = 5
		:: buffered[6] -> x = 6
		:: buffered[7] -> x = 7
		:: buffered[8] -> x = 8
		fi;
		mem[x] = buffer[x];
		buffered[x] = false;
		buffer[x] = 0;
		nr_buffered--;
		x = 0
	   }
	od
}

#define may_begin(n)	(node[n] == CALL_RCU && (FAULT == 7 || nr_buffered == 0))
/* The holder of xa_lock has preemption disabled, so a grace period waits for it. */
#define may_end(n)	(node[n] == GRACE_PERIOD && !node_waits[n] && !(FAULT == 7 && xa_lock))

inline grace_period_begins(n)
{
	node[n] = GRACE_PERIOD;
	node_waits[n] = reading
}

/* radix_tree_node_rcu_free() */
inline grace_period_ends(n)
{
	node[n] = FREE;
	mem[2 + 2 * n] = POISON;
	mem[3 + 2 * n] = POISON
}

active proctype rcu()
{
end:
	do
	:: atomic { may_begin(0) -> grace_period_begins(0) }
	:: atomic { may_begin(1) -> grace_period_begins(1) }
	:: atomic { may_begin(2) -> grace_period_begins(2) }
	:: atomic { may_end(0) -> grace_period_ends(0) }
	:: atomic { may_end(1) -> grace_period_ends(1) }
	:: atomic { may_end(2) -> grace_period_ends(2) }
	od
}

/* xa_node_free() */
inline free_node(n)
{
#if FAULT == 6
	atomic {
		buffered[2 + 2 * n] = false;
		buffered[3 + 2 * n] = false;
		recount();
		grace_period_ends(n)
	}
#else
	node[n] = CALL_RCU
#endif
}

inline recount()
{
	nr_buffered = buffered[0] + buffered[1] + buffered[2] + buffered[3] + buffered[4] +
		      buffered[5] + buffered[6] + buffered[7] + buffered[8]
}

/* xas_free_nodes() of the node that was in a slot. */
inline free_entry(e)
{
	if
	:: is_node(e) ->
		if
		:: own(slot_of(e, 0)) != ZERO -> store(slot_of(e, 0), RETRY)
		:: else
		fi;
		if
		:: own(slot_of(e, 1)) != ZERO -> store(slot_of(e, 1), RETRY)
		:: else
		fi;
		free_node((e - NODE))
	:: else
	fi
}

/* xas_store() of an entry of one slot above, or of both. */
inline store_above(r, spans, v)
{
	atomic { old = own(r); e = v }
	store_release(r, e);
	free_entry(old);
	if
	:: spans ->
		atomic { old = own(1); e = (v == ZERO -> ZERO : SIBLING) }
		store_release(1, e);
		free_entry(old)
	:: else
	fi
}

/* xas_store() of one page: the node is there. */
inline store_page(p, v)
{
	atomic { old = own(p / 2) }
	store_release(slot_of(old, p), v);
	if
	:: own(slot_of(old, 0)) == ZERO && own(slot_of(old, 1)) == ZERO ->
		/* xas_delete_node() */
#if FAULT == 7
		free_node((old - NODE));
#endif
		store(p / 2, ZERO);
#if FAULT != 7
		free_node((old - NODE))
#endif
	:: else
	fi
}

/* merge_at() */
inline merge_at(p)
{
	atomic {
		r = p / 2;
		old = own(r);
		if
		:: is_node(old) && own(slot_of(old, 0)) == own(slot_of(old, 1)) &&
		   is_value(own(slot_of(old, 0))) ->
			v = own(slot_of(old, 0))
		:: is_value(old) -> v = old
		:: else -> v = ZERO
		fi
	}
	if
	:: v != ZERO && own(1 - r) == v -> store_above(0, true, v)
	:: v != ZERO && own(1 - r) != v && is_node(own(r)) -> store_above(r, false, v)
	:: else
	fi
}

/* Allocates a node, and fills it with plain stores. */
inline new_node(v)
{
	atomic {
		if
		:: node[0] == FREE -> n = 0
		:: node[1] == FREE && node[0] != FREE -> n = 1
		:: node[2] == FREE && node[0] != FREE && node[1] != FREE -> n = 2
		fi;
		node[n] = IN_USE
	}
	store(2 + 2 * n, v);
	store(3 + 2 * n, v)
}

inline publish_node(r)
{
#if FAULT == 1
	store(r, NODE + n)
#else
	store_release(r, NODE + n)
#endif
}

/* prepare_end(), for the end of the range before page p: cut() or reserve(). */
inline prepare_end(p, tail)
{
	atomic { r = p / 2; old = own(r); v = own(0) }
	/* cut_slots() of an entry in both slots. */
	if
	:: own(1) == SIBLING && p != 0 && p != 4 ->
		store_release(1, v);
		old = v
	:: else
	fi;
	if
	/* xas_split() of one slot. */
	:: (p & 1) && is_value(old) ->
		new_node(old);
		publish_node(r)
	/* reserve() */
	:: (p & 1) && old == ZERO && new != ZERO ->
		new_node(ZERO);
		publish_node(r);
		store_release(slot_of(NODE + n, (p - tail)), RESERVED)
	:: else
	fi
}

inline release(p)
{
	atomic { r = p / 2; old = own(r) }
	if
	:: is_node(old) && own(slot_of(old, p)) == RESERVED -> store_page(p, ZERO)
	:: else
	fi
}

inline unlock()
{
	/* xa_unlock() is a release. */
	atomic { nr_buffered == 0 -> xa_lock = false }
}

proctype writer()
{
	byte changes, r, n, v, old, e, p;

	do
	:: changes < CHANGES ->
		atomic {
			changes++;
			if
			:: first = 0; last = 1
			:: first = 3; last = 3
			:: first = 1; last = 2
			:: first = 0; last = 3
			fi;
			if
			:: new = ZERO
			:: new = A
			:: new = B
			fi;
			/* Ends that do not change are trimmed: this one is not called. */
			if
			:: value[first] == new || value[last] == new -> goto next
			:: else
			fi
		}

		prepare_end(first, 0);
		prepare_end((last + 1), 1);
		unlock();
		if
		:: true
		/* kvm_attr_store_abort() */
		:: xa_lock = true;
			merge_at(first);
			merge_at(last);
			release(first);
			release(last);
			unlock();
			goto next
		fi;

		/* kvm_attr_store_commit() */
		atomic {
			xa_lock = true;
			committing = true;
			if
			:: reading && page >= first && page <= last ->
				may_see = may_see | (1 << new)
			:: else
			fi
		}
#if FAULT != 2 && FAULT != 8
		store_release(NR_COMMITS, changes);
#endif
		/* store_run() */
		if
		:: first == 0 && last == 3 -> store_above(0, true, new)
		:: else ->
			p = first;
			do
			:: p > last -> break
			:: p <= last && !(p & 1) && p < last ->
				store_above((p / 2), false, new);
				p = p + 2
			:: p <= last && !(!(p & 1) && p < last) ->
				store_page(p, new);
				p++
			od;
			if
			:: new != ZERO -> merge_at(first); merge_at(last)
			:: else
			fi
		fi;
#if FAULT == 2
		store_release(NR_COMMITS, changes);
#endif
		atomic {
			nr_buffered == 0;
			xa_lock = false;
			committing = false;
			p = first;
			do
			:: p <= last -> value[p] = new; p++
			:: else -> break
			od
		}
next:
		atomic { p = 0; r = 0; n = 0; v = 0; old = 0; e = 0; first = 0; last = 0; new = 0 }
	:: else -> break
	od
}

/* A load of a node's slot: the node must be there. */
inline load_below(e, p)
{
	atomic {
		e = mem[slot_of(e, p)];
		assert(e != POISON)
	}
}

/* Load a slot, and follow a sibling: xas_descend(), shared_entry(). */
inline load_slot() {
	atomic { sibling = false; nr = mem[NR_COMMITS] }
	e = mem[page / 2];
#if FAULT == 5
	nr = mem[NR_COMMITS];
#endif
	if
	:: e == SIBLING ->
		sibling = true;
#if FAULT == 4
		check = mem[NR_COMMITS];
#endif
		atomic {
			e = mem[0];
			if
			:: is_node(e) -> e = RETRY
			:: else
			fi
		}
	:: else
	fi
}

/* kvm_attr_store_get() */
proctype reader()
{
	byte e, nr, check;
	bool sibling;

	atomic {
		if
		:: page = 1
		:: page = 2
		:: page = 3
		fi;
		reading = true;
		may_see = (1 << value[page]);
		if
		:: committing && page >= first && page <= last -> may_see = may_see | (1 << new)
		:: else
		fi
	}

	/* own_entry() */
	e = mem[page / 2];
	if
	:: is_node(e) -> load_below(e, page)
	:: e == SIBLING ->
		load_slot();
#if FAULT != 4
		check = mem[NR_COMMITS];
#endif
		if
#if FAULT != 3
		:: sibling && check != nr -> e = RETRY
#endif
		:: else
		fi
	:: else
	fi;
	if
	:: e == ZERO || is_value(e) -> goto out
	:: else
	fi;

	/* load_entry() */
	do
	:: load_slot();
		if
		:: is_node(e) -> load_below(e, page)
		:: else
		fi;
#if FAULT != 4
		check = mem[NR_COMMITS];
#endif
		if
		:: e == RETRY
#if FAULT != 3
		:: e != RETRY && sibling && check != nr
		:: e != RETRY && !(sibling && check != nr) -> break
#else
		:: e != RETRY -> break
#endif
		fi
	od;
	if
	:: e == RESERVED -> e = ZERO
	:: else
	fi;
out:
	atomic {
		assert(e <= B && (may_see & (1 << e)));
		reading = false;
		node_waits[0] = false;
		node_waits[1] = false;
		node_waits[2] = false
	}
}

init {
	atomic {
		/* Each node is free, and each page has the value A, or none has a value. */
		mem[2] = POISON;
		mem[3] = POISON;
		mem[4] = POISON;
		mem[5] = POISON;
		mem[6] = POISON;
		mem[7] = POISON;
		if
		:: mem[0] = A;
			mem[1] = SIBLING;
			value[0] = A;
			value[1] = A;
			value[2] = A;
			value[3] = A
		:: true
		fi;
		run writer();
		run reader()
	}
}
