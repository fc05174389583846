// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an operator sees of memory attributes and of guest_memfd: tracepoints,
 * statistics, debugfs and fdinfo, each with exact numbers.
 *
 * Events are read from a trace instance of the test's own, so other users of
 * tracing, and other VMs, are not in the way: lines of other VMs are left out.
 *
 * usage: mem_attrs_observe_test [-n EXTENTS]
 * A list of a million extents takes minutes to make in an emulator: -n 1000000
 */
#define _GNU_SOURCE /* for fallocate() */
#include <asm/kvm_para.h>
#include <ctype.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
#include "vmx.h"
#include "mem_prot.h"
#include "mem_guest.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define MEM_SIZE	(16 * PG)
#define PROT_GPA	(MEM_GPA + 2 * PG)
#define MMIO_GPA	(MEM_GPA + 64 * PG)
#define HUGE		0x200000ull

#define INSTANCE	"/sys/kernel/tracing/instances/mem_attrs_observe"
#define DEBUGFS		"/sys/kernel/debug/kvm"

/* ---- Files ---- */

/* Not an array: guests are loaded with all that the program has. */
#define TEXT_SIZE	0x100000

static char *text;

static const char *read_text(const char *path)
{
	FILE *file = fopen(path, "r");
	size_t n;

	TEST_ASSERT(file, "%s should be there, errno: %i", path, errno);
	n = fread(text, 1, TEXT_SIZE - 1, file);
	TEST_ASSERT(!ferror(file), "%s should be readable, errno: %i", path,
		    errno);
	text[n] = 0;
	fclose(file);
	return text;
}

static void write_text(const char *path, const char *value)
{
	FILE *file = fopen(path, "w");

	TEST_ASSERT(file && fputs(value, file) >= 0 && !fclose(file),
		    "%s should take '%s', errno: %i", path, value, errno);
}

/* ---- Events ---- */

static void events_enable(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), INSTANCE "/events/kvm/%s/enable", name);
	write_text(path, "1");
}

static void events_clear(void)
{
	write_text(INSTANCE "/trace", "");
}

static void events_start(void)
{
	static const char * const names[] = {
		"kvm_mem_attrs_set", "kvm_vm_set_mem_attributes",
		"kvm_mem_attrs_zap", "kvm_memory_fault_exit",
		"kvm_mem_attrs_refused",
	};
	int i;

	rmdir(INSTANCE);
	TEST_ASSERT(!mkdir(INSTANCE, 0700),
		    "tracefs should have room for an instance, errno: %i", errno);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		events_enable(names[i]);
	events_clear();
}

static void events_stop(void)
{
	write_text(INSTANCE "/events/enable", "0");
	TEST_ASSERT(!rmdir(INSTANCE),
		    "The instance should be removable, errno: %i", errno);
}

/* What follows "NAME: " in the next line with it, up to " ns ", which varies. */
static char *next_event(char **at, const char *name)
{
	char key[64], *line, *end;

	snprintf(key, sizeof(key), " %s: ", name);
	line = strstr(*at, key);
	if (!line)
		return NULL;

	line += strlen(key);
	end = line + strcspn(line, "\n");
	*at = end + !!*end;
	*end = 0;
	end = strstr(line, " ns ");
	if (end) {
		TEST_ASSERT(isdigit(end[4]), "%s should have a time: %s", name,
			    line);
		*end = 0;
	}
	return line;
}

/* The events called @name are just these, which end with NULL. */
#define expect_events(name, ...)					\
	__expect_events(name, (const char *[]){ __VA_ARGS__, NULL })

static void __expect_events(const char *name, const char **expected)
{
	char *at, *line;

	read_text(INSTANCE "/trace");
	for (at = text; (line = next_event(&at, name)); expected++) {
		TEST_ASSERT(*expected, "%s: one too many: '%s'", name, line);
		TEST_ASSERT(!strcmp(line, *expected), "%s: '%s' instead of '%s'",
			    name, line, *expected);
	}
	TEST_ASSERT(!*expected, "%s: there should be '%s'", name, *expected);
}

static int count_events(const char *name)
{
	char *at = text;
	int n = 0;

	read_text(INSTANCE "/trace");
	while (next_event(&at, name))
		n++;
	return n;
}

static const char *form(const char *fmt, ...)
{
	static char forms[8][256];
	static int next;
	char *form = forms[next++ % ARRAY_SIZE(forms)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(form, sizeof(forms[0]), fmt, args);
	va_end(args);
	return form;
}

/* ---- Statistics ---- */

/* The sum of all elements. */
static u64 get_stat(int fd, const char *name)
{
	struct kvm_stats_desc *descs, *desc;
	struct kvm_stats_header header;
	u64 data[64], sum = 0;
	int i, j;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (strcmp(desc->name, name))
			continue;
		read_stat_data(fd, &header, desc, data, ARRAY_SIZE(data));
		for (j = 0; j < desc->size; j++)
			sum += data[j];
		free(descs);
		close(fd);
		return sum;
	}
	TEST_FAIL("There is no statistic %s", name);
	return 0;
}

static u64 vm_stat(struct kvm_vm *vm, const char *name)
{
	return get_stat(vm_get_stats_fd(vm), name);
}

static u64 vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	return get_stat(vcpu_get_stats_fd(vcpu), name);
}

static void expect_stat(struct kvm_vm *vm, const char *name, u64 value)
{
	u64 is = vm_stat(vm, name);

	TEST_ASSERT(is == value, "%s is %lu, not %lu", name, is, value);
}

static void expect_vcpu_stat(struct kvm_vcpu *vcpu, const char *name, u64 value)
{
	u64 is = vcpu_stat(vcpu, name);

	TEST_ASSERT(is == value, "%s is %lu, not %lu", name, is, value);
}

/* A file of the VM's directory in debugfs, which is called PID-FD. */
static const char *vm_file(struct kvm_vm *vm, const char *name)
{
	return form(DEBUGFS "/%d-%d/%s", getpid(), vm->fd, name);
}

static void expect_text(const char *path, const char *expected)
{
	TEST_ASSERT(!strcmp(read_text(path), expected),
		    "%s should be\n%snot\n%s", path, expected, text);
}

/* ---- Changes ---- */

static int update(struct kvm_vm *vm, u64 gpa, u64 size, u64 set, u64 clear)
{
	struct kvm_memory_attributes_update u = {
		.address = gpa, .size = size, .set = set, .clear = clear,
	};
	struct kvm_update_memory_attributes args = {
		.updates = (u64)&u, .nr_updates = 1,
	};

	return __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);
}

static const char *change(u64 gfn, const char *what, int result)
{
	return form("vm %d gfn 0x%lx pages 16 %s result %d", getpid(), gfn,
		    what, result);
}

static void test_changes(void)
{
	struct kvm_vm *vm = vm_create_barebones();

	expect_stat(vm, "mem_attrs_extents", 0);
	expect_text(vm_file(vm, "mem_attrs"), "");
	expect_text(vm_file(vm, "mem_attrs_maps"), "");
	events_clear();

	vm_set_memory_attributes(vm, 0x100 * PG, 16 * PG, NW);
	vm_set_memory_attributes(vm, 0x100 * PG, 16 * PG, NW);
	TEST_ASSERT(!update(vm, 0x108 * PG, 16 * PG, NX, 0),
		    "The update should succeed, errno: %i", errno);
	TEST_ASSERT(update(vm, 0x110 * PG, 16 * PG, NR, 0) && errno == EINVAL,
		    "NR without NW should be refused");

	expect_events("kvm_mem_attrs_set",
		      change(0x100, "set NW keep 0x0 changed 16 extents 1", 0),
		      change(0x100, "set NW keep 0x0 changed 0 extents 0", 0),
		      change(0x108, "set NX keep 0xf changed 16 extents 2", 0),
		      change(0x110, "set NR keep 0xf changed 0 extents 0",
			     -EINVAL));
	expect_events("kvm_vm_set_mem_attributes",
		      "start 0x100 end 0x110 attr 0x2",
		      "start 0x100 end 0x110 attr 0x2");

	expect_stat(vm, "mem_attrs_sets", 2);
	expect_stat(vm, "mem_attrs_noop_sets", 1);
	expect_stat(vm, "mem_attrs_set_hist", 3);
	expect_stat(vm, "mem_attrs_extents", 3);
	/* Two levels of nodes lead to GFN 0x100. */
	expect_stat(vm, "mem_attrs_nodes", 2 * 576);
	expect_text(vm_file(vm, "mem_attrs_extents"), "3\n");
	expect_text(vm_file(vm, "mem_attrs"),
		    "0x0000000000100000 0x0000000000107fff 32768 r-x shared\n"
		    "0x0000000000108000 0x000000000010ffff 32768 r-- shared\n"
		    "0x0000000000110000 0x0000000000117fff 32768 rw- shared\n");
	expect_text(vm_file(vm, "mem_attrs_maps"), "");

	/* NX between nothing, then NW: the last of three pages joins the NW. */
	vm_set_memory_attributes(vm, 0x209 * PG, PG, NX);
	vm_set_memory_attributes(vm, 0x20b * PG, PG, NW);
	expect_stat(vm, "mem_attrs_extents", 5);
	TEST_ASSERT(!update(vm, 0x208 * PG, 3 * PG, NW, 0),
		    "The update should succeed, errno: %i", errno);
	expect_stat(vm, "mem_attrs_extents", 6);

	vm_set_memory_attributes(vm, 0, 1ull << 40, 0);
	expect_stat(vm, "mem_attrs_extents", 0);
	expect_stat(vm, "mem_attrs_nodes", 0);
	expect_text(vm_file(vm, "mem_attrs"), "");

	vm_set_memory_attributes(vm, 0, PG, NOTHING);
	expect_text(vm_file(vm, "mem_attrs"),
		    "0x0000000000000000 0x0000000000000fff 4096 --- shared\n");
	kvm_vm_free(vm);
}

/*
 * Pages 0 to @nr - 1 are all that the tree of the store has, as it branches by 64.  If
 * they come to be one extent, the tree needs a level more to hold it: whether they
 * will is found out beforehand.  @first and @last are set first, then what @middle
 * has, of all pages or of those in between.
 */
static void fill_tree(struct kvm_vm *vm, u64 nr, bool all, const u64 attrs[3],
		      u64 extents)
{
	u64 first = attrs[0], middle = attrs[1], last = attrs[2];

	vm_set_memory_attributes(vm, 0, PG, first);
	vm_set_memory_attributes(vm, (nr - 1) * PG, PG, last);
	/* Or there would be nothing to change. */
	vm_set_memory_attributes(vm, nr / 2 * PG, PG, middle ^ NX);
	if (all)
		vm_set_memory_attributes(vm, 0, nr * PG, middle);
	else
		vm_set_memory_attributes(vm, PG, (nr - 2) * PG, middle);

	expect_stat(vm, "mem_attrs_extents", extents);
	ASSERT_EQ(vm_get_memory_attributes(vm, 0), all ? middle : first);
	ASSERT_EQ(vm_get_memory_attributes(vm, PG), middle);
	ASSERT_EQ(vm_get_memory_attributes(vm, (nr - 2) * PG), middle);
	ASSERT_EQ(vm_get_memory_attributes(vm, (nr - 1) * PG),
		  all ? middle : last);
	ASSERT_EQ(vm_get_memory_attributes(vm, nr * PG), 0);

	vm_set_memory_attributes(vm, 0, 2 * nr * PG, 0);
	expect_stat(vm, "mem_attrs_extents", 0);
	expect_stat(vm, "mem_attrs_nodes", 0);
}

static void test_full_tree(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	u64 nr;

	for (nr = 64; nr <= 64 * 64 * 64; nr *= 64) {
		fill_tree(vm, nr, false, (u64[]){ NW, NW, NW }, 1);
		fill_tree(vm, nr, true, (u64[]){ NW, NW, NW }, 1);
		fill_tree(vm, nr, true, (u64[]){ NX, NW, NX }, 1);
		fill_tree(vm, nr, true, (u64[]){ NW, 0, NW }, 0);
		fill_tree(vm, nr, false, (u64[]){ NW, 0, NW }, 2);
		fill_tree(vm, nr, false, (u64[]){ NX, NW, NW }, 2);
		fill_tree(vm, nr, false, (u64[]){ NW, NW, NX }, 2);
	}
	kvm_vm_free(vm);
}

/* ---- Exits ---- */

static void guest_read(void)
{
	READ_ONCE(*(u64 *)PROT_GPA);
	GUEST_DONE();
}

/* The emulator reads the device, and writes to memory. */
static void guest_movs(void)
{
	void *to = (void *)PROT_GPA, *from = (void *)MMIO_GPA;

	asm volatile("movsb" : "+D"(to), "+S"(from) : : "memory");
	GUEST_DONE();
}

static void guest_idle(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static void guest_vmptrld(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_SYNC(1);
	asm volatile("vmptrld %0" : : "m"(*(u64 *)PROT_GPA) : "cc", "memory");
	GUEST_DONE();
}

static bool tdp_is_on(void)
{
	const char *param = is_intel_cpu() ?
			    "/sys/module/kvm_intel/parameters/ept" :
			    "/sys/module/kvm_amd/parameters/npt";

	return strchr("Y1", *read_text(param));
}

static void expect_exit(struct kvm_vcpu *vcpu, u64 gpa, u64 flags,
			const char *flag_names, const char *by)
{
	u64 exits = vcpu_stat(vcpu, "memory_fault_exits");

	events_clear();
	vcpu_expect_memory_fault(vcpu, flags, gpa);
	expect_events("kvm_memory_fault_exit",
		      form("vm %d vcpu 0 gpa 0x%llx flags %s rip 0x%llx by %s",
			   getpid(), gpa, flag_names, vcpu_get_rip(vcpu), by));
	expect_vcpu_stat(vcpu, "memory_fault_exits", exits + 1);
}

static struct kvm_vm *create_with_mem(struct kvm_vcpu **vcpu, void *guest_code,
				      struct prot_mem *m)
{
	struct kvm_vm *vm = __vm_create_with_one_vcpu(vcpu, 64, guest_code);

	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(*vcpu);
	prot_mem_create(m, vm, SLOT, 0, MEM_GPA, MEM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	prot_mem_map(m, PG_LEVEL_4K);
	virt_map(vm, MMIO_GPA, MMIO_GPA, 1);
	return vm;
}

static void destroy_with_mem(struct kvm_vm *vm, struct prot_mem *m)
{
	kvm_vm_free(vm);
	prot_mem_destroy(m);
}

static void test_exit_hardware(void)
{
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm = create_with_mem(&vcpu, guest_read, &m);

	events_clear();
	vm_set_memory_attributes(vm, PROT_GPA, PG, NOTHING);
	expect_events("kvm_mem_attrs_zap",
		      form("vm %d slot %d as 0 gfn 0x%llx pages 1 old 0 new NR|NW|NX: zapped",
			   getpid(), SLOT, PROT_GPA / PG));
	expect_exit(vcpu, PROT_GPA, EXIT_R, "read", "hardware");
	expect_vcpu_stat(vcpu, "refused_read", 0);

	vm_set_memory_attributes(vm, PROT_GPA, PG, 0);
	vcpu_run_to_done(vcpu);
	events_clear();
	vm_set_memory_attributes(vm, PROT_GPA, PG, NW);
	expect_events("kvm_mem_attrs_zap",
		      form("vm %d slot %d as 0 gfn 0x%llx pages 1 old 0 new NW: write-protected",
			   getpid(), SLOT, PROT_GPA / PG));
	destroy_with_mem(vm, &m);
}

/* More mappings than are write-protected in one go: the last is as the first. */
#define MANY_SIZE	(40ull << 20)
#define MANY_LAST	(MEM_GPA + MANY_SIZE - PG)

static void guest_write_many(void)
{
	poke(MEM_GPA, 1);
	poke(MANY_LAST, 1);
	GUEST_DONE();
}

static void test_many_mapped(void)
{
	u64 gpa = MEM_GPA, size = MANY_SIZE;
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		return;

	vm = __vm_create_with_one_vcpu(&vcpu, MANY_SIZE / PG, guest_write_many);
	prot_mem_create(&m, vm, SLOT, 0, MEM_GPA, MANY_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	virt_map(vm, MEM_GPA, MEM_GPA, 1);
	virt_map(vm, MANY_LAST, MANY_LAST, 1);
	memset(m.hva, 0, MANY_SIZE);
	while (size)
		TEST_ASSERT(!__vcpu_pre_fault_memory(vcpu, &gpa, &size) ||
			    errno == EINTR || errno == EAGAIN,
			    "Memory should be mapped, errno: %i", errno);

	vm_set_memory_attributes(vm, MEM_GPA, MANY_SIZE, NW);
	vcpu_expect_memory_fault(vcpu, EXIT_W, MEM_GPA);
	vm_set_memory_attributes(vm, MEM_GPA, PG, 0);
	vcpu_expect_memory_fault(vcpu, EXIT_W, MANY_LAST);
	vm_set_memory_attributes(vm, MANY_LAST, PG, 0);
	vcpu_run_to_done(vcpu);
	destroy_with_mem(vm, &m);
}

/*
 * KVM's own page for the local APIC, where it has one, is no memory of the VMM's:
 * attributes do not bind it.
 */
static void guest_xapic(void)
{
	xapic_enable();
	GUEST_ASSERT(!GET_APIC_ID_FIELD(xapic_read_reg(APIC_ID)));
	GUEST_SYNC(1);
	xapic_write_reg(APIC_TASKPRI, 0x30);
	GUEST_ASSERT(xapic_read_reg(APIC_TASKPRI) == 0x30);
	GUEST_DONE();
}

static void test_own_memslot(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_xapic);

	virt_map(vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA, 1);
	vcpu_run_to_sync(vcpu, 1);
	vm_set_memory_attributes(vm, APIC_DEFAULT_GPA, PG, NW);
	vm_set_memory_attributes(vm, APIC_DEFAULT_GPA, PG, NOTHING);
	vcpu_run_to_done(vcpu);
	expect_vcpu_stat(vcpu, "memory_fault_exits", 0);
	kvm_vm_free(vm);
}

static void test_exit_emulator(void)
{
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm = create_with_mem(&vcpu, guest_movs, &m);

	vm_set_memory_attributes(vm, PROT_GPA, PG, NW);
	expect_exit(vcpu, PROT_GPA, EXIT_W, "write", "emulator");
	expect_events("kvm_mem_attrs_refused", NULL);
	destroy_with_mem(vm, &m);
}

/* Hardware walks guest page tables itself, unless they are shadowed. */
static void test_exit_page_walk(void)
{
	const char *by = tdp_is_on() ? "hardware" : "page-walk";
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm = create_with_mem(&vcpu, guest_idle, &m);

	vcpu_run_to_sync(vcpu, 0);
	vm_set_memory_attributes(vm, vm->pgd, PG, NOTHING);
	events_clear();
	vcpu_run_to_memory_fault(vcpu);
	expect_events("kvm_memory_fault_exit",
		      form("vm %d vcpu 0 gpa 0x%llx flags %s rip 0x%llx by %s",
			   getpid(), (u64)vm->pgd,
			   vcpu->run->memory_fault.flags == EXIT_W ? "write" :
								     "read",
			   vcpu_get_rip(vcpu), by));
	TEST_ASSERT(vcpu_stat(vcpu, "refused_read") == !tdp_is_on(),
		    "A walk by KVM, and only that, is refused a read");
	destroy_with_mem(vm, &m);
}

/* KVM reads the operand of an instruction that it handles. */
static void test_exit_kvm(void)
{
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm;
	vm_vaddr_t vmx;

	if (!kvm_cpu_has(X86_FEATURE_VMX)) {
		pr_info("No VMX: no exit by KVM itself\n");
		return;
	}

	vm = create_with_mem(&vcpu, guest_vmptrld, &m);
	vcpu_alloc_vmx(vm, &vmx);
	vcpu_args_set(vcpu, 1, vmx);
	vcpu_run_to_sync(vcpu, 1);
	vm_set_memory_attributes(vm, PROT_GPA, PG, NOTHING);
	expect_exit(vcpu, PROT_GPA, EXIT_R, "read", "kvm");
	expect_vcpu_stat(vcpu, "refused_read", 1);
	destroy_with_mem(vm, &m);
}

/* ---- Pages that KVM has mapped ---- */

/* KVM maps the VMCB, and has to wait for it.  It is empty then: VMRUN fails. */
static void guest_vmrun(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, MEM_GPA);
	asm volatile("vmrun %0" : : "a"(PROT_GPA) : "memory");
	GUEST_DONE();
}

static int take_page_away(u8 *page)
{
	struct uffdio_register reg = {
		.range = { .start = (u64)page, .len = PG },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) &&
		    !ioctl(uffd, UFFDIO_REGISTER, &reg) &&
		    !madvise(page, PG, MADV_DONTNEED),
		    "A page should be missing, errno: %i", errno);
	return uffd;
}

/* Has to wait until KVM no longer has the page mapped. */
static void *forbid_write(void *vm)
{
	vm_set_memory_attributes(vm, PROT_GPA, PG, NW);
	return NULL;
}

static void *run_to_done(void *vcpu)
{
	vcpu_run_to_done(vcpu);
	return NULL;
}

static void test_maps(void)
{
	struct uffdio_zeropage zero = { .range.len = PG };
	struct kvm_vcpu *vcpu;
	struct uffd_msg msg;
	struct prot_mem m;
	struct kvm_vm *vm;
	pthread_t thread, setter;
	int uffd;

	/* Nested VMX has pages mapped only while L2 runs, or not for long. */
	if (!kvm_cpu_has(X86_FEATURE_SVM)) {
		pr_info("No SVM: no page that KVM has mapped\n");
		return;
	}

	vm = create_with_mem(&vcpu, guest_vmrun, &m);
	vm_set_memory_attributes(vm, PROT_GPA, PG, NX);
	uffd = take_page_away(prot_mem_hva(&m, PROT_GPA));

	pthread_create(&thread, NULL, run_to_done, vcpu);
	TEST_ASSERT(read(uffd, &msg, sizeof(msg)) == sizeof(msg),
		    "KVM should miss the page, errno: %i", errno);
	expect_text(vm_file(vm, "mem_attrs_maps"),
		    form("0x%016llx shared\n", PROT_GPA));

	/* Only changes of that page wait. */
	vm_set_memory_attributes(vm, MEM_GPA, PG, NX);
	vm_set_memory_attributes(vm, PROT_GPA + PG, PG, NX);
	pthread_create(&setter, NULL, forbid_write, vm);
	usleep(50000);
	expect_stat(vm, "mem_attrs_sets", 3);

	zero.range.start = (u64)prot_mem_hva(&m, PROT_GPA);
	TEST_ASSERT(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero),
		    "The page should be missing, errno: %i", errno);
	pthread_join(thread, NULL);
	pthread_join(setter, NULL);
	expect_stat(vm, "mem_attrs_sets", 4);
	expect_text(vm_file(vm, "mem_attrs_maps"), "");
	close(uffd);
	destroy_with_mem(vm, &m);
}

/* ---- Refused accesses that are no exit ---- */

static void guest_wall_clock(void)
{
	wrmsr(MSR_KVM_WALL_CLOCK_NEW, PROT_GPA);
	GUEST_DONE();
}

static void test_refused(void)
{
	struct kvm_vcpu *vcpu;
	struct prot_mem m;
	struct kvm_vm *vm = create_with_mem(&vcpu, guest_wall_clock, &m);
	struct kvm_translation tr = { .linear_address = PROT_GPA };

	vm_set_memory_attributes(vm, PROT_GPA, PG, NW);
	events_clear();
	vcpu_run_to_done(vcpu);
	expect_events("kvm_mem_attrs_refused",
		      form("vm %d vcpu 0 gfn 0x%llx flags write path wall-clock",
			   getpid(), PROT_GPA / PG));
	expect_events("kvm_memory_fault_exit", NULL);
	expect_vcpu_stat(vcpu, "refused_write", 1);
	expect_vcpu_stat(vcpu, "refused_read", 0);
	expect_vcpu_stat(vcpu, "memory_fault_exits", 0);

	/* The same number as the sum of all vCPUs, in debugfs. */
	expect_text(vm_file(vm, "refused_write"), "1\n");
	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	destroy_with_mem(vm, &m);
}

/* ---- guest_memfd ---- */

static const char *read_fdinfo(int fd)
{
	return read_text(form("/proc/self/fdinfo/%d", fd));
}

static void expect_fdinfo(int fd, const char *line)
{
	TEST_ASSERT(strstr(read_fdinfo(fd), line), "It should say '%s', not\n%s",
		    line, text);
}

/* As in /proc/PID/fd and /proc/PID/maps. */
static void expect_name(int fd, const char *name)
{
	char is[64] = {};

	TEST_ASSERT(readlink(form("/proc/self/fd/%d", fd), is,
			     sizeof(is) - 1) > 0 && !strcmp(is, name),
		    "It should be called %s, not %s", name, is);
}

static unsigned long ino_of(int fd)
{
	struct stat st;

	TEST_ASSERT(!fstat(fd, &st), "fstat() should succeed");
	return st.st_ino;
}

static void allocate(int fd, u64 offset, u64 size)
{
	TEST_ASSERT(!fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size),
		    "fallocate() should succeed, errno: %i", errno);
}

static void punch(int fd, u64 offset, u64 size)
{
	TEST_ASSERT(!fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			       offset, size),
		    "A hole should be punched, errno: %i", errno);
}

static void test_memfd_small(struct kvm_vm *vm)
{
	int fd = vm_create_guest_memfd(vm, 4 * PG, 0);
	unsigned long ino = ino_of(fd);

	events_clear();
	allocate(fd, PG, 2 * PG);
	expect_events("kvm_gmem_alloc", form("ino %lu index 0x1 order 0", ino),
		      form("ino %lu index 0x2 order 0", ino));
	expect_stat(vm, "gmem_pages_4k", 2);
	expect_name(fd, "anon_inode:[kvm-gmem]");
	expect_fdinfo(fd, "gmem-size:\t16384\ngmem-flags:\t0x0\n"
			  "gmem-allocated:\t8192\ngmem-huge:\t0\n"
			  "gmem-holes:\t0\ngmem-bindings:\t0\n");

	punch(fd, 0, 2 * PG);
	expect_events("kvm_gmem_free", form("ino %lu index 0x1 order 0", ino));
	expect_stat(vm, "gmem_pages_4k", 1);
	expect_fdinfo(fd, "gmem-allocated:\t4096\n");

	events_clear();
	close(fd);
	expect_events("kvm_gmem_free", form("ino %lu index 0x2 order 0", ino));
	expect_stat(vm, "gmem_pages_4k", 0);
}

static void test_memfd_huge(struct kvm_vm *vm)
{
	int fd = vm_create_guest_memfd(vm, 4 * HUGE,
				       KVM_GUEST_MEMFD_HUGE_PAGES);
	unsigned long ino = ino_of(fd);

	events_clear();
	allocate(fd, HUGE, 2 * HUGE);
	expect_events("kvm_gmem_alloc",
		      form("ino %lu index 0x200 order 9", ino),
		      form("ino %lu index 0x400 order 9", ino));
	expect_stat(vm, "gmem_pages_2m", 2);

	/* A hole in a large folio frees nothing; filling it allocates nothing. */
	punch(fd, HUGE + PG, 3 * PG);
	expect_stat(vm, "gmem_holes", 3);
	expect_fdinfo(fd, "gmem-allocated:\t4182016\ngmem-huge:\t4194304\n"
			  "gmem-holes:\t12288\n");
	allocate(fd, HUGE + PG, PG);
	expect_stat(vm, "gmem_holes", 2);
	TEST_ASSERT(count_events("kvm_gmem_alloc") == 2 &&
		    !count_events("kvm_gmem_free"),
		    "Holes should not be allocations");

	punch(fd, HUGE, HUGE);
	expect_events("kvm_gmem_free",
		      form("ino %lu index 0x200 order 9", ino));
	expect_stat(vm, "gmem_holes", 0);
	expect_stat(vm, "gmem_pages_2m", 1);
	close(fd);
	expect_stat(vm, "gmem_pages_2m", 0);
}

static void test_memfd_binding(struct kvm_vm *vm)
{
	struct private_slot s;

	private_slot_create(&s, vm, SLOT, MEM_GPA, MEM_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	expect_fdinfo(s.memfd, form("gmem-bindings:\t1\n"
				    "gmem-binding:\tslot %d as 0 gpa 0x%llx-0x%llx offset 0x%llx\n",
				    SLOT, MEM_GPA, MEM_GPA + MEM_SIZE - 1,
				    s.memfd_offset));
	vm_set_private(vm, MEM_GPA, MEM_SIZE);
	expect_text(vm_file(vm, "mem_attrs"),
		    "0x0000000100000000 0x000000010000ffff 65536 rwx private\n");
	private_slot_unset(&s);
	expect_fdinfo(s.memfd, "gmem-bindings:\t0\n");
	private_slot_destroy(&s);
}

/* Needs a kernel with the table of owners, which can refuse a page. */
static void test_memfd_convert_fail(struct kvm_vm *vm)
{
	char *at = text;
	const char *line;
	int fd;

	if (!has_owner_table()) {
		pr_info("No table of owners: no conversion that fails\n");
		return;
	}

	fd = vm_create_guest_memfd(vm, 4 * PG, 0);
	events_clear();
	owner_fail_in(1);
	TEST_ASSERT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, PG) == -1,
		    "The page should be refused");
	read_text(INSTANCE "/trace");
	line = next_event(&at, "kvm_gmem_convert_fail");
	TEST_ASSERT(line && strstr(line, " order 0 to private error -"),
		    "kvm_gmem_convert_fail: '%s'", line ?: "no event");
	expect_stat(vm, "gmem_pages_4k", 0);
	close(fd);
}

static void test_memfd(void)
{
	struct kvm_vm *vm;

	if (!vm_type_is_supported(KVM_X86_SW_PROTECTED_VM)) {
		pr_info("No software-protected VMs: no guest_memfd\n");
		return;
	}

	if (!memfd_is_ours()) {
		pr_info("guest_memfd is mainline's: no events or statistics of it\n");
		return;
	}

	events_enable("kvm_gmem_alloc");
	events_enable("kvm_gmem_free");
	events_enable("kvm_gmem_convert_fail");
	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	vm_enable_memfd_flags(vm, KVM_GUEST_MEMFD_HUGE_PAGES);
	test_memfd_small(vm);
	test_memfd_huge(vm);
	test_memfd_binding(vm);
	test_memfd_convert_fail(vm);
	kvm_vm_free(vm);
}

/* ---- A long list that changes while it is read ---- */

#define UPDATES	32768

static void fragment(struct kvm_vm *vm, u64 nr)
{
	struct kvm_memory_attributes_update *u = calloc(UPDATES, sizeof(*u));
	struct kvm_update_memory_attributes args = { .updates = (u64)u };
	u64 i, n;

	for (i = 0; i < nr; i += n) {
		for (n = 0; n < UPDATES && i + n < nr; n++)
			u[n] = (struct kvm_memory_attributes_update) {
				.address = MEM_GPA + 2 * (i + n) * PG,
				.size = PG,
				.set = NW,
			};
		args.nr_updates = n;
		args.done = 0;
		vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);
	}
	free(u);
	expect_stat(vm, "mem_attrs_extents", nr);
}

struct changer {
	struct kvm_vm *vm;
	u64 nr;
	bool stop;
};

/* Every extent comes and goes, others are joined and parted. */
static void *change_at_random(void *arg)
{
	struct changer *c = arg;
	u64 x = 1, page;

	while (!READ_ONCE(c->stop)) {
		page = random_next(&x) % (2 * c->nr);
		vm_set_memory_attributes(c->vm, MEM_GPA + page * PG, PG,
					 random_next(&x) % 2 ? NW : 0);
	}
	return NULL;
}

/* Lines are in order and do not overlap; returns how many there are. */
static u64 read_list(struct kvm_vm *vm)
{
	unsigned long long first, last, bytes, end = 0;
	FILE *file = fopen(vm_file(vm, "mem_attrs"), "r");
	char rwx[4], kind[8];
	u64 nr = 0;
	int n;

	TEST_ASSERT(file, "mem_attrs should be there, errno: %i", errno);
	while ((n = fscanf(file, "%llx %llx %llu %3s %7s\n", &first, &last,
			   &bytes, rwx, kind)) == 5) {
		TEST_ASSERT(first >= end && last > first &&
			    bytes == last - first + 1,
			    "After %#llx: %#llx %#llx %llu", end, first, last,
			    bytes);
		TEST_ASSERT(!strcmp(rwx, "r-x") && !strcmp(kind, "shared"),
			    "%s %s", rwx, kind);
		end = last + 1;
		nr++;
	}
	TEST_ASSERT(n == EOF && !ferror(file), "Lines should have five words");
	fclose(file);
	return nr;
}

/*
 * Changes that have many extents to look at, from one end or from both, and that may
 * leave so many that they are counted only when the statistic is read.
 */
static void change_long_list(struct kvm_vm *vm, u64 nr)
{
	const u64 size = 2 * nr * PG;

	TEST_ASSERT(!update(vm, MEM_GPA, size, 0, NX), "errno: %i", errno);
	expect_stat(vm, "mem_attrs_extents", nr);
	TEST_ASSERT(!update(vm, MEM_GPA, size, NX, 0), "errno: %i", errno);
	expect_stat(vm, "mem_attrs_extents", 2 * nr);
	TEST_ASSERT(!update(vm, MEM_GPA + PG, size - PG, 0, NX), "errno: %i",
		    errno);
	expect_stat(vm, "mem_attrs_extents", nr);
	ASSERT_EQ(vm_get_memory_attributes(vm, MEM_GPA), NW | NX);
	/* Only the first page changes. */
	TEST_ASSERT(!update(vm, MEM_GPA, size, 0, NX), "errno: %i", errno);
	expect_stat(vm, "mem_attrs_extents", nr);
	ASSERT_EQ(vm_get_memory_attributes(vm, MEM_GPA), NW);

	/* What was there before does not matter, nor how many extents it was. */
	vm_set_memory_attributes(vm, MEM_GPA, nr / 4 * 2 * PG, 0);
	expect_stat(vm, "mem_attrs_extents", nr - nr / 4);
	fragment(vm, nr);
}

static void test_long_list(u64 nr)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct changer c = { .vm = vm, .nr = nr };
	pthread_t thread;
	u64 lines;

	write_text(INSTANCE "/events/enable", "0");
	fragment(vm, nr);
	change_long_list(vm, nr);
	lines = read_list(vm);
	TEST_ASSERT(lines == nr, "%lu extents should be as many lines, not %lu",
		    nr, lines);

	pthread_create(&thread, NULL, change_at_random, &c);
	read_list(vm);
	WRITE_ONCE(c.stop, true);
	pthread_join(thread, NULL);

	lines = read_list(vm);
	expect_stat(vm, "mem_attrs_extents", lines);

	/* All but the first and the last page become one extent. */
	vm_set_memory_attributes(vm, MEM_GPA, PG, NW);
	vm_set_memory_attributes(vm, MEM_GPA + 2 * nr * PG, PG, NW);
	vm_set_memory_attributes(vm, MEM_GPA + PG, (2 * nr - 1) * PG, NX);
	expect_stat(vm, "mem_attrs_extents", 3);
	expect_text(vm_file(vm, "mem_attrs_extents"), "3\n");
	kvm_vm_free(vm);
}

/* ---- The process is killed in the midst of long calls ---- */

#define KILLED_EXTENTS	4096
#define KILLED_ROUNDS	12

static void *killed_updates(void *arg)
{
	struct kvm_memory_attributes_update *u = calloc(UPDATES, sizeof(*u));
	struct kvm_update_memory_attributes args = {
		.updates = (u64)u, .nr_updates = UPDATES,
	};
	struct kvm_vm *vm = arg;
	u64 i;

	for (i = 0; i < UPDATES; i++)
		u[i] = (typeof(*u)) {
			.address = MEM_GPA + 2 * (i % KILLED_EXTENTS) * PG,
			.size = PG,
			.set = i / KILLED_EXTENTS % 2 ? NX : 0,
			.clear = i / KILLED_EXTENTS % 2 ? 0 : NX,
		};
	for (;;) {
		args.done = 0;
		__vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);
	}
	return NULL;
}

/* Looks at all of them, and finds nothing to do. */
static void *killed_update_of_nothing(void *arg)
{
	struct kvm_vm *vm = arg;

	for (;;)
		update(vm, MEM_GPA, 2 * KILLED_EXTENTS * PG, 0, NR);
	return NULL;
}

static void *killed_get(void *arg)
{
	struct kvm_memory_attributes_extent *e;
	struct kvm_get_memory_attributes get;
	struct kvm_vm *vm = arg;

	e = calloc(2 * KILLED_EXTENTS, sizeof(*e));
	for (;;) {
		get = (typeof(get)) {
			.address = MEM_GPA,
			.size = 2 * KILLED_EXTENTS * PG,
			.extents = (u64)e,
			.nr_extents = 2 * KILLED_EXTENTS,
		};
		__vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
	}
	return NULL;
}

static void *killed_reading(void *arg)
{
	static char buffer[0x10000];
	struct kvm_vm *vm = arg;
	const char *path = vm_file(vm, "mem_attrs");
	int fd;

	for (;;) {
		fd = open(path, O_RDONLY);
		while (read(fd, buffer, sizeof(buffer)) > 0)
			;
		close(fd);
	}
	return NULL;
}

static void busy_child(void)
{
	static void *(* const calls[])(void *arg) = {
		killed_updates, killed_update_of_nothing, killed_get,
		killed_reading,
	};
	struct kvm_vm *vm = vm_create_barebones();
	pthread_t thread;
	int i;

	fragment(vm, KILLED_EXTENTS);
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		pthread_create(&thread, NULL, calls[i], vm);
	for (;;)
		vm_stat(vm, "mem_attrs_extents");
}

/* A call that is killed ends soon: waitpid() would hang, or take very long. */
static void test_killed(void)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < KILLED_ROUNDS; i++) {
		pid = fork();
		if (!pid)
			busy_child();
		/* Some are not even ready by then. */
		usleep(20000 * (i + 1));
		TEST_ASSERT(!kill(pid, SIGKILL) &&
			    waitpid(pid, &status, 0) == pid &&
			    WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			    "The child should be killed, status: %#x", status);
	}
}

int main(int argc, char *argv[])
{
	int nr = 20000;
	const struct number_option options[] = {
		{ 'n', "extents of the long list", &nr, 1, 10000000 },
	};
	enum vm_mem_backing_src_type src = VM_MEM_SRC_ANONYMOUS;

	parse_options(argc, argv, options, ARRAY_SIZE(options), &src);
	TEST_REQUIRE_PROTECTIONS();

	text = malloc(TEXT_SIZE);
	events_start();
	test_changes();
	test_full_tree();
	test_exit_hardware();
	test_many_mapped();
	test_own_memslot();
	test_exit_emulator();
	test_exit_page_walk();
	test_exit_kvm();
	test_maps();
	test_refused();
	test_memfd();
	test_long_list(nr);
	test_killed();
	events_stop();
	return 0;
}
