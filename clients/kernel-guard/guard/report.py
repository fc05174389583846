# SPDX-License-Identifier: GPL-2.0
"""What happened: a table for people, lines of JSON for machines."""
import json
import sys
import time

COLUMNS = (("TIME", 8), ("VCPU", 4), ("TASK", 15), ("DID", 7), ("TO", 34), ("BY", 34), ("VERDICT", 0))


class Report:
    """Printed as it happens; both may be read while the guard runs."""

    def __init__(self, json_path=None):
        self.json = open(json_path, "a", encoding="utf-8") if json_path else None
        self.titled = False
        self.counts = {}

    def say(self, text):
        """A line for people."""
        print(f"kernel-guard: {text}", flush=True)

    def _row(self, cells):
        line = "  ".join(str(cell).ljust(width) for cell, (_, width) in zip(cells, COLUMNS))
        print(line.rstrip(), flush=True)

    def access(self, **what):
        """One refused access."""
        if not self.titled:
            self._row([title for title, _ in COLUMNS])
            self.titled = True
        where = f"{what['range'] or 'memory'}: {what['target'] or hex(what['gpa'])}"
        self._row([time.strftime("%H:%M:%S"), "-" if what["vcpu"] is None else what["vcpu"],
                   what["task"] or "-", what["access"], where, what["by"], what["verdict"]])
        self.counts[what["verdict"]] = self.counts.get(what["verdict"], 0) + 1
        self.record(event="access", **what)

    def record(self, **what):
        """A line for machines."""
        if self.json:
            self.json.write(json.dumps({"time": time.time(), **what}) + "\n")
            self.json.flush()

    def close(self):
        """What there was in all."""
        total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.counts.items()))
        self.say(f"refused accesses: {total or 'none'}")
        if self.json:
            self.json.close()
        sys.stdout.flush()
