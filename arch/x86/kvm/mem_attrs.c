// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 - per-page memory attributes outside of the MMU
 *
 * VM types, and the accesses of x86 to guest memory that stock KVM makes
 * straight through the HVA, for VMs whose attributes forbid that: they go
 * through virt/kvm/guest_access.c instead, which see for the model, the locks
 * and the lifetimes.  Every function here is called by the owner of the vCPU
 * with kvm->srcu held, and may sleep, unless it says otherwise.
 */

#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include "cpuid.h"
#include "mem_attrs.h"
#include "mmu.h"
#include "trace.h"
#include "x86.h"

bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return IS_ENABLED(CONFIG_KVM_PRIVATE_MEM) &&
	       kvm->arch.vm_type == KVM_X86_SW_PROTECTED_VM;
}

/*
 * Private memory that no hardware protects has to be mapped by KVM alone: with
 * shadow paging, a guest page table decides what is mapped where.
 */
bool kvm_is_vm_type_supported(unsigned long type)
{
	if (type == KVM_X86_DEFAULT_VM)
		return true;

	return type == KVM_X86_SW_PROTECTED_VM && tdp_enabled &&
	       IS_ENABLED(CONFIG_KVM_SW_PROTECTED_VM);
}

int kvm_mem_attrs_check_extension(long ext)
{
	switch (ext) {
	case KVM_CAP_MEMORY_FAULT_INFO:
		return 1;
	case KVM_CAP_VM_TYPES:
		return BIT(KVM_X86_DEFAULT_VM) |
		       (kvm_is_vm_type_supported(KVM_X86_SW_PROTECTED_VM) ?
			BIT(KVM_X86_SW_PROTECTED_VM) : 0);
	case KVM_CAP_PRE_FAULT_MEMORY:
		return IS_ENABLED(CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY) &&
		       tdp_enabled;
	default:
		return 0;
	}
}

/*
 * A VM type made for private memory gets its store at once, so that its first
 * attributes need not wait for accesses that began without.
 */
int kvm_mem_attrs_init_vm_type(struct kvm *kvm)
{
	if (!kvm_arch_has_private_mem(kvm))
		return 0;

	return kvm_mem_attrs_init_vm(kvm);
}

#define try_cmpxchg_user(type)						\
	__try_cmpxchg_user((type __user *)uaddr, (type *)old,		\
			   *(const type *)new, efault_##type)

int kvm_arch_cmpxchg_user(void __user *uaddr, void *old, const void *new,
			  int len)
{
	switch (len) {
	case 1:
		return try_cmpxchg_user(u8);
	case 2:
		return try_cmpxchg_user(u16);
	case 4:
		return try_cmpxchg_user(u32);
	case 8:
		return try_cmpxchg_user(u64);
	default:
		WARN_ON_ONCE(1);
		return -EFAULT;
	}
}

/*
 * Clear the flags that the guest set while it took the vCPU for preempted, and
 * serve the TLB flush that it may have asked for.
 */
static int clear_preempted(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	gpa_t flags = gpa + offsetof(struct kvm_steal_time, preempted);
	struct kvm_memory_slot *slot;
	u8 old = 0, new = 0;
	int r;

	/* @old becomes what was found: the next round replaces just that. */
	slot = gfn_to_memslot(vcpu->kvm, gpa_to_gfn(gpa));
	do {
		r = kvm_guest_access_cmpxchg(vcpu->kvm, slot, gpa_to_gfn(gpa),
					     offset_in_page(flags), &old, &new,
					     sizeof(new));
	} while (r > 0);
	if (r)
		return r;

	vcpu->arch.st.preempted = 0;
	if (!guest_pv_has(vcpu, KVM_FEATURE_PV_TLB_FLUSH))
		return 0;

	/* Steal time is updated before VM-Enter, which looks for requests. */
	trace_kvm_pv_tlb_flush(vcpu->vcpu_id, old & KVM_VCPU_FLUSH_TLB);
	if (old & KVM_VCPU_FLUSH_TLB)
		kvm_make_request(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
	return 0;
}

/*
 * record_steal_time() for a VM with memory attributes.  @gpa is that of the
 * whole structure, which lies within one page, outside of SMM even if the vCPU
 * is in SMM.
 */
void kvm_record_steal_time_attrs(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct kvm_steal_time st;

	if (clear_preempted(vcpu, gpa))
		return;

	if (kvm_read_guest(vcpu->kvm, gpa, &st, sizeof(st)))
		return;

	/* Odd tells the guest to read again; the first time it is junk. */
	st.version += 1 + (st.version & 1);
	if (kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), version),
			    &st.version, sizeof(st.version)))
		return;

	/* Pairs with virt_rmb() in kvm_steal_clock() of the guest. */
	smp_wmb();

	st.steal += current->sched_info.run_delay - vcpu->arch.st.last_steal;
	vcpu->arch.st.last_steal = current->sched_info.run_delay;
	kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), steal),
			&st.steal, sizeof(st.steal));

	/* As above. */
	smp_wmb();

	st.version++;
	kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), version),
			&st.version, sizeof(st.version));
}

/* Scheduler context, see kvm_guest_access_write_atomic(). */
void kvm_steal_time_set_preempted_attrs(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	static const u8 preempted = KVM_VCPU_PREEMPTED;

	gpa += offsetof(struct kvm_steal_time, preempted);
	if (!kvm_guest_access_write_atomic(vcpu->kvm, gpa, &preempted,
					   sizeof(preempted)))
		vcpu->arch.st.preempted = KVM_VCPU_PREEMPTED;
}

/*
 * An access of the emulator, or of an instruction's own exit handler, failed.
 * If attributes are why, prepare the exit that the same access would cause if
 * the guest made it itself, and have the caller give up the instruction: what
 * lies there is not MMIO.  Returns whether that is so.
 */
bool kvm_emulate_check_refused(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	if (!kvm_mem_is_private(vcpu->kvm, gpa_to_gfn(gpa)))
		return false;

	kvm_prepare_memory_fault_exit(vcpu, gpa & PAGE_MASK, PAGE_SIZE,
				      KVM_MEMORY_EXIT_FLAG_PRIVATE);
	vcpu->arch.emulate_memory_fault = true;
	return true;
}

/*
 * emulator_cmpxchg_emulated() within one page: 0, 1 if another value was there,
 * or -EFAULT if the page is not plain memory to KVM.
 */
int kvm_vcpu_cmpxchg_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *old,
			   const void *new, int len)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	return kvm_guest_access_cmpxchg(vcpu->kvm,
					kvm_vcpu_gfn_to_memslot(vcpu, gfn),
					gfn, offset_in_page(gpa), old, new,
					len);
}
