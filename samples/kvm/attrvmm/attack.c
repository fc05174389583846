// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - attacks that the guest announces
 *
 * A guest program that tries what an attacker would says so before and after each
 * attempt, in doorbell.h's terms.  That changes nothing about what is refused: it
 * gives the report a name for it, and tells the VMM which page to compare.
 *
 * The same attacks are made before the guest is hardened.  What does not succeed
 * then proves nothing afterwards.
 */
#include <errno.h>
#include <string.h>

#include "attrvmm.h"

/* Names come from the guest and go to the log: nothing in them may end a word. */
static void clean_name(char *name, size_t size)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t i;

	name[size - 1] = '\0';
	for (i = 0; name[i]; i++)
		if (!strchr(good, name[i]))
			name[i] = '?';
}

int attack_begins(struct vm *vm, const struct doorbell_attack *attack)
{
	struct harden *harden = &vm->harden;
	__u64 page = attack->gpa & ~(PAGE_SIZE - 1);
	const void *hva;

	if (!gpa_to_hva(&vm->ram, page, PAGE_SIZE))
		return -EFAULT;

	pthread_mutex_lock(&harden->lock);
	harden->attack = *attack;
	clean_name(harden->attack.target, sizeof(attack->target));
	clean_name(harden->attack.route, sizeof(attack->route));
	hva = shared_gpa_to_hva(&vm->ram, page, PAGE_SIZE);
	if (hva)
		memcpy(harden->before, hva, PAGE_SIZE);
	harden->nr_refusals = 0;
	harden->attacked = true;
	pthread_mutex_unlock(&harden->lock);
	return 0;
}

static void judge_attack(struct vm *vm, struct doorbell_attack *attack)
{
	__u64 page = vm->harden.attack.gpa & ~(PAGE_SIZE - 1);
	const void *hva = shared_gpa_to_hva(&vm->ram, page, PAGE_SIZE);
	struct harden *harden = &vm->harden;
	bool changed;

	changed = hva && memcmp(hva, harden->before, PAGE_SIZE);
	attack->changed = changed;
	attack->refusals = harden->nr_refusals;
	harden->attack.succeeded = attack->succeeded || changed;
	if (!harden->done)
		harden->succeeded_before += harden->attack.succeeded;
	else if (!harden->attack.succeeded && harden->nr_refusals)
		harden->refused_after++;
	else
		harden->not_refused_after++;
	report_attack(harden, !hva ? "unseen" : changed ? "no" : "yes");
}

int attack_ends(struct vm *vm, struct doorbell_attack *attack)
{
	struct harden *harden = &vm->harden;
	int ret = -EINVAL;

	pthread_mutex_lock(&harden->lock);
	if (harden->attacked) {
		judge_attack(vm, attack);
		harden->attacked = false;
		ret = 0;
	}
	pthread_mutex_unlock(&harden->lock);
	return ret;
}
