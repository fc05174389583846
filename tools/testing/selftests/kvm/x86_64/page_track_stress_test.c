// SPDX-License-Identifier: GPL-2.0-only
/*
 * External write tracking while everything else moves: vCPUs count up in three
 * pages each as fast as they can,
 *
 *  - one that is tracked all the time: every single write must be reported,
 *  - one that another tracker tracks on and off, attached and detached each time:
 *    every write must be reported from when "track" returns,
 *  - pages of a memslot that is deleted and created again all the time, some of
 *    them tracked when it goes: what was tracked must be gone with it.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "exit_story.h"
#include "page_track.h"

#define PG		0x1000ull
#define MAX_VCPUS	4

#define STABLE_SLOT	10
#define STABLE_GPA	0x10000000ull
#define STABLE_PAGES	(2 * MAX_VCPUS)
#define CHURN_SLOT	11
#define CHURN_GPA	0x20000000ull
#define CHURN_PAGES	512ull
#define NR_TRACKED	8	/* in the memslot that comes and goes */

#define ALWAYS(cpu)	(STABLE_GPA + (cpu) * PG)
#define ON_AND_OFF(cpu)	(STABLE_GPA + (MAX_VCPUS + (cpu)) * PG)

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[MAX_VCPUS];
static pthread_t threads[MAX_VCPUS];
static int nr_vcpus = 2;
static void *stable, *churned;
static atomic_ulong mmio_exits;

/* ---- The guest ---- */

static bool stop;

static void guest_code(u64 cpu)
{
	u64 n;

	for (n = 1; !READ_ONCE(stop); n++) {
		WRITE_ONCE(*(u64 *)ALWAYS(cpu), n);
		WRITE_ONCE(*(u64 *)ON_AND_OFF(cpu), n);
		WRITE_ONCE(*(u64 *)(CHURN_GPA + n * 7 % CHURN_PAGES * PG), n);
	}
	GUEST_DONE();
}

/* ---- The VMM ---- */

static u64 *host(u64 gpa)
{
	return stable + (gpa - STABLE_GPA);
}

/* Writes to the memslot that is not there are MMIO, and are forgotten. */
static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			atomic_fetch_add(&mmio_exits, 1);
			continue;
		}
		TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_DONE,
			    "Unexpected exit %s", exit_story(vcpu->run));
		return NULL;
	}
}

static void set_churned(u64 size)
{
	vm_set_user_memory_region(vm, CHURN_SLOT, 0, CHURN_GPA, size, churned);
}

static void start(void)
{
	int i;

	vm = vm_create_with_vcpus(nr_vcpus, guest_code, vcpus);
	stable = mmap(NULL, STABLE_PAGES * PG, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	churned = mmap(NULL, CHURN_PAGES * PG, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(stable != MAP_FAILED && churned != MAP_FAILED, "mmap()");
	vm_set_user_memory_region(vm, STABLE_SLOT, 0, STABLE_GPA,
				  STABLE_PAGES * PG, stable);
	set_churned(CHURN_PAGES * PG);
	virt_map(vm, STABLE_GPA, STABLE_GPA, STABLE_PAGES);
	virt_map(vm, CHURN_GPA, CHURN_GPA, CHURN_PAGES);

	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(vcpus[i], 1, i);
}

static void run(void)
{
	int i;

	stop = false;
	sync_global_to_guest(vm, stop);
	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);
}

static void finish(void)
{
	int i;

	stop = true;
	sync_global_to_guest(vm, stop);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i], NULL);
}

/* Track pages of the new memslot, and stop it for some of them. */
static void track_some(int tracker, int round)
{
	u64 gpa = CHURN_GPA + round % 32 * PG;
	int i;

	for (i = 0; i < NR_TRACKED; i++)
		tracker_track(tracker, gpa + i * 32 * PG);
	for (i = 0; i < round % NR_TRACKED; i++)
		tracker_untrack(tracker, gpa + i * 32 * PG);
}

/* One that comes while vCPUs write, looks at their pages, and goes. */
static void come_and_go(void)
{
	u64 before[MAX_VCPUS], after = 0;
	struct tracked_page page;
	int tracker, i;

	tracker = tracker_attach(vm);
	for (i = 0; i < nr_vcpus; i++) {
		tracker_track(tracker, ON_AND_OFF(i));
		before[i] = READ_ONCE(*host(ON_AND_OFF(i)));
	}
	usleep(2000);
	for (i = 0; i < nr_vcpus; i++) {
		after = READ_ONCE(*host(ON_AND_OFF(i)));
		TEST_ASSERT(tracker_find(tracker, ON_AND_OFF(i), &page),
			    "vCPU %d's page should be tracked", i);

		/* The last one may be in memory, but not yet reported. */
		TEST_ASSERT(page.writes + 1 >= after - before[i],
			    "vCPU %d: of %lu writes since tracking began only %llu were reported",
			    i, after - before[i], page.writes);
		TEST_ASSERT(after == before[i] || !page.writes ||
			    page.value + 1 >= after,
			    "vCPU %d: write %lu was made, but only %llu reported",
			    i, after, page.value);
	}

	/* Leave by either door. */
	if (after & 1)
		tracker_detach(tracker);
	close(tracker);
}

static void check_always(int tracker)
{
	struct tracked_page page;
	u64 made;
	int i;

	for (i = 0; i < nr_vcpus; i++) {
		TEST_ASSERT(tracker_find(tracker, ALWAYS(i), &page),
			    "vCPU %d's page should still be tracked", i);
		made = *host(ALWAYS(i));
		TEST_ASSERT(page.writes == made && page.value == made,
			    "vCPU %d made %lu writes, but %llu were reported, the last one being %llu",
			    i, made, page.writes, page.value);
		pr_info("vCPU %d: %lu writes, all reported\n", i, made);
	}
}

static void stress(int rounds)
{
	unsigned long long removed[2], pages = 0;
	struct tracked_page left[MAX_VCPUS];
	int tracker, round, i, n;

	tracker = tracker_attach(vm);
	for (i = 0; i < nr_vcpus; i++)
		tracker_track(tracker, ALWAYS(i));

	run();
	for (round = 0; round < rounds; round++) {
		track_some(tracker, round);
		pages += NR_TRACKED - round % NR_TRACKED;
		set_churned(0);
		if (round % 16 == 0) {
			come_and_go();
			n = tracker_read(tracker, removed, left, MAX_VCPUS);
			TEST_ASSERT(n == nr_vcpus && removed[0] == round + 1 &&
				    removed[1] == pages,
				    "Round %d: %d pages left, %llu memslots and %llu pages removed",
				    round, n, removed[0], removed[1]);
		}
		set_churned(CHURN_PAGES * PG);
		if (round % 16 == 8)
			come_and_go();
	}
	finish();

	check_always(tracker);
	close(tracker);
	pr_info("%d rounds, %lu MMIO exits\n", rounds, mmio_exits);
}

int main(int argc, char *argv[])
{
	int rounds = 10000, opt;

	while ((opt = getopt(argc, argv, "r:v:")) != -1) {
		switch (opt) {
		case 'r':
			rounds = atoi(optarg);
			break;
		case 'v':
			nr_vcpus = atoi(optarg);
			TEST_ASSERT(nr_vcpus > 0 && nr_vcpus <= MAX_VCPUS,
				    "1 to %d vCPUs", MAX_VCPUS);
			break;
		default:
			printf("usage: %s [-r rounds] [-v vCPUs]\n", argv[0]);
			return 1;
		}
	}
	close(tracker_open());

	start();
	stress(rounds);
	kvm_vm_free(vm);
	return 0;
}
