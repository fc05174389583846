// SPDX-License-Identifier: GPL-2.0
/*
 * In a stock Debian guest of QEMU: attacks on its own kernel, by root
 *
 * Each attack is made by the module rogue, or by a child that has mapped the page, and
 * says whether it succeeded.  What a write has changed is put back.  Pages that are not
 * writable can still be read, so what a write did is seen by looking.
 *
 * usage: attack    prints "attack TARGET ROUTE succeeded|refused" for each
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "locate.h"
#include "rogue.h"

#define PAGE_SIZE	4096ULL
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
enum target_id { TEXT, RODATA, DATA, NR_TARGETS };

static struct {
	const char *name;
	__u64 gpa;
} targets[NR_TARGETS] = {
	[TEXT]		= { "text" },
	[RODATA]	= { "rodata" },
	[DATA]		= { "data" },
};

/* FORGES: writes, with an address in __text_poke() on top of the stack. */
enum attack_kind { EXECUTES, WRITES, FORGES };

static const struct attack {
	enum target_id target;
	const char *route;
	enum rogue_route module;	/* or a child does it */
	enum attack_kind does;
} attacks[] = {
	{ TEXT,	  "program_store", ROGUE_NONE,		WRITES },
	{ TEXT,	  "program_forged", ROGUE_NONE,		FORGES },
	{ TEXT,	  "store",	   ROGUE_STORE,		WRITES },
	{ TEXT,	  "store_forged",  ROGUE_STORE_FORGED,	FORGES },
	{ TEXT,	  "store_nowp",	   ROGUE_STORE_NOWP,	WRITES },
	{ TEXT,	  "rep_insb",	   ROGUE_INS,		WRITES },
	{ TEXT,	  "wall_clock",	   ROGUE_WALL_CLOCK,	WRITES },
	{ TEXT,	  "kvmclock",	   ROGUE_KVMCLOCK,	WRITES },
	{ TEXT,	  "disk",	   ROGUE_DISK,		WRITES },
	{ RODATA, "store_nowp",	   ROGUE_STORE_NOWP,	WRITES },
	{ RODATA, "rep_insb",	   ROGUE_INS,		WRITES },
	{ RODATA, "disk",	   ROGUE_DISK,		WRITES },
	{ DATA,	  "call",	   ROGUE_CALL,		EXECUTES },
	{ DATA,	  "program_jump",  ROGUE_NONE,		EXECUTES },
};

static int rogue;
static __u64 text_poke;

void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(2);
	}
}

/* The page that gpa lies in. */
static __u8 *map_page(__u64 gpa, int prot)
{
	__u8 *map = mmap(NULL, PAGE_SIZE, prot, MAP_SHARED, rogue, gpa & ~(PAGE_SIZE - 1));

	must(map != MAP_FAILED, "mmap /dev/rogue");
	return map;
}

/* Write with @caller on top of the stack, where a return address would be. */
static void store_forged(volatile __u8 *at, __u64 caller)
{
	asm volatile("leaq -128(%%rsp), %%rsp\n\t"
		     "pushq %[caller]\n\t"
		     "notb (%[at])\n\t"
		     "leaq 136(%%rsp), %%rsp"
		     : : [caller] "r" (caller), [at] "r" (at) : "memory", "cc");
}

/* In a child: it may end by a signal. */
static void program(const struct attack *attack, __u64 gpa)
{
	__u8 *at = map_page(gpa, PROT_READ | (attack->does == EXECUTES ? PROT_EXEC : PROT_WRITE)) +
		   gpa % PAGE_SIZE;

	if (attack->does == FORGES)
		store_forged(at, text_poke);
	else if (attack->does == WRITES)
		*(volatile __u8 *)at = ~*at;
	else
		((void (*)(void))at)();
	_exit(0);
}

static bool by_program(const struct attack *attack, __u64 gpa)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0, "fork");
	if (!pid)
		program(attack, gpa);
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	return WIFEXITED(status);
}

static bool by_module(const struct attack *attack, __u64 gpa)
{
	struct rogue_attack arg = {
		.route = attack->module, .gpa = gpa, .caller = text_poke,
	};

	must(!ioctl(rogue, ROGUE_ATTACK, &arg), attack->route);
	return !arg.caught;
}

static void make_attack(const struct attack *attack)
{
	__u64 gpa = targets[attack->target].gpa;
	__u8 before[PAGE_SIZE], *page = map_page(gpa, PROT_READ | PROT_WRITE);
	bool succeeded;

	memcpy(before, page, PAGE_SIZE);
	succeeded = attack->module ? by_module(attack, gpa) : by_program(attack, gpa);
	if (attack->does != EXECUTES)
		succeeded = memcmp(before, page, PAGE_SIZE);
	if (attack->does != EXECUTES && succeeded)
		memcpy(page, before, PAGE_SIZE);
	munmap(page, PAGE_SIZE);
	printf("attack %s %s %s\n", targets[attack->target].name, attack->route,
	       succeeded ? "succeeded" : "refused");
}

int main(void)
{
	__u64 bugs = symbol("__start___bug_table");
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rogue = open("/dev/rogue", O_RDWR | O_CLOEXEC);
	must(rogue >= 0, "open /dev/rogue");
	text_poke = symbol("__text_poke") + 1;
	/* Never called, and aligned to a line. */
	targets[TEXT].gpa = locate(rogue, (symbol("machine_kexec") + ROGUE_BYTES - 1) &
				   ~(ROGUE_BYTES - 1ULL), 0);
	/* A font that this guest has no screen for; a whole sector of it. */
	targets[RODATA].gpa = locate(rogue, symbol("fontdata_8x16") + 2 * ROGUE_SECTOR, 0);
	targets[DATA].gpa = locate(rogue, bugs, symbol("__stop___bug_table") - bugs);

	for (i = 0; i < ARRAY_SIZE(attacks); i++)
		make_attack(&attacks[i]);
	printf("attacks done\n");
	return 0;
}
