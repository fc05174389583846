# SPDX-License-Identifier: GPL-2.0
"""QEMU's monitor: commands, events, and what only its human side can tell."""
import collections
import json
import re
import select
import socket
import time

GONE = "QEMU has closed the connection"


class QMPError(Exception):
    """A command failed, or QEMU is gone."""


def connect(address):
    """unix socket by path, or HOST:PORT."""
    try:
        if "/" in address or ":" not in address:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address)
        else:
            host, port = address.rsplit(":", 1)
            sock = socket.create_connection((host, int(port)))
    except (OSError, ValueError) as error:
        raise QMPError(f"cannot reach QEMU's QMP at {address}: {error} (started with "
                       "-qmp unix:PATH,server=on,wait=off?)") from error
    return sock


class QMP:
    """One connection. Events that come while a command is answered are kept in order."""

    def __init__(self, address):
        self.sock = connect(address)
        self.buffer = b""
        self.events = collections.deque()
        self._receive(time.monotonic() + 10)
        self.command("qmp_capabilities")

    def _receive(self, deadline):
        """The next message, or None at the deadline (None: wait for ever)."""
        while b"\n" not in self.buffer:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            if not select.select([self.sock], [], [], left)[0]:
                return None
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise QMPError(GONE)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, **arguments):
        """What the command returns."""
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QMPError(GONE) from error
        while True:
            answer = self._receive(None)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QMPError(f"{name}: {answer['error']['desc']}")
            elif "return" in answer:
                return answer["return"]

    def event(self, deadline=None):
        """The next event, or None at the deadline."""
        while not self.events:
            message = self._receive(deadline)
            if message is None:
                return None
            if "event" in message:
                self.events.append(message)
        return self.events.popleft()

    def human(self, line, vcpu=0):
        """What the human monitor prints."""
        return self.command("human-monitor-command", **{"command-line": line, "cpu-index": vcpu})

    def registers(self, vcpu=0):
        """The registers that are told by name: RIP, RSP, CR3, IDT..."""
        text = self.human("info registers", vcpu)
        found = {name: int(value, 16)
                 for name, value in re.findall(r"\b(R[A-Z0-9]{1,2}|CR\d) ?=([0-9a-f]+)", text)}
        idt = re.search(r"IDT= +([0-9a-f]+) ([0-9a-f]+)", text)
        if idt:
            found["IDT"] = int(idt.group(1), 16)
        return found

    def physical(self, gpa, size):
        """Guest memory, by the monitor's xp: small pieces of it only."""
        return self._dump("xp", f"{gpa:#x}", size, 0)

    def virtual(self, address, size, vcpu):
        """Virtual memory, by the page tables that the vCPU uses now."""
        return self._dump("x", f"{address:#x}", size, vcpu)

    def stacked(self, vcpu):
        """The eight bytes on top of the vCPU's stack."""
        return int.from_bytes(self._dump("x", "$sp", 8, vcpu), "little")

    def _dump(self, command, where, size, vcpu):
        words = (size + 7) // 8
        text = self.human(f"{command} /{words}gx {where}", vcpu)
        values = re.findall(r"0x([0-9a-f]{16})", re.sub(r"^[0-9a-f]+:", "", text, flags=re.M))
        if len(values) != words:
            raise QMPError(f"guest memory at {where} cannot be read: {text.strip()}")
        return b"".join(int(value, 16).to_bytes(8, "little") for value in values)[:size]
