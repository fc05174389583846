// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hardware memory error in private memory.
 *
 * The page stays where it is, so that fresh zeroes are not taken for the data that
 * is lost: accesses end with EHWPOISON until a hole is punched there.  The pages
 * around it do not notice, also if they are part of the same 2 MiB.
 *
 * Errors are injected by PFN, which the table of owners of a debug kernel tells.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	PG_SIZE_2M
#define NR_PAGES	8ull		/* of them are used */
#define BAD		3ull
#define PAGE(i)		(SLOT_GPA + (i) * PG)

#define HWPOISON	"/sys/kernel/debug/hwpoison/"
#define OWNERS		"/sys/kernel/debug/kvm_gmem_owner/owners"

static struct {
	u64 gpa;
	u64 value;	/* written unless zero */
} order;

static void guest_code(void)
{
	for (;;) {
		if (order.value)
			poke(order.gpa, order.value);
		GUEST_SYNC_ARGS(0, peek(order.gpa), 0, 0, 0);
	}
}

static void give_order(struct kvm_vcpu *vcpu, u64 gpa, u64 value)
{
	order.gpa = gpa;
	order.value = value;
	sync_global_to_guest(vcpu->vm, order);
}

static void guest_write(struct kvm_vcpu *vcpu, u64 gpa)
{
	give_order(vcpu, gpa, gpa + 1);
	vcpu_run_to_sync(vcpu, 0);
}

static void guest_expect(struct kvm_vcpu *vcpu, u64 gpa, u64 value)
{
	struct ucall uc;

	give_order(vcpu, gpa, 0);
	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should be able to read %#lx", gpa);
	TEST_ASSERT(uc.args[2] == value, "%#lx should hold %#lx, holds %#lx",
		    gpa, value, uc.args[2]);
}

static void expect_neighbours(struct kvm_vcpu *vcpu)
{
	u64 i;

	for (i = 0; i < NR_PAGES; i++)
		if (i != BAD)
			guest_expect(vcpu, PAGE(i), PAGE(i) + 1);
}

/* More than once: nothing heals by itself. */
static void expect_poisoned(struct kvm_vcpu *vcpu, u64 gpa)
{
	u64 at = gpa, size = PG;
	int i, ret;

	give_order(vcpu, gpa, 0);
	for (i = 0; i < 2; i++) {
		ret = _vcpu_run(vcpu);
		TEST_ASSERT(ret == -1 && errno == EHWPOISON &&
			    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT,
			    "KVM_RUN should fail with EHWPOISON, ret: %i errno: %i exit: %s",
			    ret, errno, exit_story(vcpu->run));
		TEST_ASSERT(vcpu->run->memory_fault.gpa == gpa &&
			    vcpu->run->memory_fault.flags ==
			    KVM_MEMORY_EXIT_FLAG_PRIVATE,
			    "The exit should name %#lx, is %s", gpa,
			    exit_story(vcpu->run));
	}

	ret = __vcpu_pre_fault_memory(vcpu, &at, &size);
	TEST_ASSERT(ret == -1 && errno == EHWPOISON,
		    "KVM_PRE_FAULT_MEMORY should fail with EHWPOISON, ret: %i errno: %i",
		    ret, errno);
}

/* The folio that holds @pfn, or with 0 any, is owned by some VM. */
static bool find_owned(u64 pfn, u64 *first)
{
	FILE *f = fopen(OWNERS, "r");
	unsigned int order;
	bool found = false;

	TEST_ASSERT(f, OWNERS ": %s", strerror(errno));
	while (!found && fscanf(f, "%lx %u", first, &order) == 2)
		found = !pfn || (pfn - *first) >> order == 0;
	fclose(f);
	return found;
}

/* Memory failure says that it failed: the page is still in use, by its file. */
static void write_pfn(const char *file, u64 pfn)
{
	char text[32];
	int fd, n;

	fd = open(file, O_WRONLY);
	TEST_ASSERT(fd >= 0, "%s: %s", file, strerror(errno));
	n = snprintf(text, sizeof(text), "%#lx\n", pfn);
	TEST_ASSERT(write(fd, text, n) == n || errno == EBUSY,
		    "Writing to %s: %s", file, strerror(errno));
	close(fd);
}

static void test_failure(u64 flags)
{
	u64 i, pfn, first, lost = flags ? SLOT_SIZE : PG;
	struct kvm_vcpu *vcpus[2], *vcpu, *victim;
	struct private_slot s;
	struct kvm_vm *vm;

	pr_info("memory failure, flags %#lx\n", flags);
	vm = vm_create_protected_with_vcpus(2, SLOT_SIZE / PG, guest_code,
					    vcpus);
	vcpu = vcpus[0];
	/* Stays at the access until it succeeds. */
	victim = vcpus[1];
	vm_enable_memfd_flags(vm, flags);
	private_slot_create_flags(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
				  VM_MEM_SRC_ANONYMOUS_THP, flags);
	private_slot_map(&s);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);

	guest_write(vcpu, PAGE(BAD));
	TEST_ASSERT(find_owned(0, &pfn), "A page should be owned");
	if (flags)
		pfn += BAD;
	for (i = 0; i < NR_PAGES; i++)
		guest_write(vcpu, PAGE(i));

	write_pfn(HWPOISON "corrupt-pfn", pfn);
	expect_poisoned(victim, PAGE(BAD));
	expect_neighbours(vcpu);
	TEST_ASSERT(!vm_get_stat(vm, "pages_2m"),
		    "Nothing should be mapped together with a page that failed");

	/* Converted and back again it is the same page. */
	vm_set_shared(vm, PAGE(BAD), PG);
	guest_expect(victim, PAGE(BAD), 0);
	vm_set_private(vm, PAGE(BAD), PG);
	expect_poisoned(victim, PAGE(BAD));

	/* Of a larger folio all has to go. */
	if (flags) {
		private_slot_punch(&s, PAGE(BAD), PG);
		expect_poisoned(victim, PAGE(BAD));
		expect_neighbours(vcpu);
	}
	private_slot_punch(&s, PAGE(BAD) & ~(lost - 1), lost);
	guest_expect(victim, PAGE(BAD), 0);
	if (!flags)
		expect_neighbours(vcpu);
	TEST_ASSERT(!find_owned(pfn, &first),
		    "A page that failed should not be used again");

	kvm_vm_free(vm);
	private_slot_destroy(&s);
	write_pfn(HWPOISON "unpoison-pfn", pfn);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE_PROTECTED_VM();
	__TEST_REQUIRE(has_owner_table() &&
		       !access(HWPOISON "corrupt-pfn", W_OK),
		       "No way to find a page and to inject an error");

	test_failure(0);
	test_failure(KVM_GUEST_MEMFD_HUGE_PAGES);
	TEST_ASSERT(!owner_stat("violations"), "No rule should be violated");
	return 0;
}
