// SPDX-License-Identifier: GPL-2.0
/*
 * Demo - what the guest's programs share
 *
 * Every check is counted, a failed one is printed, and the verdict goes to the VMM
 * last.  Whatever happens ends by a reset, as process 1 must not exit.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "gpashare.h"
#include "guest.h"

struct doorbell_info machine;
unsigned int checks, failures;

static struct share message;

/* The VMM may print next: so wait until the line has left the serial port. */
static void print_line(const char *start, const char *fmt, va_list args)
{
	fputs(start, stdout);
	vprintf(fmt, args);
	putchar('\n');
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("guest: ", fmt, args);
	va_end(args);
}

bool check(bool ok, const char *fmt, ...)
{
	va_list args;

	checks++;
	if (ok)
		return true;

	failures++;
	va_start(args, fmt);
	print_line("guest: FAILED: ", fmt, args);
	va_end(args);
	return false;
}

void leave(void)
{
	sync();
	reboot(LINUX_REBOOT_CMD_RESTART);
	for (;;)
		pause();
}

void must(bool ok, const char *what)
{
	if (ok)
		return;
	check(false, "%s: %s", what, strerror(errno));
	leave();
}

__u64 random_word(void)
{
	__u64 word;

	must(getrandom(&word, sizeof(word), 0) == sizeof(word), "getrandom");
	return word;
}

void load_module(const char *name)
{
	int fd = open(name, O_RDONLY);

	must(fd >= 0, name);
	must(!syscall(SYS_finit_module, fd, "", 0), name);
	close(fd);
}

void set_up(void)
{
	must(!mount("proc", "/proc", "proc", 0, NULL), "mount /proc");
	must(!mount("dev", "/dev", "devtmpfs", 0, NULL), "mount /dev");
	load_module("/gpashare.ko");
	must(!ioperm(DOORBELL_PORT, 4, 1), "ioperm");
	errno = ENODEV;
	must(inl(DOORBELL_PORT) == DOORBELL_MAGIC,
	     "the doorbell (start attrvmm with --doorbell)");
}

struct share share_alloc(__u64 size)
{
	struct gpashare_alloc alloc = { .size = size };
	struct share share = { .size = size };

	share.fd = open("/dev/gpashare", O_RDWR | O_CLOEXEC);
	must(share.fd >= 0, "open /dev/gpashare");
	must(!ioctl(share.fd, GPASHARE_ALLOC, &alloc), "GPASHARE_ALLOC");
	share.gpa = alloc.gpa;
	share.data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  share.fd, 0);
	must(share.data != MAP_FAILED, "mmap /dev/gpashare");
	return share;
}

/* Closing makes the pages private again. */
void share_free(struct share *share)
{
	munmap(share->data, share->size);
	close(share->fd);
}

int share_convert(const struct share *share, __u64 offset, __u64 size,
		  bool to_private)
{
	struct gpashare_convert convert = {
		.offset = offset,
		.size = size,
		.to_private = to_private,
	};

	return ioctl(share->fd, GPASHARE_CONVERT, &convert);
}

/* outl() does not tell the compiler that memory is read and written meanwhile. */
static void ring_doorbell(__u64 gpa)
{
	atomic_signal_fence(memory_order_seq_cst);
	outl(gpa / PAGE_SIZE, DOORBELL_PORT);
	atomic_signal_fence(memory_order_seq_cst);
}

int ring(struct doorbell_msg *msg)
{
	struct doorbell_msg *shared = (void *)message.data;

	*shared = *msg;
	shared->result = -ENXIO;
	ring_doorbell(message.gpa);
	*msg = *shared;
	return msg->result;
}

struct doorbell_msg *must_ring(struct doorbell_msg *msg)
{
	int ret = ring(msg);

	if (ret) {
		errno = -ret;
		must(false, "doorbell");
	}
	return msg;
}

void meet_vmm(void)
{
	struct doorbell_msg msg = { .op = DOORBELL_INFO };
	int ret;

	message = share_alloc(PAGE_SIZE);
	ret = share_convert(&message, 0, PAGE_SIZE, false);
	must(!ret || errno == EOPNOTSUPP, "GPASHARE_CONVERT");
	machine = must_ring(&msg)->info;
	check(machine.is_private == !ret,
	      "the VMM says private=%u, the hypercall returned %d",
	      machine.is_private, ret);
	if (!machine.is_private)
		machine.private_above = 16 * MIB;
	say("%llu MiB RAM, %u CPUs, %s", machine.ram_size / MIB, machine.cpus,
	    machine.is_private ? "private memory" : "no private memory");
}

void give_verdict(const char *more)
{
	struct doorbell_msg msg = { .op = DOORBELL_VERDICT };

	msg.verdict.pass = !failures;
	snprintf(msg.verdict.text, sizeof(msg.verdict.text),
		 "checks=%u failures=%u%s", checks, failures, more);
	say("%u checks, %u failed", checks, failures);
	must_ring(&msg);
	share_free(&message);
	leave();
}
