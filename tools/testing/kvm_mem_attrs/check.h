/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reference that the store is compared with, and the comparison
 *
 * The reference is a plain array: the page index space, cut into cells of
 * arbitrary sizes, and a value for each cell.  Operations begin and end at cell
 * borders, so an update is a loop over array elements, from single pages to
 * 2^52 of them.
 */
#ifndef CHECK_H
#define CHECK_H

#include "shim.h"
#include "mem_attrs_store.h"

#define MAX_CELLS	256
#define ATTR_MASK	0xfUL

struct model {
	unsigned int nr_cells;
	/* Cell i is [start[i], start[i + 1] - 1]; all cells cover all pages. */
	unsigned long start[MAX_CELLS + 1];
	unsigned long attrs[MAX_CELLS];
};

struct random {
	u64 state;
};

/* A change of the cells [from, to). */
struct change {
	unsigned int from, to;
	unsigned long keep, set;
};

u64 random_next(struct random *random);
unsigned long random_below(struct random *random, unsigned long limit);

/* Sorts the borders, drops duplicates, adds 0 and 2^52. */
void model_init(struct model *model, const unsigned long *borders,
		unsigned int nr_borders);
void model_apply(struct model *model, const struct change *change);
unsigned int model_cell(const struct model *model, unsigned long index);
unsigned long model_nr_nodes(const struct model *model);
unsigned int model_uniform_order(const struct model *model,
				 unsigned long index, unsigned int max_order);
void model_extent(const struct model *model, unsigned long first,
		  unsigned long last, struct kvm_attr_extent *extent);

static inline unsigned long change_first(const struct model *model,
					 const struct change *change)
{
	return model->start[change->from];
}

static inline unsigned long change_last(const struct model *model,
					const struct change *change)
{
	return model->start[change->to] - 1;
}

/* All of these end the program, saying what differs, if anything does. */
void check_tree(struct kvm_attr_store *store, const struct model *model);
void check_counts(struct kvm_attr_store *store, const struct model *model);
void check_extents(struct kvm_attr_store *store, const struct model *model);
void check_page(struct kvm_attr_store *store, const struct model *model,
		unsigned long index);
void check_range(struct kvm_attr_store *store, const struct model *model,
		 const struct change *change);

extern unsigned long nr_steps;

int change_prepare(struct kvm_attr_store *store, const struct model *model,
		   const struct change *change);
void change_commit(struct kvm_attr_store *store, struct model *model,
		   const struct change *change);
void change_abort(struct kvm_attr_store *store, const struct model *model,
		  const struct change *change);

/* KTAP: one line for each test, in order. */
void tap_plan(unsigned int nr_tests);
void __printf(1, 2) tap_ok(const char *fmt, ...);

#endif /* CHECK_H */
