// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests: what the store promises, one promise at a time
 *
 * Each test begins with an empty store and ends with one; a test that leaves a
 * node behind fails the next.
 */
#include "check.h"

#define GIB_PAGES	BIT(18)
#define PRIVATE		8UL
#define BASE		BIT(20)

#define expect(x) do {							\
	if (!(x)) {							\
		fprintf(stderr, "# expected: %s\n", #x);		\
		shim_bug(__FILE__, __LINE__, "unit test");		\
	}								\
} while (0)

static struct kvm_attr_store store;

static void update(unsigned long first, unsigned long last,
		   unsigned long keep, unsigned long set)
{
	expect(!kvm_attr_store_prepare(&store, first, last, keep, set));
	shim_forbid_allocs = true;
	while (kvm_attr_store_commit(&store, &first, last, keep, set, false))
		;
	shim_forbid_allocs = false;
	rcu_barrier();
}

static void assign(unsigned long first, unsigned long last, unsigned long attrs)
{
	update(first, last, 0, attrs);
}

static unsigned long get(unsigned long index)
{
	return kvm_attr_store_get(&store, index);
}

static unsigned int order(unsigned long index, unsigned int max_order)
{
	return kvm_attr_store_uniform_order(&store, index, max_order);
}

static bool has(unsigned long first, unsigned long last, unsigned long mask,
		unsigned long attrs)
{
	struct kvm_attr_extent extent;
	struct kvm_attr_iter iter;

	kvm_attr_iter_init(&iter, &store, first, last);
	while (kvm_attr_iter_next(&iter, &extent))
		if ((extent.attrs & mask) != attrs)
			return false;

	return true;
}

static unsigned long nr_extents(unsigned long first, unsigned long last)
{
	struct kvm_attr_extent extent;
	struct kvm_attr_iter iter;
	unsigned long nr = 0;

	kvm_attr_iter_init(&iter, &store, first, last);
	while (kvm_attr_iter_next(&iter, &extent)) {
		expect(extent.first == first);
		first = extent.last + 1;
		nr++;
	}
	expect(first == last + 1);
	return nr;
}

static void empty_store(void)
{
	struct kvm_attr_extent extent;

	expect(kvm_attr_store_empty(&store));
	expect(!get(0) && !get(KVM_ATTR_MAX_INDEX));
	expect(order(12345, 18) == 18);
	expect(has(0, KVM_ATTR_MAX_INDEX, ATTR_MASK, 0));
	expect(!has(5, 5, PRIVATE, PRIVATE));
	kvm_attr_store_extent(&store, 7, 4711, &extent);
	expect(extent.first == 7 && extent.last == 4711 && !extent.attrs);
	expect(nr_extents(0, KVM_ATTR_MAX_INDEX) == 1);
}

static void first_and_last_page(void)
{
	assign(0, 0, PRIVATE);
	expect(get(0) == PRIVATE && !get(1) && order(0, 9) == 0);
	expect(!shim_nodes && !kvm_attr_store_empty(&store));
	expect(order(1, 9) == 0 && order(5, 9) == 2 && order(512, 9) == 9);
	assign(KVM_ATTR_MAX_INDEX, KVM_ATTR_MAX_INDEX, 3);
	expect(get(KVM_ATTR_MAX_INDEX) == 3 && !get(KVM_ATTR_MAX_INDEX - 1));
	assign(0, KVM_ATTR_MAX_INDEX, 0);
	expect(kvm_attr_store_empty(&store));
}

static void whole_space(void)
{
	assign(0, KVM_ATTR_MAX_INDEX, PRIVATE);
	expect(shim_nodes == 1 && order(4711, 52) == 52);
	expect(has(0, KVM_ATTR_MAX_INDEX, ATTR_MASK, PRIVATE));
	assign(1UL << 40, 1UL << 40, 0);
	expect(nr_extents(0, KVM_ATTR_MAX_INDEX) == 3);
	assign(1UL << 40, 1UL << 40, PRIVATE);
	expect(shim_nodes == 1);
}

static void uniform_range_is_one_node(void)
{
	assign(BASE, BASE + 16 * GIB_PAGES - 1, PRIVATE);
	expect(shim_nodes == 1);
	expect(order(BASE + 12345, 18) == 18);
	expect(!get(BASE - 1) && !get(BASE + 16 * GIB_PAGES));
	assign(BASE, BASE + 16 * GIB_PAGES - 1, 0);
	expect(!shim_nodes);

	shim_allocs = 0;
	assign(BASE, BASE + 1024 * GIB_PAGES - 1, PRIVATE);
	expect(shim_allocs == 3 && shim_nodes == 3);
}

static void hole_and_refill(void)
{
	unsigned long hole = BASE + 0x12345;

	assign(BASE, BASE + 16 * GIB_PAGES - 1, PRIVATE);
	assign(hole, hole, 0);
	expect(!get(hole) && get(hole - 1) == PRIVATE &&
	       get(hole + 1) == PRIVATE);
	expect(order(hole, 9) == 0 && order(hole - 1, 9) == 0);
	expect(order(hole + 1024, 9) == 9 && order(hole - 1024, 9) == 9);
	expect(shim_nodes == 4);
	assign(hole, hole, PRIVATE);
	expect(shim_nodes == 1 && order(hole, 18) == 18);
}

static void pages_merge_one_by_one(void)
{
	unsigned long i;

	/* In an order that leaves gaps to the last. */
	for (i = 0; i < 4096; i++) {
		expect(order(BASE, 12) < 12 || !i);
		assign(BASE + i * 1367 % 4096, BASE + i * 1367 % 4096, PRIVATE);
	}
	expect(order(BASE + 77, 18) == 12);
	expect(shim_nodes == 2);
}

static void root_is_one_entry(void)
{
	/* 64, 4096, ... pages from 0 on fill a root: it must give way. */
	unsigned long size;

	for (size = XA_CHUNK_SIZE; size <= 1UL << 48; size <<= XA_CHUNK_SHIFT) {
		assign(0, size / 2 - 1, PRIVATE);
		assign(size / 2, size - 1, PRIVATE);
		expect(shim_nodes == 1 && order(0, 52) == (unsigned int)ilog2(size));
		assign(size / 2 + 1, size / 2 + 1, 0);
		assign(size / 2 + 1, size / 2 + 1, PRIVATE);
		expect(shim_nodes == 1);
		/* From different values to one, without a zero in it. */
		assign(3, 3, 3);
		update(0, size - 1, 0, 7);
		expect(shim_nodes == 1 && order(9, 52) == (unsigned int)ilog2(size));
		assign(0, size - 1, 0);
	}
}

static void update_changes_chosen_bits(void)
{
	assign(BASE, BASE + 99, 1);
	assign(BASE + 100, BASE + 199, 2);
	/* keep 2 set 8: 1 -> 8, 2 -> 10, 0 -> 8 */
	update(BASE + 50, BASE + 299, 2, 8);
	expect(get(BASE + 49) == 1 && get(BASE + 50) == 8);
	expect(get(BASE + 99) == 8 && get(BASE + 100) == 10);
	expect(get(BASE + 199) == 10 && get(BASE + 200) == 8);
	expect(get(BASE + 299) == 8 && get(BASE + 300) == 0);
	expect(nr_extents(BASE, BASE + 399) == 5);
	expect(has(BASE + 50, BASE + 299, 8, 8));
	expect(!has(BASE + 49, BASE + 299, 8, 8));
	expect(!has(BASE + 50, BASE + 299, ATTR_MASK, 8));
	/* What was different becomes equal: one extent. */
	update(BASE, BASE + 399, 4, 0);
	expect(kvm_attr_store_empty(&store));
}

static void update_merges_differences(void)
{
	unsigned long i;

	for (i = 0; i < 1024; i++)
		assign(BASE + i, BASE + i, i & 1 ? 3 : 2);
	expect(nr_extents(BASE, BASE + 1023) == 1024);
	update(BASE, BASE + 1023, 2, 0);
	expect(nr_extents(BASE, BASE + 1023) == 1);
	expect(order(BASE, 18) == 10);
}

static void abort_leaves_nothing(void)
{
	unsigned long nodes;

	assign(BASE, BASE + GIB_PAGES - 1, PRIVATE);
	nodes = shim_nodes;
	expect(!kvm_attr_store_prepare(&store, BASE + 77, BASE + 99999, 0, 0));
	expect(has(BASE, BASE + GIB_PAGES - 1, ATTR_MASK, PRIVATE));
	kvm_attr_store_abort(&store, BASE + 77, BASE + 99999);
	rcu_barrier();
	expect(shim_nodes == nodes && order(BASE + 77, 18) == 18);

	expect(!kvm_attr_store_prepare(&store, 1, 1UL << 50, 0, 7));
	expect(!get(1) && get(BASE) == PRIVATE && !get(BIT(50)));
	expect(nr_extents(0, KVM_ATTR_MAX_INDEX) == 3);
	kvm_attr_store_abort(&store, 1, 1UL << 50);
	rcu_barrier();
	expect(shim_nodes == nodes);

	assign(BASE, BASE + GIB_PAGES - 1, 0);
	expect(!kvm_attr_store_prepare(&store, 5, 5, 0, 7));
	expect(!get(5));
	kvm_attr_store_abort(&store, 5, 5);
	expect(kvm_attr_store_empty(&store));
}

/* Returns whether a page changes, and checks the old value that trim reports. */
static bool trim_range(unsigned long *first, unsigned long *last,
		       unsigned long keep, unsigned long set)
{
	enum kvm_attr_trimmed trimmed;
	unsigned long old;

	trimmed = kvm_attr_store_trim(&store, first, last, keep, set, &old);
	expect(trimmed == KVM_ATTR_NONE || old == get(*first));
	expect(trimmed != KVM_ATTR_ONE || has(*first, *last, ATTR_MASK, old));
	return trimmed != KVM_ATTR_NONE;
}

static void trim_finds_what_changes(void)
{
	unsigned long first = 0, last = KVM_ATTR_MAX_INDEX;

	expect(!trim_range(&first, &last, 0, 0));
	assign(BASE, BASE + 1023, PRIVATE);
	first = BASE + 5;
	last = BASE + 700;
	expect(!trim_range(&first, &last, 0, PRIVATE));
	expect(!trim_range(&first, &last, 0, PRIVATE));
	expect(first == BASE + 5 && last == BASE + 700);
	first = 0;
	last = KVM_ATTR_MAX_INDEX;
	expect(trim_range(&first, &last, 0, 0));
	expect(first == BASE && last == BASE + 1023);
	assign(BASE + 100, BASE + 100, 3);
	expect(trim_range(&first, &last, 0, PRIVATE));
	expect(first == BASE + 100 && last == BASE + 100);
	assign(BASE, BASE, 3);
	first = BASE;
	last = BASE + 1023;
	expect(trim_range(&first, &last, PRIVATE, 0));
	expect(first == BASE && last == BASE + 100);
}

static void order_of_zeroes(void)
{
	assign(BASE + 512, BASE + 512, PRIVATE);
	expect(order(BASE, 9) == 9 && order(BASE, 18) == 9);
	expect(order(BASE + 513, 9) == 0 && order(BASE + 514, 9) == 1);
	expect(order(BASE + 1024, 18) == 10 && order(0, 18) == 18);
	expect(order(1UL << 30, 18) == 18 && order(1UL << 30, 52) == 30);
	expect(order(BASE + 1024, 3) == 3 && order(BASE + 1024, 0) == 0);
}

static void alternating_pages(void)
{
	unsigned long i;

	for (i = 0; i < 16384; i += 2)
		assign(BASE + i, BASE + i, PRIVATE);
	/* 16384 / 64 leaves, 256 / 64 above, 2 up to the root for 2^20. */
	expect(shim_nodes == 256 + 4 + 1 + 1);
	expect(nr_extents(BASE, BASE + 16383) == 16384);
	assign(BASE, BASE + 16383, 0);
	expect(!shim_nodes);
}

/* 1 TiB in 100,000 extents, read back. */
static void many_extents(void)
{
	unsigned long end = BASE + 1024 * GIB_PAGES, step = 1024 * GIB_PAGES / 50000;
	struct kvm_attr_extent extent;
	struct kvm_attr_iter iter;
	unsigned long i, first;

	for (i = 0; i < 50000; i++)
		assign(BASE + i * step, BASE + i * step + i % step,
		       1 + i % ATTR_MASK);
	kvm_attr_iter_init(&iter, &store, BASE, end - 1);
	for (i = 0; i < 50000; i++) {
		first = BASE + i * step;
		expect(kvm_attr_iter_next(&iter, &extent));
		expect(extent.first == first && extent.last == first + i % step);
		expect(extent.attrs == 1 + i % ATTR_MASK);
		/* No gap behind a run that fills its step. */
		if (i % step == step - 1)
			continue;
		expect(kvm_attr_iter_next(&iter, &extent));
		expect(extent.first == first + i % step + 1 && !extent.attrs);
	}
	expect(!kvm_attr_iter_next(&iter, &extent));
	expect(extent.last == end - 1);
}

static void no_growth(void)
{
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		unsigned long hole = BASE + i * 0x12345UL;

		assign(BASE, BASE + 1024 * GIB_PAGES - 1, PRIVATE);
		assign(hole, hole + i, 0);
		assign(hole, hole + i, PRIVATE);
		assign(BASE, BASE + 1024 * GIB_PAGES - 1, 0);
		expect(!shim_nodes && kvm_attr_store_empty(&store));
	}
}

static void same_value_is_no_change(void)
{
	unsigned long nodes;

	assign(BASE, BASE + 1000, PRIVATE);
	nodes = shim_nodes;
	shim_allocs = 0;
	assign(BASE + 3, BASE + 900, PRIVATE);
	update(BASE + 3, BASE + 900, PRIVATE, 0);
	assign(BASE + 5000, BASE + 6000, 0);
	expect(!shim_allocs && shim_nodes == nodes);
}

/* Both ends of the root are in use, but it does not become one entry. */
static void no_root_without_need(void)
{
	assign(0, XA_CHUNK_SIZE / 2 - 1, 1);
	assign(XA_CHUNK_SIZE / 2, XA_CHUNK_SIZE - 1, 2);
	shim_allocs = 0;
	assign(5, 5, 3);
	assign(5, 5, 0);
	assign(6, 9, 1);
	expect(!shim_allocs && shim_nodes == 1);
}

/* An XArray keeps an entry for index 0 alone in its head. */
static void page_0_alone_needs_no_node(void)
{
	shim_allocs = 0;
	assign(0, 0, 8);
	expect(get(0) == 8 && !get(1) && order(0, 9) == 0);
	assign(0, 0, 3);
	assign(0, 0, 0);
	expect(!shim_allocs && kvm_attr_store_empty(&store));
}

#define TEST(fn) { fn, #fn }

static const struct {
	void (*run)(void);
	const char *name;
} tests[] = {
	TEST(empty_store),
	TEST(first_and_last_page),
	TEST(whole_space),
	TEST(uniform_range_is_one_node),
	TEST(hole_and_refill),
	TEST(pages_merge_one_by_one),
	TEST(root_is_one_entry),
	TEST(update_changes_chosen_bits),
	TEST(update_merges_differences),
	TEST(abort_leaves_nothing),
	TEST(trim_finds_what_changes),
	TEST(order_of_zeroes),
	TEST(alternating_pages),
	TEST(many_extents),
	TEST(no_growth),
	TEST(same_value_is_no_change),
	TEST(no_root_without_need),
	TEST(page_0_alone_needs_no_node),
};

int main(void)
{
	unsigned int i, nr = sizeof(tests) / sizeof(*tests);

	tap_plan(nr);
	for (i = 0; i < nr; i++) {
		kvm_attr_store_init(&store);
		tests[i].run();
		kvm_attr_store_destroy(&store);
		rcu_barrier();
		expect(!shim_nodes && !shim_warnings);
		tap_ok("%s", tests[i].name);
	}
	return 0;
}
