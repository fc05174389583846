// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers for the tests of memory attributes and private memory.
 */
#define _GNU_SOURCE /* for fallocate() */
#include <getopt.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

bool vm_type_is_supported(unsigned long type)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & (1ul << type);
}

/*
 * The library opens VMs of the default type only, but reopens them with the
 * type that is recorded.  Reopening keeps all that was loaded into the memory
 * regions, so it is done before there are vCPUs.
 */
static void vm_reopen_as(struct kvm_vm *vm, unsigned long type)
{
	kvm_vm_release(vm);
	vm->type = type;
	kvm_vm_restart(vm);
}

struct kvm_vm *vm_create_barebones_type(unsigned long type)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_reopen_as(vm, type);
	return vm;
}

struct kvm_vm *vm_create_protected_with_vcpus(u32 nr_vcpus,
					      u64 extra_mem_pages,
					      void *guest_code,
					      struct kvm_vcpu *vcpus[])
{
	struct kvm_vm *vm;
	u32 i;

	vm = __vm_create(VM_MODE_DEFAULT, nr_vcpus, extra_mem_pages);
	vm_reopen_as(vm, KVM_X86_SW_PROTECTED_VM);

	for (i = 0; i < nr_vcpus; i++)
		vcpus[i] = vm_vcpu_add(vm, i, guest_code);

	return vm;
}

int vm_create_guest_memfd(struct kvm_vm *vm, u64 size, u64 flags)
{
	int fd = __vm_create_guest_memfd(vm, size, flags);

	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_CREATE_GUEST_MEMFD, fd));
	return fd;
}

int __vm_enable_memfd_flags(struct kvm_vm *vm, u64 flags)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_BACKING_FLAGS,
		.args = { flags },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
}

void vm_enable_memfd_flags(struct kvm_vm *vm, u64 flags)
{
	int ret = __vm_enable_memfd_flags(vm, flags);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_ENABLE_CAP, ret));
}

/* How many bytes of the guest_memfd there really are. */
u64 memfd_allocated(int memfd)
{
	struct stat st;

	TEST_ASSERT(!fstat(memfd, &st), "fstat() should succeed, errno: %i",
		    errno);
	return st.st_blocks * 512ull;
}

int __private_slot_set(struct private_slot *s)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = s->slot,
		.flags = s->flags,
		.guest_phys_addr = s->gpa,
		.memory_size = s->size,
		.userspace_addr = (uintptr_t)s->hva,
		.guest_memfd_offset = s->memfd_offset,
		.guest_memfd = s->memfd,
	};

	return __vm_set_region2(s->vm, &region);
}

void private_slot_set(struct private_slot *s)
{
	int ret = __private_slot_set(s);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_SET_USER_MEMORY_REGION2, ret));
}

void private_slot_unset(struct private_slot *s)
{
	struct private_slot gone = *s;

	gone.size = 0;
	private_slot_set(&gone);
}

void *backing_mmap(enum vm_mem_backing_src_type src, size_t size,
		   void **start, size_t *mapped)
{
	const struct vm_mem_backing_src_alias *alias = vm_mem_backing_src_alias(src);
	size_t align = get_backing_src_pagesz(src);
	int fd = -1;
	void *hva;

	*mapped = align_up(size, align);
	if (!is_hugetlb(src))
		*mapped += align;
	if (backing_src_is_shared(src))
		fd = kvm_memfd_alloc(*mapped, src == VM_MEM_SRC_SHARED_HUGETLB);

	*start = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, alias->flag, fd, 0);
	TEST_ASSERT(*start != MAP_FAILED,
		    "mmap() of %s memory should succeed, errno: %i (%s)",
		    alias->name, errno, strerror(errno));
	if (fd >= 0)
		close(fd);

	hva = align_ptr_up(*start, align);
	if (src == VM_MEM_SRC_ANONYMOUS_THP)
		TEST_ASSERT(!madvise(hva, size, MADV_HUGEPAGE),
			    "madvise(MADV_HUGEPAGE) should succeed");
	return hva;
}

/*
 * Any test can be run on any backing: the environment says with which flags
 * a test that asks for none in particular creates its guest_memfds.
 */
static u64 env_memfd_flags(struct kvm_vm *vm)
{
	const char *env = getenv("KVM_GUEST_MEMFD_FLAGS");
	u64 flags = env ? strtoul(env, NULL, 0) : 0;

	__TEST_REQUIRE(!(flags & ~(u64)kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS)),
		       "KVM has no guest_memfd with flags %#lx here", flags);
	if (flags)
		vm_enable_memfd_flags(vm, flags);
	return flags;
}

/*
 * Create the memslot, all shared, with a guest_memfd of the same size.
 */
void private_slot_create(struct private_slot *s, struct kvm_vm *vm,
			 u32 slot, u64 gpa, u64 size,
			 enum vm_mem_backing_src_type src)
{
	private_slot_create_flags(s, vm, slot, gpa, size, src,
				  env_memfd_flags(vm));
}

void private_slot_create_flags(struct private_slot *s, struct kvm_vm *vm,
			       u32 slot, u64 gpa, u64 size,
			       enum vm_mem_backing_src_type src, u64 flags)
{
	*s = (struct private_slot) {
		.vm = vm,
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.gpa = gpa,
		.size = size,
		.src = src,
	};
	s->memfd = vm_create_guest_memfd(vm, size, flags);
	s->hva = backing_mmap(src, size, &s->map_start, &s->map_size);
	private_slot_set(s);
}

void private_slot_map(struct private_slot *s)
{
	virt_map(s->vm, s->gpa, s->gpa, s->size >> s->vm->page_shift);
}

void private_slot_destroy(struct private_slot *s)
{
	munmap(s->map_start, s->map_size);
	close(s->memfd);
}

struct kvm_vm *vm_create_with_slot(struct kvm_vcpu **vcpu, void *guest_code,
				   struct private_slot *s, u32 slot, u64 gpa,
				   u64 size)
{
	struct kvm_vm *vm;

	vm = vm_create_protected(vcpu, size / MIN_PAGE_SIZE, guest_code);
	private_slot_create(s, vm, slot, gpa, size, VM_MEM_SRC_ANONYMOUS);
	private_slot_map(s);
	return vm;
}

void private_slot_punch(struct private_slot *s, u64 gpa, u64 size)
{
	int ret = fallocate(s->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    gpa - s->gpa + s->memfd_offset, size);

	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("fallocate(PUNCH_HOLE)", ret));
}

bool mem_is_filled(const void *p, u8 byte, size_t size)
{
	const u8 *c = p;

	return !size || (c[0] == byte && !memcmp(c, c + 1, size - 1));
}

void vm_set_memory_attributes(struct kvm_vm *vm, u64 gpa, u64 size,
			      u64 attributes)
{
	int ret = __vm_set_memory_attributes(vm, gpa, size, attributes);

	TEST_ASSERT(!ret, "Setting %#lx on [%#lx, %#lx) should succeed, rc: %i errno: %i (%s)",
		    attributes, gpa, gpa + size, ret, errno, strerror(errno));
}

u64 vm_get_memory_attributes(struct kvm_vm *vm, u64 gpa)
{
	struct kvm_memory_attributes_extent extent;
	struct kvm_get_memory_attributes args = {
		.address = gpa,
		.size = vm->page_size,
		.extents = (uintptr_t)&extent,
		.nr_extents = 1,
	};

	vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &args);
	ASSERT_EQ(args.nr_extents, 1);
	ASSERT_EQ(extent.address, gpa);
	return extent.attributes;
}

/* On return *@gpa and *@size say what is left, as the ioctl left them. */
int __vcpu_pre_fault_memory(struct kvm_vcpu *vcpu, u64 *gpa,
			    u64 *size)
{
	struct kvm_pre_fault_memory args = { .gpa = *gpa, .size = *size };
	int ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &args);

	*gpa = args.gpa;
	*size = args.size;
	return ret;
}

void vcpu_run_to_memory_fault(struct kvm_vcpu *vcpu)
{
	int ret = _vcpu_run(vcpu);

	TEST_ASSERT(ret == -1 && errno == EFAULT,
		    "KVM_RUN should fail with EFAULT, rc: %i errno: %i exit: %s",
		    ret, errno, exit_story(vcpu->run));
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "exit_reason should be KVM_EXIT_MEMORY_FAULT, is %s",
		    exit_story(vcpu->run));
}

/*
 * Run the vCPU into a memory fault that must be reported with exactly these
 * flags for the page at @gpa.
 */
void vcpu_expect_memory_fault(struct kvm_vcpu *vcpu, u64 flags,
			      u64 gpa)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run_to_memory_fault(vcpu);
	TEST_ASSERT(run->memory_fault.flags == flags,
		    "memory_fault.flags should be %#lx, is %#llx",
		    flags, run->memory_fault.flags);
	TEST_ASSERT(run->memory_fault.gpa == gpa,
		    "memory_fault.gpa should be %#lx, is %#llx",
		    gpa, run->memory_fault.gpa);
	TEST_ASSERT(run->memory_fault.size == vcpu->vm->page_size,
		    "memory_fault.size should be one page, is %#llx",
		    run->memory_fault.size);
}

u64 vcpu_run_to_ucall(struct kvm_vcpu *vcpu, struct ucall *uc)
{
	u64 cmd;

	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO,
		    "The guest should have made a ucall, exit: %s",
		    exit_story(vcpu->run));

	cmd = get_ucall(vcpu, uc);
	if (cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT_2((*uc), "values: %#lx, %#lx");
	return cmd;
}

void vcpu_run_to_sync(struct kvm_vcpu *vcpu, u64 stage)
{
	struct ucall uc;
	u64 cmd = vcpu_run_to_ucall(vcpu, &uc);

	TEST_ASSERT(cmd == UCALL_SYNC && uc.args[1] == stage,
		    "The guest should have reached stage %lu, ucall %lu stage %lu",
		    stage, cmd, uc.args[1]);
}

void vcpu_run_to_done(struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	u64 cmd = vcpu_run_to_ucall(vcpu, &uc);

	TEST_ASSERT(cmd == UCALL_DONE,
		    "The guest should be done, ucall %lu stage %lu", cmd,
		    uc.args[1]);
}

u64 vcpu_get_rip(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	return regs.rip;
}

u64 vcpu_translate(struct kvm_vcpu *vcpu, u64 gva)
{
	struct kvm_translation tr = { .linear_address = gva };

	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	return tr.valid ? tr.physical_address : -1ull;
}

void serve_counting_port(struct kvm_run *run, int *done)
{
	u8 *data = (u8 *)run + run->io.data_offset;
	int i;

	for (i = 0; i < run->io.size * run->io.count; i++) {
		(*done)++;
		if (run->io.direction == KVM_EXIT_IO_IN)
			data[i] = *done;
		else
			TEST_ASSERT(data[i] == *done,
				    "Byte %i should be %i, is %#x", *done,
				    *done, data[i]);
	}
}

static unsigned long hugetlb_value(const char *name)
{
	unsigned long value = 0;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
		 PG_SIZE_2M / 1024ull, name);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%lu", &value) != 1)
		value = 0;
	fclose(f);
	return value;
}

/* Have @nr hugetlb pages free, adding to the pool if the test may. */
void require_hugetlb_pages(unsigned long nr)
{
	unsigned long free = hugetlb_value("free_hugepages");
	FILE *f;

	if (free < nr) {
		f = fopen("/proc/sys/vm/nr_hugepages", "w");
		if (f) {
			fprintf(f, "%lu\n",
				hugetlb_value("nr_hugepages") + nr - free);
			fclose(f);
		}
	}
	__TEST_REQUIRE(hugetlb_value("free_hugepages") >= nr,
		       "%lu free hugetlb pages are needed", nr);
}

#define OWNER_TABLE "/sys/kernel/debug/kvm_gmem_owner/"

bool has_owner_table(void)
{
	return !access(OWNER_TABLE "violations", R_OK);
}

u64 owner_stat(const char *name)
{
	char path[128];
	u64 value = 0;
	FILE *f;

	snprintf(path, sizeof(path), OWNER_TABLE "%s", name);
	f = fopen(path, "r");
	if (!f)
		return 0;
	TEST_ASSERT(fscanf(f, "%lu", &value) == 1, "%s should be a number",
		    path);
	fclose(f);
	return value;
}

void owner_fail_in(u64 n)
{
	FILE *f = fopen(OWNER_TABLE "fail_in", "w");

	TEST_ASSERT(f && fprintf(f, "%lu\n", n) > 0 && !fclose(f),
		    "Writing " OWNER_TABLE "fail_in should succeed");
}

/*
 * Have KVM emulate an instruction that follows the forced emulation prefix.
 * Takes effect on vCPUs created afterwards.
 */
bool enable_forced_emulation(void)
{
	FILE *f = fopen("/sys/module/kvm/parameters/force_emulation_prefix", "w");
	bool ok;

	if (!f)
		return false;
	ok = fputs("1\n", f) >= 0;
	return !fclose(f) && ok;
}

static void option_help(const char *name, const struct number_option *options,
			int nr_options)
{
	int i;

	printf("usage: %s [option...]\n", name);
	for (i = 0; i < nr_options; i++)
		printf(" -%c: %s (%i)\n", options[i].letter, options[i].help,
		       *options[i].value);
	backing_src_help("-s");
	exit(1);
}

static bool set_number(const struct number_option *options, int nr_options,
		       char letter)
{
	const struct number_option *o;

	for (o = options; o < options + nr_options; o++) {
		if (o->letter != letter)
			continue;
		*o->value = atoi(optarg);
		return *o->value >= o->min && *o->value <= o->max;
	}
	return false;
}

void parse_options(int argc, char *argv[], const struct number_option *options,
		   int nr_options, enum vm_mem_backing_src_type *src)
{
	char letters[32] = "s:";
	int opt, i;

	for (i = 0; i < nr_options; i++)
		sprintf(letters + 2 + 2 * i, "%c:", options[i].letter);

	while ((opt = getopt(argc, argv, letters)) != -1) {
		if (opt == 's')
			*src = parse_backing_src_type(optarg);
		else if (!set_number(options, nr_options, opt))
			option_help(argv[0], options, nr_options);
	}
}
