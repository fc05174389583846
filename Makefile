# SPDX-License-Identifier: GPL-2.0
#
# Every verb is a script in dev/ or vm/; this only names them.

.DEFAULT_GOAL := help
.PHONY: help coverage models kernel modules deb qemu test-qemu tree series import merge rebase check test test-install races bench demo shell gdb bisect clean
MAKEFLAGS += --no-print-directory
export KDIR FORCE BASE

help: ## this text
	@dev/help $(MAKEFILE_LIST)

kernel: ## build build/kernel/bzImage (CONFIG=debug, nesting, kcsan: checkers, base: unpatched, off or protect: fewer features)
	@dev/kernel $(CONFIG)

modules: ## build/modules/RELEASE: KVM's modules for Debian's kernel (RELEASE=6.1.0-NN-amd64, -cloud-amd64, -rt-amd64)
	@dev/modules $(RELEASE)

deb: ## build/deb/*.deb: the modules as packages (DKMS, and built), what VMMs are built with, QEMU if built
	@dev/deb

tree: ## compose the series into build/tree, a git tree with one commit a patch
	@dev/compose >/dev/null

series: ## write the series as mails for git am into build/series, and prove them
	@dev/series

import: ## take build/tree's commits back into patches/ and the new files
	@dev/import

merge: ## with BASE=6.12: merge what has changed in the new files into what 6.12 has of them
	@dev/merge

rebase: ## move the series to another version of its base: NEW=TARBALL (the installed one), then CONTINUE=1
	@dev/rebase $(if $(CONTINUE),--continue,$(NEW))

check: ## what must hold of the repository itself, in seconds
	@dev/check

test: ## everything that must hold, and KVM built for 6.12; T=NAME M=MACHINE: one selftest on one machine
	@dev/test $(if $(T),--one "$(T)" "$(M)")

test-install: ## the packages on an emulated Debian 12 system: install, upgrade, other kernels, removal (a quarter of an hour)
	@dev/test-install

races: ## data races: the stress tests on a kernel with KCSAN (M=MACHINE)
	@dev/vmtest --kernel kcsan --machine $(or $(M),npt) kcsan --slow 4

qemu: ## Debian's QEMU with QMP commands for memory attributes: build/qemu/qemu-system-x86_64
	@dev/qemu

test-qemu: ## these commands, and a guest that kernel-guard protects, on Debian's kernel (WHAT=bench: its cost)
	@dev/test-qemu $(WHAT)

coverage: ## which lines and branches of ours the selftests execute (half an hour and more)
	@dev/coverage

models: ## our races as Promela models, checked with spin
	@dev/models

bench: ## instructions and memory that attributes cost; docs/bench (LIMITS=1: judge, PEER=1: 6.12 too)
	@dev/bench $(if $(LIMITS),--limits) $(if $(PEER),--peer)

demo: ## Debian's stock kernel as a guest: in private memory; attacked by its root (QEMU=1: in QEMU)
	@$(if $(QEMU),dev/test-qemu demo,dev/demo)

shell: ## a shell in the test machine (M=MACHINE, CONFIG=debug)
	@dev/shell $(if $(M),--machine $(M)) $(if $(CONFIG),--kernel $(CONFIG))

gdb: ## a test in the machine with gdb attached to the kernel (T=NAME, M=MACHINE)
	@dev/gdb $(if $(M),--machine $(M)) $(if $(CONFIG),--kernel $(CONFIG)) $(T)

bisect: ## build KVM at every prefix of the series, features on and off (long)
	@dev/bisect

clean: ## remove build/
	@dev/clean
