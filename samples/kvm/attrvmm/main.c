// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - a small virtual machine monitor that shows how to use KVM's memory
 * attributes and guest_memfd (Documentation/virt/kvm/memory-attributes.rst)
 *
 * It boots a Linux kernel with in-kernel interrupt controllers and timer, a serial
 * console and as many vCPUs as asked.  RAM above a boundary is private from the
 * start: the guest uses it as any other RAM, nothing else can reach it.  The guest
 * may have pages converted, by the hypercall KVM_HC_MAP_GPA_RANGE.  With --harden
 * pages lose the right to be read, written or executed once the guest is up.
 *
 *   options.c    the command line
 *   vm.c         what KVM offers, the VM, its end
 *   memory.c     both backings of RAM, memslots, conversion: read this first
 *   boot.c       kernel, initramfs, boot_params; mptable.c: the MP table
 *   attributes.c attributes saved and restored, as a migration would
 *   vcpu.c       vCPUs and their exits; memory faults and hypercalls
 *   portio.c     I/O ports; serial.c: the console
 *   doorbell.c   a guest program talks to the VMM through a shared page
 *   search.c     attack: look for the guest's data
 *   harden.c     protection of the guest's kernel; image.c: where that is
 *   policy.c     what happens on an access that is protected against
 *   pvmsr.c      structures that the guest shares with KVM
 *   attack.c     attacks that the guest announces, to show the protection
 *   report.c     what is printed
 */
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "attrvmm.h"

static struct termios saved_terminal;

static void restore_terminal(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
}

static void *read_console(void *arg)
{
	struct serial *serial = arg;
	__u8 keys[64];
	ssize_t got;

	while ((got = read(STDIN_FILENO, keys, sizeof(keys))) > 0)
		serial_input(serial, keys, got);
	return NULL;
}

/* Keys go to the guest as they are typed, all but those that make signals. */
static void make_terminal_raw(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved_terminal))
		return;

	atexit(restore_terminal);
	raw = saved_terminal;
	raw.c_lflag &= ~(ICANON | ECHO);
	raw.c_iflag &= ~ICRNL;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void start_console(struct vm *vm)
{
	pthread_t thread;

	make_terminal_raw();
	if (!pthread_create(&thread, NULL, read_console, &vm->serial))
		pthread_detach(thread);
}

static enum status verdict_status(struct vm *vm)
{
	if (vm->end.reason == END_HOST)
		return STATUS_HOST;
	if (vm->end.reason != END_RESET)
		return STATUS_GUEST;
	if (vm->opt.doorbell && !vm->verdict.pass)
		return STATUS_GUEST;
	if (!harden_held(vm))
		return STATUS_GUEST;
	return STATUS_OK;
}

int main(int argc, char **argv)
{
	static struct vm vm;
	struct entry_point entry;
	double start;

	parse_options(&vm.opt, argc, argv);
	vm_create(&vm);
	harden_init(&vm);
	if (vm.opt.harden)
		pvmsr_offer(&vm);
	memory_init(&vm);
	if (vm.opt.restore)
		restore_attributes(&vm);
	else
		make_initially_private(&vm);
	load_guest(&vm, &entry);
	serial_init(&vm);
	vcpus_create(&vm, &entry);
	report_start(&vm);

	start = now_seconds();
	vcpus_start(&vm);
	start_console(&vm);
	vm_wait(&vm);
	vcpus_stop(&vm);
	vm.seconds = now_seconds() - start;
	if (vm.opt.save)
		save_attributes(&vm);
	report_end(&vm);
	return verdict_status(&vm);
}
