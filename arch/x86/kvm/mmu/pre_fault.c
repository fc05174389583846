// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 MMU - the arch side of KVM_PRE_FAULT_MEMORY
 *
 * A page is mapped by handling the fault that a read by the guest would cause, as a
 * prefetch: there is no async page fault, and the page does not count as accessed.
 * This needs two-dimensional paging: a shadow page table needs a guest virtual
 * address.
 *
 * Locks and lifetimes are those of any page fault, see mem_attrs.c.
 */

#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu_internal.h"

/* One page of KVM_PRE_FAULT_MEMORY.  Returns the level it is mapped at. */
static int pre_fault_page(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct kvm_page_fault fault = {
		.addr = gpa,
		.error_code = PFERR_USER_MASK,
		.prefetch = true,
		.user = true,
		.is_tdp = true,
		.nx_huge_page_workaround_enabled =
			is_nx_huge_page_enabled(vcpu->kvm),
		.max_level = KVM_MAX_HUGEPAGE_LEVEL,
		.req_level = PG_LEVEL_4K,
		.goal_level = PG_LEVEL_4K,
	};
	int r;

	r = kvm_tdp_page_fault(vcpu, &fault);
	if (r < 0)
		return r;

	switch (r) {
	case RET_PF_RETRY:
		return -EAGAIN;
	case RET_PF_FIXED:
	case RET_PF_SPURIOUS:
		return fault.goal_level;
	default:
		return -ENOENT;
	}
}

/*
 * Map the page at @gpa as a read by the guest would.  Returns how many bytes
 * from @gpa on, at most @size, are mapped now, -EAGAIN or an error.  Called by the
 * owner of the vCPU, with the vCPU loaded and kvm->srcu held.
 */
long kvm_arch_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	u64 span;
	int r;

	if (!tdp_enabled)
		return -EOPNOTSUPP;

	/* The MMU in use would be the one of the nested guest. */
	if (is_guest_mode(vcpu))
		return -EOPNOTSUPP;

	if (!kvm_vcpu_is_visible_gfn(vcpu, gpa_to_gfn(gpa)))
		return -ENOENT;

	/* As on VM-Enter, without which an obsolete root would stay. */
	if (kvm_check_request(KVM_REQ_MMU_FREE_OBSOLETE_ROOTS, vcpu))
		kvm_mmu_free_obsolete_roots(vcpu);

	r = kvm_mmu_reload(vcpu);
	if (r)
		return r;

	r = pre_fault_page(vcpu, gpa);
	if (r < 0)
		return r;

	span = KVM_HPAGE_SIZE(r) - (gpa & ~KVM_HPAGE_MASK(r));
	return min(span, size);
}
