# SPDX-License-Identifier: GPL-2.0
"""What happened: a table for people, lines of JSON for machines."""
import json
import sys
import time

COLUMNS = (("TIME", 8), ("VCPU", 4), ("TASK", 15), ("DID", 7), ("TO", 48), ("BY", 26), ("VERDICT", 0))


class Report:
    """Printed as it happens; both may be read while the guard runs."""

    def __init__(self, json_path=None):
        self.json = open(json_path, "a", encoding="utf-8") if json_path else None
        self.titled = False
        self.counts = {}
        self.last, self.repeats = None, 0

    def say(self, text):
        """A line for people."""
        print(f"kernel-guard: {text}", flush=True)

    def _row(self, cells):
        line = "  ".join(str(cell).ljust(width) for cell, (_, width) in zip(cells, COLUMNS))
        print(line.rstrip(), flush=True)

    def access(self, **what):
        """One refused access; equal ones that follow each other are counted."""
        if not self.titled:
            self._row([title for title, _ in COLUMNS])
            self.titled = True
        cells = self._cells(what)
        if cells == self.last:
            self.repeats += 1
        else:
            self._end_repeats()
            self._row([time.strftime("%H:%M:%S"), *cells])
            self.last = cells
        self.counts[what["verdict"]] = self.counts.get(what["verdict"], 0) + 1
        self.record(event="access", **what)

    def _cells(self, what):
        where = f"{what['range'] or 'memory'}: {what['target'] or hex(what['gpa'])}"
        return ["-" if what["vcpu"] is None else what["vcpu"], what["task"] or "-",
                what["access"], where, what["by"], what["verdict"]]

    def _end_repeats(self):
        if self.repeats:
            print(f"{'':8}  ... and {self.repeats} more like it", flush=True)
        self.repeats = 0

    def record(self, **what):
        """A line for machines."""
        if self.json:
            self.json.write(json.dumps({"time": time.time(), **what}) + "\n")
            self.json.flush()

    def close(self):
        """What there was in all."""
        self._end_repeats()
        total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.counts.items()))
        self.say(f"refused accesses: {total or 'none'}")
        if self.json:
            self.json.close()
        sys.stdout.flush()
