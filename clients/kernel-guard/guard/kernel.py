# SPDX-License-Identifier: GPL-2.0
"""Where a guest's kernel is: its virtual and its physical slide, and who runs.

The guest is believed as little as possible: what is found by its registers and tables is
checked against the image, and from then on physical addresses are all that counts. The name of
a task is the guest's word, and is only told.
"""
from guard.qmp import QMPError
from guard.symbols import SymbolError

PAGE = 4096
ALIGN = 2 << 20
KASLR_RANGE = 1 << 30
MODULES = 0xffffffffc0000000
PRESENT, WRITABLE, HUGE = 1, 2, 0x80
LA57, FIVE_LEVELS = 1 << 12, (48, 39, 30, 21, 12)
ADDRESS = 0x000ffffffffff000
NEIGHBOURS = 32 * 8
COMM = 16

# Exceptions whose handlers tell the slide, if they agree.
GATES = ((0, "asm_exc_divide_error"), (13, "asm_exc_general_protection"),
         (14, "asm_exc_page_fault"))


class NotFound(Exception):
    """No such kernel runs, or it does not yet."""


def _up(address):
    return -(-address // PAGE) * PAGE


def _down(address):
    return address // PAGE * PAGE


def expect_any(qmp):
    """Fail unless the IDT is in the upper half, where kernels have it and firmware does not.

    It takes one command of the monitor. The VM may run.
    """
    if not qmp.registers()["IDT"] >> 63:
        raise NotFound("the guest has no kernel yet")


class Kernel:
    """The running kernel, found while the VM is stopped."""

    def __init__(self, qmp, symbols):
        self.qmp = qmp
        self.symbols = symbols
        self.entries = {}
        registers = qmp.registers()
        self.slide = self._virtual_slide(registers)
        self.shifts = FIVE_LEVELS if registers["CR4"] & LA57 else FIVE_LEVELS[1:]
        self.root = self._page_table(registers)
        self.base = self._physical_base()
        # That of the task goes when the task ends; this one has all of the kernel, too.
        self.root = self.physical("init_top_pgt")
        if self._physical_base() != self.base:
            raise NotFound("the guest's init_top_pgt does not map the kernel as its tasks do")
        self.entries = None
        self._check_finished()

    def _virtual_slide(self, registers):
        slides = set()
        # One read gets all gates: Linux aligns the IDT to a page.
        idt = self._by_monitor(registers["IDT"], 16 * (GATES[-1][0] + 1))
        for vector, handler in GATES:
            gate = int.from_bytes(idt[16 * vector:16 * vector + 16], "little")
            offset = (gate & 0xffff) | (gate >> 48 & 0xffff) << 16 | (gate >> 64 & 0xffffffff) << 32
            slides.add(offset - self.symbols[handler])
        slide = slides.pop()
        if slides or slide % ALIGN or not 0 <= slide < KASLR_RANGE:
            raise NotFound("the guest does not run this kernel, or has not got far enough")
        return slide

    def _by_monitor(self, address, size):
        """Virtual memory of what the vCPU runs now: the IDT is mapped for programs, too."""
        text = self.qmp.human(f"gva2gpa {address:#x}")
        if not text.startswith("gpa: "):
            raise NotFound("the guest has no IDT yet")
        return self.qmp.physical(int(text.split()[1], 16), size)

    def _entry(self, at):
        """The page table entry at a physical address.

        __init__() runs with the VM stopped, so it caches entries and reads 32 at a time: a read
        costs a command, whatever its size. Afterwards the guest may change them.
        """
        if self.entries is None:
            return int.from_bytes(self.qmp.physical(at, 8), "little")
        if at not in self.entries:
            first = at & -NEIGHBOURS
            data = self.qmp.physical(first, NEIGHBOURS)
            for i in range(0, NEIGHBOURS, 8):
                self.entries[first + i] = int.from_bytes(data[i:i + 8], "little")
        return self.entries[at]

    def _walk(self, address, root):
        """The entry that maps address, and the physical address; (0, None) if none does."""
        table = root
        for shift in self.shifts:
            at = table + (address >> shift & 511) * 8
            entry = self._entry(at)
            if not entry & PRESENT:
                return 0, None
            if shift == 12 or entry & HUGE and shift < 39:
                mask = (1 << shift) - 1
                return entry, (entry & ADDRESS & ~mask) | (address & mask)
            table = entry & ADDRESS
        return 0, None

    def _page_table(self, registers):
        """That of the kernel; with page table isolation, a program's is the page behind it."""
        text = self.symbols["_text"] + self.slide
        for root in (registers["CR3"] & ADDRESS, registers["CR3"] & ADDRESS & ~PAGE):
            if self._walk(text, root)[1] is not None:
                return root
        raise NotFound("the guest's page tables do not map this kernel")

    def _physical_base(self):
        """Of _text: all of the kernel has to lie behind it as it was linked."""
        base = None
        for name in ("_text", "__start_rodata", "_sdata", "__bss_start"):
            _, found = self._walk(self.symbols[name] + self.slide, self.root)
            here = None if found is None else found - (self.symbols[name] - self.symbols["_text"])
            if here is None or base not in (None, here):
                raise NotFound(f"the guest does not map {name} where this kernel has it")
            base = here
        return base

    def _check_finished(self):
        """Before it has write-protected its own rodata, a kernel still changes itself."""
        entry, _ = self._walk(self.symbols["__start_rodata"] + self.slide, self.root)
        if entry & WRITABLE:
            raise NotFound("the guest's kernel is still booting")

    def physical(self, name):
        """Guest physical address of a symbol."""
        return self.symbols[name] - self.symbols["_text"] + self.base

    def _vdso(self):
        """Pages of rodata that every program executes: (address, size) of each image."""
        found = []
        for name in ("vdso_image_64", "vdso_image_32", "vdso_image_x32"):
            if name not in self.symbols.by_name:
                continue
            image = self.qmp.physical(self.physical(name), 16)
            data = int.from_bytes(image[:8], "little") - self.slide
            size = int.from_bytes(image[8:], "little")
            rodata = self.symbols["__start_rodata"], self.symbols["__end_rodata"]
            if data % PAGE or size % PAGE or not rodata[0] <= data <= data + size <= rodata[1]:
                raise NotFound(f"the guest's {name} is not what this kernel has")
            found.append((data - self.symbols["_text"] + self.base, size))
        return found

    def ranges(self):
        """(name, address, size, attributes): what is protected, and from what.

        Where they overlap, the last one counts.
        """
        def outer(first, last):
            start = _down(self.physical(first))
            return start, _up(self.physical(last)) - start

        def inner(first, last):
            start = _up(self.physical(first))
            return start, _down(self.physical(last)) - start

        # What lies between these is given back after boot, and becomes other memory.
        protected = [("text", *outer("_text", "_etext"), ["no-write"]),
                     ("rodata", *outer("__start_rodata", "__end_rodata"), ["no-write", "no-execute"]),
                     ("data", *inner("_sdata", "__init_begin"), ["no-execute"]),
                     ("bss", *inner("__bss_start", "__bss_stop"), ["no-execute"])]
        return protected + [("vdso", *image, ["no-write"]) for image in self._vdso()]

    def name_of_physical(self, gpa):
        """What of the kernel lies there."""
        offset = gpa - self.base
        if not 0 <= offset < self.symbols["__bss_stop"] - self.symbols["_text"]:
            return None
        return self.symbols.name_of(self.symbols["_text"] + offset)

    def name_of_page(self, gpa):
        """What lies where the page begins and ends: KVM tells no more than the page."""
        names = [self.name_of_physical(at) for at in (gpa, gpa + PAGE - 1)]
        if None in names:
            return names[0]
        first, last = (name.split("+")[0] for name in names)
        return first if first == last else f"{first}..{last}"

    def name_of(self, address):
        """A symbol of the kernel, or what kind of address it is."""
        name = self.symbols.name_of(address - self.slide)
        if name and address >= self.slide + self.symbols["_text"]:
            return name
        if address >= MODULES:
            return f"module {address:#x}"
        return f"{'mapping' if address >> 63 else 'program'} {address:#x}"

    def is_text(self, address):
        """Does the address lie in the text of the kernel's image?"""
        return self.symbols["_text"] <= address - self.slide < self.symbols["_etext"]

    def read(self, address, size, vcpu):
        """Virtual memory of the kernel, within a page: by the vCPU's page tables, else the kernel's."""
        try:
            return self.qmp.virtual(address, size, vcpu)
        except QMPError:  # With page table isolation, programs do not have the kernel mapped.
            return self.qmp.physical(self.translate(address), size)

    def translate(self, address):
        """The guest physical address that the kernel maps there."""
        _, gpa = self._walk(address, self.root)
        if gpa is None:
            raise QMPError(f"the guest does not map {address:#x}")
        return gpa


class Tasks:
    """The name of the task that a vCPU runs, where the image tells how to find it."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.comm = self._comm_offset()
        self.variables = {}

    def _comm_offset(self):
        """The first task is called swapper; its name is where all tasks have it."""
        start = self.kernel.physical("init_task")
        data = b""
        for _ in range(2):
            data += self.kernel.qmp.physical(start + len(data), PAGE)
            if b"swapper" in data:
                return data.index(b"swapper")
        return None

    def _variable(self, vcpu):
        """Physical address of the per-CPU pointer to the current task; it does not change."""
        kernel = self.kernel
        name = next(name for name in ("current_task", "pcpu_hot") if name in kernel.symbols.by_name)
        offsets = kernel.symbols["__per_cpu_offset"] + kernel.slide
        area = int.from_bytes(kernel.read(offsets + 8 * vcpu, 8, vcpu), "little")
        return kernel.translate(area + kernel.symbols[name])

    def current(self, vcpu):
        """The name, or ?."""
        kernel = self.kernel
        try:
            if vcpu not in self.variables:
                self.variables[vcpu] = self._variable(vcpu)
            task = int.from_bytes(kernel.qmp.physical(self.variables[vcpu], 8), "little")
            comm = kernel.read(task + self.comm, COMM, vcpu)
        except (QMPError, SymbolError, StopIteration, TypeError):
            return "?"
        return comm.split(b"\0")[0].decode("ascii", "replace") or "?"
