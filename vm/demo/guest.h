/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Demo - what the guest's programs share: checks, the doorbell, buffers that can be
 * made shared.  Each runs as process 1, so all of them end in leave().
 */
#ifndef GUEST_H
#define GUEST_H

#include <linux/const.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdnoreturn.h>

#include "doorbell.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define PAGE_SIZE	4096ULL
#define MIB		(1024 * 1024ULL)

/* A buffer of gpashare's, mapped. */
struct share {
	int fd;
	__u64 gpa;
	__u64 size;
	__u64 *data;
};

extern struct doorbell_info machine;
extern unsigned int checks, failures;

void say(const char *fmt, ...) __printf(1, 2);
bool check(bool ok, const char *fmt, ...) __printf(2, 3);
/* Without this the demo cannot go on. */
void must(bool ok, const char *what);
noreturn void leave(void);
__u64 random_word(void);

/* File systems, the module gpashare, the doorbell. */
void set_up(void);
void load_module(const char *name);
/* Asks the VMM what machine this is; from then on ring() works. */
void meet_vmm(void);
/* Returns 0 or a negative errno, from the VMM. */
int ring(struct doorbell_msg *msg);
struct doorbell_msg *must_ring(struct doorbell_msg *msg);
noreturn void give_verdict(const char *more);

struct share share_alloc(__u64 size);
void share_free(struct share *share);
int share_convert(const struct share *share, __u64 offset, __u64 size,
		  bool to_private);

#endif /* GUEST_H */
