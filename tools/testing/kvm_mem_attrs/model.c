// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model check: random changes of the store, compared with a plain array
 *
 * usage: model [OPS [SEED [verbose]]]
 *
 * The run is cut into rounds, each with cells of its own: some are single pages
 * next to a border of a node, some are blocks of any order, some end at the end
 * of the page index space.  In a round changes of all kinds are drawn: sets,
 * clears and updates, adjacent, overlapping and nested, committed or aborted,
 * with and without a failing allocation.
 *
 * After each change the number of nodes is compared, and what the store says
 * about the changed range and its surroundings; from time to time everything.
 */
#include "check.h"

#define OPS_PER_ROUND	2000
#define FULL_CHECK_MASK	31

static bool verbose;
static unsigned long nr_commits, nr_aborts, nr_failures;

/* A border of a block of some order, in some corner, give or take a page. */
static unsigned long random_border(struct random *random, unsigned long around)
{
	unsigned int order = random_below(random, 53);
	unsigned long index = random_next(random) & KVM_ATTR_MAX_INDEX;

	switch (random_below(random, 6)) {
	case 0:
		index = around;
		break;
	case 1:
		index = around + random_below(random, 300);
		break;
	case 2:
		index = around + (1UL << random_below(random, 30));
		break;
	case 3:
		index = (1UL << order) - 1;
		order = 0;
		break;
	case 4:
		index = KVM_ATTR_MAX_INDEX - (1UL << random_below(random, 30));
		break;
	}
	index = (index >> order << order) + random_below(random, 3) - 1;
	return index & KVM_ATTR_MAX_INDEX;
}

/* About all that a root covers: then the tree changes its height. */
static unsigned long root_border(struct random *random)
{
	unsigned int shift = random_below(random, 9) * XA_CHUNK_SHIFT;

	return (1UL << shift) + random_below(random, 3) - 1;
}

/* Cells of all sizes, side by side (most merging happens there), or of roots. */
static void random_model(struct random *random, struct model *model)
{
	unsigned long around = random_next(random) & KVM_ATTR_MAX_INDEX;
	unsigned int i, n = 2 + random_below(random, 100);
	unsigned int kind = random_below(random, 4);
	unsigned int step = random_below(random, 19);
	unsigned long borders[MAX_CELLS - 1];

	if (random_below(random, 2))
		around = 0;
	if (kind == 0)
		n = 1 + n % 6;
	around = around >> (step + 6) << (step + 6);
	for (i = 0; i < n; i++) {
		if (kind == 0)
			borders[i] = root_border(random);
		else if (kind == 1)
			borders[i] = around + ((unsigned long)i << step);
		else
			borders[i] = random_border(random, around);
		borders[i] &= KVM_ATTR_MAX_INDEX;
	}
	model_init(model, borders, n);
}

static unsigned long random_attrs(struct random *random)
{
	static const unsigned long usual[] = { 8, 8, 8, 0, 2, 6 };
	unsigned int i = random_below(random, 8);

	return i < 6 ? usual[i] : random_next(random) & ATTR_MASK;
}

static void random_change(struct random *random, const struct model *model,
			  struct change *change)
{
	unsigned int room;

	change->from = random_below(random, model->nr_cells);
	room = model->nr_cells - change->from;
	if (random_below(random, 4))
		room = min(room, 1 + (unsigned int)random_below(random, 4));
	change->to = change->from + 1 + random_below(random, room);

	change->set = random_attrs(random);
	change->keep = 0;
	if (!random_below(random, 3)) {
		change->keep = random_next(random) & ATTR_MASK;
		change->set &= random_next(random);
	}
}

static void check_around(struct random *random, struct kvm_attr_store *store,
			 const struct model *model, const struct change *change)
{
	unsigned long first = change_first(model, change);
	unsigned long last = change_last(model, change);

	check_counts(store, model);
	check_page(store, model, first);
	check_page(store, model, last);
	if (first)
		check_page(store, model, first - 1);
	if (last < KVM_ATTR_MAX_INDEX)
		check_page(store, model, last + 1);
	check_page(store, model, first + random_below(random, last - first + 1));
	check_page(store, model, random_next(random) & KVM_ATTR_MAX_INDEX);
	check_range(store, model, change);
}

static void check_all(struct kvm_attr_store *store, const struct model *model)
{
	unsigned int cell;

	check_tree(store, model);
	check_extents(store, model);
	for (cell = 0; cell < model->nr_cells; cell++)
		check_page(store, model, model->start[cell]);
}

static void one_change(struct random *random, struct kvm_attr_store *store,
		       struct model *model, bool full)
{
	struct change change, other;
	int ret;

	random_change(random, model, &change);
	random_change(random, model, &other);
	shim_fail_nowait = !random_below(random, 4);
	shim_fail_count = shim_fail_nowait ? 1 : 2;
	shim_fail_from = random_below(random, 8) ? -1 :
			 (long)random_below(random, 12);
	if (verbose)
		printf("# %#lx..%#lx keep %#lx set %#lx\n",
		       change_first(model, &change),
		       change_last(model, &change), change.keep, change.set);
	ret = change_prepare(store, model, &change);
	shim_fail_from = -1;
	if (verbose)
		printf("# prepare: %d\n", ret);

	/* Until commit() every page has its old value. */
	if (full) {
		check_extents(store, model);
		check_range(store, model, &other);
	}
	if (ret) {
		shim_assert(ret == -ENOMEM);
		nr_failures++;
	} else if (random_below(random, 8)) {
		change_commit(store, model, &change);
		nr_commits++;
	} else {
		change_abort(store, model, &change);
		nr_aborts++;
	}

	check_around(random, store, model, &change);
	if (full)
		check_all(store, model);
}

static void one_round(struct random *random, unsigned long nr_ops)
{
	struct kvm_attr_store store;
	struct model model;
	unsigned long op;

	kvm_attr_store_init(&store);
	random_model(random, &model);
	for (op = 0; op < nr_ops; op++)
		one_change(random, &store, &model, !(op & FULL_CHECK_MASK));
	check_all(&store, &model);
	kvm_attr_store_destroy(&store);
	rcu_barrier();
	shim_assert(!shim_nodes);
}

int main(int argc, char **argv)
{
	unsigned long nr_ops = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000;
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	unsigned long done, round;

	verbose = argc > 3;
	setvbuf(stdout, NULL, _IOLBF, 0);
	tap_plan(1);
	for (done = 0, round = 0; done < nr_ops; round++) {
		struct random random = { .state = seed + (round << 32) };
		unsigned long n = min(nr_ops - done, (unsigned long)OPS_PER_ROUND);

		if (verbose)
			printf("# round %lu\n", round);
		one_round(&random, n);
		done += n;
	}
	tap_ok("%lu changes: %lu commits, %lu steps more, %lu aborts, %lu failed prepares",
	       done, nr_commits, nr_steps, nr_aborts, nr_failures);
	return 0;
}
