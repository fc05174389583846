// SPDX-License-Identifier: GPL-2.0
/*
 * Demo - an attacker that is root in the guest, as its first program
 *
 * Targets, in a stock Debian kernel:
 *
 *   text     a function of the kernel's (that is never called)
 *   rodata   the table of system calls (entries that no system call has)
 *   data     a byte of the kernel's data that happens to be a RET: to be executed
 *   user     data of this program: to be executed
 *   secret   random bytes in a page of this program
 *
 * Each is attacked by several routes, each twice: before the VMM protects the guest
 * every attack has to succeed, as otherwise it would prove nothing; after that every
 * one has to be refused.  What the VMM saw of it, it says itself.
 *
 * A program that is caught gets a signal, so what a program does here is done by a
 * child.  In the end the VMM gives the secret back, and it must be what it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "locate.h"
#include "rogue.h"

#define RET		0xc3
#define MOV_EAX		0xb8	/* and four bytes of an immediate */
/* Entries 335 to 423 belong to no system call; this one is aligned to a line. */
#define UNUSED_SYSCALL	384

enum target_id { TEXT, RODATA, DATA, USER, SECRET, NR_TARGETS };

struct target {
	const char *name;
	__u64 gpa;
};

/* What a program can do without help, once it has mapped the page. */
typedef bool (*program_fn)(const struct target *target);

struct attack {
	enum target_id target;
	const char *route;
	enum rogue_route module;
	program_fn program;
	bool is_write;
};

static struct target targets[NR_TARGETS] = {
	[TEXT]		= { "text" },
	[RODATA]	= { "rodata" },
	[DATA]		= { "data" },
	[USER]		= { "user" },
	[SECRET]	= { "secret" },
};

static struct share user, secret;
static __u8 known_secret[PAGE_SIZE];
static bool hardened;
static int rogue;

/* Pages as the attacker wants them mapped, from the one that gpa lies in. */
static __u8 *map_gpa(__u64 gpa, __u64 pages, int prot)
{
	__u64 page = gpa & ~(PAGE_SIZE - 1);
	__u8 *map = mmap(NULL, pages * PAGE_SIZE, prot, MAP_SHARED, rogue, page);

	must(map != MAP_FAILED, "mmap /dev/rogue");
	return map + (gpa - page);
}

/* Programs' routes; they run in a child. */

static bool program_store(const struct target *target)
{
	volatile __u8 *at = map_gpa(target->gpa, 1, PROT_READ | PROT_WRITE);

	*at = ~*at;
	return true;
}

static bool program_blind_store(const struct target *target)
{
	volatile __u8 *at = map_gpa(target->gpa, 1, PROT_READ | PROT_WRITE);

	*at = 0x5a;
	return true;
}

static bool program_load(const struct target *target)
{
	volatile __u8 *at = map_gpa(target->gpa, 1, PROT_READ);

	return *at == known_secret[0];
}

static bool program_jump(const struct target *target)
{
	void (*code)(void) = (void *)map_gpa(target->gpa, 1,
					     PROT_READ | PROT_EXEC);

	code();
	return true;
}

/* From the last byte of the page before, which may be executed. */
static bool program_run_into(const struct target *target)
{
	__u64 page = target->gpa & ~(PAGE_SIZE - 1);
	__u8 *map = map_gpa(page - PAGE_SIZE, 2, PROT_READ | PROT_EXEC);
	void (*code)(void) = (void *)(map + PAGE_SIZE - 1);

	code();
	return true;
}

/* The VMM is not bound by what it has KVM enforce: ask it to write. */
static bool program_doorbell(const struct target *target)
{
	struct doorbell_msg msg = {
		.op = DOORBELL_EXCHANGE,
		.exchange = { .gpa = target->gpa, .size = ROGUE_BYTES },
	};

	return !ring(&msg);
}

static const struct attack attacks[] = {
	{ TEXT,	  "program_store", .program = program_store,	.is_write = true },
	{ TEXT,	  "store",	.module = ROGUE_STORE,		.is_write = true },
	{ TEXT,	  "store_nowp",	.module = ROGUE_STORE_NOWP,	.is_write = true },
	{ TEXT,	  "rep_insb",	.module = ROGUE_INS,		.is_write = true },
	{ TEXT,	  "wall_clock",	.module = ROGUE_WALL_CLOCK,	.is_write = true },
	{ TEXT,	  "kvmclock",	.module = ROGUE_KVMCLOCK,	.is_write = true },
	{ TEXT,	  "doorbell",	.program = program_doorbell,	.is_write = true },
	{ RODATA, "store_nowp",	.module = ROGUE_STORE_NOWP,	.is_write = true },
	{ RODATA, "rep_insb",	.module = ROGUE_INS,		.is_write = true },
	{ RODATA, "pv_eoi",	.module = ROGUE_PV_EOI,		.is_write = true },
	{ DATA,	  "call",	.module = ROGUE_CALL },
	{ DATA,	  "program_jump", .program = program_jump },
	{ USER,	  "program_jump", .program = program_jump },
	{ USER,	  "run_into",	.program = program_run_into },
	{ SECRET, "program_load", .program = program_load },
	{ SECRET, "load",	.module = ROGUE_LOAD },
	{ SECRET, "rep_movsb",	.module = ROGUE_MOVS },
	{ SECRET, "rep_outsb",	.module = ROGUE_OUTS },
	{ SECRET, "program_store", .program = program_blind_store, .is_write = true },
	{ SECRET, "kvmclock",	.module = ROGUE_KVMCLOCK,	.is_write = true },
	{ SECRET, "pv_eoi",	.module = ROGUE_PV_EOI,		.is_write = true },
};

static bool by_program(const struct attack *attack, const struct target *target)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0, "fork");
	if (!pid)
		_exit(attack->program(target) ? 0 : 1);
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	check(WIFEXITED(status) || WTERMSIG(status) == SIGSEGV,
	      "%s %s: the program ended with status %#x", target->name,
	      attack->route, status);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* A write succeeded if the page shows it; reading is no proof of having read. */
static bool by_module(const struct attack *attack, const struct target *target)
{
	struct rogue_attack arg = { .route = attack->module, .gpa = target->gpa };

	must(!ioctl(rogue, ROGUE_ATTACK, &arg), attack->route);
	if (attack->is_write)
		return false;
	if (attack->module == ROGUE_LOAD || attack->module == ROGUE_MOVS)
		return !memcmp(arg.loot, known_secret, sizeof(__u64));
	return !arg.caught;
}

static void announce(const struct attack *attack, const struct target *target,
		     enum doorbell_op op, struct doorbell_attack *result)
{
	struct doorbell_msg msg = { .op = op, .attack = *result };

	msg.attack.gpa = target->gpa;
	snprintf(msg.attack.target, sizeof(msg.attack.target), "%s", target->name);
	snprintf(msg.attack.route, sizeof(msg.attack.route), "%s", attack->route);
	*result = must_ring(&msg)->attack;
}

static void make_attack(const struct attack *attack)
{
	bool readable = !hardened || attack->target != SECRET;
	const struct target *target = &targets[attack->target];
	struct doorbell_attack result = { };
	__u8 before[ROGUE_BYTES], *page = NULL;
	bool succeeded;

	if (readable) {
		page = map_gpa(target->gpa, 1, PROT_READ | PROT_WRITE);
		memcpy(before, page, sizeof(before));
	}
	announce(attack, target, DOORBELL_ATTACK, &result);
	succeeded = attack->program ? by_program(attack, target) :
				      by_module(attack, target);
	if (attack->is_write)
		succeeded = readable && memcmp(before, page, sizeof(before));
	result.succeeded = succeeded;
	announce(attack, target, DOORBELL_ATTACKED, &result);

	if (hardened)
		check(!succeeded && !result.changed && result.refusals,
		      "%s %s: succeeded=%d, %u accesses refused", target->name,
		      attack->route, succeeded, result.refusals);
	else
		check(succeeded || result.changed, "%s %s: failed, and nothing was protected",
		      target->name, attack->route);
	if (succeeded && attack->is_write)
		memcpy(page, before, sizeof(before));
	if (page)
		munmap((void *)((__u64)page & ~(PAGE_SIZE - 1)), PAGE_SIZE);
}

static void make_attacks(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(attacks); i++) {
		/* To private memory the VMM cannot write anyway. */
		if (machine.is_private && attacks[i].program == program_doorbell)
			continue;
		make_attack(&attacks[i]);
	}
}

static __u64 align_to_line(__u64 address)
{
	return (address + ROGUE_BYTES - 1) & ~(ROGUE_BYTES - 1ULL);
}

static void choose_targets(void)
{
	__u64 bugs = symbol("__start___bug_table");
	__u64 i;

	targets[TEXT].gpa = locate(rogue, align_to_line(symbol("machine_kexec")), 0);
	targets[RODATA].gpa = locate(rogue, symbol("sys_call_table") +
				     UNUSED_SYSCALL * sizeof(__u64), 0);
	/* As good as any data: it is never written. */
	targets[DATA].gpa = locate(rogue, bugs, symbol("__stop___bug_table") - bugs);

	/* An instruction that lies in both pages, and a RET. */
	user = share_alloc(2 * PAGE_SIZE);
	((__u8 *)user.data)[PAGE_SIZE - 1] = MOV_EAX;
	memset((__u8 *)user.data + PAGE_SIZE, RET, PAGE_SIZE);
	targets[USER].gpa = user.gpa + PAGE_SIZE;

	secret = share_alloc(PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE / sizeof(__u64); i++)
		secret.data[i] = random_word();
	memcpy(known_secret, secret.data, PAGE_SIZE);
	targets[SECRET].gpa = secret.gpa;
}

static void harden(void)
{
	struct doorbell_msg msg = {
		.op = DOORBELL_HARDEN,
		.harden = {
			.user_gpa = targets[USER].gpa,
			.user_size = PAGE_SIZE,
			.secret_gpa = secret.gpa,
		},
	};
	struct doorbell_msg again = msg;

	say("up: the VMM may protect this machine now");
	must_ring(&msg);
	check(ring(&again) == -EALREADY, "a second DOORBELL_HARDEN: %d", again.result);
	hardened = true;
}

/* Contents of a page are lost when it is converted: another way to destroy them. */
static void convert_secret(void)
{
	if (machine.is_private)
		check(share_convert(&secret, 0, PAGE_SIZE, false) && errno == EPERM,
		      "the secret was converted");
}

static void take_back_secret(void)
{
	struct doorbell_msg msg = { .op = DOORBELL_RELEASE };

	must_ring(&msg);
	check(!memcmp(secret.data, known_secret, PAGE_SIZE),
	      "the secret is not what it was");
	say("the secret, given back, is what it was");
}

int main(void)
{
	say("an attacker runs, as root");
	set_up();
	load_module("/rogue.ko");
	rogue = open("/dev/rogue", O_RDWR | O_CLOEXEC);
	must(rogue >= 0, "open /dev/rogue");
	meet_vmm();
	choose_targets();
	say("%zu attacks, nothing is protected yet", ARRAY_SIZE(attacks));
	make_attacks();
	harden();
	say("the same attacks again");
	make_attacks();
	convert_secret();
	take_back_secret();
	give_verdict("");
}
