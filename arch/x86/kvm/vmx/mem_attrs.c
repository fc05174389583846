// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM nested VMX - per-page memory attributes
 *
 * While L2 runs, hardware uses pages of L1 by their host physical address.  It reads and
 * writes the virtual-APIC page and the posted-interrupt descriptor, and compares
 * addresses with that of the APIC-access page.  No SPTE is involved, so zapping SPTEs
 * does not stop it.  KVM itself keeps the enlightened VMCS of Hyper-V mapped, also while
 * L1 runs.
 *
 * Model: when attributes take something away, or change what backs a page, each vCPU that
 * may use such pages gets KVM_REQ_NESTED_PAGES and is kicked out of the guest.  It looks
 * all of the pages up again before it enters the guest.  If that is refused, the vCPU
 * exits to userspace naming the page, and tries again the next time that it is
 * run.  L2 does not run meanwhile.  A nested VM-Enter with a page that is refused fails
 * as with a page that has no memory.
 *
 * Only KVM uses the enlightened VMCS.  Each use tracks the map, and then checks for the
 * request.  A change waits for uses that began before it; later uses see the request.
 * While L1 runs, nothing is left to be written to the enlightened VMCS.  Then KVM unmaps
 * it on request, and the next VM-Enter looks it up as a new one.
 *
 * Locks
 *
 *   vcpu->mutex	 with the vCPU loaded: everything here
 *   kvm->srcu		 memslots
 *   mem_attrs->access	 Write: making the request.  Read: KVM's own use of the pages
 *			 in vmx_complete_nested_posted_interrupt(), which thereby
 *			 either has ended or sees the request.
 *   mem_attrs->maps_lock  the same for the enlightened VMCS, see
 *			 kvm_guest_access_track_map()
 *
 * Lifetimes: the pages are held by reference from nested VM-Enter to nested VM-Exit.
 * The enlightened VMCS is held until another one or none is used.  Either ends earlier
 * if the page is revoked here.
 */

#include <linux/kvm_host.h>

#include "nested.h"
#include "vmx.h"

/*
 * Without VMXON there is no L2, and later on pages are looked up again anyway, but
 * for the enlightened VMCS, which is still there when SMM is left.
 */
bool nested_vmx_uses_l1_pages(struct kvm_vcpu *vcpu)
{
	struct nested_vmx *nested = &to_vmx(vcpu)->nested;

	return READ_ONCE(nested->vmxon) ||
	       evmptr_is_valid(READ_ONCE(nested->hv_evmcs_vmptr));
}

static void put_pages(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	kvm_vcpu_unmap(vcpu, &vmx->nested.apic_access_page_map, false);
	kvm_vcpu_unmap(vcpu, &vmx->nested.virtual_apic_map, true);
	kvm_vcpu_unmap(vcpu, &vmx->nested.pi_desc_map, true);
	vmx->nested.pi_desc = NULL;
}

static bool pages_allowed(struct kvm_vcpu *vcpu)
{
	struct vmcs12 *vmcs12 = get_vmcs12(vcpu);

	if (nested_cpu_has2(vmcs12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES) &&
	    !kvm_guest_access_check(vcpu,
				    gpa_to_gfn(vmcs12->apic_access_addr)))
		return false;

	if (nested_cpu_has(vmcs12, CPU_BASED_TPR_SHADOW) &&
	    !kvm_guest_access_check(vcpu,
				    gpa_to_gfn(vmcs12->virtual_apic_page_addr)))
		return false;

	return !nested_cpu_has_posted_intr(vmcs12) ||
	       kvm_guest_access_check(vcpu,
				      gpa_to_gfn(vmcs12->posted_intr_desc_addr));
}

/*
 * Look the enlightened VMCS up again.  If it is there it is in use, if not that may
 * be noted as a refused access.  May sleep.
 */
static bool reload_evmcs(struct kvm_vcpu *vcpu)
{
	struct nested_vmx *nested = &to_vmx(vcpu)->nested;
	gfn_t gfn = gpa_to_gfn(nested->hv_evmcs_vmptr);

	kvm_vcpu_unmap(vcpu, &nested->hv_evmcs_map, true);
	nested->hv_evmcs = NULL;

	kvm_guest_access_clear_refused(vcpu);
	if (!kvm_guest_access_check(vcpu, gfn) ||
	    kvm_vcpu_map(vcpu, gfn, &nested->hv_evmcs_map))
		return false;

	nested->hv_evmcs = nested->hv_evmcs_map.hva;
	return true;
}

/*
 * Use the enlightened VMCS, if there is one, until nested_evmcs_end().  Returns
 * false if it has to be given up: by nested_vmx_reload_l1_pages(), so the caller goes
 * back to where requests are handled.  Called with kvm->srcu held.
 */
bool __nested_evmcs_begin(struct kvm_vcpu *vcpu, bool may_sleep)
{
	struct nested_vmx *nested = &to_vmx(vcpu)->nested;

	if (!evmptr_is_valid(nested->hv_evmcs_vmptr))
		return true;

	if (nested->hv_evmcs) {
		kvm_guest_access_track_map(vcpu->kvm, &nested->hv_evmcs_map);
		if (!kvm_test_request(KVM_REQ_NESTED_PAGES, vcpu))
			return true;
		kvm_guest_access_untrack_map(vcpu->kvm, &nested->hv_evmcs_map);
	}

	return may_sleep && reload_evmcs(vcpu);
}

/* Returns as nested_vmx_reload_l1_pages(). */
static int evmcs_lost(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (!is_guest_mode(vcpu) && !vmx->nested.need_vmcs12_to_shadow_sync) {
		nested_release_evmcs(vcpu);
		return 1;
	}

	/* L2's state has to go there sooner or later. */
	kvm_make_request(KVM_REQ_NESTED_PAGES, vcpu);
	if (kvm_guest_access_refused(vcpu))
		return kvm_guest_access_refused_exit(vcpu);

	vcpu->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	vcpu->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	vcpu->run->internal.ndata = 0;
	return 0;
}

static int give_up_evmcs(struct kvm_vcpu *vcpu)
{
	if (!evmptr_is_valid(to_vmx(vcpu)->nested.hv_evmcs_vmptr))
		return 1;

	if (!reload_evmcs(vcpu))
		return evmcs_lost(vcpu);

	nested_evmcs_end(vcpu);
	return 1;
}

/*
 * Handle KVM_REQ_NESTED_PAGES.  Returns 1, 0 with an exit to userspace prepared
 * that ends L2, or -EFAULT with one that names the page.
 */
int nested_vmx_reload_l1_pages(struct kvm_vcpu *vcpu)
{
	bool from_userspace = vcpu->arch.pdptrs_from_userspace;
	bool done;
	int r;

	r = give_up_evmcs(vcpu);
	if (r <= 0 || !is_guest_mode(vcpu))
		return r;

	put_pages(vcpu);
	if (!pages_allowed(vcpu)) {
		kvm_make_request(KVM_REQ_NESTED_PAGES, vcpu);
		return kvm_guest_access_refused_exit(vcpu);
	}

	/* The enlightened VMCS is not in use: do not ask it for advice. */
	to_vmx(vcpu)->nested.force_msr_bitmap_recalc = true;

	/* L2 has not loaded CR3: its PDPTRs stay what they are. */
	vcpu->arch.pdptrs_from_userspace = true;
	done = nested_get_vmcs12_pages(vcpu);
	vcpu->arch.pdptrs_from_userspace = from_userspace;
	return done;
}
