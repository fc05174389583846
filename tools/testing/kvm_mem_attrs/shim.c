// SPDX-License-Identifier: GPL-2.0-only
/*
 * What lib/xarray.c needs from the rest of the kernel: nodes and RCU
 *
 * RCU here is the simplest that is correct and that ThreadSanitizer follows:
 * each thread publishes the era it started to read in; a node freed in an era
 * goes once no reader is left that started in it or before.
 *
 * Only one thread writes; nodes and the list of those to be freed are its own.
 */
#include <pthread.h>
#include <sched.h>

#include "shim.h"
#include <linux/xarray.h>

#define MAX_THREADS	64
#define MAX_PENDING	256

__thread int shim_locks_held;
__thread int shim_rcu_depth;
unsigned long shim_nodes;
unsigned long shim_allocs;
long shim_fail_from = -1;
long shim_fail_count = 1;
bool shim_fail_nowait;
bool shim_forbid_allocs;
unsigned long shim_warnings;

/* Kernel name, used by lib/xarray.c. */
struct kmem_cache *radix_tree_node_cachep;
void radix_tree_node_rcu_free(struct rcu_head *head);

static unsigned long era = 1;
static unsigned long reader_era[MAX_THREADS];
static int nr_threads;
static __thread int thread_id = -1;
static struct rcu_head *pending;
static unsigned int nr_pending;

void shim_bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "Bail out! %s:%d: %s\n", file, line, what);
	abort();
}

void shim_warn(const char *file, int line, const char *what)
{
	shim_warnings++;
	fprintf(stderr, "# WARNING %s:%d: %s\n", file, line, what);
}

void shim_yield(void)
{
	static __thread unsigned int nr;

	if (!shim_locks_held && !(++nr & 127))
		sched_yield();
}

void rcu_read_lock(void)
{
	if (shim_rcu_depth++)
		return;

	if (thread_id < 0) {
		thread_id = __atomic_fetch_add(&nr_threads, 1,
					       __ATOMIC_SEQ_CST);
		shim_assert(thread_id < MAX_THREADS);
	}
	__atomic_store_n(&reader_era[thread_id],
			 __atomic_load_n(&era, __ATOMIC_SEQ_CST),
			 __ATOMIC_SEQ_CST);
}

void rcu_read_unlock(void)
{
	shim_assert(shim_rcu_depth > 0);
	if (!--shim_rcu_depth)
		__atomic_store_n(&reader_era[thread_id], 0, __ATOMIC_SEQ_CST);
}

static void synchronize_rcu(void)
{
	unsigned long now = __atomic_add_fetch(&era, 1, __ATOMIC_SEQ_CST);
	unsigned long seen;
	int i;

	for (i = 0; i < __atomic_load_n(&nr_threads, __ATOMIC_SEQ_CST); i++) {
		do {
			seen = __atomic_load_n(&reader_era[i],
					       __ATOMIC_SEQ_CST);
			if (seen && seen < now)
				sched_yield();
		} while (seen && seen < now);
	}
}

void rcu_barrier(void)
{
	struct rcu_head *head;

	shim_assert(!shim_rcu_depth);
	if (!pending)
		return;

	synchronize_rcu();
	while ((head = pending)) {
		pending = head->next;
		head->func(head);
	}
	nr_pending = 0;
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = pending;
	pending = head;
	nr_pending++;
}

void radix_tree_node_rcu_free(struct rcu_head *head)
{
	shim_nodes--;
	free(container_of(head, struct xa_node, rcu_head));
}

static bool alloc_fails(gfp_t gfp)
{
	if (shim_fail_nowait && !gfpflags_allow_blocking(gfp))
		return true;
	if (shim_fail_from < 0)
		return false;
	if (shim_fail_from) {
		shim_fail_from--;
		return false;
	}
	if (!--shim_fail_count)
		shim_fail_from = -1;
	return true;
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			   gfp_t gfp)
{
	struct xa_node *node;

	shim_assert(!shim_forbid_allocs);
	shim_assert(gfp & __GFP_ACCOUNT);
	might_alloc(gfp);
	/* A grace period may pass whenever the writer may sleep. */
	if (gfpflags_allow_blocking(gfp) && nr_pending > MAX_PENDING)
		rcu_barrier();

	shim_allocs++;
	if (alloc_fails(gfp))
		return NULL;

	node = calloc(1, sizeof(*node));
	shim_assert(node);
	INIT_LIST_HEAD(&node->private_list);
	shim_nodes++;
	return node;
}
