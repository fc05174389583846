/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What lib/xarray.c and mem_attrs_store.c need from the kernel, for userspace
 *
 * Every <linux/...> header that the two include resolves to this file, except
 * for xarray.h, which is the kernel's own.
 *
 * It checks more than it emulates: each rcu_dereference and each access under
 * the xa_lock asserts its condition, as lockdep would; an allocation that may
 * sleep asserts that no lock is held; allocations can be made to fail or be
 * forbidden, and all nodes are counted.
 */
#ifndef SHIM_H
#define SHIM_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* kconfig.h */
#define IS_ENABLED(option)	(option)
#define CONFIG_XARRAY_MULTI	1
#define CONFIG_BASE_SMALL	0
#ifdef SHIM_XA_CHUNK_SHIFT
#define XA_CHUNK_SHIFT		SHIM_XA_CHUNK_SHIFT
#endif
#ifdef SHIM_CHECKS
#define XA_DEBUG
#endif

/* types.h, compiler.h, export.h, errno */
typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;

struct list_head {
	struct list_head *next, *prev;
};

struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};

struct list_lru;

#define __bitwise
#define __rcu
#define __force
#define __must_check
#define __must_hold(x)
#define __noreturn		__attribute__((noreturn))
#define __printf(a, b)		__attribute__((format(printf, a, b)))
#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)
#define EXPORT_SYMBOL(x)	extern int shim_export_##x
#define EXPORT_SYMBOL_GPL(x)	extern int shim_export_##x
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#define MAX_ERRNO		4095

/* kernel.h, minmax.h, log2.h, bitops.h, bitmap.h: for 64 bits */
#define BITS_PER_LONG		64
#define BITS_TO_LONGS(nr)	(((nr) + BITS_PER_LONG - 1) / BITS_PER_LONG)
#define BIT(nr)			(1UL << (nr))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define min(a, b) ({							\
	typeof(a) min_a = (a);						\
	typeof(b) min_b = (b);						\
	min_a < min_b ? min_a : min_b;					\
})
#define max(a, b) ({							\
	typeof(a) max_a = (a);						\
	typeof(b) max_b = (b);						\
	max_a > max_b ? max_a : max_b;					\
})
#define min_t(type, a, b)	min((type)(a), (type)(b))
#define __ffs(x)		((unsigned long)__builtin_ctzl(x))
#define __fls(x)		((unsigned long)(63 - __builtin_clzl(x)))
#define ilog2(x)		((int)__fls(x))

static inline bool test_bit(unsigned int nr, const unsigned long *map)
{
	return *map >> nr & 1;
}

static inline void __set_bit(unsigned int nr, unsigned long *map)
{
	*map |= 1UL << nr;
}

static inline bool __test_and_set_bit(unsigned int nr, unsigned long *map)
{
	bool old = test_bit(nr, map);

	*map |= 1UL << nr;
	return old;
}

static inline bool __test_and_clear_bit(unsigned int nr, unsigned long *map)
{
	bool old = test_bit(nr, map);

	/* Nothing here uses marks: do not write what readers might see. */
	if (old)
		*map &= ~(1UL << nr);
	return old;
}

static inline bool bitmap_empty(const unsigned long *map, unsigned int bits)
{
	return !*map;
}

static inline void bitmap_fill(unsigned long *map, unsigned int bits)
{
	*map = bits < 64 ? (1UL << bits) - 1 : ~0UL;
}

static inline void bitmap_clear(unsigned long *map, unsigned int start,
				int len)
{
	while (len--)
		*map &= ~(1UL << (start + len));
}

static inline unsigned long find_next_bit(const unsigned long *map,
					  unsigned long size,
					  unsigned long start)
{
	unsigned long bits = start < size ? *map >> start << start : 0;

	return bits ? min(size, __ffs(bits)) : size;
}

/* bug.h, printk.h */
void __noreturn shim_bug(const char *file, int line, const char *what);
void shim_warn(const char *file, int line, const char *what);

#define BUG()			shim_bug(__FILE__, __LINE__, "BUG")
#define WARN_ON(x) ({							\
	bool shim_cond = (x);						\
	if (unlikely(shim_cond))					\
		shim_warn(__FILE__, __LINE__, #x);			\
	shim_cond;							\
})
#define WARN_ON_ONCE(x)		WARN_ON(x)
#define shim_assert(x) do {						\
	if (unlikely(!(x)))						\
		shim_bug(__FILE__, __LINE__, #x);			\
} while (0)
#ifdef SHIM_CHECKS
#define shim_check(x)		shim_assert(x)
#else
#define shim_check(x)		do { } while (0)
#endif
#define pr_info(...)		do { } while (0)
#define pr_cont(...)		do { } while (0)

/* err.h */
#define IS_ERR_VALUE(x)	((unsigned long)(x) >= (unsigned long)-MAX_ERRNO)

static inline bool IS_ERR(const void *ptr)
{
	return IS_ERR_VALUE(ptr);
}

static inline long PTR_ERR(const void *ptr)
{
	return (long)ptr;
}

/* list.h: only what checks that a list is unused */
static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool list_empty(const struct list_head *list)
{
	return list->next == list;
}

/* spinlock.h: writers are serialised by the tests; what counts is the holder */
typedef struct {
	int held;
} spinlock_t;

extern __thread int shim_locks_held;

static inline void spin_lock_init(spinlock_t *lock)
{
	lock->held = 0;
}

static inline void spin_lock(spinlock_t *lock)
{
	shim_assert(!__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE));
	shim_locks_held++;
}

static inline void spin_unlock(spinlock_t *lock)
{
	shim_locks_held--;
	shim_assert(__atomic_exchange_n(&lock->held, 0, __ATOMIC_RELEASE));
}

#define spin_trylock(l)			(spin_lock(l), true)
#define spin_lock_irq(l)		spin_lock(l)
#define spin_unlock_irq(l)		spin_unlock(l)
#define spin_lock_bh(l)			spin_lock(l)
#define spin_unlock_bh(l)		spin_unlock(l)
#define spin_lock_irqsave(l, f)		((void)((f) = 0), spin_lock(l))
#define spin_unlock_irqrestore(l, f)	((void)(f), spin_unlock(l))

/* By the calling thread: only writers take locks, and there is one. */
#define lockdep_is_held(l)		((void)(l), shim_locks_held > 0)

/* rcupdate.h */
extern __thread int shim_rcu_depth;
/* Now and then a reader lets others run between two loads. */
void shim_yield(void);
#ifdef SHIM_DAWDLE
#define shim_dawdle()			shim_yield()
#else
#define shim_dawdle()			do { } while (0)
#endif

void rcu_read_lock(void);
void rcu_read_unlock(void);
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void rcu_barrier(void);

#define rcu_dereference_raw(p)		__atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define rcu_access_pointer(p)		__atomic_load_n(&(p), __ATOMIC_RELAXED)
#define rcu_dereference_check(p, c) ({					\
	shim_check((c) || shim_rcu_depth);				\
	shim_dawdle();							\
	rcu_dereference_raw(p);						\
})
#define rcu_dereference_protected(p, c) ({				\
	shim_check(c);							\
	__atomic_load_n(&(p), __ATOMIC_RELAXED);			\
})
#define rcu_assign_pointer(p, v)	__atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define RCU_INIT_POINTER(p, v)		__atomic_store_n(&(p), (v), __ATOMIC_RELAXED)

/* asm/barrier.h */
#define READ_ONCE(x)			__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define smp_load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define smp_store_release(p, v)		__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define smp_rmb()			shim_rmb()

/* ThreadSanitizer knows no fences; its loads here are acquiring ones anyway. */
static inline void shim_rmb(void)
{
#ifndef __SANITIZE_THREAD__
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* gfp.h, slab.h, sched/mm.h */
#define __GFP_NOWARN		0x1u
#define __GFP_ACCOUNT		0x2u
#define __GFP_DIRECT_RECLAIM	0x4u
#define __GFP_BITS_SHIFT	8	/* below the marks in xa_flags */
#define GFP_NOWAIT		0u
#define GFP_KERNEL		__GFP_DIRECT_RECLAIM
#define GFP_KERNEL_ACCOUNT	(GFP_KERNEL | __GFP_ACCOUNT)

static inline bool gfpflags_allow_blocking(gfp_t gfp)
{
	return gfp & __GFP_DIRECT_RECLAIM;
}

static inline void might_sleep(void)
{
	shim_assert(!shim_locks_held && !shim_rcu_depth);
}

static inline void cond_resched(void)
{
	might_sleep();
}

static inline void might_alloc(gfp_t gfp)
{
	if (gfpflags_allow_blocking(gfp))
		might_sleep();
}

struct kmem_cache;
void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			   gfp_t gfp);

/*
 * Nodes in use, freed ones included until their grace period is over: after
 * rcu_barrier() it is what the trees hold.  And all that were ever asked for.
 */
extern unsigned long shim_nodes;
extern unsigned long shim_allocs;
/* Allocations from this one on fail: 0 the next one, -1 none. */
extern long shim_fail_from;
/* How many fail, then they succeed again. */
extern long shim_fail_count;
/* Allocations that must not sleep fail, which sends callers the long way. */
extern bool shim_fail_nowait;
/* An allocation is a bug: commit() and abort() run like that. */
extern bool shim_forbid_allocs;
/* WARN_ON()s that have fired. */
extern unsigned long shim_warnings;

#endif /* SHIM_H */
