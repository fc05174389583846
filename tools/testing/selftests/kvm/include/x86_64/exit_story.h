/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a test says of an exit that it did not expect.
 */
#ifndef SELFTEST_KVM_EXIT_STORY_H
#define SELFTEST_KVM_EXIT_STORY_H

#include <stdbool.h>
#include <stdio.h>

#include "kvm_util.h"

static inline bool exit_has_instruction(struct kvm_run *run)
{
	return run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	       run->internal.ndata &&
	       (run->emulation_failure.flags &
		KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
}

/*
 * The reason by number and name; of an internal error also which it is, and the
 * instruction that could not be emulated.  Holds until the thread asks again.
 */
static inline const char *exit_story(struct kvm_run *run)
{
	static __thread char text[128];
	int n, i;

	n = snprintf(text, sizeof(text), "%u (%s)", run->exit_reason,
		     exit_reason_str(run->exit_reason));
	if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR)
		return text;

	n += snprintf(text + n, sizeof(text) - n, ", suberror %u",
		      run->internal.suberror);
	if (!exit_has_instruction(run))
		return text;

	n += snprintf(text + n, sizeof(text) - n, ", instruction");
	for (i = 0; i < min_t(int, run->emulation_failure.insn_size, 15); i++)
		n += snprintf(text + n, sizeof(text) - n, " %02x",
			      run->emulation_failure.insn_bytes[i]);
	return text;
}

#endif /* SELFTEST_KVM_EXIT_STORY_H */
