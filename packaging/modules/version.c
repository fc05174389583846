// SPDX-License-Identifier: GPL-2.0-only
/*
 * Part of each module.  It tells them from the kernel's own, as /sys/module/kvm/version, and
 * DKMS installs a module only if its version differs from that of the kernel's own.
 */
#include <linux/module.h>

MODULE_VERSION(VERSION);
