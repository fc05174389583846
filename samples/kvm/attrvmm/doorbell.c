// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - the VMM's side of doorbell.h
 *
 * The message is in memory that the guest can change at any time.  So it is
 * copied, checked and served in the copy, and the copy goes back.
 *
 * The VMM writes where the guest says, through a mapping that KVM does not police.
 * It must not do so where the guest itself may not write.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "attrvmm.h"

#define MAX_EXCHANGE	(64 * MIB)

static void *writable_by_guest(struct vcpu *vcpu, __u64 gpa, __u64 size)
{
	struct vm *vm = vcpu->vm;
	__u64 attributes;

	pthread_mutex_lock(&vm->harden.lock);
	attributes = protection_of(vm, gpa, size);
	pthread_mutex_unlock(&vm->harden.lock);
	if (attributes & KVM_MEMORY_ATTRIBUTE_NW) {
		note_refusal(vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE, "doorbell");
		return NULL;
	}
	return shared_gpa_to_hva(&vm->ram, gpa, size);
}

static int serve_info(const struct vm *vm, struct doorbell_info *info)
{
	info->ram_size = vm->ram.size;
	info->private_above = vm->opt.private_above;
	info->is_private = vm->ram.memfd >= 0;
	info->cpus = vm->opt.cpus;
	return 0;
}

static int serve_exchange(struct vcpu *vcpu, struct doorbell_exchange *exchange)
{
	__u64 words = exchange->size / sizeof(__u64);
	__u64 seed = exchange->seed, i;
	__u64 *data;

	if (exchange->size > MAX_EXCHANGE || exchange->gpa % sizeof(__u64))
		return -EINVAL;
	data = writable_by_guest(vcpu, exchange->gpa, exchange->size);
	if (!data)
		return -EFAULT;

	exchange->wrong_words = 0;
	for (i = 0; i < words; i++)
		exchange->wrong_words += data[i] != doorbell_stream(&seed);

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	exchange->answer_seed = seed;
	for (i = 0; i < words; i++)
		data[i] = doorbell_stream(&seed);
	return 0;
}

static int serve_search(struct vm *vm, struct doorbell_search *search)
{
	if (!gpa_to_hva(&vm->ram, search->gpa, sizeof(search->half[0])))
		return -EFAULT;

	search_everywhere(vm, search);
	report_search(vm, search);
	return 0;
}

/*
 * The MSRs are watched from the moment on at which pages are protected.  A write that
 * another vCPU makes in between is not noted, but KVM leaves out its update as well.
 */
static int serve_harden(struct vcpu *vcpu, const struct doorbell_harden *known)
{
	int ret = harden_guest(vcpu, known);

	if (ret)
		return ret;
	pvmsr_watch(vcpu->vm);
	report_harden(vcpu->vm);
	return 0;
}

static int serve_verdict(struct vm *vm, const struct doorbell_verdict *verdict)
{
	vm->verdict.given = true;
	vm->verdict.pass = verdict->pass;
	memcpy(vm->verdict.text, verdict->text, sizeof(verdict->text));
	vm->verdict.text[sizeof(verdict->text) - 1] = '\0';
	return 0;
}

static int serve(struct vcpu *vcpu, struct doorbell_msg *msg)
{
	struct vm *vm = vcpu->vm;

	switch (msg->op) {
	case DOORBELL_INFO:
		return serve_info(vm, &msg->info);
	case DOORBELL_EXCHANGE:
		return serve_exchange(vcpu, &msg->exchange);
	case DOORBELL_SEARCH:
		return serve_search(vm, &msg->search);
	case DOORBELL_MAP:
		msg->map_title[sizeof(msg->map_title) - 1] = '\0';
		report_map(vm, msg->map_title);
		return 0;
	case DOORBELL_VERDICT:
		return serve_verdict(vm, &msg->verdict);
	case DOORBELL_HARDEN:
		return serve_harden(vcpu, &msg->harden);
	case DOORBELL_ATTACK:
		return attack_begins(vm, &msg->attack);
	case DOORBELL_ATTACKED:
		return attack_ends(vm, &msg->attack);
	case DOORBELL_RELEASE:
		return release_secret(vm);
	default:
		return -EOPNOTSUPP;
	}
}

void doorbell_ring(struct vcpu *vcpu, __u32 gfn)
{
	struct vm *vm = vcpu->vm;
	__u64 gpa = (__u64)gfn << PAGE_SHIFT;
	struct doorbell_msg msg, *shared;

	shared = writable_by_guest(vcpu, gpa, sizeof(msg));
	if (!shared)
		return;		/* the guest sees that nothing answered */

	pthread_mutex_lock(&vm->doorbell_lock);
	memcpy(&msg, shared, sizeof(msg));
	msg.result = serve(vcpu, &msg);
	memcpy(shared, &msg, sizeof(msg));
	pthread_mutex_unlock(&vm->doorbell_lock);
}
