// SPDX-License-Identifier: GPL-2.0-only
/*
 * Coverage-guided fuzzing of the store, compared with a plain array
 *
 * The input is a list of borders, then a list of changes between them, so that
 * the fuzzer decides where nodes begin and end and in which order they come
 * and go.  Short inputs are padded with zeroes.
 */
#include "check.h"

#define MAX_CHANGES	64

struct input {
	const u8 *data;
	size_t size;
};

static u8 next_byte(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

/* A byte for the order, one for the block, and one to be off by some pages. */
static unsigned long next_border(struct input *input)
{
	unsigned int order = next_byte(input) % (KVM_ATTR_MAX_ORDER + 1);
	unsigned long border = (unsigned long)next_byte(input) << order;

	return (border + (int8_t)next_byte(input)) & KVM_ATTR_MAX_INDEX;
}

static void one_change(struct kvm_attr_store *store, struct model *model,
		       struct input *input)
{
	u8 how = next_byte(input), attrs = next_byte(input);
	struct change change;
	unsigned int last;

	change.from = next_byte(input) % model->nr_cells;
	last = change.from + next_byte(input) % (model->nr_cells - change.from);
	change.to = last + 1;
	change.keep = how & 1 ? attrs >> 4 : 0;
	change.set = attrs & ATTR_MASK;

	shim_fail_nowait = how & 2;
	shim_fail_count = 1 + (how >> 7);
	shim_fail_from = how & 4 ? how >> 4 & 7 : -1;
	if (change_prepare(store, model, &change))
		change.to = change.from;
	shim_fail_from = -1;

	check_extents(store, model);
	if (change.to == change.from)
		;
	else if (how & 8)
		change_abort(store, model, &change);
	else
		change_commit(store, model, &change);

	check_counts(store, model);
	check_page(store, model, model->start[change.from]);
	check_page(store, model, model->start[last + 1] - 1);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input input = { data, size };
	struct kvm_attr_store store;
	unsigned long borders[32];
	unsigned int i, nr = 1 + next_byte(&input) % 31;
	struct model model;

	for (i = 0; i < nr; i++)
		borders[i] = next_border(&input);
	model_init(&model, borders, nr);

	kvm_attr_store_init(&store);
	for (i = 0; i < MAX_CHANGES && input.size; i++)
		one_change(&store, &model, &input);
	check_tree(&store, &model);
	kvm_attr_store_destroy(&store);
	rcu_barrier();
	shim_assert(!shim_nodes);
	return 0;
}
