// SPDX-License-Identifier: GPL-2.0-only
/*
 * Readers without locks, while one thread writes
 *
 * For each cell the writer publishes which values a reader may find there: the
 * one value while nothing changes and during prepare(), the old and the new one
 * during commit().  A reader looks at what is allowed before and after its
 * lookup; if the two are at most one step apart, the value must be among them.
 * Never anything else, never a zero in passing.
 *
 * usage: readers [CHANGES [SEED]]
 */
#include <pthread.h>

#include "check.h"

#define NR_READERS	3

/* Steps of a cell in the upper bits, allowed values as a bit mask below. */
static u64 allowed[MAX_CELLS];
#define STEP		BIT(16)
#define VALUES(state)	((state) & (STEP - 1))

/* Changes that have begun to be committed, and that are: equal while quiet. */
static unsigned long begun, done;
static bool stop;
static struct kvm_attr_store store;
static struct model model;
static unsigned long nr_lookups;

static void allow(unsigned int cell, u64 values)
{
	u64 state = allowed[cell] / STEP * STEP + STEP + values;

	__atomic_store_n(&allowed[cell], state, __ATOMIC_SEQ_CST);
}

static void read_value(unsigned int cell, unsigned long index)
{
	u64 before, after;
	unsigned long attrs;

	before = __atomic_load_n(&allowed[cell], __ATOMIC_SEQ_CST);
	attrs = kvm_attr_store_get(&store, index);
	after = __atomic_load_n(&allowed[cell], __ATOMIC_SEQ_CST);

	if (after / STEP - before / STEP > 1)
		return;
	if (!(1UL << attrs & (VALUES(before) | VALUES(after)))) {
		fprintf(stderr, "# page %#lx reads %#lx, allowed %#lx, %#lx\n",
			index, attrs, VALUES(before), VALUES(after));
		shim_bug(__FILE__, __LINE__, "wrong value");
	}
}

/* As far as a reader can tell, without a commit() meanwhile it is uniform. */
static void read_order(unsigned long index)
{
	unsigned long now = __atomic_load_n(&done, __ATOMIC_SEQ_CST);
	unsigned long first, last, attrs;
	unsigned int order;
	bool uniform;

	order = kvm_attr_store_uniform_order(&store, index, 18);
	first = index >> order << order;
	last = first + (1UL << order) - 1;
	attrs = kvm_attr_store_get(&store, index);
	uniform = kvm_attr_store_get(&store, first) == attrs &&
		  kvm_attr_store_get(&store, last) == attrs;

	if (__atomic_load_n(&begun, __ATOMIC_SEQ_CST) == now && !uniform) {
		fprintf(stderr, "# order %u around %#lx\n", order, index);
		shim_bug(__FILE__, __LINE__, "not uniform");
	}
}

static void *reader(void *arg)
{
	struct random random = { .state = (unsigned long)arg << 40 };
	unsigned long nr = 0;

	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); nr++) {
		unsigned int cell = random_below(&random, model.nr_cells);
		unsigned long first = model.start[cell];
		unsigned long size = model.start[cell + 1] - first;
		unsigned long index = first + random_below(&random, size);

		read_value(cell, index);
		read_value(cell, first);
		read_value(cell, first + size - 1);
		read_order(index);
		kvm_attr_store_empty(&store);
	}
	__atomic_add_fetch(&nr_lookups, nr, __ATOMIC_RELAXED);
	return NULL;
}

static void one_change(struct random *random)
{
	struct change change;
	unsigned int cell;

	change.from = random_below(random, model.nr_cells);
	change.to = change.from + 1 +
		    random_below(random, model.nr_cells - change.from);
	change.keep = random_below(random, 3) ? 0 : random_next(random) & 15;
	change.set = random_below(random, 2) ? 8 : random_next(random) & 15;

	if (change_prepare(&store, &model, &change))
		shim_bug(__FILE__, __LINE__, "prepare");
	if (!random_below(random, 8)) {
		change_abort(&store, &model, &change);
		return;
	}

	__atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
	for (cell = change.from; cell < change.to; cell++) {
		unsigned long old = model.attrs[cell];
		unsigned long new = (old & change.keep) | change.set;

		allow(cell, 1UL << old | 1UL << new);
	}
	change_commit(&store, &model, &change);
	for (cell = change.from; cell < change.to; cell++)
		allow(cell, 1UL << model.attrs[cell]);
	__atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
}

/* Small ones, so that slots and nodes change all the time, and huge ones. */
static void init_cells(struct random *random)
{
	unsigned long borders[100];
	unsigned int i;

	for (i = 0; i < 100; i++) {
		borders[i] = random_below(random, 300) << random_below(random, 9);
		if (i < 10)
			borders[i] = random_next(random) & KVM_ATTR_MAX_INDEX;
	}
	model_init(&model, borders, 100);
	for (i = 0; i < model.nr_cells; i++)
		allowed[i] = 1;
}

int main(int argc, char **argv)
{
	unsigned long nr = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	struct random random = {
		.state = argc > 2 ? strtoul(argv[2], NULL, 0) : 1,
	};
	pthread_t threads[NR_READERS];
	unsigned long i;

	tap_plan(1);
	kvm_attr_store_init(&store);
	init_cells(&random);
	for (i = 0; i < NR_READERS; i++)
		shim_assert(!pthread_create(&threads[i], NULL, reader,
					    (void *)(i + 1)));

	for (i = 0; i < nr; i++) {
		one_change(&random);
		check_counts(&store, &model);
		if (!(i & 63))
			check_tree(&store, &model);
	}

	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < NR_READERS; i++)
		pthread_join(threads[i], NULL);
	kvm_attr_store_destroy(&store);
	rcu_barrier();
	shim_assert(!shim_nodes);
	tap_ok("%lu changes under %d readers, %lu rounds of lookups", nr,
	       NR_READERS, nr_lookups);
	return 0;
}
