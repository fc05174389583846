// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM pre-fault - KVM_PRE_FAULT_MEMORY
 *
 * Maps guest memory before the guest touches it, so that the first access, or
 * the first one after a conversion, does not exit.  The arch maps one page,
 * as large as it can, this file steps through the range.
 *
 * Locks: vcpu->mutex is held by the ioctl, kvm->srcu while a page is mapped.
 * Nothing outlives the call.
 */

#include <linux/kvm_host.h>
#include <linux/uaccess.h>

/* Map the range from its start on; what is done is cut off the front. */
static int pre_fault_range(struct kvm_vcpu *vcpu,
			   struct kvm_pre_fault_memory *range)
{
	long r;
	int idx;

	do {
		if (signal_pending(current))
			return -EINTR;
		cond_resched();

		idx = srcu_read_lock(&vcpu->kvm->srcu);
		r = kvm_arch_vcpu_pre_fault_memory(vcpu, range->gpa,
						   range->size);
		srcu_read_unlock(&vcpu->kvm->srcu, idx);

		/*
		 * A change of memslots or an invalidation is in progress at this
		 * GFN.  It ends, as it does not wait for kvm->srcu any more.
		 */
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;

		if (WARN_ON_ONCE(!r || r > range->size))
			return -EIO;

		range->gpa += r;
		range->size -= r;
	} while (range->size);

	return 0;
}

/* As the uapi header has it: an error counts only if nothing was mapped. */
int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, void __user *argp)
{
	struct kvm_pre_fault_memory range;
	u64 size;
	int r;

	lockdep_assert_held(&vcpu->mutex);

	if (copy_from_user(&range, argp, sizeof(range)))
		return -EFAULT;

	if (range.flags)
		return -EINVAL;
	if (!PAGE_ALIGNED(range.gpa) || !PAGE_ALIGNED(range.size))
		return -EINVAL;
	if (range.gpa + range.size <= range.gpa)
		return -EINVAL;

	size = range.size;
	vcpu_load(vcpu);
	r = pre_fault_range(vcpu, &range);
	vcpu_put(vcpu);

	if (range.size == size)
		return r;

	return copy_to_user(argp, &range, sizeof(range)) ? -EFAULT : 0;
}
