// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation made to fail in turn
 *
 * For a change, prepare() is tried with its first allocation failing, then its
 * second, and so on until it succeeds.  After each failure the tree must be
 * what it was, node for node.  Allocations that do not sleep fail as well, or
 * else the store would never get to the ones that do.
 */
#include "check.h"

#define NR_ROUNDS	400
#define NR_CHANGES	40

static unsigned long nr_changes, nr_failed;

static void check_all(struct kvm_attr_store *store, const struct model *model)
{
	check_counts(store, model);
	check_tree(store, model);
	check_extents(store, model);
}

static void one_change(struct random *random, struct kvm_attr_store *store,
		       struct model *model)
{
	struct change change;
	long nr;
	int ret;

	change.from = random_below(random, model->nr_cells);
	change.to = change.from + 1 +
		    random_below(random, model->nr_cells - change.from);
	change.keep = random_below(random, 3) ? 0 : random_next(random) & 15;
	change.set = random_below(random, 3) ? 8 : random_next(random) & 15;

	for (nr = 0; ; nr++) {
		shim_fail_nowait = true;
		shim_fail_from = nr;
		shim_fail_count = 1;
		ret = change_prepare(store, model, &change);
		shim_fail_from = -1;
		shim_fail_nowait = false;
		if (!ret)
			break;

		shim_assert(ret == -ENOMEM);
		nr_failed++;
		check_all(store, model);
	}
	nr_changes++;

	/* Now and then give up even though it has worked. */
	if (random_below(random, 4))
		change_commit(store, model, &change);
	else
		change_abort(store, model, &change);
	check_all(store, model);
}

/* Few cells that are wide apart: prepare() has much to allocate. */
static void one_round(unsigned long seed)
{
	struct random random = { .state = seed << 32 };
	struct kvm_attr_store store;
	unsigned long borders[8];
	struct model model;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		borders[i] = random_next(&random) & KVM_ATTR_MAX_INDEX;
		borders[i] >>= random_below(&random, 52);
		if (random_below(&random, 4) == 0)
			borders[i] = 1UL << (borders[i] % 9 * XA_CHUNK_SHIFT);
		borders[i] &= KVM_ATTR_MAX_INDEX;
	}
	model_init(&model, borders, 8);

	kvm_attr_store_init(&store);
	for (i = 0; i < NR_CHANGES; i++)
		one_change(&random, &store, &model);
	kvm_attr_store_destroy(&store);
	rcu_barrier();
	shim_assert(!shim_nodes);
}

int main(void)
{
	unsigned long round;

	tap_plan(1);
	for (round = 0; round < NR_ROUNDS; round++)
		one_round(round);
	shim_assert(nr_failed > nr_changes);
	tap_ok("%lu changes, %lu allocations of prepare() failed", nr_changes,
	       nr_failed);
	return 0;
}
