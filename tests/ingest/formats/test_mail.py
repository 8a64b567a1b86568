"""Messages as a mail program shows them."""

from __future__ import annotations

import base64
import struct
from pathlib import PurePath

import pytest

from selfrag import ingest
from selfrag.ingest import Document


def read(name: str, *parts: str, kind: str = "mixed") -> Document:
    head = f"Subject: S\nMIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary=b\n"
    return ingest.parse(PurePath(name), "\n--b\n".join([head, *parts]).encode() + b"\n--b--\n")


PLAIN = "Content-Type: text/plain\n\n{}"
PAGE = "Content-Type: text/html; charset=utf-8\n\n<p>{}</p>"


@pytest.mark.parametrize(
    ("kind", "parts", "text"),
    [
        ("alternative", [PLAIN.format("The fee is 40."), PAGE.format("The fee is <b>40</b>.")], "S\n\nThe fee is 40."),
        ("alternative", [PLAIN.format("No HTML?"), PAGE.format("The fee is 40 for each of you.")],
         "S\n\nThe fee is 40 for each of you."),
        ("mixed", [PLAIN.format("One."), PAGE.format("Two."), PAGE.format("Three.")], "S\n\nOne.\n\nTwo.\n\nThree."),
        ("signed", [PLAIN.format("One."), "Content-Type: application/pgp-signature; name=s.asc\n\nxx"], "S\n\nOne."),
    ],
)  # fmt: skip
def test_parts_that_are_shown(kind: str, parts: list[str], text: str) -> None:
    """Every part of a message is read, of two forms of one text the one that says it."""
    assert read("a.eml", *parts, kind=kind).text.rstrip("\n") == text


def test_an_invitation_without_a_name() -> None:
    """A calendar beside the text is an attachment."""
    event = "Content-Type: text/calendar\n\nBEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Roof\nEND:VEVENT\nEND:VCALENDAR"
    assert "Summary: Roof" in read("a.eml", PLAIN.format("Come."), event, kind="alternative").text


def test_a_forwarded_message_that_is_encoded() -> None:
    """A message in base64 is decoded, although it must not be in it."""
    coded = base64.b64encode(b"Subject: Inner\n\nThe words.\n").decode()
    assert "The words." in read("a.eml", f"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{coded}").text


def test_winmail_dat() -> None:
    """What Outlook packs into winmail.dat is attachments of the message."""
    packed = [(0x18010, b"fees.csv\0"), (0x6800F, b"name,fee\nAnn,40\n")]
    data = b"\x78\x9f\x3e\x22\0\0" + b"".join(struct.pack("<BII", 2, tag, len(v)) + v + b"\0\0" for tag, v in packed)
    part = "Content-Type: application/ms-tnef\nContent-Transfer-Encoding: base64\n\n"
    document = read("a.eml", PLAIN.format("See."), part + base64.b64encode(data).decode())
    assert "Attachments: fees.csv" in document.text
    assert "fee: 40" in document.text


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_headers_in_eight_bits(encoding: str) -> None:
    """Letters beyond ASCII in a header and a text without a declared encoding are read."""
    document = ingest.parse(PurePath("a.eml"), "Subject: Café à Lyon\n\nBody naïve, £40\n".encode(encoding))
    assert (document.title, document.text.split()[-1]) == ("Café à Lyon", "£40")


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"20\n"])
def test_what_stands_before_a_message(start: bytes) -> None:
    """A byte-order mark, and the length that Apple's mail program writes, are no part of the message."""
    assert ingest.parse(PurePath("a.emlx"), start + b"Subject: x\n\nThe body.<plist/>").text.startswith("x\n\nThe body")


def test_lines_that_begin_messages() -> None:
    """A sentence that begins with From begins no message; a dated line before a header does, with an empty line or without."""
    dated = "From a@b Tue Jan  2 10:00:00 2024\nSubject: {}\n\n"
    box = dated.format("One") + "Hello\n\nFrom 2024 on\nit is free.\n" + dated.format("Two") + "Bye\n"
    document = ingest.parse(PurePath("a.mbox"), box.encode())
    assert [chunk.place for chunk in ingest.split(document)] == ["message 1", "message 2"]
    assert "From 2024 on" in document.text
