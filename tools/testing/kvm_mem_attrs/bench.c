// SPDX-License-Identifier: GPL-2.0-only
/*
 * The store against an XArray with one slot for each page, natively
 *
 * Same XArray code, same allocator, same machine: only the ratio counts.
 */
#include <time.h>

#include "shim.h"
#include "mem_attrs_store.h"

#define BASE		BIT(20)
#define GIB_PAGES	BIT(18)
#define PRIVATE		8UL

static struct kvm_attr_store store;
static struct xarray pages;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void store_set(unsigned long first, unsigned long nr, unsigned long attrs)
{
	unsigned long last = first + nr - 1;

	shim_assert(!kvm_attr_store_prepare(&store, first, last, 0, attrs));
	while (kvm_attr_store_commit(&store, &first, last, 0, attrs, false))
		;
}

/* Allocate first, store afterwards: what it takes not to fail half way. */
static void pages_set(unsigned long first, unsigned long nr, unsigned long attrs)
{
	void *entry = attrs ? xa_mk_value(attrs) : NULL;
	unsigned long i;

	for (i = first; entry && i < first + nr; i++)
		shim_assert(!xa_reserve(&pages, i, GFP_KERNEL_ACCOUNT));
	for (i = first; i < first + nr; i++)
		xa_store(&pages, i, entry, GFP_KERNEL_ACCOUNT);
}

static double time_set(void (*set)(unsigned long first, unsigned long nr,
				   unsigned long attrs),
		       unsigned long nr, unsigned int runs)
{
	double start = now();
	unsigned int i;

	for (i = 0; i < runs; i++) {
		set(BASE, nr, PRIVATE);
		set(BASE, nr, 0);
	}
	start = (now() - start) / runs;
	rcu_barrier();
	return start;
}

static void compare_set(const char *name, unsigned long nr, unsigned int runs)
{
	double ours = time_set(store_set, nr, 1000);
	double theirs = time_set(pages_set, nr, runs);

	printf("set and clear %-8s %12.0f ns %14.0f ns %10.1f\n", name, ours,
	       theirs, theirs / ours);
}

static double time_get(struct xarray *xa, unsigned long nr)
{
	double start = now();
	unsigned long i, index = 0, sum = 0;

	for (i = 0; i < 4000000; i++) {
		index = index * 6364136223846793005UL + 1442695040888963407UL;
		sum += xa_to_value(xa_load(xa, BASE + (index >> 32) % nr));
	}
	shim_assert(sum == 4000000 * PRIVATE);
	return (now() - start) / 4000000;
}

static void compare_get(const char *name, unsigned long nr)
{
	unsigned long nodes;
	double ours, theirs;

	store_set(BASE, nr, PRIVATE);
	nodes = shim_nodes;
	pages_set(BASE, nr, PRIVATE);
	ours = time_get(&store.xa, nr);
	theirs = time_get(&pages, nr);
	printf("look up in %-11s %12.1f ns %14.1f ns %10.1f\n", name, ours,
	       theirs, theirs / ours);
	printf("nodes for %-12s %12lu    %14lu    %10.1f\n", name, nodes,
	       shim_nodes - nodes, (double)(shim_nodes - nodes) / nodes);
	store_set(BASE, nr, 0);
	pages_set(BASE, nr, 0);
	rcu_barrier();
}

int main(void)
{
	kvm_attr_store_init(&store);
	xa_init_flags(&pages, XA_FLAGS_ACCOUNT);

	printf("%-22s %15s %17s %10s\n", "", "range store", "per page",
	       "ratio");
	compare_set("4 KiB", 1, 100000);
	compare_set("2 MiB", 512, 1000);
	compare_set("1 GiB", GIB_PAGES, 4);
	compare_set("16 GiB", 16 * GIB_PAGES, 1);
	compare_get("1 GiB", GIB_PAGES);
	compare_get("16 GiB", 16 * GIB_PAGES);
	return 0;
}
