// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private memory that is allocated and freed in every way at once, with the
 * table of owners of a debug kernel keeping the books: in the end each page must
 * have been given to the VM once and taken back once.
 *
 * While a vCPU touches pages at random, the main thread allocates, punches
 * holes, converts, and takes the memslot away and back; now and then another
 * process that does the same is killed in the middle of it.
 *
 * usage: private_mem_churn_test [-n ALLOCATIONS] [-s SEED]
 * A million takes a quarter of an hour in an emulator: -n 1000000
 */
#define _GNU_SOURCE /* for fallocate() */
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define NR_PAGES	2048ull
#define SLOT_SIZE	(NR_PAGES * PG)
#define CHUNK		512ull

struct run {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct private_slot s;
	pthread_t thread;
	bool stop;
};

static const u64 backings[] = {
	0,
	KVM_GUEST_MEMFD_HUGE_PAGES,
	KVM_GUEST_MEMFD_NO_DIRECT_MAP,
	KVM_GUEST_MEMFD_HUGE_PAGES | KVM_GUEST_MEMFD_NO_DIRECT_MAP,
};

static void guest_code(void)
{
	u64 i, gpa, x = 1;

	for (i = 0;; i++) {
		gpa = SLOT_GPA + random_next(&x) % NR_PAGES * PG;
		poke(gpa, x);
		if (!(i % 256))
			GUEST_SYNC(0);
	}
}

/* The memslot comes and goes: what the guest hits then does not matter. */
static void *vcpu_thread(void *arg)
{
	struct run *run = arg;
	struct kvm_run *state = run->vcpu->run;
	int ret;

	while (!READ_ONCE(run->stop)) {
		ret = _vcpu_run(run->vcpu);
		if (ret)
			TEST_ASSERT(errno == EFAULT &&
				    state->exit_reason == KVM_EXIT_MEMORY_FAULT,
				    "KVM_RUN: errno %i exit %s", errno,
				    exit_story(state));
		else
			TEST_ASSERT(state->exit_reason == KVM_EXIT_IO ||
				    state->exit_reason == KVM_EXIT_MMIO,
				    "KVM_RUN: exit %s", exit_story(state));
	}
	return NULL;
}

static void run_start(struct run *run, u64 flags)
{
	run->stop = false;
	run->vm = vm_create_protected(&run->vcpu, NR_PAGES, guest_code);
	if (flags)
		vm_enable_memfd_flags(run->vm, flags);
	private_slot_create_flags(&run->s, run->vm, SLOT, SLOT_GPA, SLOT_SIZE,
				  VM_MEM_SRC_ANONYMOUS_THP, flags);
	private_slot_map(&run->s);
	vm_set_private(run->vm, SLOT_GPA, SLOT_SIZE);
	pthread_create(&run->thread, NULL, vcpu_thread, run);
}

static void run_end(struct run *run)
{
	WRITE_ONCE(run->stop, true);
	pthread_join(run->thread, NULL);

	/* The file first or the VM first. */
	if (random() % 2) {
		private_slot_destroy(&run->s);
		kvm_vm_free(run->vm);
	} else {
		kvm_vm_free(run->vm);
		private_slot_destroy(&run->s);
	}
}

static void change(struct run *run, u64 offset, u64 size)
{
	struct private_slot *s = &run->s;
	u64 gpa = SLOT_GPA + offset;

	switch (random() % 8) {
	case 0:
	case 1:
	case 2:
		TEST_ASSERT(!fallocate(s->memfd, FALLOC_FL_KEEP_SIZE, offset,
				       size),
			    "fallocate() should succeed, errno: %i", errno);
		break;
	case 3:
	case 4:
		private_slot_punch(s, gpa, size);
		break;
	case 5:
		vm_set_shared(run->vm, gpa, size);
		private_slot_punch(s, gpa, size);
		break;
	case 6:
		vm_set_private(run->vm, gpa, size);
		break;
	default:
		if (random() % 8)
			break;
		private_slot_unset(s);
		private_slot_set(s);
		break;
	}
}

/* Single pages, some pages, whole chunks of 2 MiB, everything. */
static void change_somewhere(struct run *run)
{
	u64 page = random() % NR_PAGES;
	u64 nr = 1;

	switch (random() % 4) {
	case 0:
		break;
	case 1:
		nr += random() % 100;
		break;
	case 2:
		page -= page % CHUNK;
		nr = CHUNK;
		break;
	default:
		page = random() % 4 * (CHUNK / 4);
		nr = NR_PAGES - page - random() % 4;
		break;
	}
	if (page + nr > NR_PAGES)
		nr = NR_PAGES - page;
	change(run, page * PG, nr * PG);
}

static void churn(u64 flags, int rounds)
{
	struct run run;
	int i;

	run_start(&run, flags);
	for (i = 0; i < rounds; i++)
		change_somewhere(&run);
	run_end(&run);
}

static void churn_killed(u64 flags)
{
	struct run run;
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		run_start(&run, flags);
		for (;;)
			change_somewhere(&run);
	}
	usleep(200000 + random() % 300000);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
		    WTERMSIG(status) == SIGKILL,
		    "The child should have lived until it was killed: %#x",
		    status);
}

static void expect_balance(void)
{
	TEST_ASSERT(owner_stat("prepared") == owner_stat("invalidated") &&
		    owner_stat("prepared_pages") ==
			owner_stat("invalidated_pages"),
		    "Given and taken back should balance: %lu and %lu folios, %lu and %lu pages",
		    owner_stat("prepared"), owner_stat("invalidated"),
		    owner_stat("prepared_pages"),
		    owner_stat("invalidated_pages"));
	TEST_ASSERT(!owner_stat("owned_4k") && !owner_stat("owned_2m"),
		    "Nothing should be owned any more");
	TEST_ASSERT(!owner_stat("violations"), "No rule should be violated");
}

int main(int argc, char *argv[])
{
	u64 wanted = 20000, begin, done = 0;
	u64 supported, flags;
	unsigned int seed = 1;
	int opt, i;

	while ((opt = getopt(argc, argv, "n:s:")) != -1) {
		switch (opt) {
		case 'n':
			wanted = strtoul(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoul(optarg, NULL, 0);
			break;
		default:
			TEST_FAIL("usage: %s [-n ALLOCATIONS] [-s SEED]",
				  argv[0]);
		}
	}

	TEST_REQUIRE_PROTECTED_VM();
	__TEST_REQUIRE(has_owner_table(), "This kernel keeps no table of owners");

	srandom(seed);
	supported = kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);
	begin = owner_stat("prepared");
	for (i = 0; done < wanted || i < ARRAY_SIZE(backings); i++) {
		flags = backings[i % ARRAY_SIZE(backings)] & supported;
		churn(flags, 200);
		churn_killed(flags);
		expect_balance();
		done = owner_stat("prepared") - begin;
	}
	pr_info("%lu folios in %i rounds with a kill each: all taken back\n",
		done, i);
	return 0;
}
