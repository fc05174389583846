# SPDX-License-Identifier: GPL-2.0
"""Symbols of a kernel: from System.map, or from the tables in a kernel image.

A distribution's kernel has no symbol table, but what /proc/kallsyms is made from. Names are
there as strings of tokens; scripts/kallsyms.c of the kernel's source writes

    num_syms  names  markers  [seqs_of_names]  token_table  token_index

one after the other, each aligned to eight bytes, and the addresses either before them
(offsets, relative_base) or after them. The token table is found by its digits, which stand for
themselves; the names, before it, by the markers, which say where every 256th of them begins.
"""
import bisect
import gzip
import lzma
import re
import struct
import subprocess

DIGITS = b"0\0" b"1\0" b"2\0" b"3\0" b"4\0" b"5\0" b"6\0" b"7\0" b"8\0" b"9\0"
KERNEL_HALF = 0xffffffff80000000
SYMBOLS_PER_MARKER = 256
LONGEST_NAME = 512
MOST_BYTES = 16 << 20
NUM_SYMS = re.compile(rb"..[\x00-\x1f]\0\0\0\0\0", re.S)


class SymbolError(Exception):
    """The file is not what it should be."""


class Symbols:
    """Addresses as the kernel was linked. Lookups go by address and by name."""

    def __init__(self, pairs):
        self.pairs = sorted(pairs)
        self.by_name = {}
        for address, name in pairs:
            self.by_name.setdefault(name, address)
        kernel = [(address, name) for address, name in self.pairs if address >= KERNEL_HALF]
        self.addresses = [address for address, _ in kernel]
        self.names = [name for _, name in kernel]

    def __getitem__(self, name):
        if name not in self.by_name:
            raise SymbolError(f"the kernel has no symbol {name}")
        return self.by_name[name]

    def name_of(self, address):
        """name+0xoffset, and None where there is no symbol."""
        i = bisect.bisect_right(self.addresses, address) - 1
        if i < 0 or address > self.addresses[-1]:
            return None
        offset = address - self.addresses[i]
        return self.names[i] + (f"+{offset:#x}" if offset else "")

    def write(self, file):
        """As System.map, whose types of symbols are not needed here."""
        for address, name in self.pairs:
            file.write(f"{address:016x} t {name}\n")


def _align(offset):
    return (offset + 7) & ~7


def _u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def _u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def _tokens(data):
    """The token table's offset, the tokens, and where the index of them ends."""
    at = data.find(DIGITS)
    while at >= 0:
        end = at
        for _ in range(256 - ord("0")):
            end = data.find(b"\0", end) + 1
        index = struct.unpack_from("<256H", data, _align(end))
        start = at - index[ord("0")]
        tokens = [data[start + i:data.find(b"\0", start + i)].decode("latin-1") for i in index]
        if index[0] == 0 and tokens[ord("0"):ord("9") + 1] == list("0123456789"):
            return start, tokens, _align(end) + 512
        at = data.find(DIGITS, at + 1)
    raise SymbolError("it has no kallsyms (is this a kernel image?)")


def _lengths(data, at, number):
    """Where each name begins, its length before it; None if there are no such names."""
    starts = []
    for _ in range(number):
        starts.append(at)
        length = data[at]
        at += 1
        if length & 0x80:
            length = (length & 0x7f) | data[at] << 7
            at += 1
        if not 0 < length < LONGEST_NAME or at + length > len(data):
            return None, 0
        at += length
    return starts, at


def _names(data, token_table):
    """Where the names begin, and how many there are: the markers behind them have to agree."""
    begin = max(0, token_table - MOST_BYTES)
    for found in NUM_SYMS.finditer(data, begin, token_table):
        number = _u64(data, found.start())
        at = found.end()
        if found.start() % 8 or not 1000 < number < (token_table - at) // 3:
            continue
        if not _lengths(data, at, SYMBOLS_PER_MARKER)[0]:
            continue
        starts, end = _lengths(data, at, number)
        markers = [start - at for start in starts[::SYMBOLS_PER_MARKER]] if starts else None
        if markers and list(struct.unpack_from(f"<{len(markers)}I", data, _align(end))) == markers:
            return at, number
    raise SymbolError("its kallsyms have an unknown layout")


def _decode(data, at, number, tokens):
    """The names, each without the letter of its type."""
    names = []
    for _ in range(number):
        length = data[at]
        at += 1
        if length & 0x80:
            length = (length & 0x7f) | data[at] << 7
            at += 1
        names.append("".join([tokens[b] for b in data[at:at + length]])[1:])
        at += length
    return names


def _addresses(data, names, number, behind):
    """Offsets from relative_base if negative, else absolute: of per-CPU symbols."""
    if _u64(data, names - 16) >= KERNEL_HALF:
        base = _u64(data, names - 16)
        table = names - 16 - _align(4 * number)
    else:
        table = _align(behind)
        base = _u64(data, table + _align(4 * number))
    offsets = struct.unpack_from(f"<{number}i", data, table)
    return [offset if offset >= 0 else base - 1 - offset for offset in offsets]


def from_image(data):
    """Of a vmlinux, whether it has a symbol table or not."""
    token_table, tokens, behind = _tokens(data)
    names, number = _names(data, token_table)
    return Symbols(list(zip(_addresses(data, names, number, behind),
                            _decode(data, names, number, tokens))))


def from_map(text):
    """Of System.map, or of the guest's /proc/kallsyms if KASLR is off there."""
    found = re.findall(r"^([0-9a-f]{16}) \w (\S+)$", text, flags=re.M)
    if len(found) < 1000:
        raise SymbolError("it is no System.map (Debian's is in the package linux-image-...-dbg)")
    return Symbols([(int(address, 16), name) for address, name in found])


def _unpack_zstd(packed):
    try:
        return subprocess.run(["zstd", "-dcq"], input=packed, capture_output=True, check=False).stdout
    except OSError as error:
        raise SymbolError("it is packed with zstd (install the package zstd)") from error


UNPACKERS = {
    b"\x1f\x8b\x08": lambda packed: gzip.zlib.decompressobj(31).decompress(packed),
    b"\xfd7zXZ\0": lambda packed: lzma.LZMADecompressor().decompress(packed),
    b"\x28\xb5\x2f\xfd": _unpack_zstd,
}


def unpack(data):
    """The vmlinux in a bzImage; its header says where the packed kernel is."""
    if data[:4] == b"\x7fELF":
        return data
    if data[0x202:0x206] != b"HdrS":
        raise SymbolError("it is neither vmlinux nor bzImage")
    start = ((data[0x1f1] or 4) + 1) * 512 + _u32(data, 0x248)
    packed = data[start:start + _u32(data, 0x24c)]
    for magic, unpacker in UNPACKERS.items():
        if packed.startswith(magic):
            return unpacker(packed)
    raise SymbolError("its compression is not known: unpack it to a vmlinux")


def load(path):
    """Symbols of a vmlinux, a bzImage or a System.map."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SymbolError(f"cannot read {path}: {error.strerror}") from error
    try:
        if data[:4] == b"\x7fELF" or data[0x202:0x206] == b"HdrS":
            return from_image(unpack(data))
        return from_map(data.decode("latin-1"))
    except SymbolError as error:
        raise SymbolError(f"{path}: {error}") from error
