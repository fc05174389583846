/* SPDX-License-Identifier: GPL-2.0 */
/*
 * attrvmm - how a guest program talks to the VMM
 *
 * The guest writes a struct doorbell_msg into a page that is shared, then
 * writes the page's frame number to DOORBELL_PORT (32 bits).  That exits to
 * the VMM, which serves the request and leaves its answer in the same page
 * before the guest's instruction completes.  Reading the port (32 bits) gives
 * DOORBELL_MAGIC where there is a doorbell.
 *
 * The VMM trusts nothing in the page: it copies the message first, and every
 * address in it must lie in shared RAM.
 */
#ifndef ATTRVMM_DOORBELL_H
#define ATTRVMM_DOORBELL_H

#include <linux/types.h>

#define DOORBELL_PORT		0x5a0
#define DOORBELL_MAGIC		0x52545441	/* "ATTR" */
#define DOORBELL_NEEDLE		4		/* 64-bit words of a pattern */
#define DOORBELL_TEXT		1024

enum doorbell_op {
	DOORBELL_INFO = 1,	/* what machine is this? */
	DOORBELL_EXCHANGE,	/* check my data, answer with yours */
	DOORBELL_SEARCH,	/* try to find my secret */
	DOORBELL_MAP,		/* show people the state of the RAM */
	DOORBELL_VERDICT,	/* the guest's own result */
	DOORBELL_HARDEN,	/* I am up: protect me (--harden) */
	DOORBELL_ATTACK,	/* an attack begins */
	DOORBELL_ATTACKED,	/* it is over: was it noticed? */
	DOORBELL_RELEASE,	/* no more attacks: let me see my secret */
};

struct doorbell_info {
	__u64 ram_size;
	__u64 private_above;	/* GPA from which RAM starts out private */
	__u32 is_private;	/* this machine has private memory */
	__u32 cpus;
};

/*
 * The buffer holds the words of doorbell_stream() from @seed on.  The VMM
 * checks them, then overwrites them with the words from @answer_seed on.
 */
struct doorbell_exchange {
	__u64 gpa;
	__u64 size;		/* bytes, a multiple of 8 */
	__u64 seed;
	__u64 answer_seed;	/* from the VMM */
	__u64 wrong_words;	/* from the VMM: how many were not as told */
};

/*
 * The pattern is handed over in two halves whose exclusive or it is, so that
 * neither this message nor the VMM's own variables ever contain it: whatever
 * the VMM finds is a copy of the guest's page.
 */
struct doorbell_search {
	__u64 half[2][DOORBELL_NEEDLE];
	__u64 gpa;		/* where it is, to make the search easier still */
	__u32 is_shared;	/* the guest put it into a shared page */
	__u32 memfd_open;	/* from the VMM: ways in which the memfd opened */
	__u64 hits_mapping;	/* from the VMM: in its mapping of guest RAM */
	__u64 hits_proc_mem;	/* in /proc/PID/mem, all of the VMM's memory */
	__u64 hits_readv;	/* by process_vm_readv, likewise */
	__u64 hits_at_gpa;	/* at the very address, through all three */
};

struct doorbell_verdict {
	__u32 pass;
	__u32 pad;
	char text[DOORBELL_TEXT];	/* key=value words, one line */
};

/* What the VMM cannot find out by itself.  All of it whole pages. */
struct doorbell_harden {
	__u64 user_gpa;		/* data of programs: never to be executed */
	__u64 user_size;
	__u64 secret_gpa;	/* one page, never to be touched again */
};

struct doorbell_attack {
	__u64 gpa;		/* the attack is on the page that this lies in */
	char target[16];	/* what is there; one word */
	char route[24];		/* how it is attacked; one word */
	__u32 succeeded;	/* in DOORBELL_ATTACKED: as the guest sees it */
	__u32 refusals;		/* from the VMM: accesses that were refused */
	__u32 changed;		/* from the VMM: the page is not as it was */
	__u32 pad;
};

struct doorbell_msg {
	__u32 op;
	__s32 result;		/* 0, or a negative errno */
	union {
		struct doorbell_info info;
		struct doorbell_exchange exchange;
		struct doorbell_search search;
		struct doorbell_verdict verdict;
		struct doorbell_harden harden;
		struct doorbell_attack attack;
		char map_title[64];
	};
};

/* The next word of the stream that checks and answers are made of. */
static inline __u64 doorbell_stream(__u64 *state)
{
	__u64 z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

#endif /* ATTRVMM_DOORBELL_H */
