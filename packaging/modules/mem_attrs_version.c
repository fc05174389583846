// SPDX-License-Identifier: GPL-2.0-only
/* What tells these modules from the kernel's own: /sys/module/kvm/version. */
#include <linux/module.h>

MODULE_VERSION(KVM_MEM_ATTRS_VERSION);
