# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # variables are for the scripts
#
# What the scripts in dev/ share. Sourced, not run.
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
JOBS=${JOBS:-$(nproc)}

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$*"; exit 1; }

# The base kernel that is worked on: a file of bases/. The new files of the series are
# written for the default one; what another one wants otherwise is in its patches. BASE is
# exported to the scripts that this one calls; the kernel's own make has no use for it.
DEFAULT_BASE=6.1
all_bases() { (cd "$TOP/bases" && printf '%s\n' *) | sort -V; }
export BASE=${BASE:-$DEFAULT_BASE}
if [[ $BASE == */* || ! -f $TOP/bases/$BASE ]]; then
	die "no base $BASE: there are $(all_bases | paste -sd' ')"
fi

PIN=$TOP/bases/$BASE
PATCHES=$TOP/patches/$BASE
# What is built of the base, and what is built of no base (QEMU, models).
SHARED=$TOP/build
BUILD=$SHARED
# For messages: how verbs are told the base.
FOR_BASE=
if [ "$BASE" != $DEFAULT_BASE ]; then
	BUILD=$SHARED/$BASE
	FOR_BASE=" BASE=$BASE"
fi
TREE=$BUILD/tree
# As it is called in messages: build/tree, or build/6.12/tree.
TREE_NAME=${TREE#"$TOP/"}

# What was said to this repository's make, as in "make test M=legacy", is not meant
# for the kernel's, where M= builds a module.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL M T CONFIG

# Same bytes in, same bytes out: for compiler caches, and for comparisons.
export KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970"
export KBUILD_BUILD_USER=kvm KBUILD_BUILD_HOST=kvm KBUILD_BUILD_VERSION=1
# A set but empty LOCALVERSION keeps the tree's git state out of the version.
export LOCALVERSION=

# One at a time uses a thing of build/ ("tree", "series"), the base's or that of DIR. Held
# until the script ends; a script called by one that holds the lock shares it.
lock() { # NAME [DIR]
	local fd what=${2:-$BUILD}/$1

	what=${what#"$TOP/"}
	[[ " ${BUILD_LOCKS:-} " != *" $what "* ]] || return 0
	mkdir -p "${2:-$BUILD}"
	exec {fd}>"${2:-$BUILD}/.lock-$1"
	flock -n "$fd" || { say "waiting for another script that uses $what"; flock "$fd"; }
	export BUILD_LOCKS="${BUILD_LOCKS:-} $what"
}

# The tree's git, whatever the user's own settings are.
tgit() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git -C "$TREE" \
		-c core.quotePath=false -c gc.auto=0 -c core.looseCompression=1 \
		-c user.name=series -c user.email=series@localhost \
		-c advice.detachedHead=false "$@"
}

# Files of a tree that its git does not know, but for the build's own. The .gitignore
# of Debian's tarball hides nearly everything and is no help.
untracked() { git -C "$1" ls-files -o -x '/.*'; }

# The patches of the base, or of another one.
patches() { # [BASE]
	[ ! -d "$TOP/patches/${1:-$BASE}" ] ||
		find "$TOP/patches/${1:-$BASE}" -maxdepth 1 -name '[0-9]*-*.patch' | LC_ALL=C sort
}

# The files that a patch claims: its "Adds:" trailers, up to the "---".
claims() { sed -n '/^---$/q; s/^Adds: //p' "$1"; }

all_claims() { # [BASE]
	patches "$@" | xargs -r -d'\n' awk '/^---$/ { nextfile } sub(/^Adds: /, "")'
}

# What the patches of the other bases claim.
others_claims() {
	local other

	all_bases | while read -r other; do
		[ "$other" = "$BASE" ] || all_claims "$other"
	done
}

# The file of a list of tests: the base's own one, if it has one.
test_list() { # NAME
	local own=$TOP/vm/tests/$BASE/$1.list

	if [ -f "$own" ]; then echo "$own"; else echo "$TOP/vm/tests/$1.list"; fi
}

test_lists() {
	local list

	for list in "$TOP"/vm/tests/*.list; do
		test_list "$(basename "$list" .list)"
	done
}

# The name of the list that has a test, or nothing.
list_with() { # TEST
	local list

	# shellcheck disable=SC2016 # for awk to expand
	list=$(test_lists | xargs -d'\n' awk -v name="$1" '$1 == name { print FILENAME; exit }')
	[ -z "$list" ] || basename "$list" .list
}

# The text of kconfig fragments, each followed by what the base needs otherwise, if anything.
fragments() { # NAME...
	local name

	for name; do
		cat "$TOP/configs/$name.config"
		[ ! -f "$TOP/configs/$BASE/$name.config" ] || cat "$TOP/configs/$BASE/$name.config"
	done
}

# From one version of a file to another, as hunks of a patch.
hunks_between() { # PATH OLD NEW
	local dir

	dir=$(mktemp -d)
	mkdir -p "$dir/a/$(dirname "$1")" "$dir/b/$(dirname "$1")"
	cp -p "$2" "$dir/a/$1"
	cp -p "$3" "$dir/b/$1"
	printf '*.[ch] diff=cpp\n' >"$dir/attributes"
	{
		GIT_CONFIG_GLOBAL=/dev/null git -C "$dir" -c core.quotePath=false \
			-c core.attributesFile="$dir/attributes" \
			diff --no-index --no-prefix --no-renames "a/$1" "b/$1" || [ $? -eq 1 ]
	} | sed '/^index [0-9a-f]*\.\./d'
	rm -rf "$dir"
}

compiler() { if command -v ccache >/dev/null; then echo "ccache gcc"; else echo gcc; fi; }

# The version of Debian's kernel packages that the base pins: 6.1.N-N.
base_version() { awk 'NR == 1 { print $2 }' "$PIN"; }

# The packages of Debian's kernels of the base and a flavour (amd64, rt-amd64, cloud-amd64)
# that apt knows: linux-image-6.1.0-NN-FLAVOUR, or linux-image-6.12.NN+debNN-FLAVOUR.
debian_images() { # FLAVOUR
	apt-cache search --names-only "^linux-image-${BASE//./\\.}\\.[0-9]+(-|\\+deb)[0-9]+-$1\$" |
		cut -d' ' -f1 | sort -V
}

# That kernel that the base's version was built as, or nothing if apt does not know it (any
# more). The meta packages name the newest only.
debian_release() { # FLAVOUR
	debian_images "$1" | xargs -r apt-cache madison | awk -F' *[|] *' \
		-v version="$(base_version)" '
		$2 == version { sub(/^ *linux-image-/, "", $1); print $1; exit }'
}
