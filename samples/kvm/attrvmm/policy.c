// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - what happens on an access that is protected against
 *
 * KVM enforces, the VMM decides.  An exit with KVM_EXIT_MEMORY_FAULT leaves the
 * vCPU on the instruction, with nothing done.  A VMM may then
 *
 *   grant     change the attribute and enter again: the instruction completes.
 *             For a guest that has a reason, say a module that is to be loaded
 *   refuse    inject an exception: the guest's own handler ends the program, or
 *             makes the thread of the kernel oops, and the guest goes on
 *   stop      end the machine
 *
 * This one knows no good reason.  It refuses with #GP, as that names no address of
 * which the guest's kernel would think that it could be mapped; and it stops when
 * the guest cannot take an exception, or does not learn.
 *
 * Linux patches its own text while it runs: static keys, tracing, kprobes.  After
 * --harden that is an attack like any other, and ends with an oops, so the guest
 * has to be done with it.  A VMM for everyday use would grant what it can check.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "attrvmm.h"

#define GP_VECTOR	13
#define MAX_REFUSALS	10000

static __u64 instruction_pointer(struct vcpu *vcpu)
{
	struct kvm_regs regs = { };

	must_ioctl(vcpu->fd, KVM_GET_REGS, &regs, "a kernel bug");
	return regs.rip;
}

/* It belongs to the attack that was announced, or is news. */
static void file_refusal(struct harden *harden, const struct refusal *refusal)
{
	harden->refusals++;
	if (harden->attacked && refusal->gpa / PAGE_SIZE ==
				harden->attack.gpa / PAGE_SIZE) {
		if (!harden->nr_refusals++)
			harden->refusal = *refusal;
		return;
	}
	harden->unannounced++;
	report_refusal(refusal);
}

void note_refusal(struct vcpu *vcpu, __u64 gpa, __u64 access, const char *seen)
{
	struct harden *harden = &vcpu->vm->harden;
	struct refusal refusal = {
		.gpa = gpa & ~(PAGE_SIZE - 1),
		.access = access,
		.rip = instruction_pointer(vcpu),
		.seen = seen,
	};

	pthread_mutex_lock(&harden->lock);
	file_refusal(harden, &refusal);
	if (harden->refusals == MAX_REFUSALS)
		vm_end(vcpu->vm, END_CRASH,
		       "the guest's %u. refused access: it does not learn",
		       MAX_REFUSALS);
	pthread_mutex_unlock(&harden->lock);
}

/*
 * The instruction gets a #GP in place of its access.  An event that is marked as
 * injected was being delivered when it met the page: it would be lost.
 */
static void inject_gp(struct vcpu *vcpu, __u64 gpa)
{
	struct kvm_vcpu_events events;

	must_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events, "a kernel bug");
	if (events.exception.injected || events.interrupt.injected ||
	    events.nmi.injected) {
		vm_end(vcpu->vm, END_CRASH,
		       "vCPU %u: the guest cannot take an event without the protected page %#llx",
		       vcpu->id, gpa);
		return;
	}
	events.exception.injected = 1;
	events.exception.nr = GP_VECTOR;
	events.exception.has_error_code = 1;
	events.exception.error_code = 0;
	must_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events, "a kernel bug");
}

/* KVM_EXIT_MEMORY_FAULT, for the sake of NR, NW or NX. */
void refused_access(struct vcpu *vcpu, __u64 gpa, __u64 access)
{
	if (!vcpu->vm->opt.harden && !vcpu->vm->restored_protected) {
		vm_end(vcpu->vm, END_HOST,
		       "KVM_EXIT_MEMORY_FAULT: %#llx is protected, but no protection was asked for: a kernel bug",
		       gpa);
		return;
	}
	note_refusal(vcpu, gpa, access, "memory_fault");
	inject_gp(vcpu, gpa);
}
