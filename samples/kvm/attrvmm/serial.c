// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - a 16550A serial port, enough for Linux's 8250 driver
 *
 * What the guest sends is written out at once, so the transmitter is always
 * empty.  Its interrupt is still raised once per byte sent and once when it is
 * enabled, as the driver sends its queue from there.  The line is an ISA interrupt:
 * edge triggered, so it has to fall between two causes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "attrvmm.h"

#define SERIAL_IRQ	4

enum uart_register {
	REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR,
	REG_SCR,
};

#define IER_RX		0x01
#define IER_THR		0x02
#define IIR_NONE	0x01
#define IIR_THR		0x02
#define IIR_RX		0x04
#define IIR_FIFO	0xc0
#define FCR_ENABLE	0x01
#define FCR_CLEAR_RX	0x02
#define LCR_DLAB	0x80
#define LSR_RX		0x01
#define LSR_THR_EMPTY	0x20
#define LSR_IDLE	0x40
#define MCR_LOOP	0x10
#define MSR_CTS		0x10
#define MSR_DSR		0x20
#define MSR_DCD		0x80

static bool rx_ready(const struct serial *serial)
{
	return serial->rx_head != serial->rx_tail;
}

static void update_line(struct serial *serial)
{
	struct kvm_irq_level irq = { .irq = SERIAL_IRQ };
	bool line;

	line = (serial->ier & IER_RX && rx_ready(serial)) ||
	       (serial->ier & IER_THR && serial->thr_empty);
	if (line == serial->line)
		return;

	serial->line = line;
	irq.level = line;
	must_ioctl(serial->vm_fd, KVM_IRQ_LINE, &irq,
		   "a kernel bug: the interrupt controller is there");
}

static void transmit(struct serial *serial, __u8 value)
{
	/* A console that is not read is no reason to stop the machine. */
	while (write(serial->out_fd, &value, 1) < 0 && errno == EINTR)
		;
	serial->thr_empty = false;
	update_line(serial);
	serial->thr_empty = true;
}

static void receive(struct serial *serial, __u8 value)
{
	if (serial->rx_head - serial->rx_tail < sizeof(serial->rx))
		serial->rx[serial->rx_head++ % sizeof(serial->rx)] = value;
}

static void write_data(struct serial *serial, __u8 value)
{
	if (serial->lcr & LCR_DLAB)
		serial->divisor[0] = value;
	else if (serial->mcr & MCR_LOOP)
		receive(serial, value);
	else
		transmit(serial, value);
}

static void write_ier(struct serial *serial, __u8 value)
{
	if (serial->lcr & LCR_DLAB) {
		serial->divisor[1] = value;
		return;
	}
	/* To enable it tells the driver at once that it may send. */
	if (value & ~serial->ier & IER_THR)
		serial->thr_empty = true;
	serial->ier = value & 0x0f;
}

static void write_fcr(struct serial *serial, __u8 value)
{
	serial->fcr = value;
	if (value & FCR_CLEAR_RX)
		serial->rx_tail = serial->rx_head;
}

void serial_write(struct serial *serial, unsigned int reg, __u8 value)
{
	pthread_mutex_lock(&serial->lock);
	switch (reg) {
	case REG_DATA:
		write_data(serial, value);
		break;
	case REG_IER:
		write_ier(serial, value);
		break;
	case REG_IIR_FCR:
		write_fcr(serial, value);
		break;
	case REG_LCR:
		serial->lcr = value;
		break;
	case REG_MCR:
		serial->mcr = value & 0x1f;
		break;
	case REG_SCR:
		serial->scr = value;
		break;
	}
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static __u8 read_data(struct serial *serial)
{
	if (serial->lcr & LCR_DLAB)
		return serial->divisor[0];
	if (!rx_ready(serial))
		return 0;
	return serial->rx[serial->rx_tail++ % sizeof(serial->rx)];
}

/* Reading it acknowledges the transmitter's interrupt, not the receiver's. */
static __u8 read_iir(struct serial *serial)
{
	__u8 fifo = serial->fcr & FCR_ENABLE ? IIR_FIFO : 0;

	if (serial->ier & IER_RX && rx_ready(serial))
		return IIR_RX | fifo;
	if (serial->ier & IER_THR && serial->thr_empty) {
		serial->thr_empty = false;
		return IIR_THR | fifo;
	}
	return IIR_NONE | fifo;
}

/* In loopback the modem's inputs are the port's own outputs. */
static __u8 read_msr(const struct serial *serial)
{
	__u8 mcr = serial->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & 0x0c) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5;
}

static __u8 read_register(struct serial *serial, unsigned int reg)
{
	switch (reg) {
	case REG_DATA:
		return read_data(serial);
	case REG_IER:
		return serial->lcr & LCR_DLAB ? serial->divisor[1] : serial->ier;
	case REG_IIR_FCR:
		return read_iir(serial);
	case REG_LCR:
		return serial->lcr;
	case REG_MCR:
		return serial->mcr;
	case REG_LSR:
		return LSR_THR_EMPTY | LSR_IDLE | (rx_ready(serial) ? LSR_RX : 0);
	case REG_MSR:
		return read_msr(serial);
	default:
		return serial->scr;
	}
}

__u8 serial_read(struct serial *serial, unsigned int reg)
{
	__u8 value;

	pthread_mutex_lock(&serial->lock);
	value = read_register(serial, reg);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

/* What does not fit is lost, as on a real line. */
void serial_input(struct serial *serial, const __u8 *data, size_t len)
{
	pthread_mutex_lock(&serial->lock);
	while (len--)
		receive(serial, *data++);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

void serial_init(struct vm *vm)
{
	struct serial *serial = &vm->serial;

	pthread_mutex_init(&serial->lock, NULL);
	serial->vm_fd = vm->fd;
	serial->out_fd = STDOUT_FILENO;
	if (!vm->opt.console)
		return;

	serial->out_fd = open(vm->opt.console,
			      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (serial->out_fd < 0)
		die(STATUS_USAGE, "--console %s: %s", vm->opt.console,
		    strerror(errno));
}
