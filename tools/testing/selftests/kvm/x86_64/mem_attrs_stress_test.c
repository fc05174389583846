// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs hammer memory while other threads convert it.
 *
 * Each vCPU owns one word of every page, counts in it and never looks at the
 * others'.  A page has two copies, and the attribute decides which one a write
 * goes to.  So at any time
 *
 *  - a word holds nothing but numbers its owner wrote there,
 *  - no write gets lost: in the end the last number written is in one of the
 *    two copies of the page, whichever was current,
 *  - once KVM_SET_MEMORY_ATTRIBUTES has made a page private, the shared copy
 *    does not change any more.
 *
 * Modes, one after the other: conversions alone, with the memslot being
 * deleted and created again, with private pages being punched, and with
 * pre-faulting by the vCPUs' threads.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define NR_PAGES	1536ull		/* three hugepages */
#define SLOT_SIZE	(NR_PAGES * PG)
#define MAX_VCPUS	8

#define SEQ_BITS	40

enum mode {
	CONVERT		= 0,
	CHURN		= 1 << 0,
	PUNCH		= 1 << 1,
	PREFAULT	= 1 << 2,
};

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[MAX_VCPUS];
static struct private_slot slot;
static int nr_vcpus = 3;
static int seconds = 3;
static int only = -1;		/* this mode */
static atomic_bool stop;
static atomic_ulong conversions, entries, faults;

static u64 number(int cpu, u64 page, u64 seq)
{
	return (u64)(cpu + 1) << 60 | page << SEQ_BITS | seq;
}

static u64 word_gpa(int cpu, u64 page)
{
	return SLOT_GPA + page * PG + (page % 56 + cpu) * 64;
}

/* ---- The guest ---- */

/* Last number that was written to each page. */
static u64 last[MAX_VCPUS][NR_PAGES];

/* Some writes are KVM's: it emulates them, if it can be told to. */
static bool forced;

static void hammer(int cpu, u64 page)
{
	u64 *p = (void *)word_gpa(cpu, page);
	u64 old = READ_ONCE(*p), should;

	/* What is there is older than, or as old as, the last one written. */
	should = number(cpu, page, 0);
	GUEST_ASSERT_2(!old || old >> SEQ_BITS == should >> SEQ_BITS, old,
		       should);
	GUEST_ASSERT_2(old <= last[cpu][page], old, last[cpu][page]);

	if (!last[cpu][page])
		last[cpu][page] = should;
	last[cpu][page]++;
	if (forced && page % 4 == 0)
		asm volatile(FEP "mov %0, (%1)"
			     :: "r"(last[cpu][page]), "r"(p) : "memory");
	else
		WRITE_ONCE(*p, last[cpu][page]);
}

static void guest_code(u64 cpu)
{
	u64 state = cpu, i;

	for (;;) {
		/* Each may fault again and again while pages are converted. */
		for (i = 0; i < 10; i++)
			hammer(cpu, random_next(&state) % NR_PAGES);
		GUEST_SYNC(0);
	}
}

/* Each copy of every word, read through the guest's own eyes. */
static void guest_collect(u64 cpu, u64 *copies)
{
	u64 page;

	for (page = 0; page < NR_PAGES; page++)
		copies[page] = peek(word_gpa(cpu, page));
	GUEST_DONE();
}

/* ---- The VMM ---- */

static enum mode mode;

static void random_range(unsigned int *seed, u64 *gpa, u64 *size)
{
	u64 page = rand_r(seed) % NR_PAGES, nr;

	switch (rand_r(seed) % 4) {
	case 0:		/* one page */
		nr = 1;
		break;
	case 1:		/* some */
		nr = rand_r(seed) % 32 + 1;
		break;
	case 2:		/* a hugepage */
		page = page / 512 * 512;
		nr = 512;
		break;
	default:	/* any */
		nr = rand_r(seed) % NR_PAGES + 1;
	}
	*gpa = SLOT_GPA + page * PG;
	*size = min_t(u64, nr, NR_PAGES - page) * PG;
}

/* Converters take turns, or none could tell what the other leaves behind. */
static pthread_mutex_t convert_lock = PTHREAD_MUTEX_INITIALIZER;

/* Of the shared copies of some pages of the range. */
static u64 checksum(u64 gpa, u64 size)
{
	u64 sum = 0, page, first = (gpa - SLOT_GPA) / PG, nr = size / PG;
	u64 *word;
	int cpu;

	for (page = first; page < first + nr; page += nr / 32 + 1) {
		for (cpu = 0; cpu < nr_vcpus; cpu++) {
			word = (void *)private_slot_hva(&slot,
							word_gpa(cpu, page));
			sum = sum * 31 + READ_ONCE(*word);
		}
	}
	return sum;
}

static void convert(unsigned int *seed)
{
	u64 gpa, size, sum;

	random_range(seed, &gpa, &size);
	if (rand_r(seed) & 1) {
		vm_set_shared(vm, gpa, size);
		if (mode & PUNCH)
			private_slot_punch(&slot, gpa, size);
	} else {
		vm_set_private(vm, gpa, size);
		sum = checksum(gpa, size);
		sched_yield();
		TEST_ASSERT(sum == checksum(gpa, size),
			    "Nothing should write to the shared copy of [%#lx, %#lx) once it is private",
			    gpa, gpa + size);
	}
	atomic_fetch_add(&conversions, 1);
}

static void *run_converter(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&convert_lock);
		convert(&seed);
		pthread_mutex_unlock(&convert_lock);
		/*
		 * A fault starts over when a conversion ends meanwhile: on a
		 * slow machine it takes a pause this long to get one through.
		 */
		usleep(rand_r(&seed) % 40000);
	}
	return NULL;
}

/*
 * A shared page without memslot is MMIO, and the write to it would be lost.
 * So all is private while the memslot is away.
 */
static void *run_churner(void *arg)
{
	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&convert_lock);
		vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
		private_slot_unset(&slot);
		sched_yield();
		private_slot_set(&slot);
		pthread_mutex_unlock(&convert_lock);
		usleep(30000);
	}
	return NULL;
}

static void maybe_pre_fault(struct kvm_vcpu *vcpu, unsigned int *seed)
{
	u64 gpa, size;
	int ret;

	random_range(seed, &gpa, &size);
	ret = __vcpu_pre_fault_memory(vcpu, &gpa, &size);
	TEST_ASSERT(!ret || errno == EAGAIN || errno == EINTR ||
		    errno == ENOENT || (errno == EFAULT && (mode & CHURN)),
		    "Pre-faulting should at most have to be repeated, errno: %i (%s)",
		    errno, strerror(errno));
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	unsigned int seed = vcpu->id;
	struct ucall uc;
	int ret;

	/* Leave at a ucall only, with no write announced but not done. */
	for (;;) {
		ret = _vcpu_run(vcpu);
		atomic_fetch_add(&entries, 1);
		if (ret) {
			TEST_ASSERT(errno == EFAULT && (mode & CHURN) &&
				    vcpu->run->exit_reason ==
				    KVM_EXIT_MEMORY_FAULT,
				    "Only a missing memslot should stop a vCPU, errno: %i exit: %s",
				    errno, exit_story(vcpu->run));
			ASSERT_EQ(vcpu->run->memory_fault.flags,
				  KVM_MEMORY_EXIT_FLAG_PRIVATE);
			atomic_fetch_add(&faults, 1);
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT_2(uc, "values: %#lx, %#lx");
		TEST_ASSERT(uc.cmd == UCALL_SYNC,
			    "The guest should go on, exit: %s",
			    exit_story(vcpu->run));
		if (atomic_load(&stop))
			return NULL;
		if (mode & PREFAULT)
			maybe_pre_fault(vcpu, &seed);
	}
}

static void collect(int cpu, bool private, u64 *copies)
{
	static vm_vaddr_t buffer;
	struct kvm_regs regs;

	vm_set_memory_attributes(vm, SLOT_GPA, SLOT_SIZE,
				 private ? MEM_ATTR_PRIVATE : 0);
	if (!cpu && !private)
		buffer = vm_vaddr_alloc(vm, NR_PAGES * 8, 0x10000000);

	vcpu_regs_get(vcpus[cpu], &regs);
	regs.rip = (uintptr_t)guest_collect;
	regs.rdi = cpu;
	regs.rsi = buffer;
	vcpu_regs_set(vcpus[cpu], &regs);
	vcpu_run_to_done(vcpus[cpu]);
	memcpy(copies, addr_gva2hva(vm, buffer), NR_PAGES * 8);
}

/* The last number written is in one of the copies, and none is newer. */
static void check_last(int cpu)
{
	static u64 shared[NR_PAGES], private[NR_PAGES];
	u64 (*guest_last)[NR_PAGES] = addr_gva2hva(vm, (vm_vaddr_t)last);
	u64 page, should;

	collect(cpu, false, shared);
	collect(cpu, true, private);
	for (page = 0; page < NR_PAGES; page++) {
		should = guest_last[cpu][page];
		TEST_ASSERT(shared[page] <= should && private[page] <= should,
			    "Page %lu should hold nothing newer than %#lx, holds %#lx and %#lx",
			    page, should, shared[page], private[page]);
		if (mode & PUNCH)
			continue;
		TEST_ASSERT(shared[page] == should || private[page] == should,
			    "Page %lu, vCPU %i: the last write %#lx got lost, shared: %#lx private: %#lx",
			    page, cpu, should, shared[page], private[page]);
	}
}

static bool enough_was_done(void)
{
	return atomic_load(&conversions) >= 100 &&
	       atomic_load(&entries) >= 20 * nr_vcpus;
}

static void run_mode(enum mode m, enum vm_mem_backing_src_type src)
{
	pthread_t threads[MAX_VCPUS + 3];
	int i, n = 0;

	mode = m;
	atomic_store(&stop, false);
	atomic_store(&conversions, 0);
	atomic_store(&entries, 0);
	atomic_store(&faults, 0);
	vm = vm_create_protected_with_vcpus(nr_vcpus, 2 * NR_PAGES, guest_code,
					    vcpus);
	private_slot_create(&slot, vm, SLOT, SLOT_GPA, SLOT_SIZE, src);
	private_slot_map(&slot);

	for (i = 0; i < nr_vcpus; i++) {
		vcpu_args_set(vcpus[i], 1, i);
		pthread_create(&threads[n++], NULL, run_vcpu, vcpus[i]);
	}
	pthread_create(&threads[n++], NULL, run_converter, (void *)1ul);
	pthread_create(&threads[n++], NULL, run_converter, (void *)2ul);
	if (m & CHURN)
		pthread_create(&threads[n++], NULL, run_churner, NULL);

	/* A slow machine takes longer until each has had a turn. */
	for (i = 0; i < seconds * 10 || !enough_was_done(); i++)
		usleep(100000);
	atomic_store(&stop, true);
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < nr_vcpus; i++)
		check_last(i);

	pr_info("%s%s%s%s: %lu conversions, %lu entries, %lu faults\n",
		vm_mem_backing_src_alias(src)->name,
		m & CHURN ? ", churn" : "", m & PUNCH ? ", punch" : "",
		m & PREFAULT ? ", pre-fault" : "", atomic_load(&conversions),
		atomic_load(&entries), atomic_load(&faults));
	kvm_vm_free(vm);
	private_slot_destroy(&slot);
}

int main(int argc, char *argv[])
{
	static const struct number_option options[] = {
		{ 'm', "only this mode: 1 churn + 2 punch + 4 pre-fault",
		  &only, 0, 7 },
		{ 'n', "vCPUs", &nr_vcpus, 1, MAX_VCPUS },
		{ 't', "seconds for each mode", &seconds, 1, INT_MAX },
	};
	static const enum mode modes[] = {
		CONVERT, PREFAULT, CHURN, PUNCH, CHURN | PREFAULT,
	};
	enum vm_mem_backing_src_type src = DEFAULT_VM_MEM_SRC;
	int i;

	parse_options(argc, argv, options, ARRAY_SIZE(options), &src);

	TEST_REQUIRE_PROTECTED_VM();
	if (is_hugetlb(src))
		require_hugetlb_pages(SLOT_SIZE / PG_SIZE_2M + 1);

	forced = enable_forced_emulation();
	if (only >= 0)
		run_mode(only, src);
	for (i = 0; only < 0 && i < ARRAY_SIZE(modes); i++)
		run_mode(modes[i], src);
	return 0;
}
