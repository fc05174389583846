// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reference that the store is compared with, and the comparison
 *
 * What the tree must look like is derived from the reference alone: the
 * canonical form leaves no choice.  A difference ends the program at once, with
 * both sides printed; nothing that comes after it would be worth knowing.
 */
#include <stdarg.h>

#include "check.h"

#define fail(...) do {							\
	fprintf(stderr, "# " __VA_ARGS__);				\
	fprintf(stderr, "\n");						\
	shim_bug(__FILE__, __LINE__, "store and model differ");		\
} while (0)

/* splitmix64: small, and the same sequence everywhere. */
u64 random_next(struct random *random)
{
	u64 z = random->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

unsigned long random_below(struct random *random, unsigned long limit)
{
	return random_next(random) % limit;
}

static int compare_borders(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a;
	unsigned long y = *(const unsigned long *)b;

	return (x > y) - (x < y);
}

void model_init(struct model *model, const unsigned long *borders,
		unsigned int nr_borders)
{
	unsigned long sorted[MAX_CELLS];
	unsigned int i, n = 0;

	shim_assert(nr_borders < MAX_CELLS);
	memcpy(sorted, borders, nr_borders * sizeof(*borders));
	qsort(sorted, nr_borders, sizeof(*sorted), compare_borders);

	memset(model, 0, sizeof(*model));
	for (i = 0; i < nr_borders; i++) {
		if (sorted[i] > model->start[n] &&
		    sorted[i] <= KVM_ATTR_MAX_INDEX)
			model->start[++n] = sorted[i];
	}
	model->nr_cells = n + 1;
	model->start[n + 1] = KVM_ATTR_MAX_INDEX + 1;
}

void model_apply(struct model *model, const struct change *change)
{
	unsigned int i;

	for (i = change->from; i < change->to; i++)
		model->attrs[i] = (model->attrs[i] & change->keep) |
				  change->set;
}

unsigned int model_cell(const struct model *model, unsigned long index)
{
	unsigned int low = 0, high = model->nr_cells;

	while (high - low > 1) {
		unsigned int mid = (low + high) / 2;

		if (model->start[mid] <= index)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* The first cell behind cell's run of equal values. */
static unsigned int run_end(const struct model *model, unsigned int cell)
{
	unsigned long attrs = model->attrs[cell];

	while (++cell < model->nr_cells && model->attrs[cell] == attrs)
		;
	return cell;
}

static unsigned int run_start(const struct model *model, unsigned int cell)
{
	while (cell && model->attrs[cell - 1] == model->attrs[cell])
		cell--;
	return cell;
}

/* The number of pages up to the last one that is not zero. */
static unsigned long used_pages(const struct model *model)
{
	unsigned int cell = model->nr_cells;

	while (cell && !model->attrs[cell - 1])
		cell--;
	return model->start[cell];
}

/* -1: no node at all. */
static int root_shift(const struct model *model)
{
	unsigned long used = used_pages(model), size;
	int shift = 0;

	if (used <= 1)
		return -1;

	for (;; shift += XA_CHUNK_SHIFT) {
		size = 1UL << (shift + XA_CHUNK_SHIFT);
		if (used > size)
			continue;
		/* One value throughout is an entry in the node above. */
		if (used == size &&
		    model->start[run_end(model, 0)] == used)
			continue;
		return shift;
	}
}

/*
 * There is a node at a shift exactly if values differ within the block that it
 * covers, the root's being the highest.  Behind the last page all is zero.
 */
static unsigned long nr_nodes_at(const struct model *model, int shift)
{
	unsigned long border, block, seen = ULONG_MAX, nr = 0;
	unsigned int cell = 0;

	do {
		cell = run_end(model, cell);
		if (cell == model->nr_cells && !model->attrs[cell - 1])
			break;
		border = model->start[cell];
		block = border >> (shift + XA_CHUNK_SHIFT);
		if (block << (shift + XA_CHUNK_SHIFT) == border ||
		    block == seen)
			continue;
		seen = block;
		nr++;
	} while (cell < model->nr_cells);

	return nr;
}

unsigned long model_nr_nodes(const struct model *model)
{
	int shift, root = root_shift(model);
	unsigned long nr = 0;

	for (shift = 0; shift <= root; shift += XA_CHUNK_SHIFT)
		nr += nr_nodes_at(model, shift);
	return nr;
}

unsigned int model_uniform_order(const struct model *model,
				 unsigned long index, unsigned int max_order)
{
	unsigned int cell = model_cell(model, index), order = 0;
	unsigned long first = model->start[run_start(model, cell)];
	unsigned long last = model->start[run_end(model, cell)] - 1;

	/* What lies beyond the last page is zero. */
	if (last == KVM_ATTR_MAX_INDEX && !model->attrs[cell])
		last = ULONG_MAX;

	for (; order < max_order; order++) {
		unsigned long low = index >> (order + 1) << (order + 1);

		if (low < first || low + ((2UL << order) - 1) > last)
			break;
	}
	return order;
}

void model_extent(const struct model *model, unsigned long first,
		  unsigned long last, struct kvm_attr_extent *extent)
{
	unsigned int cell = model_cell(model, first);

	extent->first = first;
	extent->last = min(last, model->start[run_end(model, cell)] - 1);
	extent->attrs = model->attrs[cell];
}

/* A walk over the tree, in step with the blocks that the model asks for. */
/* Steps of a commit that were not its last. */
unsigned long nr_steps;

struct walk {
	const struct model *model;
	struct kvm_attr_store *store;
	unsigned long next;
};

/* The block at or after walk->next that must be an entry, if there is one. */
static bool expected_block(const struct walk *walk, unsigned long *first,
			   unsigned int *order)
{
	const struct model *model = walk->model;
	unsigned int cell;
	unsigned long last;

	if (walk->next > KVM_ATTR_MAX_INDEX)
		return false;
	*first = walk->next;
	cell = model_cell(model, *first);
	if (!model->attrs[cell]) {
		cell = run_end(model, cell);
		*first = model->start[cell];
	}
	if (cell == model->nr_cells)
		return false;

	last = model->start[run_end(model, cell)] - 1;
	*order = ilog2(last - *first + 1);
	if (*first)
		*order = min_t(unsigned int, *order, __ffs(*first));
	return true;
}

static void walk_entry(struct walk *walk, unsigned long first,
		       unsigned int order, void *entry)
{
	unsigned long want_first;
	unsigned int want_order;

	if (!xa_is_value(entry))
		fail("entry %p at %#lx is not a value", entry, first);
	if (!expected_block(walk, &want_first, &want_order))
		fail("entry at %#lx, order %u, where all is zero", first,
		     order);
	if (first != want_first || order != want_order)
		fail("entry at %#lx, order %u, instead of at %#lx, order %u",
		     first, order, want_first, want_order);
	if (xa_to_value(entry) !=
	    walk->model->attrs[model_cell(walk->model, first)])
		fail("value %#lx at %#lx", xa_to_value(entry), first);

	walk->next = first + (1UL << order);
}

static unsigned int count_siblings(const struct xa_node *node,
				   unsigned int offset)
{
	unsigned int nr = 0;

	while (offset + nr + 1 < XA_CHUNK_SIZE &&
	       node->slots[offset + nr + 1] == xa_mk_sibling(offset))
		nr++;
	return nr;
}

static void walk_node(struct walk *walk, struct xa_node *node,
		      unsigned long base)
{
	unsigned int offset, siblings, count = 0, values = 0;

	for (offset = 0; offset < XA_CHUNK_SIZE; offset += siblings + 1) {
		unsigned long first = base + ((unsigned long)offset
					      << node->shift);
		void *entry = node->slots[offset];

		siblings = 0;
		if (!entry)
			continue;
		if (xa_is_node(entry) && node->shift) {
			struct xa_node *child = xa_to_node(entry);

			if (child->parent != node || child->offset != offset ||
			    child->shift + XA_CHUNK_SHIFT != node->shift)
				fail("node at %#lx is linked wrongly", first);
			walk_node(walk, child, first);
			count++;
			continue;
		}

		siblings = count_siblings(node, offset);
		walk_entry(walk, first, node->shift + ilog2(siblings + 1),
			   entry);
		count += siblings + 1;
		values += siblings + 1;
	}
	if (node->count != count || node->nr_values != values)
		fail("node at %#lx, shift %u: count %u values %u, not %u, %u",
		     base, node->shift, node->count, node->nr_values, count,
		     values);
}

void check_tree(struct kvm_attr_store *store, const struct model *model)
{
	struct walk walk = { .model = model, .store = store };
	void *head = store->xa.xa_head;
	unsigned long first;
	unsigned int order;

	if (kvm_attr_store_empty(store) != !used_pages(model))
		fail("empty() is wrong");
	if (xa_is_node(head)) {
		if (xa_to_node(head)->parent)
			fail("the root has a parent");
		if (xa_to_node(head)->shift != root_shift(model))
			fail("root at %u, not at %d", xa_to_node(head)->shift,
			     root_shift(model));
		walk_node(&walk, xa_to_node(head), 0);
	} else if (head) {
		walk_entry(&walk, 0, 0, head);
	}
	if (expected_block(&walk, &first, &order))
		fail("no entry at %#lx, order %u", first, order);
}

static unsigned long model_nr_extents(const struct model *model)
{
	unsigned long nr = !!model->attrs[0];
	unsigned int i;

	for (i = 1; i < model->nr_cells; i++)
		nr += model->attrs[i] && model->attrs[i] != model->attrs[i - 1];

	return nr;
}

static unsigned long recount(struct kvm_attr_store *store)
{
	unsigned long nr = 0, next = 0;

	while (kvm_attr_store_count(store, &next, &nr))
		;
	return nr;
}

void check_counts(struct kvm_attr_store *store, const struct model *model)
{
	unsigned long want = model_nr_nodes(model);

	if (recount(store) != model_nr_extents(model))
		fail("%lu extents were counted, not %lu", recount(store),
		     model_nr_extents(model));
	if (store->recount)
		store->nr_extents = recount(store);
	store->recount = false;
	rcu_barrier();
	if (shim_nodes != want || store->nr_nodes != want)
		fail("%lu nodes, counted as %lu, not %lu", shim_nodes,
		     store->nr_nodes, want);
	if (store->nr_extents != model_nr_extents(model))
		fail("%lu extents, not %lu", store->nr_extents,
		     model_nr_extents(model));
	if (shim_warnings)
		fail("a WARN_ON() has fired");
}

void check_extents(struct kvm_attr_store *store, const struct model *model)
{
	struct kvm_attr_extent want, got;
	unsigned long index = 0;

	do {
		model_extent(model, index, KVM_ATTR_MAX_INDEX, &want);
		kvm_attr_store_extent(store, index, KVM_ATTR_MAX_INDEX, &got);
		if (got.first != want.first || got.last != want.last ||
		    got.attrs != want.attrs)
			fail("extent %#lx..%#lx = %#lx, not %#lx..%#lx = %#lx",
			     got.first, got.last, got.attrs, want.first,
			     want.last, want.attrs);
		index = got.last + 1;
	} while (index <= KVM_ATTR_MAX_INDEX);
}

void check_page(struct kvm_attr_store *store, const struct model *model,
		unsigned long index)
{
	unsigned long attrs = kvm_attr_store_get(store, index);
	unsigned long want = model->attrs[model_cell(model, index)];
	unsigned int order, want_order;
	/* 18 is a 1 GiB page. */
	static const unsigned int max_orders[] = { 0, 9, 18, 52 };
	unsigned int i;

	if (attrs != want)
		fail("page %#lx = %#lx, not %#lx", index, attrs, want);

	for (i = 0; i < sizeof(max_orders) / sizeof(*max_orders); i++) {
		order = kvm_attr_store_uniform_order(store, index,
						     max_orders[i]);
		want_order = model_uniform_order(model, index, max_orders[i]);
		if (order != want_order)
			fail("order around %#lx is %u, not %u", index, order,
			     want_order);
	}
}

void check_range(struct kvm_attr_store *store, const struct model *model,
		 const struct change *change)
{
	unsigned long first = change_first(model, change);
	unsigned long last = change_last(model, change);
	struct kvm_attr_extent want, got;

	model_extent(model, first, last, &want);
	kvm_attr_store_extent(store, first, last, &got);
	if (got.first != first || got.last != want.last ||
	    got.attrs != want.attrs)
		fail("extent from %#lx is ..%#lx = %#lx, not ..%#lx = %#lx",
		     first, got.last, got.attrs, want.last, want.attrs);
}

int change_prepare(struct kvm_attr_store *store, const struct model *model,
		   const struct change *change)
{
	return kvm_attr_store_prepare(store, change_first(model, change),
				      change_last(model, change),
				      change->keep, change->set);
}

/* A step must end where an old value does, and leave the rest as it was. */
static void step_apply(struct kvm_attr_store *store, struct model *model,
		       struct change *step, unsigned long next, bool more)
{
	struct kvm_attr_extent old;
	unsigned long first = change_first(model, step);

	if (next <= first)
		fail("a step at %#lx does not move on", first);
	if (more) {
		model_extent(model, next - 1, KVM_ATTR_MAX_INDEX, &old);
		if (old.last != next - 1)
			fail("a step ends at %#lx, within an extent", next - 1);
		step->to = model_cell(model, next);
	}

	model_apply(model, step);
	if (more)
		check_extents(store, model);
}

static bool change_is_uniform(const struct model *model,
			      const struct change *change)
{
	unsigned int i;

	for (i = change->from; i < change->to; i++)
		if (model->attrs[i] != model->attrs[change->from])
			return false;
	return true;
}

void change_commit(struct kvm_attr_store *store, struct model *model,
		   const struct change *change)
{
	bool uniform = change_is_uniform(model, change);
	unsigned long next = change_first(model, change);
	unsigned long last = change_last(model, change);
	struct change step = *change;
	bool more;

	do {
		step.to = change->to;
		shim_forbid_allocs = true;
		more = kvm_attr_store_commit(store, &next, last, change->keep,
					     change->set, uniform);
		shim_forbid_allocs = false;
		step_apply(store, model, &step, next, more);
		step.from = step.to;
		nr_steps += more;
	} while (more);
}

void change_abort(struct kvm_attr_store *store, const struct model *model,
		  const struct change *change)
{
	shim_forbid_allocs = true;
	kvm_attr_store_abort(store, change_first(model, change),
			     change_last(model, change));
	shim_forbid_allocs = false;
}

static unsigned int tap_nr;

void tap_plan(unsigned int nr_tests)
{
	printf("KTAP version 1\n1..%u\n", nr_tests);
	fflush(stdout);
}

void tap_ok(const char *fmt, ...)
{
	va_list args;

	printf("ok %u ", ++tap_nr);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}
