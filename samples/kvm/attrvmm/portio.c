// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - I/O ports: which device has which
 *
 * Ports without a device read as ones, as on an empty bus.
 */
#include <string.h>
#include <time.h>

#include "attrvmm.h"

#define COM1			0x3f8
#define COM_REGISTERS		8
#define KEYBOARD_COMMAND	0x64
#define KEYBOARD_RESET		0xfe
#define CMOS_INDEX		0x70
#define CMOS_DATA		0x71
#define RESET_CONTROL		0xcf9
#define RESET_CPU		_BITUL(2)

/*
 * There is no keyboard controller.  A status of "output full, input empty" makes
 * Linux find that out at once, and still lets it write the reset command without
 * waiting.
 */
#define KEYBOARD_ABSENT		0xfd

/* Registers B and D of the real-time clock: 24 hours; its time is valid. */
#define RTC_B_24H		0x02
#define RTC_D_VALID		0x80

static __u8 bcd(int value)
{
	return value / 10 << 4 | value % 10;
}

static __u8 rtc_read(__u8 index)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (index) {
	case 0x00:
		return bcd(tm.tm_sec);
	case 0x02:
		return bcd(tm.tm_min);
	case 0x04:
		return bcd(tm.tm_hour);
	case 0x06:
		return tm.tm_wday + 1;
	case 0x07:
		return bcd(tm.tm_mday);
	case 0x08:
		return bcd(tm.tm_mon + 1);
	case 0x09:
		return bcd(tm.tm_year % 100);
	case 0x0b:
		return RTC_B_24H;
	case 0x0d:
		return RTC_D_VALID;
	case 0x32:
		return bcd(19 + tm.tm_year / 100);
	default:
		return 0;
	}
}

static void port_write(struct vcpu *vcpu, __u16 port, __u32 value)
{
	struct vm *vm = vcpu->vm;

	if (port >= COM1 && port < COM1 + COM_REGISTERS)
		serial_write(&vm->serial, port - COM1, value);
	else if (port == KEYBOARD_COMMAND && value == KEYBOARD_RESET)
		vm_end(vm, END_RESET, "reset through the keyboard controller");
	else if (port == RESET_CONTROL && value & RESET_CPU)
		vm_end(vm, END_RESET, "reset through port 0xcf9");
	else if (port == CMOS_INDEX)
		atomic_store(&vm->cmos_index, value & 0x7f);
	else if (port == DOORBELL_PORT && vm->opt.doorbell)
		doorbell_ring(vcpu, value);
}

static __u32 port_read(struct vm *vm, __u16 port)
{
	if (port >= COM1 && port < COM1 + COM_REGISTERS)
		return serial_read(&vm->serial, port - COM1);
	if (port == KEYBOARD_COMMAND)
		return KEYBOARD_ABSENT;
	if (port == CMOS_DATA)
		return rtc_read(atomic_load(&vm->cmos_index));
	if (port == DOORBELL_PORT && vm->opt.doorbell)
		return DOORBELL_MAGIC;
	return ~0U;
}

/* One exit carries run->io.count accesses, when the instruction was a REP. */
void port_access(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	__u8 *data = (__u8 *)run + run->io.data_offset;
	__u32 i, value;

	for (i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			value = 0;
			memcpy(&value, data, run->io.size);
			port_write(vcpu, run->io.port, value);
		} else {
			value = port_read(vcpu->vm, run->io.port);
			memcpy(data, &value, run->io.size);
		}
	}
}
