// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM nested VMX - per-page memory attributes
 *
 * While L2 runs, hardware reads and writes pages of L1 by their host physical
 * address: the virtual-APIC page and the posted-interrupt descriptor, and it
 * compares addresses with that of the APIC-access page.  No SPTE stands between
 * the two, so that zapping SPTEs changes nothing.
 *
 * Model: when attributes take something away, or change what backs a page, each
 * vCPU that may have such pages in use gets KVM_REQ_NESTED_PAGES and is kicked out
 * of the guest.  It looks all of them up anew before it enters again.  If that is
 * refused the vCPU exits to userspace, naming the page, and tries again the next
 * time that it is run; L2 waits.  (Nested VM-Enter with a page that is refused
 * fails as with one that has no memory.)
 *
 * Locks
 *
 *   vcpu->mutex	 and the vCPU being loaded: everything here
 *   kvm->srcu		 memslots
 *   mem_attrs->access	 taken for write by who makes the request, for read by
 *			 KVM's own use of the pages, vmx_complete_nested_
 *			 posted_interrupt(), which so either is over or sees
 *			 the request
 *
 * Lifetimes: the pages are held by reference from nested VM-Enter to nested
 * VM-Exit, or until they are given up here.
 */

#include <linux/kvm_host.h>

#include "nested.h"
#include "vmx.h"

/* Without VMXON there is no L2, and later on pages are looked up anew anyway. */
bool nested_vmx_may_keep_pages(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(to_vmx(vcpu)->nested.vmxon);
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
 * Handle KVM_REQ_NESTED_PAGES.  Returns 1, 0 with an exit to userspace prepared
 * that ends L2, or -EFAULT with one that names the page.
 */
int nested_vmx_reload_pages(struct kvm_vcpu *vcpu)
{
	bool from_userspace = vcpu->arch.pdptrs_from_userspace;
	bool done;

	if (!is_guest_mode(vcpu))
		return 1;

	put_pages(vcpu);
	if (!pages_allowed(vcpu)) {
		kvm_make_request(KVM_REQ_NESTED_PAGES, vcpu);
		return kvm_refused_exit(vcpu);
	}

	/* L2 has not loaded CR3: its PDPTRs stay what they are. */
	vcpu->arch.pdptrs_from_userspace = true;
	done = nested_get_vmcs12_pages(vcpu);
	vcpu->arch.pdptrs_from_userspace = from_userspace;
	return done;
}
