/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A change of attributes against pages that KVM has mapped, and the wait for them
 *
 * Models
 *
 *   virt/kvm/guest_access.c	map_list() :632, map_unlist() :647, kvm_guest_access_map() :696,
 *				_unmap() :711, _untrack_map() :729, _track_map() :739, _wait()
 *				:787; access_try() :237
 *   virt/kvm/mem_attrs.c	mem_attrs_change() :576, mem_attrs_commit() :530,
 *				mem_attrs_revoke() :559
 *   virt/kvm/pfncache.c	hva_to_pfn_retry() :179, gpc_invalidate() :32
 *   arch/x86/kvm/mem_attrs.c	kvm_arch_revoke_nested_pages() :100
 *   arch/x86/kvm/vmx/mem_attrs.c  nested_vmx_uses_l1_pages() :47, __nested_evmcs_begin() :110,
 *				nested_vmx_reload_l1_pages() :164
 *   arch/x86/kvm/vmx/nested.c	nested_get_vmcs12_pages() :3217,
 *				vmx_complete_nested_posted_interrupt() :3906,
 *				vmx_has_nested_events() :4029
 *   arch/x86/kvm/x86.c		vcpu_enter_guest() :10676, requests and vcpu->mode
 *   include/linux/rcuwait.h	rcuwait_wait_event() :52; kernel/exit.c, rcuwait_wake_up() :294
 *
 * The line numbers are those of the composed tree, and approximate.
 *
 * A set takes away access to one page.  A kvm_host_map that is tracked while it is used runs
 * beside it, and either a vCPU that runs a nested guest with untracked maps, or a
 * gfn_to_pfn_cache and an access in a section.  These meet in the set only.
 *
 * Simplified
 *
 *   - One page.  Maps of pages outside of the range are not waited for, and nothing else about
 *     them differs.
 *   - The virtual-APIC page, the posted-interrupt descriptor and the enlightened VMCS are the
 *     same page.  Each of their uses is made in its own way.
 *   - A store buffer delays two stores: the attribute by the set, and vmxon by the vCPU.  No
 *     lock orders these two.  Taking a lock does not empty the buffer, releasing the lock for
 *     which the store was made, and smp_mb(), do.  All other data is used under a lock, or
 *     by atomic operations that are ordered by the barriers of kvm_make_request() and
 *     vcpu_enter_guest(), which are not of this series.
 *   - The IPI of KVM_REQ_OUTSIDE_GUEST_MODE is a wait until the vCPU has left the guest.
 *   - No signal cuts the wait short.
 *   - vmx_has_nested_events() reads the same pages as vmx_complete_nested_posted_interrupt(), in
 *     the same way: within kvm_guest_access_lock(), after a test of the request.  Code that tests
 *     the request without this lock is FAULT 9.
 *
 * Asserted
 *
 *   - Once the set has returned, nothing is accessed by way of a page that was looked up by
 *     the old attributes.
 *   - Each task ends: the wait neither deadlocks nor misses its wakeup.
 *
 * FAULT
 *
 *   1	kvm_guest_access_map() lists the map after it has looked up the page
 *   2	no smp_mb() in map_list()
 *   3	no smp_mb() in kvm_arch_revoke_nested_pages()
 *   4	the commit does not hold mem_attrs->access
 *   5	the vCPU with a nested guest is not kicked
 *   6	map_unlist() does not wake up the set
 *   7	the set waits for maps with mmu_lock held
 *   8	__nested_evmcs_begin() tests the request before it tracks the map
 *   9	vmx_has_nested_events() reads the pages outside of a section
 *   10	hva_to_pfn_retry() does not check mmu_invalidate_seq
 *   11	gfn_to_pfn caches are invalidated before the commit
 *   12	nested_vmx_reload_l1_pages() keeps the pages
 *   13	the set does not wait for maps
 */
#ifndef FAULT
#define FAULT 0
#endif

/* The attribute, 1: no access.  In the store buffer of the set, and in memory. */
bool attr_buffered, attr;

/* vcpu->arch.vmx.nested.vmxon, likewise with the vCPU's store buffer. */
bool vmxon_buffered, vmxon;

bool mmu_lock;
byte access_readers;
bool access_writer;
byte seq;

/* mem_attrs->maps: how many maps are tracked. */
byte listed;

/* mem_attrs->maps_wait */
bool waiter, waiter_sleeps;

/* Of the vCPU with a nested guest: KVM_REQ_NESTED_PAGES, vcpu->mode is IN_GUEST_MODE. */
bool request;
bool in_guest;

/* struct gfn_to_pfn_cache; gpc_lock is held across several steps nowhere. */
bool gpc_valid, gpc_old;

/* Not in the code: the ioctl has returned. */
bool returned;

#define access_page(old)	assert(!(returned && (old)))

inline read_lock_access()
{
	atomic { !access_writer -> access_readers++ }
}

inline read_unlock_access()
{
	access_readers--
}

/* maps_lock is held for one step.  It is no full barrier. */
inline map_list()
{
	listed++
#if FAULT != 2
	;
	/* smp_mb() */
	vmxon = vmxon_buffered
#endif
}

inline map_unlist()
{
	listed--;
#if FAULT != 6
	/* rcuwait_wake_up() */
	if
	:: waiter -> waiter_sleeps = false
	:: else
	fi
#endif
}

inline kick_and_wait()
{
#if FAULT != 5
	if
	:: kick -> !in_guest
	:: else
	fi;
#endif
#if FAULT != 13
	/* kvm_guest_access_wait() */
	waiter = true;
	do
	:: waiter_sleeps = true;
		if
		:: listed == 0 -> break
		:: else
		fi;
		!waiter_sleeps
	od;
	atomic { waiter_sleeps = false; waiter = false }
#endif
}

proctype setter()
{
	bool kick;

	atomic { !mmu_lock -> mmu_lock = true }
#if FAULT == 11
	gpc_valid = false;
#endif

	/* mem_attrs_commit() */
#if FAULT != 4
	atomic { access_readers == 0 && !access_writer -> access_writer = true }
#endif
	attr_buffered = true;

	/* kvm_arch_revoke_nested_pages() */
#if FAULT != 3
	attr = true;
#endif
	if
	:: vmxon -> request = true; kick = true
	:: else
	fi;
	/* The unlock is a release. */
	atomic { attr = true; access_writer = false }

	/* kvm_mmu_invalidate_end() */
	seq++;
#if FAULT == 7
	kick_and_wait();
	mmu_lock = false;
#else
	mmu_lock = false;
#endif

	/* mem_attrs_revoke() */
#if FAULT != 11
	gpc_valid = false;
#endif
#if FAULT != 7
	kick_and_wait();
#endif
	returned = true
}

/* The store buffers: each store becomes visible at some time. */
proctype set_store()
{
	atomic { attr_buffered -> attr = true }
}

proctype vmxon_store()
{
	atomic { vmxon_buffered -> vmxon = true }
}

/* kvm_vcpu_map(), use, kvm_vcpu_unmap() */
proctype tracked_map()
{
	bool old;

#if FAULT == 1
	old = !attr;
	map_list();
#else
	map_list();
	old = !attr;
#endif
	if
	:: old ->
		access_page(old);
		/* A fault of the host on the way: an MMU notifier takes mmu_lock. */
		!mmu_lock;
		access_page(old)
	:: else
	fi;
	map_unlist()
}

/* access_try(): a section. */
proctype section()
{
	bool old;

	read_lock_access();
	old = !attr;
	access_page(old);
	read_unlock_access()
}

proctype pfn_cache()
{
	bool old;
	byte mmu_seq;

	/* hva_to_pfn_retry().  It sleeps between the two steps, thus drops gpc->lock. */
	do
	:: atomic { gpc_valid = false; mmu_seq = seq }
		old = !attr;
		atomic {
			if
#if FAULT == 10
			:: true -> gpc_valid = true; gpc_old = old; break
#else
			:: mmu_seq == seq -> gpc_valid = true; gpc_old = old; break
			:: else
#endif
			fi
		}
	od;

	/* The use, with gpc->lock held for read. */
	atomic {
		if
		:: gpc_valid -> access_page(gpc_old)
		:: else
		fi
	}
}

/* kvm_vcpu_map_untracked() */
inline map_untracked()
{
	map_list();
	old = !attr;
	map_unlist()
}

proctype nested_vcpu()
{
	bool old, allowed;
	byte rounds;

	/* VMXON, then a nested VM-Enter. */
	vmxon_buffered = true;
	map_untracked();
	if
	:: !old -> goto end
	:: else
	fi;

	do
	:: rounds < 2 ->
		rounds++;

		/* vcpu_enter_guest(): kvm_check_request() */
		if
		:: request ->
			request = false;
			/* nested_vmx_reload_l1_pages() */
#if FAULT != 12
			map_untracked();
			if
			:: !old -> request = true; goto end
			:: else
			fi
#endif
		:: else
		fi;
		in_guest = true;
		if
		:: !request -> access_page(old)
		:: else
		fi;
		in_guest = false;

		/* What KVM itself does with the pages until the next VM-Enter. */
		if
		/* vmx_complete_nested_posted_interrupt(), vmx_has_nested_events() */
		:: read_lock_access();
			if
			:: !request -> access_page(old)
			:: else
			fi;
			read_unlock_access()
#if FAULT == 9
		/* vmx_has_nested_events() */
		:: if
			:: !request -> access_page(old)
			:: else
			fi
#endif
		/* __nested_evmcs_begin() to nested_evmcs_end() */
#if FAULT == 8
		:: allowed = !request;
			map_list();
#else
		:: map_list();
			allowed = !request;
#endif
			if
			:: allowed -> access_page(old)
			:: else
			fi;
			map_unlist()
		:: true
		fi
	:: else -> break
	od;
end:
	skip
}

init {
	atomic {
		run setter();
		run set_store();
		run tracked_map();
		if
		:: run nested_vcpu(); run vmxon_store()
		:: run pfn_cache(); run section()
		fi
	}
}
