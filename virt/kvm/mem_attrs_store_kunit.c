// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM memory attributes - KUnit tests of the range store
 *
 * What the store does to its values is proven in userspace, against a model
 * and with every allocation failing in turn (tools/testing/kvm_mem_attrs).
 * Here it runs with what userspace only imitates: the kernel's slab and its GFP
 * flags, the kernel's RCU, threads on all CPUs, hard and soft interrupts in
 * the middle of a commit.  What KASAN, lockdep and the checks for sleeping in
 * atomic context have to say about that is part of the result.
 *
 * Model
 *
 * Each test has a store of its own.  Changes go through update(), which holds
 * a lock in the place of mmu_lock while it commits.  Readers look at NR_PAGES
 * pages from BASE on, all of which have PRIVATE all the time, even ones with or
 * without other bits: anything else is wrong.
 *
 * Tests that call watch_nodes() see the slab at work, by its tracepoints: each
 * node that the test's own thread gets during update() is remembered until it
 * is freed, by whomever.
 *
 * Locks
 *
 *  ===============  =======================================================
 *  store_test.lock  as mmu_lock does for KVM: no sleeping in commit, abort
 *  node_watch.lock  the nodes that are remembered; innermost, and taken with
 *                   interrupts off, for RCU frees nodes in soft interrupts
 *  ===============  =======================================================
 *
 * There is one writer, the test's thread: no lock is needed in the place of
 * slots_lock.
 *
 * Lifetimes
 *
 * Threads, timers and tracepoint probes belong to one test and are stopped
 * before it ends; its memory is KUnit's to free.
 */
#include <kunit/test.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <trace/events/kmem.h>

#include "mem_attrs_store.h"

#define BASE		BIT(20)
#define NR_PAGES	8192UL
#define TIB_ORDER	28
#define TIB_PAGES	BIT(TIB_ORDER)
#define PRIVATE		8UL
#define OTHER		3UL
/* No more nodes are alive at a time where nodes are watched. */
#define NR_WATCHED	64
#define NR_ROUNDS	20
#define NR_CHANGES	500
#define NR_READS	1000
#define NR_INTERRUPTED	10
#define NR_HELD_UP	2000
#define MAX_SPINS	1000
#define READS_AT_ONCE	16
#define PERIOD		ns_to_ktime(500 * NSEC_PER_USEC)
#define TIMEOUT		(20 * HZ)

struct node_watch {
	raw_spinlock_t lock;
	/* Whose allocations are the store's, while there is one to be watched. */
	struct task_struct *task;
	const void *nodes[NR_WATCHED];
	unsigned int nr_nodes;
	unsigned int nr_allocated;
	unsigned int nr_unaccounted;
	unsigned int nr_committing;
};

struct store_test {
	struct kvm_attr_store store;
	rwlock_t lock;
	struct rnd_state random;
	/* In kvm_attr_store_commit(): also read by interrupts during it. */
	bool committing;
	unsigned long nr_commits;
	struct node_watch watch;
	bool watching;
};

struct store_reader {
	struct store_test *st;
	struct task_struct *task;
	struct hrtimer timer;
	struct rnd_state random;
	unsigned long nr_reads;
	unsigned long nr_wrong;
	unsigned long nr_interrupted;
};

static void node_allocated(void *data, unsigned long call_site,
			   const void *node, struct kmem_cache *cache,
			   gfp_t flags, int nid)
{
	struct store_test *st = data;
	struct node_watch *watch = &st->watch;
	unsigned long irqs;

	/* The debugging of the slab allocates too, but nothing of this size. */
	if (!node || !in_task() || READ_ONCE(watch->task) != current ||
	    kmem_cache_size(cache) != sizeof(struct xa_node))
		return;

	raw_spin_lock_irqsave(&watch->lock, irqs);
	watch->nr_allocated++;
	watch->nr_unaccounted += !(flags & __GFP_ACCOUNT);
	watch->nr_committing += st->committing;
	if (!WARN_ON_ONCE(watch->nr_nodes == NR_WATCHED))
		watch->nodes[watch->nr_nodes++] = node;
	raw_spin_unlock_irqrestore(&watch->lock, irqs);
}

static void node_freed(void *data, unsigned long call_site, const void *node,
		       const struct kmem_cache *cache)
{
	struct store_test *st = data;
	struct node_watch *watch = &st->watch;
	unsigned long irqs;
	unsigned int i;

	raw_spin_lock_irqsave(&watch->lock, irqs);
	for (i = 0; i < watch->nr_nodes; i++) {
		if (watch->nodes[i] != node)
			continue;
		watch->nodes[i] = watch->nodes[--watch->nr_nodes];
		break;
	}
	raw_spin_unlock_irqrestore(&watch->lock, irqs);
}

static void watch_nodes(struct kunit *test)
{
	struct store_test *st = test->priv;

	if (register_trace_kmem_cache_alloc(node_allocated, st))
		kunit_skip(test, "needs CONFIG_TRACEPOINTS");
	if (register_trace_kmem_cache_free(node_freed, st)) {
		unregister_trace_kmem_cache_alloc(node_allocated, st);
		kunit_skip(test, "the slab cannot be traced");
	}
	st->watching = true;
}

static void unwatch_nodes(struct store_test *st)
{
	if (!st->watching)
		return;

	unregister_trace_kmem_cache_alloc(node_allocated, st);
	unregister_trace_kmem_cache_free(node_freed, st);
	tracepoint_synchronize_unregister();
}

/* The nodes that are left once RCU has freed what it was given. */
static unsigned int nr_nodes(struct kunit *test)
{
	struct store_test *st = test->priv;

	rcu_barrier();
	return READ_ONCE(st->watch.nr_nodes);
}

static int store_test_init(struct kunit *test)
{
	struct store_test *st;

	st = kunit_kzalloc(test, sizeof(*st), GFP_KERNEL);
	if (!st)
		return -ENOMEM;

	kvm_attr_store_init(&st->store);
	rwlock_init(&st->lock);
	raw_spin_lock_init(&st->watch.lock);
	prandom_seed_state(&st->random, 1);
	test->priv = st;
	return 0;
}

/* Whatever a test did: all nodes were accounted, and none is left. */
static void store_test_exit(struct kunit *test)
{
	struct store_test *st = test->priv;

	if (!st)
		return;

	kvm_attr_store_destroy(&st->store);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 0);
	KUNIT_EXPECT_EQ(test, st->watch.nr_unaccounted, 0);
	KUNIT_EXPECT_EQ(test, st->watch.nr_committing, 0);
	unwatch_nodes(st);
}

static bool prepare(struct kunit *test, unsigned long first, unsigned long last,
		    unsigned long keep, unsigned long set)
{
	struct store_test *st = test->priv;
	int ret;

	WRITE_ONCE(st->watch.task, current);
	ret = kvm_attr_store_prepare(&st->store, first, last, keep, set);
	WRITE_ONCE(st->watch.task, NULL);
	KUNIT_EXPECT_EQ(test, ret, 0);
	return !ret;
}

static void commit(struct store_test *st, unsigned long first,
		   unsigned long last, unsigned long keep, unsigned long set)
{
	write_lock(&st->lock);
	WRITE_ONCE(st->watch.task, current);
	WRITE_ONCE(st->committing, true);
	while (kvm_attr_store_commit(&st->store, &first, last, keep, set,
				     false))
		;
	WRITE_ONCE(st->committing, false);
	WRITE_ONCE(st->watch.task, NULL);
	WRITE_ONCE(st->nr_commits, st->nr_commits + 1);
	write_unlock(&st->lock);
}

static void update(struct kunit *test, unsigned long first, unsigned long last,
		   unsigned long keep, unsigned long set)
{
	if (prepare(test, first, last, keep, set))
		commit(test->priv, first, last, keep, set);
}

static unsigned long get(struct kunit *test, unsigned long index)
{
	struct store_test *st = test->priv;

	return kvm_attr_store_get(&st->store, index);
}

static void ends_of_the_space(struct kunit *test)
{
	struct store_test *st = test->priv;

	update(test, 0, KVM_ATTR_MAX_INDEX, 0, PRIVATE);
	update(test, 0, 0, 0, 0);
	update(test, KVM_ATTR_MAX_INDEX, KVM_ATTR_MAX_INDEX, 0, OTHER);
	KUNIT_EXPECT_EQ(test, get(test, 0), 0UL);
	KUNIT_EXPECT_EQ(test, get(test, 1), PRIVATE);
	KUNIT_EXPECT_EQ(test, get(test, KVM_ATTR_MAX_INDEX), OTHER);
	update(test, 0, KVM_ATTR_MAX_INDEX, 0, 0);
	KUNIT_EXPECT_TRUE(test, kvm_attr_store_empty(&st->store));
}

/*
 * 1 TiB is set, holed, refilled and cleared, again and again.  It takes one
 * node, and those on the way down from it to the hole.
 */
static void nodes_come_and_go(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned long last = TIB_PAGES - 1;
	unsigned long hole = 0x1234567;
	unsigned int i;

	watch_nodes(test);
	for (i = 0; i < NR_ROUNDS; i++) {
		update(test, 0, last, 0, PRIVATE);
		KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
		update(test, hole, hole, 0, 0);
		KUNIT_EXPECT_EQ(test, nr_nodes(test),
				1 + TIB_ORDER / XA_CHUNK_SHIFT);
		KUNIT_EXPECT_EQ(test, get(test, hole), 0UL);
		KUNIT_EXPECT_EQ(test, get(test, hole + 1), PRIVATE);
		update(test, hole, hole, 0, PRIVATE);
		KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
		update(test, 0, last, 0, 0);
		KUNIT_EXPECT_EQ(test, nr_nodes(test), 0);
	}
	KUNIT_EXPECT_GT(test, st->watch.nr_allocated, NR_ROUNDS);
}

static void abort_gives_nodes_back(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned long hole = 0x1234567;

	watch_nodes(test);
	update(test, 0, TIB_PAGES - 1, 0, PRIVATE);
	KUNIT_ASSERT_TRUE(test, prepare(test, hole, hole, 0, 0));
	KUNIT_EXPECT_GT(test, nr_nodes(test), 1);

	write_lock(&st->lock);
	kvm_attr_store_abort(&st->store, hole, hole);
	write_unlock(&st->lock);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
	KUNIT_EXPECT_EQ(test, get(test, hole), PRIVATE);
}

/* A reader that is on its way finds a node that is no longer in the tree. */
static void nodes_outlive_readers(struct kunit *test)
{
	struct store_test *st = test->priv;
	unsigned long hole = 0x1234567;
	XA_STATE(xas, &st->store.xa, hole + 1);
	unsigned int before, after;
	void *entry, *stale;

	watch_nodes(test);
	update(test, 0, TIB_PAGES - 1, 0, PRIVATE);
	update(test, hole, hole, 0, 0);
	before = nr_nodes(test);
	KUNIT_ASSERT_TRUE(test, prepare(test, 0, TIB_PAGES - 1, 0, 0));

	/* Time enough for nodes to be freed, if they did not wait. */
	rcu_read_lock();
	entry = xas_load(&xas);
	commit(st, 0, TIB_PAGES - 1, 0, 0);
	mdelay(50);
	stale = xas_reload(&xas);
	after = READ_ONCE(st->watch.nr_nodes);
	rcu_read_unlock();

	KUNIT_EXPECT_TRUE(test, kvm_attr_store_empty(&st->store));
	KUNIT_EXPECT_PTR_EQ(test, entry, xa_mk_value(PRIVATE));
	/* A step that clears the entry stores NULL, one that frees the node a retry. */
	KUNIT_EXPECT_TRUE(test, !stale || xa_is_retry(stale));
	KUNIT_EXPECT_EQ(test, before, 1 + TIB_ORDER / XA_CHUNK_SHIFT);
	KUNIT_EXPECT_EQ(test, after, before);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 0);
}

/* Entries of all sizes are cut, changed and merged. */
static void change_even_pages(struct kunit *test)
{
	struct store_test *st = test->priv;
	u32 r = prandom_u32_state(&st->random);
	unsigned long page = BASE + (r % NR_PAGES & ~1UL);

	update(test, page, page, PRIVATE, PRIVATE | OTHER);
	if (r & BIT(31))
		update(test, page, page, 0, PRIVATE);
	/* These take long, one of them with many stores. */
	if (!(r >> 20 & 63))
		update(test, BASE, BASE + NR_PAGES - 1, 0, PRIVATE);
	else if (!(r >> 20 & 31))
		update(test, BASE, BASE + NR_PAGES - 1, PRIVATE, PRIVATE);
}

static void read_page(struct store_reader *reader)
{
	struct kvm_attr_store *store = &reader->st->store;
	unsigned long page, attrs;
	bool right;

	page = BASE + prandom_u32_state(&reader->random) % NR_PAGES;
	attrs = kvm_attr_store_get(store, page);
	right = attrs == PRIVATE || (!(page & 1) && attrs == (PRIVATE | OTHER));
	/* No block that is larger is uniform: there are zeroes around. */
	if (kvm_attr_store_uniform_order(store, page, 18) > ilog2(NR_PAGES))
		right = false;

	reader->nr_wrong += !right;
	WRITE_ONCE(reader->nr_reads, reader->nr_reads + 1);
}

static void init_reader(struct kunit *test, struct store_reader *reader)
{
	struct store_test *st = test->priv;

	reader->st = st;
	prandom_seed_state(&reader->random, prandom_u32_state(&st->random));
}

static int reader_thread(void *data)
{
	struct store_reader *reader = data;

	while (!kthread_should_stop()) {
		read_page(reader);
		if (!(reader->nr_reads % 256))
			cond_resched();
	}
	return 0;
}

static void start_reader_thread(struct kunit *test,
				struct store_reader *reader,
				int (*thread)(void *), unsigned int cpu)
{
	struct task_struct *task;

	init_reader(test, reader);
	task = kthread_create_on_cpu(thread, reader, cpu, "attr_reader/%u");
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, task);
	if (IS_ERR(task))
		return;

	reader->task = task;
	wake_up_process(task);
}

static bool all_have_read(const struct store_reader *readers)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		if (readers[cpu].task &&
		    READ_ONCE(readers[cpu].nr_reads) < NR_READS)
			return false;
	}
	return true;
}

static void threads_see_old_or_new(struct kunit *test)
{
	unsigned long end = jiffies + TIMEOUT;
	struct store_reader *readers;
	unsigned int cpu, i = 0;

	readers = kunit_kcalloc(test, nr_cpu_ids, sizeof(*readers), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, readers);
	update(test, BASE, BASE + NR_PAGES - 1, 0, PRIVATE);
	for_each_online_cpu(cpu)
		start_reader_thread(test, &readers[cpu], reader_thread, cpu);

	do {
		change_even_pages(test);
		cond_resched();
	} while ((++i < NR_CHANGES || !all_have_read(readers)) &&
		 time_before(jiffies, end));

	for_each_possible_cpu(cpu) {
		if (!readers[cpu].task)
			continue;
		kthread_stop(readers[cpu].task);
		KUNIT_EXPECT_EQ(test, readers[cpu].nr_wrong, 0UL);
		KUNIT_EXPECT_GE(test, readers[cpu].nr_reads, NR_READS);
	}
}

/* The writer stays on this CPU: if it is in a commit, it is interrupted there. */
static enum hrtimer_restart reader_interrupt(struct hrtimer *timer)
{
	struct store_reader *reader =
		container_of(timer, struct store_reader, timer);
	unsigned int i;

	reader->nr_interrupted += READ_ONCE(reader->st->committing);
	for (i = 0; i < READS_AT_ONCE; i++)
		read_page(reader);

	hrtimer_forward_now(timer, PERIOD);
	return HRTIMER_RESTART;
}

static void start_timer(struct store_reader *reader,
			enum hrtimer_restart (*interrupt)(struct hrtimer *),
			enum hrtimer_mode mode)
{
	hrtimer_init(&reader->timer, CLOCK_MONOTONIC, mode);
	reader->timer.function = interrupt;
	hrtimer_start(&reader->timer, PERIOD, mode);
}

static bool was_interrupted(const struct store_reader *reader)
{
	return READ_ONCE(reader->nr_interrupted) >= NR_INTERRUPTED;
}

static void interrupts_see_old_or_new(struct kunit *test)
{
	unsigned int cpu = raw_smp_processor_id();
	unsigned long end = jiffies + TIMEOUT;
	struct store_reader *hard, *soft;

	hard = kunit_kcalloc(test, 2, sizeof(*hard), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hard);
	soft = hard + 1;
	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(cpu)), 0);
	update(test, BASE, BASE + NR_PAGES - 1, 0, PRIVATE);
	init_reader(test, hard);
	init_reader(test, soft);
	start_timer(hard, reader_interrupt, HRTIMER_MODE_REL_PINNED_HARD);
	start_timer(soft, reader_interrupt, HRTIMER_MODE_REL_PINNED_SOFT);

	do {
		change_even_pages(test);
		cond_resched();
	} while ((!was_interrupted(hard) || !was_interrupted(soft)) &&
		 time_before(jiffies, end));

	hrtimer_cancel(&hard->timer);
	hrtimer_cancel(&soft->timer);
	KUNIT_EXPECT_TRUE(test, was_interrupted(hard));
	KUNIT_EXPECT_TRUE(test, was_interrupted(soft));
	KUNIT_EXPECT_EQ(test, hard->nr_wrong, 0UL);
	KUNIT_EXPECT_EQ(test, soft->nr_wrong, 0UL);
}

/* Keeps the thread below it waiting until something has been committed. */
static enum hrtimer_restart hold_up(struct hrtimer *timer)
{
	struct store_reader *reader =
		container_of(timer, struct store_reader, timer);
	unsigned long now = READ_ONCE(reader->st->nr_commits);
	unsigned int i;

	for (i = 0; i < MAX_SPINS; i++) {
		if (READ_ONCE(reader->st->nr_commits) != now)
			break;
		cpu_relax();
	}
	WRITE_ONCE(reader->nr_interrupted, reader->nr_interrupted + 1);

	hrtimer_forward_now(timer, PERIOD);
	return HRTIMER_RESTART;
}

static int held_up_thread(void *data)
{
	struct store_reader *reader = data;

	start_timer(reader, hold_up, HRTIMER_MODE_REL_PINNED_HARD);
	while (!kthread_should_stop()) {
		if (kvm_attr_store_get(&reader->st->store, BASE + 1) != PRIVATE)
			reader->nr_wrong++;
		if (!(++reader->nr_reads % 256))
			cond_resched();
	}
	hrtimer_cancel(&reader->timer);
	return 0;
}

/*
 * The second page of an entry takes two loads.  The reader is held up all the
 * time, at times between them, while the first page gets an entry of its own.
 */
static void held_up_readers_start_over(struct kunit *test)
{
	unsigned int here = raw_smp_processor_id();
	unsigned int there = cpumask_any_but(cpu_online_mask, here);
	unsigned long end = jiffies + 5 * HZ;
	struct store_reader *reader;
	bool toggle = false;

	if (there >= nr_cpu_ids)
		kunit_skip(test, "needs two CPUs");
	reader = kunit_kzalloc(test, sizeof(*reader), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, reader);
	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(here)), 0);
	update(test, BASE, BASE + 1, 0, PRIVATE);
	start_reader_thread(test, reader, held_up_thread, there);
	if (!reader->task)
		return;

	do {
		toggle = !toggle;
		update(test, BASE, BASE, 0, toggle ? PRIVATE | OTHER : PRIVATE);
		/* Lets an emulator that runs CPUs in turn go on to the reader's. */
		cpu_relax();
		cond_resched();
	} while (READ_ONCE(reader->nr_interrupted) < NR_HELD_UP &&
		 time_before(jiffies, end));

	kthread_stop(reader->task);
	KUNIT_EXPECT_GT(test, reader->nr_interrupted, 0UL);
	KUNIT_EXPECT_EQ(test, reader->nr_wrong, 0UL);
}

static struct kunit_case store_test_cases[] = {
	KUNIT_CASE(ends_of_the_space),
	KUNIT_CASE(nodes_come_and_go),
	KUNIT_CASE(abort_gives_nodes_back),
	KUNIT_CASE(nodes_outlive_readers),
	KUNIT_CASE(threads_see_old_or_new),
	KUNIT_CASE(held_up_readers_start_over),
	KUNIT_CASE(interrupts_see_old_or_new),
	{}
};

static struct kunit_suite store_test_suite = {
	.name = "kvm_mem_attrs_store",
	.init = store_test_init,
	.exit = store_test_exit,
	.test_cases = store_test_cases,
};

kunit_test_suite(store_test_suite);
