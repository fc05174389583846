// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs hammer memory while another thread protects parts of it.
 *
 * Each vCPU owns a word of every page.  It counts in it, natively and through
 * KVM's emulator, and it executes the code at the beginning of the page, which
 * counts elsewhere.  When an access is refused the VMM lets some time pass and
 * enters the vCPU again.  So at any time
 *
 *  - a word holds exactly what its owner wrote last: no write is lost, none is
 *    made twice,
 *  - once the ioctl that sets NW has returned, no word of the page changes any
 *    more; once the one that sets NX has, no code of the page runs any more.
 *
 * Modes, one after the other: protections alone, with dirty logging being
 * turned on and off and collected, with the memslot being deleted and created
 * again, and with all of it.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_guest.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define NR_PAGES	1024ull		/* two hugepages */
#define MEM_SIZE	(NR_PAGES * PG)
#define MAX_VCPUS	8

enum mode {
	PROTECT		= 0,
	DIRTY_LOG	= 1 << 0,
	CHURN		= 1 << 1,
};

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[MAX_VCPUS];
static struct prot_mem mem;
static enum mode mode;
static int nr_vcpus = 2;
static int seconds = 3;
static int only = -1;		/* this mode */
static atomic_bool stop;
static atomic_ulong changes, entries, refusals, mmios;

/* Held while what must not change is being watched, and the VMM may not. */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;

static u64 word_gpa(int cpu, u64 page)
{
	return MEM_GPA + page * PG + (page % 48 + cpu + 1) * 64;
}

/* ---- The guest ---- */

/* What each vCPU wrote last, and how often it executed each page's code. */
static u64 last[MAX_VCPUS][NR_PAGES];
static u64 executed[MAX_VCPUS][NR_PAGES];

static bool forced;		/* KVM can be told to emulate */
static bool may_execute;	/* KVM cannot emulate code that is not there */

/* incq (%rdi); ret */
static const u8 code[] = { 0x48, 0xff, 0x07, 0xc3 };

static void check_word(int cpu, u64 page)
{
	expect(peek(word_gpa(cpu, page)), last[cpu][page]);
}

/* Adding tells whether it was done twice. */
static void count(int cpu, u64 page, bool emulate)
{
	last[cpu][page]++;
	if (emulate)
		asm volatile(FEP "lock incq (%0)"
			     :: "r"(word_gpa(cpu, page)) : "cc", "memory");
	else
		asm volatile("lock incq (%0)"
			     :: "r"(word_gpa(cpu, page)) : "cc", "memory");
}

static void execute(int cpu, u64 page)
{
	u64 before = executed[cpu][page];

	((void (*)(u64 *))(MEM_GPA + page * PG))(&executed[cpu][page]);
	GUEST_ASSERT_2(executed[cpu][page] == before + 1, before,
		       executed[cpu][page]);
}

static void hammer(int cpu, u64 page, u64 what)
{
	check_word(cpu, page);
	if (what % 3 == 0 && may_execute)
		execute(cpu, page);
	else
		count(cpu, page, what % 3 == 1 && forced);
	check_word(cpu, page);
}

static void guest_code(u64 cpu)
{
	u64 state = cpu + 1;
	int i;

	for (;;) {
		for (i = 0; i < 20; i++)
			hammer(cpu, random_next(&state) % NR_PAGES,
			       random_next(&state));
		GUEST_SYNC(0);
	}
}

/* ---- The vCPUs ---- */

/* The memslot is away: memory is where it was, and the VMM can reach it. */
static void serve_mmio(struct kvm_run *run)
{
	u8 *hva = prot_mem_hva(&mem, run->mmio.phys_addr);

	pthread_mutex_lock(&watch_lock);
	if (run->mmio.is_write)
		memcpy(hva, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, hva, run->mmio.len);
	pthread_mutex_unlock(&watch_lock);
	atomic_fetch_add(&mmios, 1);
}

static void check_refusal(struct kvm_run *run)
{
	u64 flags = run->memory_fault.flags;

	TEST_ASSERT(errno == EFAULT &&
		    run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "Only a protection should stop a vCPU, errno: %i exit: %s",
		    errno, exit_story(run));
	TEST_ASSERT(flags == EXIT_R || flags == EXIT_W || flags == EXIT_X,
		    "The exit should name one access, flags: %#lx", flags);
	TEST_ASSERT(run->memory_fault.gpa - MEM_GPA < MEM_SIZE,
		    "The exit should name a page that can be protected, not %#llx",
		    run->memory_fault.gpa);
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	/* Leave at a ucall only, with no write announced but not done. */
	for (;;) {
		atomic_fetch_add(&entries, 1);
		if (_vcpu_run(vcpu)) {
			check_refusal(vcpu->run);
			atomic_fetch_add(&refusals, 1);
			usleep(200);
			continue;
		}
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			serve_mmio(vcpu->run);
			continue;
		}
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT_2(uc, "values: %#lx, %#lx");
		TEST_ASSERT(uc.cmd == UCALL_SYNC,
			    "The guest should go on, exit: %s",
			    exit_story(vcpu->run));
		if (atomic_load(&stop))
			return NULL;
	}
}

/* ---- The other threads of the VMM ---- */

static void random_range(unsigned int *seed, u64 *page, u64 *nr)
{
	*page = rand_r(seed) % NR_PAGES;
	switch (rand_r(seed) % 4) {
	case 0:
		*nr = 1;
		break;
	case 1:
		*nr = rand_r(seed) % 32 + 1;
		break;
	case 2:		/* a hugepage */
		*page = *page / 512 * 512;
		*nr = 512;
		break;
	default:
		*nr = rand_r(seed) % NR_PAGES + 1;
	}
	*nr = min_t(u64, *nr, NR_PAGES - *page);
}

static u64 sum_words(u64 page, u64 nr)
{
	u64 sum = 0, i;
	int cpu;

	for (i = page; i < page + nr; i++)
		for (cpu = 0; cpu < nr_vcpus; cpu++)
			sum += READ_ONCE(*(u64 *)prot_mem_hva(&mem,
							      word_gpa(cpu, i)));
	return sum;
}

static u64 sum_executed(u64 page, u64 nr)
{
	u64 (*counts)[NR_PAGES] = *guest_global(vm, executed), sum = 0, i;
	int cpu;

	for (i = page; i < page + nr; i++)
		for (cpu = 0; cpu < nr_vcpus; cpu++)
			sum += READ_ONCE(counts[cpu][i]);
	return sum;
}

static void protect_and_watch(u64 page, u64 nr, u64 attrs, unsigned int pause)
{
	u64 gpa = MEM_GPA + page * PG, end = gpa + nr * PG, words, runs;

	pthread_mutex_lock(&watch_lock);
	vm_set_memory_attributes(vm, gpa, nr * PG, attrs);
	words = sum_words(page, nr);
	runs = sum_executed(page, nr);
	usleep(pause);
	TEST_ASSERT(!(attrs & NW) || words == sum_words(page, nr),
		    "No vCPU should write to [%#lx, %#lx) with %#lx",
		    gpa, end, attrs);
	TEST_ASSERT(!(attrs & NX) || runs == sum_executed(page, nr),
		    "No vCPU should execute in [%#lx, %#lx) with %#lx",
		    gpa, end, attrs);
	pthread_mutex_unlock(&watch_lock);
}

static void *run_protector(void *arg)
{
	static const u64 choices[] = { NW, NX, NW | NX, NOTHING, NW };
	unsigned int seed = (unsigned long)arg;
	u64 page, nr, attrs;

	while (!atomic_load(&stop)) {
		random_range(&seed, &page, &nr);
		attrs = choices[rand_r(&seed) % ARRAY_SIZE(choices)];
		protect_and_watch(page, nr, attrs, rand_r(&seed) % 2000);
		if (rand_r(&seed) % 4)
			vm_set_memory_attributes(vm, MEM_GPA, MEM_SIZE, 0);
		atomic_fetch_add(&changes, 1);
		/* What is refused has to get through before the next one. */
		usleep(rand_r(&seed) % 10000);
	}
	vm_set_memory_attributes(vm, MEM_GPA, MEM_SIZE, 0);
	return NULL;
}

/* The memslot belongs to one thread, whatever it does with it. */
static void *run_slot_changer(void *arg)
{
	static u64 bits[NR_PAGES / 64];
	unsigned int seed = 7;

	while (!atomic_load(&stop)) {
		if ((mode & CHURN) && rand_r(&seed) % 2) {
			prot_mem_unset(&mem);
			usleep(rand_r(&seed) % 1000);
			prot_mem_set(&mem);
		}
		if (mode & DIRTY_LOG) {
			mem.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
			prot_mem_set(&mem);
			if (mem.flags)
				kvm_vm_get_dirty_log(vm, SLOT, bits);
			usleep(rand_r(&seed) % 5000);
			if (mem.flags)
				kvm_vm_get_dirty_log(vm, SLOT, bits);
		}
		usleep(rand_r(&seed) % 20000);
	}
	return NULL;
}

/* ---- Modes ---- */

static bool enough_was_done(void)
{
	return atomic_load(&changes) >= 50 && atomic_load(&refusals) >= 20 &&
	       atomic_load(&entries) >= 20 * nr_vcpus;
}

static void check_last(int cpu)
{
	u64 (*lasts)[NR_PAGES] = *guest_global(vm, last), page, value;

	for (page = 0; page < NR_PAGES; page++) {
		value = *(u64 *)prot_mem_hva(&mem, word_gpa(cpu, page));
		TEST_ASSERT(value == lasts[cpu][page],
			    "Page %lu, vCPU %i: the word should be %lu, is %lu",
			    page, cpu, lasts[cpu][page], value);
	}
}

static void create_vm(enum vm_mem_backing_src_type src)
{
	u64 page;
	int i;

	vm = __vm_create_with_vcpus(VM_MODE_DEFAULT, nr_vcpus, 2 * NR_PAGES,
				    guest_code, vcpus);
	prot_mem_create(&mem, vm, SLOT, 0, MEM_GPA, MEM_SIZE, src);
	prot_mem_map(&mem, PG_LEVEL_4K);
	for (page = 0; page < NR_PAGES; page++)
		memcpy(mem.hva + page * PG, code, sizeof(code));
	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(vcpus[i], 1, i);
	may_execute = !(mode & CHURN);
	sync_global_to_guest(vm, may_execute);
	sync_global_to_guest(vm, forced);
}

static void run_mode(enum mode m, enum vm_mem_backing_src_type src)
{
	pthread_t threads[MAX_VCPUS + 2];
	int i, n = 0;

	mode = m;
	atomic_store(&stop, false);
	atomic_store(&changes, 0);
	atomic_store(&entries, 0);
	atomic_store(&refusals, 0);
	atomic_store(&mmios, 0);
	create_vm(src);

	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&threads[n++], NULL, run_vcpu, vcpus[i]);
	pthread_create(&threads[n++], NULL, run_protector, (void *)1ul);
	if (mode)
		pthread_create(&threads[n++], NULL, run_slot_changer, NULL);

	/* A slow machine takes longer until each has had a turn. */
	for (i = 0; i < seconds * 10 || !enough_was_done(); i++)
		usleep(100000);
	atomic_store(&stop, true);
	for (i = 0; i < n; i++)
		pthread_join(threads[n - 1 - i], NULL);
	for (i = 0; i < nr_vcpus; i++)
		check_last(i);

	pr_info("%s%s%s: %lu changes, %lu entries, %lu refusals, %lu MMIOs\n",
		vm_mem_backing_src_alias(src)->name,
		m & DIRTY_LOG ? ", dirty log" : "", m & CHURN ? ", churn" : "",
		atomic_load(&changes), atomic_load(&entries),
		atomic_load(&refusals), atomic_load(&mmios));
	kvm_vm_free(vm);
	prot_mem_destroy(&mem);
}

int main(int argc, char *argv[])
{
	static const struct number_option options[] = {
		{ 'm', "only this mode: 1 dirty log + 2 churn", &only, 0, 3 },
		{ 'n', "vCPUs", &nr_vcpus, 1, MAX_VCPUS },
		{ 't', "seconds for each mode", &seconds, 1, INT_MAX },
	};
	static const enum mode modes[] = {
		PROTECT, DIRTY_LOG, CHURN, DIRTY_LOG | CHURN,
	};
	enum vm_mem_backing_src_type src = DEFAULT_VM_MEM_SRC;
	int i;

	parse_options(argc, argv, options, ARRAY_SIZE(options), &src);

	TEST_REQUIRE_PROTECTIONS();
	if (is_hugetlb(src))
		require_hugetlb_pages(MEM_SIZE / PG_SIZE_2M + 1);

	forced = enable_forced_emulation();
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (only < 0 || only == (int)modes[i])
			run_mode(modes[i], src);
	return 0;
}
