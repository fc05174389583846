# SPDX-License-Identifier: GPL-2.0
"""kernel-guard: protect a guest's kernel from the guest's root, through QEMU."""
