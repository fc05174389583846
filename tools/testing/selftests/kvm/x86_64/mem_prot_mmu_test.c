// SPDX-License-Identifier: GPL-2.0-only
/*
 * NR, NW and NX against whatever else changes a VM's mappings.
 *
 * Which combinations a VM takes; narrowing and widening of what is mapped;
 * dirty logging by bitmap, with manual clearing and by ring; prefetching of
 * neighbours; hugepages that are split and come back; memslots that come, go
 * and move; read-only memslots; vCPUs that are in the guest.  In each of these a
 * protection neither gets lost nor spreads to another page.
 */
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_guest.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define SMALL_SIZE	(16 * PG)
#define HUGE_SIZE	(2 * PG_SIZE_2M)
#define PAGE(n)		(MEM_GPA + (n) * PG)

/* Each page begins with result_code[], and has a word further on. */
#define WORD_AT		0x100

/* ---- The guest ---- */

static u64 guest_read(u64 page)
{
	return peek(page + WORD_AT);
}

/* What was never there before */
static u64 new_value = 1ull << 32;

static u64 guest_write(u64 page)
{
	asm volatile("mov %0, (%1)" :: "r"(++new_value), "r"(page + WORD_AT)
		     : "memory");
	return 0;
}

static u64 guest_forced_write(u64 page)
{
	asm volatile(FEP "mov %0, (%1)"
		     :: "r"(++new_value), "r"(page + WORD_AT) : "memory");
	return 0;
}

static u64 guest_exec(u64 page)
{
	return call_code(page);
}

/* These two do not leave the guest of their own accord. */
static u64 nr_done;

static u64 guest_write_on(u64 page)
{
	for (;;)
		poke(page + WORD_AT, ++nr_done);
}

static u64 guest_exec_on(u64 page)
{
	for (;;) {
		call_code(page);
		WRITE_ONCE(nr_done, nr_done + 1);
	}
}

/* ---- The VMM ---- */

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct kvm_regs start_regs;
static struct prot_mem mem;
static bool can_force;

static void create_memory(u32 flags, u64 size, enum vm_mem_backing_src_type src,
			  int level)
{
	u64 at;

	prot_mem_create(&mem, vm, SLOT, flags, MEM_GPA, size, src);
	prot_mem_map(&mem, level);
	for (at = 0; at < size; at += PG)
		memcpy(mem.hva + at, result_code, sizeof(result_code));
	vcpu_regs_get(vcpu, &start_regs);
}

static void create_vm(u32 flags, u64 size, enum vm_mem_backing_src_type src,
		      int level)
{
	vm = __vm_create_with_one_vcpu(&vcpu, HUGE_SIZE / PG, guest_obey);
	create_memory(flags, size, src, level);
}

static void create_small_vm(u32 flags)
{
	create_vm(flags, SMALL_SIZE, VM_MEM_SRC_ANONYMOUS, PG_LEVEL_4K);
}

static void destroy_vm(void)
{
	kvm_vm_free(vm);
	prot_mem_destroy(&mem);
}

static void set_attributes(u64 page, u64 attrs)
{
	vm_set_memory_attributes(vm, page, PG, attrs);
}

static u64 *word(u64 page)
{
	return (u64 *)(prot_mem_hva(&mem, page) + WORD_AT);
}

static void start_access(u64 (*fn)(u64), u64 page)
{
	vm_command(vm, fn, page);
	vcpu_regs_set(vcpu, &start_regs);
}

static void is_allowed(u64 (*fn)(u64), u64 page)
{
	start_access(fn, page);
	vcpu_run_to_sync(vcpu, 0);
	if (fn == guest_exec)
		TEST_ASSERT(vm_command_result(vm) == CODE_RESULT,
			    "The guest should execute the code at %#lx", page);
}

static void is_refused(u64 (*fn)(u64), u64 page)
{
	u64 should = fn == guest_read ? EXIT_R :
		     fn == guest_exec ? EXIT_X : EXIT_W;
	u64 before = *word(page), flags;

	start_access(fn, page);
	flags = vcpu_run_to_refusal(vcpu, page);
	TEST_ASSERT(flags == should,
		    "The exit should name access %#lx, names %#lx", should,
		    flags);
	TEST_ASSERT(*word(page) == before,
		    "A refused access should not change the page at %#lx", page);
}

/* The access goes to the VMM, and not to memory. */
static void is_mmio(u64 (*fn)(u64), u64 page)
{
	start_access(fn, page);
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MMIO &&
		    vcpu->run->mmio.phys_addr == page + WORD_AT,
		    "The access to %#lx should be MMIO, exit: %s", page,
		    exit_story(vcpu->run));
	vcpu_run_to_sync(vcpu, 0);
}

static u64 nr_mapped(void)
{
	return vm_get_stat(vm, "pages_4k") + vm_get_stat(vm, "pages_2m");
}

/* Later libraries touch new pages of their own, one in some of the guest's calls. */
static void nothing_was_unmapped(u64 mapped, const char *by)
{
	TEST_ASSERT(nr_mapped() >= mapped,
		    "%s should unmap nothing, %lu pages of %lu are left", by,
		    nr_mapped(), mapped);
}

static void touch_all_but(int but)
{
	int i;

	for (i = 0; i < SMALL_SIZE / PG; i++) {
		if (i == but)
			continue;
		is_allowed(guest_write, PAGE(i));
		is_allowed(guest_exec, PAGE(i));
	}
}

static void touch_all(void)
{
	touch_all_but(-1);
}

/* The page may be accessed as the attributes say, and not otherwise. */
static void check_access(u64 page, u64 attrs)
{
	(attrs & NR ? is_refused : is_allowed)(guest_read, page);
	(attrs & NW ? is_refused : is_allowed)(guest_write, page);
	(attrs & NX ? is_refused : is_allowed)(guest_exec, page);
}

/* ---- Combinations ---- */

/* NR needs NW, and NX unless the CPU can map a page to be executed only. */
static bool is_enforceable(u64 attrs, u64 supported, bool execute_only)
{
	if (attrs & ~supported)
		return false;
	if ((attrs & NR) && !(attrs & NW))
		return false;
	return !(attrs & NR) || (attrs & NX) || execute_only;
}

static bool host_has_execute_only(void)
{
	return kvm_is_tdp_enabled() && is_intel_cpu() &&
	       kvm_get_feature_msr(MSR_IA32_VMX_EPT_VPID_CAP) & 1;
}

static void test_combinations_of(unsigned long type)
{
	u64 should = NOTHING, attrs, mask;

	vm = vm_create_barebones_type(type);
	if (type == KVM_X86_SW_PROTECTED_VM)
		should |= MEM_ATTR_PRIVATE;
	mask = vm_supported_attributes(vm);
	TEST_ASSERT(mask == should,
		    "A VM of type %lu should support %#lx, says %#lx", type,
		    should, mask);
	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES) == mask,
		    "The capability should say the same, says %#x",
		    vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES));
	for (attrs = 0; attrs < 32; attrs++)
		TEST_ASSERT(vm_accepts_attributes(vm, attrs) ==
			    is_enforceable(attrs, mask, host_has_execute_only()),
			    "A VM of type %lu should %s %#lx", type,
			    vm_accepts_attributes(vm, attrs) ? "refuse" : "take",
			    attrs);
	kvm_vm_free(vm);
}

static int update(u64 page, u64 set, u64 clear)
{
	struct kvm_memory_attributes_update one = {
		.address = page, .size = PG, .set = set, .clear = clear,
	};
	struct kvm_update_memory_attributes args = {
		.updates = (uintptr_t)&one, .nr_updates = 1,
	};

	return __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);
}

/* What counts is what an update would leave on the page. */
static void test_updates(void)
{
	vm = vm_create_barebones();
	TEST_ASSERT(!update(PAGE(0), NOTHING, 0), "Taking all should succeed");
	TEST_ASSERT(update(PAGE(0), 0, NW) && errno == EINVAL,
		    "NR may not be left without NW");
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(0)), NOTHING);
	TEST_ASSERT(update(PAGE(1), NR, 0) && errno == EINVAL,
		    "NR may not be set on a page without NW");
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(1)), 0);
	TEST_ASSERT(!update(PAGE(0), 0, NR), "Giving back read should succeed");
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(0)), NW | NX);
	TEST_ASSERT(!update(PAGE(1), NW, 0) && !update(PAGE(1), NX, NW),
		    "Bits should be set and cleared one by one");
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(1)), NX);
	kvm_vm_free(vm);
}

static void test_combinations(void)
{
	test_combinations_of(KVM_X86_DEFAULT_VM);
	if (vm_type_is_supported(KVM_X86_SW_PROTECTED_VM))
		test_combinations_of(KVM_X86_SW_PROTECTED_VM);
	test_updates();
}

/* ---- Narrowing and widening what is mapped ---- */

static void test_narrow_and_widen(void)
{
	u64 mapped;

	create_small_vm(0);
	touch_all();
	mapped = nr_mapped();

	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, NW);
	nothing_was_unmapped(mapped, "Taking away write");
	is_refused(guest_write, PAGE(3));
	is_allowed(guest_read, PAGE(3));
	is_allowed(guest_exec, PAGE(3));
	nothing_was_unmapped(mapped, "What is still allowed");

	/* One page of them gets it back. */
	set_attributes(PAGE(3), 0);
	nothing_was_unmapped(mapped, "Giving back write");
	is_allowed(guest_write, PAGE(3));
	is_refused(guest_write, PAGE(2));
	is_refused(guest_write, PAGE(4));

	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, NX);
	is_refused(guest_exec, PAGE(2));
	is_refused(guest_exec, PAGE(3));
	is_allowed(guest_write, PAGE(2));
	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, NW | NX);
	is_refused(guest_write, PAGE(2));
	is_refused(guest_exec, PAGE(2));
	is_allowed(guest_read, PAGE(2));
	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, NOTHING);
	is_refused(guest_read, PAGE(2));
	is_refused(guest_write, PAGE(2));
	is_refused(guest_exec, PAGE(2));
	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, NW);
	is_allowed(guest_exec, PAGE(2));
	is_refused(guest_write, PAGE(2));
	vm_set_memory_attributes(vm, MEM_GPA, SMALL_SIZE, 0);
	touch_all();
	destroy_vm();
}

/* ---- Dirty logging ---- */

static u64 take_dirty_log(void)
{
	u64 bits = 0;

	kvm_vm_get_dirty_log(vm, SLOT, &bits);
	return bits;
}

/* The same where KVM leaves it to the VMM to clear what it tells. */
static u64 take_dirty_log_manually(void)
{
	u64 bits = take_dirty_log();

	kvm_vm_clear_dirty_log(vm, SLOT, &bits, 0, SMALL_SIZE / PG);
	return bits;
}

#define RING_BYTES	65536

static u64 take_ring_entries(void)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(vcpu);
	u64 bits = 0;
	u32 i;

	for (i = 0; i < RING_BYTES / sizeof(*ring); i++) {
		if (!(READ_ONCE(ring[i].flags) & KVM_DIRTY_GFN_F_DIRTY))
			continue;
		TEST_ASSERT(ring[i].slot == SLOT && ring[i].offset < 64,
			    "Only the memslot should be logged, not page %#llx of %u",
			    ring[i].offset, ring[i].slot);
		bits |= 1ull << ring[i].offset;
		WRITE_ONCE(ring[i].flags, KVM_DIRTY_GFN_F_RESET);
	}
	kvm_vm_reset_dirty_ring(vm);
	return bits;
}

static void set_logging(bool on)
{
	mem.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	prot_mem_set(&mem);
}

/*
 * @take returns what was written since it was called last; from then on the next
 * write to each page is reported again.
 */
static void protect_logged(u64 (*take)(void))
{
	touch_all();
	ASSERT_EQ(take(), 0xffff);
	ASSERT_EQ(take(), 0);

	/* Write-protected by the log and by the attribute */
	set_attributes(PAGE(3), NW);
	is_refused(guest_write, PAGE(3));
	if (can_force)
		is_refused(guest_forced_write, PAGE(3));
	is_allowed(guest_read, PAGE(3));
	is_allowed(guest_write, PAGE(4));
	ASSERT_EQ(take(), 1 << 4);
	is_refused(guest_write, PAGE(3));

	/* By the attribute while it is writable, then by the log as well */
	is_allowed(guest_write, PAGE(5));
	set_attributes(PAGE(5), NW);
	is_refused(guest_write, PAGE(5));
	ASSERT_EQ(take(), 1 << 5);
	is_refused(guest_write, PAGE(3));
	is_refused(guest_write, PAGE(5));
	ASSERT_EQ(take(), 0);

	/* A fault that only the log caused does not widen its neighbours. */
	is_allowed(guest_write, PAGE(4));
	is_allowed(guest_write, PAGE(6));
	is_refused(guest_write, PAGE(5));
	ASSERT_EQ(take(), 1 << 4 | 1 << 6);
}

/* Once allowed again, writes are logged again. */
static void allow_logged(u64 (*take)(void))
{
	set_attributes(PAGE(3), 0);
	is_allowed(guest_write, PAGE(3));
	ASSERT_EQ(take(), 1 << 3);
}

static void test_dirty_log(u64 (*take)(void))
{
	create_small_vm(0);
	if (take == take_dirty_log_manually)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	touch_all();
	set_logging(true);
	protect_logged(take);

	set_logging(false);
	is_refused(guest_write, PAGE(3));
	is_refused(guest_write, PAGE(5));
	is_allowed(guest_write, PAGE(4));
	set_logging(true);
	is_refused(guest_write, PAGE(3));
	take();
	allow_logged(take);
	destroy_vm();
}

static void test_dirty_ring(void)
{
	vm = __vm_create(VM_MODE_DEFAULT, 1, HUGE_SIZE / PG);
	vm_enable_dirty_ring(vm, RING_BYTES);
	vcpu = vm_vcpu_add(vm, 0, guest_obey);
	create_memory(KVM_MEM_LOG_DIRTY_PAGES, SMALL_SIZE, VM_MEM_SRC_ANONYMOUS,
		      PG_LEVEL_4K);
	protect_logged(take_ring_entries);
	allow_logged(take_ring_entries);
	destroy_vm();
}

/* ---- Prefetching ---- */

/* A fault may map neighbours as well, but with no more than they are allowed. */
static void test_prefetch(void)
{
	static const u64 attrs[SMALL_SIZE / PG] = {
		[2] = NOTHING, [3] = NW, [5] = NX, [6] = NW | NX,
	};
	int i;

	create_small_vm(0);
	for (i = 0; i < SMALL_SIZE / PG; i++)
		set_attributes(PAGE(i), attrs[i]);
	is_allowed(guest_write, PAGE(4));
	is_allowed(guest_write, PAGE(1));
	is_allowed(guest_exec, PAGE(4));
	for (i = 0; i < SMALL_SIZE / PG; i++)
		check_access(PAGE(i), attrs[i]);
	destroy_vm();
}

/* Of pre-faulting on behalf of the VMM the same is true. */
static void test_pre_fault(void)
{
	u64 gpa = PAGE(2), size = 2 * PG;

	create_small_vm(0);
	set_attributes(PAGE(3), NW | NX);
	set_attributes(PAGE(4), NOTHING);
	TEST_ASSERT(!__vcpu_pre_fault_memory(vcpu, &gpa, &size),
		    "What may be read should be pre-faulted, errno: %i (%s)",
		    errno, strerror(errno));
	is_refused(guest_write, PAGE(3));
	is_refused(guest_exec, PAGE(3));
	is_allowed(guest_read, PAGE(3));
	gpa = PAGE(4);
	size = PG;
	TEST_ASSERT(__vcpu_pre_fault_memory(vcpu, &gpa, &size),
		    "What may not be read should not be pre-faulted");
	is_refused(guest_read, PAGE(4));
	destroy_vm();
}

/* ---- Memslots ---- */

static void test_churn(void)
{
	create_small_vm(0);
	prot_mem_unset(&mem);
	set_attributes(PAGE(3), NW | NX);
	is_mmio(guest_write, PAGE(3));
	is_mmio(guest_read, PAGE(3));

	/* From the first fault on */
	prot_mem_set(&mem);
	is_refused(guest_write, PAGE(3));
	is_refused(guest_exec, PAGE(3));
	is_allowed(guest_read, PAGE(3));
	touch_all_but(3);

	/* It goes and comes back. */
	prot_mem_unset(&mem);
	is_mmio(guest_write, PAGE(3));
	prot_mem_set(&mem);
	is_refused(guest_write, PAGE(3));
	touch_all_but(3);

	/* It moves: the attributes do not, and it gets those of its new GFNs. */
	virt_map(vm, PAGE(16), PAGE(16), 16);
	set_attributes(PAGE(16 + 5), NX);
	mem.gpa = PAGE(16);
	prot_mem_set(&mem);
	is_allowed(guest_write, PAGE(16 + 3));
	is_allowed(guest_exec, PAGE(16 + 3));
	is_refused(guest_exec, PAGE(16 + 5));
	is_allowed(guest_write, PAGE(16 + 5));
	mem.gpa = PAGE(0);
	prot_mem_set(&mem);
	is_refused(guest_write, PAGE(3));
	is_allowed(guest_exec, PAGE(5));
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(3)), NW | NX);
	ASSERT_EQ(vm_get_memory_attributes(vm, PAGE(16 + 5)), NX);
	destroy_vm();
}

/* Attributes take away; they give nothing that the memslot does not. */
static void test_read_only_memslot(void)
{
	u64 before;

	create_small_vm(KVM_MEM_READONLY);
	before = *word(PAGE(3));
	set_attributes(PAGE(3), NX);
	is_refused(guest_exec, PAGE(3));
	is_allowed(guest_read, PAGE(3));
	is_mmio(guest_write, PAGE(3));
	set_attributes(PAGE(3), 0);
	is_mmio(guest_write, PAGE(3));
	is_allowed(guest_exec, PAGE(3));
	set_attributes(PAGE(3), NOTHING);
	is_refused(guest_read, PAGE(3));
	set_attributes(PAGE(3), NW);
	is_allowed(guest_exec, PAGE(3));
	ASSERT_EQ(*word(PAGE(3)), before);
	destroy_vm();
}

/* ---- Hugepages ---- */

#define HUGE0	MEM_GPA
#define HUGE1	(MEM_GPA + PG_SIZE_2M)

static u64 nr_huge(void)
{
	return vm_get_stat(vm, "pages_2m");
}

/* A protected page splits the hugepage it lies in, and no other. */
static void test_split(void)
{
	u64 page = HUGE0 + 77 * PG;

	create_vm(0, HUGE_SIZE, VM_MEM_SRC_ANONYMOUS_HUGETLB, PG_LEVEL_2M);
	is_allowed(guest_write, HUGE0);
	is_allowed(guest_write, HUGE1);
	TEST_ASSERT(nr_huge() == 2, "There should be 2 hugepages, are %lu",
		    nr_huge());
	set_attributes(page, NW);
	TEST_ASSERT(nr_huge() >= 1, "The other hugepage should be left");
	is_refused(guest_write, page);
	is_allowed(guest_write, page - PG);
	is_allowed(guest_write, page + PG);
	is_allowed(guest_read, page);
	is_refused(guest_write, page);
	TEST_ASSERT(nr_huge() == 1, "There should be 1 hugepage, are %lu",
		    nr_huge());

	/* All of the hugepage has the attribute: it can be huge again. */
	vm_set_memory_attributes(vm, HUGE0, PG_SIZE_2M, NW);
	prot_mem_unmap(&mem);
	is_allowed(guest_read, HUGE0);
	TEST_ASSERT(nr_huge() == 1,
		    "A uniform hugepage should be mapped as one, there are %lu",
		    nr_huge());
	is_refused(guest_write, page);
	is_refused(guest_write, HUGE0);
	is_allowed(guest_write, HUGE1);

	vm_set_memory_attributes(vm, HUGE0, PG_SIZE_2M, 0);
	is_allowed(guest_write, page);
	destroy_vm();
}

/* Dirty logging splits hugepages and lets them be rebuilt when it ends. */
static void test_eager_split(u64 attrs)
{
	u64 page = HUGE0 + 77 * PG;

	create_vm(0, HUGE_SIZE, VM_MEM_SRC_ANONYMOUS_HUGETLB, PG_LEVEL_2M);
	vm_set_memory_attributes(vm, HUGE0, PG_SIZE_2M, attrs);
	is_allowed(guest_read, HUGE0);
	is_allowed(guest_write, HUGE1);
	set_logging(true);
	check_access(page, attrs);
	check_access(HUGE0, attrs);
	check_access(HUGE1 + 5 * PG, 0);
	set_logging(false);
	check_access(page, attrs);
	check_access(HUGE0 + 78 * PG, attrs);
	check_access(HUGE1 + 5 * PG, 0);

	/* Protected while it is split */
	set_logging(true);
	is_allowed(guest_read, page);
	set_attributes(page, NW | NX);
	set_logging(false);
	check_access(page, NW | NX);
	check_access(page + PG, attrs);
	destroy_vm();
}

#define FREE_1G	"/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages"

static bool has_free_1g_page(void)
{
	FILE *f = fopen(FREE_1G, "r");
	long nr = 0;

	if (!f)
		return false;
	if (fscanf(f, "%ld", &nr) != 1)
		nr = 0;
	fclose(f);
	return nr > 0;
}

/* 1 GiB becomes 2 MiB pages, but for those around the page. */
static void test_split_1g(u64 attrs)
{
	u64 huge = MEM_GPA + 300 * PG_SIZE_2M, page = huge + 77 * PG;

	create_vm(0, PG_SIZE_1G, VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB, PG_LEVEL_1G);
	is_allowed(guest_write, page);
	ASSERT_EQ(vm_get_stat(vm, "pages_1g"), 1);
	ASSERT_EQ(nr_huge(), 0);

	set_attributes(page, attrs);
	check_access(page, attrs);
	check_access(page - PG, 0);
	check_access(page + PG, 0);
	ASSERT_EQ(vm_get_stat(vm, "pages_1g"), 0);
	ASSERT_EQ(nr_huge(), 0);
	check_access(huge - PG, 0);
	check_access(huge + PG_SIZE_2M, 0);
	check_access(MEM_GPA + PG_SIZE_1G - PG, 0);
	ASSERT_EQ(nr_huge(), 3);
	check_access(page, attrs);

	/* It comes back, first the 2 MiB around the page and then all. */
	vm_set_memory_attributes(vm, huge, PG_SIZE_2M, attrs);
	prot_mem_unmap(&mem);
	check_access(MEM_GPA, 0);
	check_access(page, attrs);
	check_access(huge, attrs);
	ASSERT_EQ(vm_get_stat(vm, "pages_1g"), 0);
	vm_set_memory_attributes(vm, MEM_GPA, PG_SIZE_1G, attrs);
	prot_mem_unmap(&mem);
	check_access(MEM_GPA, attrs);
	check_access(page, attrs);
	ASSERT_EQ(vm_get_stat(vm, "pages_1g"), attrs & NR ? 0 : 1);
	vm_set_memory_attributes(vm, MEM_GPA, PG_SIZE_1G, 0);
	prot_mem_unmap(&mem);
	check_access(page, 0);
	ASSERT_EQ(vm_get_stat(vm, "pages_1g"), 1);
	destroy_vm();
}

static void test_split_1g_pages(void)
{
	if (!has_free_1g_page()) {
		pr_info("1 GiB pages: the kernel was booted without\n");
		return;
	}
	test_split_1g(NW);
	test_split_1g(NX);
	test_split_1g(NOTHING);
}

/*
 * Where executable hugepages are a danger, hugepages do not execute and become
 * small pages that do, but for those that may not.
 */
static bool set_nx_huge_pages(const char *value)
{
	FILE *f = fopen("/sys/module/kvm/parameters/nx_huge_pages", "w");
	bool ok;

	if (!f)
		return false;
	ok = fputs(value, f) >= 0;
	return !fclose(f) && ok;
}

static void test_nx_huge_pages(void)
{
	if (!set_nx_huge_pages("force")) {
		pr_info("NX hugepages: not on this host\n");
		return;
	}
	test_eager_split(NX);
	test_eager_split(NW);
	set_nx_huge_pages("auto");
}

/* ---- A vCPU that is in the guest all the time ---- */

static void *run_to_refusal(void *arg)
{
	vcpu_run_to_refusal(vcpu, PAGE(0));
	return NULL;
}

static u64 nr_done_now(void)
{
	return READ_ONCE(*guest_global(vm, nr_done));
}

/* What the CPU has cached of the mapping has to go as well. */
static void protect_running(u64 (*fn)(u64), u64 attrs)
{
	pthread_t thread;
	u64 before;

	start_access(fn, PAGE(0));
	before = nr_done_now();
	pthread_create(&thread, NULL, run_to_refusal, NULL);
	while (nr_done_now() == before)
		usleep(100);

	set_attributes(PAGE(0), attrs);
	before = nr_done_now();
	pthread_join(thread, NULL);

	/* It may have been between doing it and counting it, or before it. */
	TEST_ASSERT(nr_done_now() - before <= 1,
		    "Nothing should get through once %#lx is set, %lu times it did",
		    attrs, nr_done_now() - before);
	set_attributes(PAGE(0), 0);
}

static void test_running(void)
{
	int i;

	/* With one CPU, the vCPU is out of the guest while attributes are set. */
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		pr_info("vCPUs in the guest: this needs two CPUs\n");
		return;
	}

	create_small_vm(0);
	for (i = 0; i < 20; i++) {
		protect_running(guest_write_on, NW);
		protect_running(guest_exec_on, NX);
	}
	destroy_vm();
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE_PROTECTIONS();
	require_hugetlb_pages(HUGE_SIZE / PG_SIZE_2M + 1);

	can_force = enable_forced_emulation();
	test_combinations();
	test_narrow_and_widen();
	test_dirty_log(take_dirty_log);
	test_dirty_log(take_dirty_log_manually);
	test_dirty_ring();
	test_prefetch();
	if (kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		test_pre_fault();
	test_churn();
	test_read_only_memslot();
	test_split();
	test_split_1g_pages();
	test_eager_split(NX);
	test_eager_split(NW);
	test_nx_huge_pages();
	test_running();
	return 0;
}
