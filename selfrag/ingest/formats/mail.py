"""Mail and saved pages: .eml, .mbox, .mhtml and Outlook's .msg, as a mail program shows them. Runs in the worker process.

A message is its headers, its text (plain, else HTML), and its attachments, each read as a document by the reader for its format
and cited as such: ``message 2, report.pdf p.3``. An unreadable attachment is listed with the reason.
"""

from __future__ import annotations

import binascii
import codecs
import contextlib
import email
import email.header
import email.policy
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import PurePath

import oxmsg

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import declared, decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.html import read_html

_HEADERS = ("From", "To", "Cc", "Date")
_DATED = rb"From [^\n]*\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b[^\n]*\d:\d\d[^\n]*\d{4}[^\n]*\r?\n"
_BOUNDARY = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))%b|(?m:^)%b(?=[\w-]+:)" % (_DATED, _DATED))
_OLD_BOUNDARY = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d{4}[^\n]*\r?\n")
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")
_LENGTH = re.compile(rb"(\d{1,9})[ \t]*\r?\n")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DEEPEST = 4
_SKIPPED_PARTS = ("image", "audio", "video", "font")
_UNSHOWN = ("text/css", "application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
_UNNAMED = {"text/calendar": "invitation.ics", "text/csv": "table.csv", "text/vcard": "card.vcf", "text/x-vcard": "card.vcf"}
_TAGS = re.compile(rb"<(style|script|title)\b.*?</\1|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TNEF = b"\x78\x9f\x3e\x22"
_TNEF_TITLE, _TNEF_DATA = 0x18010, 0x6800F


def _windows(name: str) -> codecs.CodecInfo | None:
    """Outlook's names for code pages: Windows-950 is cp950."""
    number = re.fullmatch(r"windows[_-](\d+)", name)
    try:
        return codecs.lookup(f"cp{number[1]}") if number else None
    except LookupError:
        return None


codecs.register(_windows)


@dataclass(slots=True)
class _Message:
    """A message as displayed. ``body`` holds its text, in bytes where it is HTML; ``attachments`` are names and bytes,
    ``messages`` the messages forwarded whole."""

    subject: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: list[str | bytes] = field(default_factory=list)
    attachments: list[tuple[str, bytes]] = field(default_factory=list)
    messages: list[_Message] = field(default_factory=list)


def read_eml(path: PurePath, data: bytes, limits: Limits) -> Document:
    draft = Draft(limits)
    message = _parsed(data)
    _write(draft, message, "", limits)
    return draft.document(path, "mail", message.subject)


def read_mbox(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Messages in the order of the file; no chunk crosses one."""
    draft = Draft(limits)
    boundary = _BOUNDARY if _BOUNDARY.search(data) else _OLD_BOUNDARY
    cuts = [(found.start(), found.end()) for found in boundary.finditer(data)]
    if not cuts:
        raise InputError("not a mailbox: no line begins a message")
    ends = [*[start for start, _ in cuts[1:]], len(data)]
    for number, ((_, start), end) in enumerate(zip(cuts, ends, strict=True), 1):
        message = _QUOTED_FROM.sub(rb"\1", data[start:end])
        try:
            found = _parsed(message)
        except InputError:  # a message without headers is its text; the others are read all the same
            found = _Message(body=[decode(message).strip()])
        _write(draft, found, f"message {number}", limits)
    return draft.document(path, "mail", path.stem)


def read_mhtml(path: PurePath, data: bytes, limits: Limits) -> Document:
    """The page that was saved, without its pictures and styles."""
    draft = Draft(limits)
    message = _parsed(data)
    if not message.body:
        raise InputError("no text in it")
    pages = [each for each in message.body if isinstance(each, bytes)]
    message.body[:] = pages[:1] or message.body  # further pages are frames in the first
    _body(draft, message, "", limits)
    return draft.document(path, "mhtml", message.subject)


def read_msg(path: PurePath, data: bytes, limits: Limits) -> Document:
    draft = Draft(limits)
    message = _outlook(data)
    _write(draft, message, "", limits)
    return draft.document(path, "mail", message.subject)


# --- writing -----------------------------------------------------------------------------------------------------------------


def _write(draft: Draft, message: _Message, label: str, limits: Limits, depth: int = 0) -> None:
    draft.section()
    read = [_attached(name, content, limits) for name, content in message.attachments]
    headers = [f"{name}: {value}" for name, value in message.headers]
    if read:
        names = [name if isinstance(found, Document) else f"{name} ({found})" for name, found in read]
        headers.append(f"Attachments: {', '.join(names)}")
    draft.add(message.subject, *((label, "") if label else ("¶", "1")), level=min(1 + depth, 6))
    draft.add("\n".join(headers), *((label, "") if label else ("¶", "1")))
    _body(draft, message, label, limits)
    for name, found in read:
        if isinstance(found, Document):
            draft.section(goes_on=True)
            place = f"{label}, {name}".removeprefix(", ")
            draft.add(f"Attachment {name}", place, "", level=min(2 + depth, 6))
            draft.include(found, place, below=2 + depth)
    for number, each in enumerate(message.messages, 1):
        if depth < _DEEPEST:
            _write(draft, each, f"{label}, forwarded {number}".removeprefix(", "), limits, depth + 1)


def _body(draft: Draft, message: _Message, label: str, limits: Limits) -> None:
    number = 1
    for part in message.body:
        if isinstance(part, str):
            for paragraph in _paragraphs(part):
                number += 1
                draft.add(paragraph, *((label, "") if label else ("¶", str(number))))
        elif part.strip():
            try:
                page = read_html(PurePath("body.html"), part, limits)
            except InputError as error:
                if "no text" not in error.message:
                    raise
                continue
            draft.include(page, label, below=1, numbered=True)


def _attached(name: str, content: bytes, limits: Limits) -> tuple[str, Document | str]:
    """An attachment's name, and its document or the reason why it cannot be read."""
    from selfrag.ingest.readers import parse  # it knows this reader, too

    try:
        return name, parse(PurePath(name), content, limits)
    except InputError as error:
        return name, error.message


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs with their lines as they were written, unless the mail program broke them for width (format=flowed)."""
    for paragraph in re.split(r"\n[ \t]*\n", readable(text)):
        yield paragraph.strip("\n")


# --- Internet messages -------------------------------------------------------------------------------------------------------


def _parsed(data: bytes) -> _Message:
    if data.startswith(_UTF16) or data[1:2] == b"\0" or data[:1] == b"\0":  # saved as Unicode text
        data = decode(data).encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    if length := _LENGTH.match(data):  # an .emlx of Apple's mail program, which puts its own notes behind the message
        data = data[length.end() :][: int(length[1])]
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    if not message.keys():
        raise InputError("not a mail: it has no headers")
    return _shown(message)


def _shown(message: EmailMessage, depth: int = 0) -> _Message:
    found = _Message(_header(message, "Subject"), [(name, text) for name in _HEADERS if (text := _header(message, name))])
    for part in _leaves(message):
        kind = part.get_content_type()
        name = _name(part)
        if kind == "message/rfc822":
            inner = _forwarded(part)
            if depth < _DEEPEST and inner:
                found.messages.append(_shown(inner, depth + 1))
        elif not part.is_attachment() and kind == "text/plain" and not name:
            found.body.append(_text(part))
        elif not part.is_attachment() and kind == "text/html":
            found.body.append(_text(part).encode())
        elif kind == "application/ms-tnef" or name.lower() == "winmail.dat":
            found.attachments += list(_tnef(_bytes(part))) or [(name or "winmail.dat", _bytes(part))]
        elif name and not (part.get("Content-ID") and kind.split("/")[0] in _SKIPPED_PARTS) and kind not in _UNSHOWN:
            found.attachments.append((name, _bytes(part)))
    return found


def _forwarded(part: EmailMessage) -> EmailMessage | None:
    """The message in a part; some programs encode it, although they must not."""
    inner = part.get_payload()
    message = inner[0] if isinstance(inner, list) and inner else None
    if isinstance(message, EmailMessage) and str(part.get("Content-Transfer-Encoding", "")).lower() in (
        "base64",
        "quoted-printable",
    ):
        coded = EmailMessage()
        coded["Content-Transfer-Encoding"] = str(part["Content-Transfer-Encoding"])
        coded.set_payload(message.as_string().lstrip("\n"))
        message = email.message_from_bytes(_bytes(coded), policy=email.policy.default)
    return message if isinstance(message, EmailMessage) else None


def _tnef(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The attachments in Outlook's winmail.dat: attributes with a level, a tag, a length, the value and a checksum."""
    title, at = "", 6
    while data.startswith(_TNEF) and at + 9 <= len(data):
        tag, size = struct.unpack_from("<II", data, at + 1)
        value = data[at + 9 : at + 9 + size]
        if tag == _TNEF_TITLE:
            title = PurePath(decode(value.rstrip(b"\0") or b"attachment")).name
        elif tag == _TNEF_DATA:
            yield title or "attachment", value
        at += 11 + size


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold something, in order; of a forwarded message the whole, of two forms of one text the better."""
    waiting: list[EmailMessage] = [message]
    left: list[EmailMessage] = []
    while waiting:
        part = waiting.pop()
        inner = part.get_payload() if part.get_content_maintype() == "multipart" else None
        if isinstance(inner, list):
            parts = [each for each in inner if isinstance(each, EmailMessage)]
            waiting += reversed(parts)
            if part.get_content_subtype() == "alternative":
                left += _worse(parts)
        elif not any(part is each for each in left):
            yield part


def _worse(parts: Sequence[EmailMessage]) -> list[EmailMessage]:
    plain = [each for each in parts if each.get_content_type() == "text/plain"]
    pages = [each for part in parts for each in part.walk() if each.get_content_type() == "text/html"]
    if not (plain and pages):
        return []
    enough = _says_enough("".join(map(_text, plain)), "".join(map(_text, pages)).encode())
    return [each for each in (pages if enough else plain) if isinstance(each, EmailMessage)]


def _says_enough(plain: str, html: bytes) -> bool:
    """Whether the plain text is the message, and not a line such as "use another program"."""
    return 2 * len(plain.split()) >= len(_TAGS.sub(b" ", html).split()) and bool(plain.strip())


def _name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or _UNNAMED.get(part.get_content_type(), "")
    except (ValueError, LookupError, AttributeError, TypeError):
        name = ""
    return " ".join(PurePath(readable(name).replace("\\", "/")).name.split())


def _header(message: EmailMessage, name: str) -> str:
    """A header, decoded and on one line; unchanged if it is malformed."""
    try:
        found = str(message.get(name, ""))
    except (ValueError, LookupError, AttributeError, TypeError):  # the standard library's parser gives up on some
        found = _raw(message, name)
    if "\ufffd" in found:  # bytes in some encoding, as they must not be
        with contextlib.suppress(InputError):
            found = decode(_raw(message, name).encode("utf-8", "surrogateescape"))
    return " ".join(readable(found).split())


def _raw(message: EmailMessage, name: str) -> str:
    return next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")


def _bytes(part: EmailMessage) -> bytes:
    try:
        content = part.get_payload(decode=True)
    except (binascii.Error, ValueError, AssertionError):
        content = b""
    return content if isinstance(content, bytes) else b""


def _text(part: EmailMessage) -> str:
    """A text part in its declared character set, or in a detected one if that is wrong."""
    data = _bytes(part)
    try:
        text = declared(data, part.get_content_charset() or "").text
    except InputError:
        text = data.decode("cp1252", "replace").replace("\r\n", "\n")
    if str(part.get_param("format", "")).lower() == "flowed":
        text = re.sub(r"(?m)(?<!^--) \n(?!>)", " ", text)
    return text


# --- Outlook -----------------------------------------------------------------------------------------------------------------


def _outlook(data: bytes) -> _Message:
    try:
        message = oxmsg.Message.load(data)
        sent = message.sent_date
        people = ", ".join(_person(each.name, each.email_address) for each in message.recipients)
        headers = [
            ("From", _sender(message.sender or "")),
            ("To", people),
            ("Date", sent.strftime("%Y-%m-%d %H:%M") if sent else ""),
        ]
        html = message.html_body or ""
        page = html.encode() if isinstance(html, str) else html
        plain = (message.body or "").replace("\r\n", "\n")
        found = _Message(
            " ".join(readable(message.subject or "").split()),
            [(name, readable(value)) for name, value in headers if value],
            [plain if _says_enough(plain, page) else page],
        )
        for each in _attachments(message.attachments):
            found.attachments.append(each)
    except (ValueError, KeyError, OSError, IndexError, AttributeError, TypeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"damaged, or not an Outlook message: {str(error)[:150] or type(error).__name__}") from None
    return found


def _attachments(attachments: Iterable[oxmsg.attachment.Attachment]) -> Iterator[tuple[str, bytes]]:
    for number, each in enumerate(attachments, 1):
        if each.attached_by_value and each.file_bytes:
            yield PurePath(readable(each.file_name or f"attachment {number}")).name, each.file_bytes


def _sender(text: str) -> str:
    """A sender, decoded, and without the path of an Exchange server's directory."""
    with contextlib.suppress(ValueError, LookupError):  # else as it is written
        text = str(email.header.make_header(email.header.decode_header(text)))
    return re.sub(r"\s*</o=[^>]*>", "", text, flags=re.IGNORECASE)


def _person(name: str, address: str) -> str:
    address = "" if address.lower().startswith("/o=") else address
    return f"{name} <{address}>" if name and address and name != address else name or address
