/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of memory attributes call by the names that it has in the
 * library of Linux 6.1, for which they were written.
 */
#ifndef SELFTEST_KVM_MEM_COMPAT_H
#define SELFTEST_KVM_MEM_COMPAT_H

#include "kvm_util.h"
#include "processor.h"

#define ASSERT_EQ		TEST_ASSERT_EQ
#define is_intel_cpu		this_cpu_is_intel
#define is_amd_cpu		this_cpu_is_amd

/* A guest's assertion reports the values that it looked at. */
#define GUEST_ASSERT_1(condition, a)					\
	__GUEST_ASSERT(condition, "value: %#lx", (unsigned long)(a))
#define GUEST_ASSERT_2(condition, a, b)					\
	__GUEST_ASSERT(condition, "values: %#lx, %#lx",			\
		       (unsigned long)(a), (unsigned long)(b))
#define GUEST_ASSERT_3(condition, a, b, c)				\
	__GUEST_ASSERT(condition, "values: %#lx, %#lx, %#lx",		\
		       (unsigned long)(a), (unsigned long)(b),		\
		       (unsigned long)(c))
#define REPORT_GUEST_ASSERT_2(uc, ...)	REPORT_GUEST_ASSERT(uc)
#define REPORT_GUEST_ASSERT_3(uc, ...)	REPORT_GUEST_ASSERT(uc)

/* The library does this for each VM and vCPU. */
static inline void vm_init_descriptor_tables(struct kvm_vm *vm)
{
}

static inline void vcpu_init_descriptor_tables(struct kvm_vcpu *vcpu)
{
}

#endif /* SELFTEST_KVM_MEM_COMPAT_H */
