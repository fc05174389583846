/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rogue - what an attacker in the guest's kernel can do to a page, for a program
 *
 * mmap() of /dev/rogue at the offset GPA maps guest physical memory as the program
 * likes: readable, writable, executable.
 */
#ifndef ROGUE_H
#define ROGUE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define ROGUE_BYTES	64	/* that each route but one writes or reads, at most */
#define ROGUE_SECTOR	512	/* that ROGUE_DISK writes, at a multiple of it */

enum rogue_route {
	ROGUE_NONE,		/* not a route of the module's */

	/* Write. */
	ROGUE_STORE,		/* through a mapping of its own */
	ROGUE_STORE_FORGED,	/* the same, with a forged return address on the stack */
	ROGUE_STORE_NOWP,	/* where the kernel is mapped, with CR0.WP clear */
	ROGUE_INS,		/* REP INSB from a port: KVM writes */
	ROGUE_WALL_CLOCK,	/* KVM is told to keep a structure there, and writes */
	ROGUE_KVMCLOCK,
	ROGUE_PV_EOI,
	ROGUE_DISK,		/* /dev/vda is read to there: a device writes */

	/* Execute. */
	ROGUE_CALL,		/* through an executable mapping of its own */

	/* Read. */
	ROGUE_LOAD,		/* where all memory is mapped */
	ROGUE_MOVS,		/* REP MOVSB */
	ROGUE_OUTS,		/* REP OUTSB to a port: KVM reads */
};

struct rogue_attack {
	__u32 route;
	__u32 caught;		/* out: it ended with an exception */
	__u64 caller;		/* the return address that ROGUE_STORE_FORGED pushes */
	__u64 gpa;		/* ROGUE_BYTES from here, in one page */
	__u8 loot[ROGUE_BYTES];	/* out: what was read */
};

struct rogue_locate {
	__u64 address;		/* of the kernel's */
	__u64 size;		/* not 0: find the first RET from there on */
	__u64 gpa;		/* out */
};

#define ROGUE_ATTACK	_IOWR('R', 0xe0, struct rogue_attack)
#define ROGUE_LOCATE	_IOWR('R', 0xe1, struct rogue_locate)

#endif /* ROGUE_H */
