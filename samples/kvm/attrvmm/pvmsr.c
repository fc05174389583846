// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - structures that KVM shares with the guest: clock, steal time and so on
 *
 * By writing an MSR the guest names a page, and from then on KVM writes there by
 * itself.  A protected page stays as it is: KVM leaves out the update.  That is no
 * access of a guest instruction, so there is no exit.  To learn of it, a VMM has
 * to watch the MSRs.
 *
 * The filter makes each guest write of them exit.  If the page is protected, the write
 * is noted.  It is passed on in any case, as KVM enforces the protection.
 */
#include <asm/kvm_para.h>
#include <sys/ioctl.h>

#include "attrvmm.h"

static const struct pvmsr {
	__u32 index;
	__u32 size;		/* of the structure */
	__u64 flags;		/* bits that are not of its address */
	bool enable;		/* bit 0 says whether it is in use */
} pvmsrs[] = {
	{ MSR_KVM_WALL_CLOCK,	    12, 0, false },
	{ MSR_KVM_SYSTEM_TIME,	    32, 1, true },
	{ MSR_KVM_WALL_CLOCK_NEW,   12, 0, false },
	{ MSR_KVM_SYSTEM_TIME_NEW,  32, 1, true },
	{ MSR_KVM_ASYNC_PF_EN,	    64, 63, true },
	{ MSR_KVM_STEAL_TIME,	    64, 63, true },
	{ MSR_KVM_PV_EOI_EN,	    4, 3, true },
};

/* While the vCPUs have not started. */
void pvmsr_offer(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args[0] = KVM_MSR_EXIT_REASON_FILTER,
	};

	must_ioctl(vm->fd, KVM_ENABLE_CAP, &cap,
		   "KVM_CAP_X86_USER_SPACE_MSR needs Linux 5.10 or later");
}

void pvmsr_watch(struct vm *vm)
{
	__u8 deny_all = 0;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {
			{
				.flags = KVM_MSR_FILTER_WRITE,
				.base = MSR_KVM_WALL_CLOCK,
				.nmsrs = 2,
				.bitmap = &deny_all,
			}, {
				.flags = KVM_MSR_FILTER_WRITE,
				.base = MSR_KVM_WALL_CLOCK_NEW,
				.nmsrs = MSR_KVM_PV_EOI_EN - MSR_KVM_WALL_CLOCK_NEW + 1,
				.bitmap = &deny_all,
			},
		},
	};

	must_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter,
		   "needs Linux 5.10 or later");
}

static bool is_writable(struct vm *vm, __u64 gpa, __u64 size)
{
	__u64 attributes;

	pthread_mutex_lock(&vm->harden.lock);
	attributes = protection_of(vm, gpa, size);
	pthread_mutex_unlock(&vm->harden.lock);
	return !(attributes & KVM_MEMORY_ATTRIBUTE_NW);
}

static void note_if_protected(struct vcpu *vcpu, __u32 index, __u64 data)
{
	const struct pvmsr *msr;
	unsigned int i;
	__u64 gpa;

	for (i = 0; i < ARRAY_SIZE(pvmsrs); i++) {
		msr = &pvmsrs[i];
		if (msr->index != index || (msr->enable && !(data & 1)))
			continue;
		gpa = data & ~msr->flags;
		if (!is_writable(vcpu->vm, gpa, msr->size))
			note_refusal(vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE, "wrmsr");
	}
}

/* KVM_EXIT_X86_WRMSR: if KVM does not take the value, WRMSR ends with #GP. */
void pvmsr_write(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head.nmsrs = 1,
		.entry.index = run->msr.index,
		.entry.data = run->msr.data,
	};

	note_if_protected(vcpu, run->msr.index, run->msr.data);
	run->msr.error = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) != 1;
}
