"""Old spreadsheets (.xls) that are damaged."""

from __future__ import annotations

import struct
from pathlib import PurePath

import pytest

from selfrag.errors import InputError
from selfrag.ingest import Limits
from selfrag.ingest.formats import sheets

_END, _FREE, _TABLE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def compound(directory_goes_on_at: int) -> bytes:
    """A compound file of two sectors: the table of sectors, and the directory with its root alone."""
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<5H", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<9I", 0, 1, 1, 0, 4096, _END, 0, _END, 0) + struct.pack("<109I", 0, *[_FREE] * 108)
    table = struct.pack("<128I", _TABLE, directory_goes_on_at, *[_FREE] * 126)
    name = "Root Entry".encode("utf-16-le") + b"\0\0"
    root = name.ljust(64, b"\0") + struct.pack("<HBB3I", len(name), 5, 1, _FREE, _FREE, _FREE) + bytes(36)
    root += struct.pack("<IQ", _END, 0)
    return header + table + root.ljust(512, b"\0")


def test_sectors_in_a_circle_are_damage() -> None:
    """A directory that goes on at its own beginning is refused before the parser follows it; one that ends is left to the
    parser, which finds no workbook in it."""
    with pytest.raises(InputError, match=r"damaged: (incorrect|malformed|its sectors)"):
        sheets.read_xls(PurePath("a.xls"), compound(1), Limits())
    with pytest.raises(InputError, match=r"damaged"):
        sheets.read_xls(PurePath("a.xls"), compound(_END), Limits())
    with pytest.raises(ValueError, match="circle"):
        sheets._follow([1, 2, 0], 0)
    sheets._follow([1, 2, _END], 0)
