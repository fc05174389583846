#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Break a source file in the ways of a list; each must make the tests fail.

usage: mutate.py MUTATIONS SOURCE OUT KDIR
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

TIMEOUT = 120


def read_mutations(path):
    """Yields (title, old text, new text)."""
    title, old, new = None, [], []
    for line in path.read_text().splitlines() + ["== "]:
        if line.startswith("== "):
            if title:
                yield title, "\n".join(old) + "\n", "".join(f"{n}\n" for n in new)
            title, old, new = line[3:], [], []
        elif line.startswith("-"):
            old.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        elif line and not line.startswith("#"):
            sys.exit(f"{path}: not a title, '-' or '+': {line}")


def run_tests(here, store, out, kdir):
    """Returns how the mutant was noticed, or None."""
    command = ["make", "-s", "-C", here, "quick", f"STORE={store}",
               f"OUT={out}", f"KDIR={kdir}"]
    # A session of its own: what does not end is not make, but a test.
    with subprocess.Popen(command, text=True, start_new_session=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "does not end"
    if not process.returncode:
        return None
    lines = said.splitlines()
    if any(" error: " in line for line in lines):
        sys.exit("a mutant does not compile:\n" + said)
    telling = [line for line in lines if line.startswith(("Bail out!", "# "))]
    return telling[0].split("/")[-1] if telling else "crash"


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    mutations, source, out = (pathlib.Path(arg) for arg in sys.argv[1:4])
    text, survivors, number = source.read_text(), 0, 0

    for number, (title, old, new) in enumerate(read_mutations(mutations), 1):
        if text.count(old) != 1:
            sys.exit(f"{mutations}: '{title}': the source has these lines "
                     f"{text.count(old)} times: adapt the list")
        store = out / "store"
        shutil.rmtree(out, ignore_errors=True)
        store.mkdir(parents=True)
        shutil.copy(source.with_suffix(".h"), store)
        (store / source.name).write_text(text.replace(old, new))
        how = run_tests(mutations.parent, store, out / "build", sys.argv[4])
        survivors += how is None
        print(f"{'ok' if how else 'not ok'} {number} {title}: "
              f"{how or 'SURVIVED'}", flush=True)

    print(f"1..{number}")
    sys.exit(1 if survivors else 0)


main()
