// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - the virtual machine as a whole: what KVM has to offer, its
 * creation, its end
 *
 * A VMM asks before it uses: every capability is checked first, on the VM file
 * descriptor where the answer depends on the VM type, so that a kernel without
 * the feature is told apart from a wrong use of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "attrvmm.h"

/* Where Intel CPUs without "unrestricted guest" keep KVM's helper pages. */
#define IDENTITY_MAP_ADDR	0xfffbc000
#define TSS_ADDR		0xfffbd000

#define NEW_KERNEL \
	"this kernel has no private memory: boot one built with CONFIG_KVM_SW_PROTECTED_VM"

static int check_extension(int fd, long cap)
{
	int ret = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return ret < 0 ? 0 : ret;
}

static void open_kvm(struct vm *vm)
{
	int version;

	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		die(STATUS_HOST,
		    "/dev/kvm: %s: load kvm_amd or kvm_intel, or run as a user that may use it",
		    strerror(errno));

	version = must_ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0,
			     "is /dev/kvm really KVM?");
	if (version != KVM_API_VERSION)
		die(STATUS_HOST,
		    "KVM_GET_API_VERSION: got %d, want %d: this kernel is not supported",
		    version, KVM_API_VERSION);
}

static void check_vm_type(struct vm *vm)
{
	unsigned long type = vm->opt.vm_type;
	int types;

	if (type == KVM_X86_DEFAULT_VM)
		return;

	types = check_extension(vm->kvm_fd, KVM_CAP_VM_TYPES);
	if (!types)
		die(STATUS_HOST, "KVM_CAP_VM_TYPES: not there: " NEW_KERNEL);
	if (!(types & (1 << type)))
		die(STATUS_HOST,
		    "KVM_CAP_VM_TYPES: no type %s: it needs CONFIG_KVM_SW_PROTECTED_VM and nested paging (kvm_amd.npt=1, kvm_intel.ept=1)",
		    vm_type_name(type));
}

/* Everything that private memory needs, asked of this very VM. */
static void check_private_memory(const struct vm *vm)
{
	static const struct {
		long cap;
		const char *name;
	} needed[] = {
		{ KVM_CAP_USER_MEMORY2,		"KVM_CAP_USER_MEMORY2" },
		{ KVM_CAP_GUEST_MEMFD,		"KVM_CAP_GUEST_MEMFD" },
		{ KVM_CAP_MEMORY_FAULT_INFO,	"KVM_CAP_MEMORY_FAULT_INFO" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(needed); i++)
		if (!check_extension(vm->fd, needed[i].cap))
			die(STATUS_HOST, "%s: not there: " NEW_KERNEL,
			    needed[i].name);

	if (!(vm->attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE))
		die(STATUS_HOST, "KVM_CAP_MEMORY_ATTRIBUTES: mask %#llx lacks PRIVATE: " NEW_KERNEL,
		    vm->attributes);
}

/* KVM_HC_MAP_GPA_RANGE, by which the guest asks for a conversion. */
static void enable_hypercall_exits(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args[0] = 1 << KVM_HC_MAP_GPA_RANGE,
	};
	int mask = check_extension(vm->fd, KVM_CAP_EXIT_HYPERCALL);

	if (!(mask & (1 << KVM_HC_MAP_GPA_RANGE)))
		die(STATUS_HOST,
		    "KVM_CAP_EXIT_HYPERCALL: mask %#x lacks KVM_HC_MAP_GPA_RANGE: needs Linux 5.14 or later",
		    mask);

	must_ioctl(vm->fd, KVM_ENABLE_CAP, &cap,
		   "KVM_CAP_EXIT_HYPERCALL was offered, so this is a kernel bug");
	vm->hypercall_exits = true;
}

static void create_irqchip(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	__u64 identity_map = IDENTITY_MAP_ADDR;

	must_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map,
		   "is the range in use by a memslot?");
	must_ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR,
		   "is the range in use by a memslot?");
	must_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0,
		   "needs an x86 host with an in-kernel interrupt controller");
	must_ioctl(vm->fd, KVM_CREATE_PIT2, &pit,
		   "needs an x86 host with an in-kernel timer");
}

static void end_init(struct end *end)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&end->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&end->cond, &attr);
}

void vm_create(struct vm *vm)
{
	pthread_mutex_init(&vm->doorbell_lock, NULL);
	end_init(&vm->end);
	open_kvm(vm);
	check_vm_type(vm);
	vm->fd = must_ioctl(vm->kvm_fd, KVM_CREATE_VM, vm->opt.vm_type,
			    "the type was offered: is memory short?");
	vm->attributes = check_extension(vm->fd, KVM_CAP_MEMORY_ATTRIBUTES);
	if (vm->opt.vm_type != KVM_X86_DEFAULT_VM) {
		check_private_memory(vm);
		enable_hypercall_exits(vm);
	}
	create_irqchip(vm);
}

/* The first reason stands.  The thread in vm_wait() then stops the vCPUs. */
void vm_end(struct vm *vm, enum end_reason reason, const char *fmt, ...)
{
	struct end *end = &vm->end;
	va_list args;

	pthread_mutex_lock(&end->lock);
	if (end->reason == END_NONE) {
		va_start(args, fmt);
		vsnprintf(end->text, sizeof(end->text), fmt, args);
		va_end(args);
		end->reason = reason;
		atomic_store(&vm->stopping, true);
		pthread_cond_signal(&end->cond);
	}
	pthread_mutex_unlock(&end->lock);
}

void vm_wait(struct vm *vm)
{
	struct end *end = &vm->end;
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += vm->opt.timeout;

	pthread_mutex_lock(&end->lock);
	while (end->reason == END_NONE && ret != ETIMEDOUT)
		ret = vm->opt.timeout ?
		      pthread_cond_timedwait(&end->cond, &end->lock, &until) :
		      pthread_cond_wait(&end->cond, &end->lock);
	pthread_mutex_unlock(&end->lock);

	if (ret == ETIMEDOUT)
		vm_end(vm, END_TIMEOUT, "the guest did not end within %u s",
		       vm->opt.timeout);
}
