// SPDX-License-Identifier: GPL-2.0
/*
 * Demo - the first program of the guest that attrvmm boots
 *
 * It shows, in a stock Debian kernel whose RAM is private:
 *
 *   memory     several times the shared RAM is allocated, written and checked, on
 *              every CPU; most of it must lie in private RAM
 *   exchange   pages become shared, in patterns; data goes to the VMM and an
 *              answer comes back; the pages become private again and work
 *   secret     random bytes in a private page: the VMM must not find them; in a
 *              shared page: it must (or its search would prove nothing); back in
 *              private memory: it must not again
 *
 * On an ordinary machine (attrvmm --vm-type default) nothing is private: then the
 * conversions are left out and the secret must be found each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define SHARE_SIZE	(2 * MIB)
#define SECRET_SIZE	(DOORBELL_NEEDLE * sizeof(__u64))

/* How much memory is used: this many times the shared RAM. */
#define MEMORY_FACTOR	6

#define PAGEMAP_PRESENT	_BITULL(63)
#define PAGEMAP_PFN	(_BITULL(55) - 1)

static __u64 checked_bytes, private_pages, shared_pages;

static void write_stream(__u64 *data, __u64 bytes, __u64 seed)
{
	__u64 i;

	for (i = 0; i < bytes / sizeof(*data); i++)
		data[i] = doorbell_stream(&seed);
}

static __u64 count_wrong(const __u64 *data, __u64 bytes, __u64 seed)
{
	__u64 i, wrong = 0;

	for (i = 0; i < bytes / sizeof(*data); i++)
		wrong += data[i] != doorbell_stream(&seed);
	return wrong;
}

static bool is_zero(const __u64 *data, __u64 bytes)
{
	return !data[0] && !memcmp(data, data + 1, bytes - sizeof(*data));
}

static void convert(const struct share *share, __u64 offset, __u64 size,
		    bool to_private)
{
	if (machine.is_private)
		must(!share_convert(share, offset, size, to_private),
		     "GPASHARE_CONVERT");
}

static void show_map(const char *title)
{
	struct doorbell_msg msg = { .op = DOORBELL_MAP };

	strncpy(msg.map_title, title, sizeof(msg.map_title) - 1);
	must_ring(&msg);
}

/* Memory */

/* How many of the pages at data lie in private RAM. */
static __u64 count_private(const void *data, __u64 size)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry, i, count = 0;
	off_t at;

	must(fd >= 0, "open /proc/self/pagemap");
	for (i = 0; i < size / PAGE_SIZE; i++) {
		at = ((unsigned long)data / PAGE_SIZE + i) * sizeof(entry);
		must(pread(fd, &entry, sizeof(entry), at) == sizeof(entry) &&
		     entry & PAGEMAP_PRESENT, "read /proc/self/pagemap");
		count += machine.is_private &&
			 (entry & PAGEMAP_PFN) * PAGE_SIZE >= machine.private_above;
	}
	close(fd);
	return count;
}

static void run_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

/* A child for each CPU: written by all, then checked by all, on the next CPU. */
static __u64 on_every_cpu(__u64 *data, __u64 size, __u64 seed, bool writing)
{
	__u64 slice = size / machine.cpus, wrong = 0;
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; i < machine.cpus; i++) {
		pid = fork();
		must(pid >= 0, "fork");
		if (pid)
			continue;
		run_on((i + !writing) % machine.cpus);
		data += i * slice / sizeof(*data);
		if (writing)
			write_stream(data, slice, seed + i);
		else
			wrong = count_wrong(data, slice, seed + i);
		_exit(wrong ? 1 : 0);
	}
	while (wait(&status) > 0)
		wrong += status != 0;
	return wrong;
}

static void use_memory(const char *when)
{
	__u64 unit = PAGE_SIZE * machine.cpus, seed = random_word(), here;
	__u64 size = MEMORY_FACTOR * machine.private_above / unit * unit;
	__u64 *data;

	data = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	must(data != MAP_FAILED, "mmap (is the machine's --mem too small?)");
	check(!on_every_cpu(data, size, seed, true), "memory: writing");
	check(!on_every_cpu(data, size, seed, false), "memory: contents are wrong");

	here = count_private(data, size);
	check(here * PAGE_SIZE > size / 2 || !machine.is_private,
	      "memory: only %llu of %llu pages are private", here,
	      size / PAGE_SIZE);
	checked_bytes += size;
	private_pages += here;
	shared_pages += size / PAGE_SIZE - here;
	munmap(data, size);
	say("memory %s: %llu MiB written and checked on %u CPUs, %llu of %llu pages in private RAM",
	    when, size / MIB, machine.cpus, here, size / PAGE_SIZE);
}

/* Exchange */

/* Pages of a 2 MiB buffer that become shared: every step-th run of length. */
static const struct pattern {
	const char *name;
	__u64 first, length, step, count;	/* pages */
} patterns[] = {
	{ "all of 2 MiB",		0,   512, 512, 1 },
	{ "one page in the middle",	257, 1,   512, 1 },
	{ "every other page",		0,   1,   2,   256 },
	{ "all but the ends",		1,   510, 512, 1 },
};

static bool in_pattern(const struct pattern *pattern, __u64 page)
{
	__u64 at = page - pattern->first;

	return page >= pattern->first && at / pattern->step < pattern->count &&
	       at % pattern->step < pattern->length;
}

static void convert_pattern(const struct share *share,
			    const struct pattern *pattern, bool to_private)
{
	__u64 i;

	for (i = 0; i < pattern->count; i++)
		convert(share, (pattern->first + i * pattern->step) * PAGE_SIZE,
			pattern->length * PAGE_SIZE, to_private);
}

static void exchange_run(const struct share *share, __u64 page, __u64 pages)
{
	__u64 *data = share->data + page * PAGE_SIZE / sizeof(__u64);
	struct doorbell_msg msg = {
		.op = DOORBELL_EXCHANGE,
		.exchange = {
			.gpa = share->gpa + page * PAGE_SIZE,
			.size = pages * PAGE_SIZE,
			.seed = random_word(),
		},
	};

	write_stream(data, msg.exchange.size, msg.exchange.seed);
	must_ring(&msg);
	check(!msg.exchange.wrong_words, "exchange: the VMM saw %llu wrong words",
	      msg.exchange.wrong_words);
	check(!count_wrong(data, msg.exchange.size, msg.exchange.answer_seed),
	      "exchange: the VMM's answer did not arrive");
}

/* Pages that stayed private kept their contents; the others start from zero. */
static void check_after(const struct share *share, const struct pattern *pattern,
			__u64 seed)
{
	__u64 page, *data = share->data;
	bool kept = true, zero = true;

	for (page = 0; page < share->size / PAGE_SIZE; page++) {
		if (!in_pattern(pattern, page))
			kept &= !count_wrong(data, PAGE_SIZE, seed + page);
		else if (machine.is_private)
			zero &= is_zero(data, PAGE_SIZE);
		data += PAGE_SIZE / sizeof(*data);
	}
	check(kept, "exchange: private neighbours of converted pages have changed");
	check(zero, "exchange: pages are not empty after their return");
}

static void exchange_pattern(const struct share *share,
			     const struct pattern *pattern)
{
	__u64 seed = random_word(), page, i;
	__u64 words = PAGE_SIZE / sizeof(__u64);

	for (page = 0; page < share->size / PAGE_SIZE; page++)
		write_stream(share->data + page * words, PAGE_SIZE, seed + page);
	convert_pattern(share, pattern, false);
	for (i = 0; i < pattern->count; i++)
		exchange_run(share, pattern->first + i * pattern->step,
			     pattern->length);
	if (pattern == patterns)
		show_map("2 MiB are shared for an exchange");
	convert_pattern(share, pattern, true);

	check_after(share, pattern, seed);
	write_stream(share->data, share->size, ~seed);
	check(!count_wrong(share->data, share->size, ~seed),
	      "exchange: the pages do not work after their return");
	say("exchange: %s (%llu pages): shared, data there, answer back, private again",
	    pattern->name, pattern->count * pattern->length);
}

static void exchange_all(void)
{
	struct share share = share_alloc(SHARE_SIZE);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(patterns); i++)
		exchange_pattern(&share, &patterns[i]);
	share_free(&share);
}

/* Secret */

static struct doorbell_search search_for(const __u64 *secret, __u64 gpa,
					 bool is_shared)
{
	struct doorbell_msg msg = {
		.op = DOORBELL_SEARCH,
		.search = { .gpa = gpa, .is_shared = is_shared },
	};
	unsigned int i;

	for (i = 0; i < DOORBELL_NEEDLE; i++) {
		msg.search.half[0][i] = random_word();
		msg.search.half[1][i] = msg.search.half[0][i] ^ secret[i];
	}
	return must_ring(&msg)->search;
}

static void expect_hidden(const __u64 *secret, __u64 gpa, const char *when)
{
	struct doorbell_search found = search_for(secret, gpa, false);

	check(!found.hits_mapping && !found.hits_proc_mem && !found.hits_readv &&
	      !found.hits_at_gpa, "secret %s: the VMM found it", when);
	check(!found.memfd_open, "secret %s: the guest_memfd can be opened", when);
}

static void expect_found(const __u64 *secret, __u64 gpa, const char *when)
{
	struct doorbell_search found = search_for(secret, gpa, true);

	check(found.hits_mapping && found.hits_proc_mem && found.hits_readv &&
	      found.hits_at_gpa == 2, "secret %s: the VMM did not find it: its search is broken",
	      when);
}

static void keep_secret(void)
{
	struct share hidden = share_alloc(PAGE_SIZE);
	struct share open = share_alloc(PAGE_SIZE);
	__u64 *secret = hidden.data;
	unsigned int i;

	must(hidden.gpa >= machine.private_above, "a page in private RAM");
	for (i = 0; i < DOORBELL_NEEDLE; i++)
		secret[i] = random_word();
	say("secret: %zu random bytes in a page that is private", SECRET_SIZE);
	expect_hidden(secret, hidden.gpa, "in private memory");

	say("control: the same bytes in a page that is shared");
	convert(&open, 0, PAGE_SIZE, false);
	memcpy(open.data, secret, SECRET_SIZE);
	expect_found(secret, open.gpa, "in shared memory");
	/* The VMM need not free the page that it had shared. */
	memset(open.data, 0, PAGE_SIZE);
	convert(&open, 0, PAGE_SIZE, true);
	check(is_zero(open.data, PAGE_SIZE), "control: its page came back with contents");

	say("secret: once more, after the control's page was given back");
	expect_hidden(secret, hidden.gpa, "after the control");
	share_free(&open);
	share_free(&hidden);
}

/* The same attack where nothing is private. */
static void lose_secret(void)
{
	struct share open = share_alloc(PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < DOORBELL_NEEDLE; i++)
		open.data[i] = random_word();
	say("secret: this machine has no private memory to keep it in");
	expect_found(open.data, open.gpa, "without private memory");
	share_free(&open);
}

int main(void)
{
	char facts[256];

	say("init runs");
	set_up();
	meet_vmm();
	use_memory("before");
	exchange_all();
	if (machine.is_private)
		keep_secret();
	else
		lose_secret();
	use_memory("after");
	snprintf(facts, sizeof(facts),
		 " memory_checked_mib=%llu memory_private_pages=%llu memory_shared_pages=%llu",
		 checked_bytes / MIB, private_pages, shared_pages);
	give_verdict(facts);
}
