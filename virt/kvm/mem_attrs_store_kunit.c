// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM memory attributes - KUnit tests of the range store
 *
 * What the store does to its values is proven in userspace, against a model
 * and with every allocation failing in turn (tools/testing/kvm_mem_attrs).
 * Here it meets what userspace only imitates: the kernel's own RCU and slab,
 * preemption, lockdep and the checks for sleeping in atomic context, several
 * CPUs.  The store is compiled into the test, so that no KVM is needed.
 *
 * Each reader thread belongs to one test, which stops it before it ends.
 */
#include <kunit/test.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/rwlock.h>

#include "mem_attrs_store.c"

#define BASE		BIT(20)
#define GIB_PAGES	BIT(18)
#define PRIVATE		8UL
#define NR_PAGES	8192
#define NR_CHANGES	20000
#define NR_READERS	3
#define NR_TOGGLES	20000

struct store_test {
	struct kvm_attr_store store;
	/* In the place of mmu_lock: commit and abort are called under it. */
	rwlock_t lock;
	/* A value for each of NR_PAGES pages from BASE on. */
	u8 *model;
	struct rnd_state random;
};

struct store_reader {
	struct store_test *test;
	struct task_struct *task;
	struct rnd_state random;
	unsigned long wrong;
	unsigned long nr;
};

static int store_test_init(struct kunit *test)
{
	struct store_test *st;

	st = kunit_kzalloc(test, sizeof(*st), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, st);
	st->model = kunit_kzalloc(test, NR_PAGES, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, st->model);

	kvm_attr_store_init(&st->store);
	rwlock_init(&st->lock);
	prandom_seed_state(&st->random, 1);
	test->priv = st;
	return 0;
}

static void store_test_exit(struct kunit *test)
{
	struct store_test *st = test->priv;

	kvm_attr_store_destroy(&st->store);
}

static void update(struct kunit *test, unsigned long first, unsigned long last,
		   unsigned long keep, unsigned long set)
{
	struct store_test *st = test->priv;
	int ret;

	ret = kvm_attr_store_prepare(&st->store, first, last, keep, set);
	KUNIT_ASSERT_EQ(test, ret, 0);

	write_lock(&st->lock);
	kvm_attr_store_commit(&st->store, first, last, keep, set);
	write_unlock(&st->lock);
}

static void uniform_ranges(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned long last = BASE + 1024 * GIB_PAGES - 1;
	unsigned long hole = BASE + 0x1234567;
	unsigned int i;

	for (i = 0; i < 100; i++) {
		update(test, BASE, last, 0, PRIVATE);
		KUNIT_EXPECT_EQ(test, 18, kvm_attr_store_uniform_order(&st->store,
								       hole, 18));
		update(test, hole, hole, 0, 0);
		KUNIT_EXPECT_EQ(test, 0UL, kvm_attr_store_get(&st->store, hole));
		KUNIT_EXPECT_EQ(test, PRIVATE,
				kvm_attr_store_get(&st->store, hole + 1));
		KUNIT_EXPECT_EQ(test, 0, kvm_attr_store_uniform_order(&st->store,
								      hole, 18));
		update(test, hole, hole, 0, PRIVATE);
		KUNIT_EXPECT_EQ(test, 18, kvm_attr_store_uniform_order(&st->store,
								       hole, 18));
		update(test, BASE, last, 0, 0);
		KUNIT_EXPECT_TRUE(test, kvm_attr_store_empty(&st->store));
	}
}

static void ends_of_the_space(struct kunit *test)
{
	struct store_test *st = test->priv;

	update(test, 0, KVM_ATTR_MAX_INDEX, 0, PRIVATE);
	update(test, 0, 0, 0, 0);
	update(test, KVM_ATTR_MAX_INDEX, KVM_ATTR_MAX_INDEX, 0, 3);
	KUNIT_EXPECT_EQ(test, 0UL, kvm_attr_store_get(&st->store, 0));
	KUNIT_EXPECT_EQ(test, PRIVATE, kvm_attr_store_get(&st->store, 1));
	KUNIT_EXPECT_EQ(test, 3UL, kvm_attr_store_get(&st->store,
						      KVM_ATTR_MAX_INDEX));
	update(test, 0, KVM_ATTR_MAX_INDEX, 0, 0);
	KUNIT_EXPECT_TRUE(test, kvm_attr_store_empty(&st->store));
}

static void nodes_are_accounted(struct kunit *test)
{
	struct store_test *st = test->priv;

	KUNIT_EXPECT_TRUE(test, st->store.xa.xa_flags & XA_FLAGS_ACCOUNT);
}

static void check_model(struct kunit *test)
{
	struct store_test *st = test->priv;
	struct kvm_attr_extent extent;
	struct kvm_attr_iter iter;
	unsigned long i, wrong = 0;

	kvm_attr_iter_init(&iter, &st->store, BASE, BASE + NR_PAGES - 1);
	while (kvm_attr_iter_next(&iter, &extent)) {
		for (i = extent.first; i <= extent.last; i++)
			wrong += st->model[i - BASE] != extent.attrs;
	}
	for (i = 0; i < NR_PAGES; i++)
		wrong += st->model[i] !=
			 kvm_attr_store_get(&st->store, BASE + i);
	KUNIT_EXPECT_EQ(test, wrong, 0UL);
}

/* Every fourth change is given up, as by a caller that then finds a problem. */
static void random_change(struct kunit *test)
{
	struct store_test *st = test->priv;
	u32 r = prandom_u32_state(&st->random);
	unsigned long first = r % NR_PAGES;
	unsigned long nr = 1 + (r >> 16) % (r & BIT(31) ? NR_PAGES : 64);
	unsigned long keep = r & BIT(13) ? r >> 14 & 15 : 0;
	unsigned long set = r & BIT(15) ? PRIVATE : r >> 18 & 15;
	unsigned long last = min(first + nr, (unsigned long)NR_PAGES) - 1;
	int ret;

	if (r >> 29 == 0) {
		ret = kvm_attr_store_prepare(&st->store, BASE + first,
					     BASE + last, keep, set);
		KUNIT_ASSERT_EQ(test, ret, 0);
		write_lock(&st->lock);
		kvm_attr_store_abort(&st->store, BASE + first, BASE + last);
		write_unlock(&st->lock);
		return;
	}

	update(test, BASE + first, BASE + last, keep, set);
	for (; first <= last; first++)
		st->model[first] = (st->model[first] & keep) | set;
}

static void random_changes(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned int i;

	for (i = 0; i < NR_CHANGES; i++) {
		random_change(test);
		if (!(i & 255))
			check_model(test);
	}
	check_model(test);
	update(test, BASE, BASE + NR_PAGES - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, kvm_attr_store_empty(&st->store));
}

/* Even pages always have PRIVATE; odd ones have it with or without another. */
static int reader_thread(void *data)
{
	struct store_reader *reader = data;
	unsigned long page, attrs;

	while (!kthread_should_stop()) {
		page = prandom_u32_state(&reader->random) % NR_PAGES;
		attrs = kvm_attr_store_get(&reader->test->store, BASE + page);
		if (attrs != PRIVATE && (!(page & 1) || attrs != (PRIVATE | 3)))
			reader->wrong++;
		kvm_attr_store_uniform_order(&reader->test->store, BASE + page,
					     18);
		if (!(++reader->nr & 1023))
			cond_resched();
	}
	return 0;
}

/* Entries of all sizes are cut, changed and merged all the time. */
static void toggle_pages(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned int i;

	for (i = 0; i < NR_TOGGLES; i++) {
		u32 r = prandom_u32_state(&st->random);
		unsigned long page = BASE + (r % NR_PAGES | 1);

		update(test, page, page, PRIVATE, PRIVATE | 3);
		if (r & BIT(31))
			update(test, page, page, 0, PRIVATE);
		if (!(r >> 20 & 63))
			update(test, BASE, BASE + NR_PAGES - 1, 0, PRIVATE);
		cond_resched();
	}
}

static void readers_see_old_or_new(struct kunit *test)
{
	struct store_test *st = test->priv;
	struct store_reader *readers;
	unsigned int i;

	readers = kunit_kcalloc(test, NR_READERS, sizeof(*readers), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, readers);

	update(test, BASE, BASE + NR_PAGES - 1, 0, PRIVATE);
	for (i = 0; i < NR_READERS; i++) {
		readers[i].test = st;
		prandom_seed_state(&readers[i].random, i + 2);
		readers[i].task = kthread_run(reader_thread, &readers[i],
					      "attr_reader/%u", i);
		KUNIT_EXPECT_FALSE(test, IS_ERR(readers[i].task));
	}

	toggle_pages(test);

	for (i = 0; i < NR_READERS; i++) {
		if (IS_ERR(readers[i].task))
			continue;
		kthread_stop(readers[i].task);
		KUNIT_EXPECT_EQ(test, readers[i].wrong, 0UL);
		KUNIT_EXPECT_GT(test, readers[i].nr, 0UL);
	}
}

static struct kunit_case store_test_cases[] = {
	KUNIT_CASE(uniform_ranges),
	KUNIT_CASE(ends_of_the_space),
	KUNIT_CASE(nodes_are_accounted),
	KUNIT_CASE(random_changes),
	KUNIT_CASE(readers_see_old_or_new),
	{}
};

static struct kunit_suite store_test_suite = {
	.name = "kvm_mem_attrs_store",
	.init = store_test_init,
	.exit = store_test_exit,
	.test_cases = store_test_cases,
};

kunit_test_suite(store_test_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of the KVM memory attribute store");
