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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import PurePath

import oxmsg

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.html import read_html

_HEADERS = ("From", "To", "Cc", "Date")
_BOUNDARY = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d{4}[^\n]*\r?\n")
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DEEPEST = 4
_SKIPPED_PARTS = ("image", "audio", "video", "font")


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
    """A message as displayed. ``attachments`` are names and bytes, ``messages`` the messages forwarded whole."""

    subject: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    plain: str = ""
    html: bytes = b""
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
    cuts = [(found.start(), found.end()) for found in _BOUNDARY.finditer(data)]
    if not cuts:
        raise InputError("not a mailbox: no line begins a message")
    ends = [*[start for start, _ in cuts[1:]], len(data)]
    for number, ((_, start), end) in enumerate(zip(cuts, ends, strict=True), 1):
        message = _QUOTED_FROM.sub(rb"\1", data[start:end])
        try:
            found = _parsed(message)
        except InputError:  # a message without headers is its text; the others are read all the same
            found = _Message(plain=decode(message).strip())
        _write(draft, found, f"message {number}", limits)
    return draft.document(path, "mail", path.stem)


def read_mhtml(path: PurePath, data: bytes, limits: Limits) -> Document:
    """The page that was saved, without its pictures and styles."""
    draft = Draft(limits)
    message = _parsed(data)
    if not (message.html or message.plain):
        raise InputError("no text in it")
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
            draft.section()
            place = f"{label}, {name}".removeprefix(", ")
            draft.add(f"Attachment {name}", place, "", level=min(2 + depth, 6))
            draft.include(found, place, below=2 + depth)
    for number, each in enumerate(message.messages, 1):
        if depth < _DEEPEST:
            _write(draft, each, f"{label}, forwarded {number}".removeprefix(", "), limits, depth + 1)


def _body(draft: Draft, message: _Message, label: str, limits: Limits) -> None:
    if message.plain.strip():
        for number, paragraph in enumerate(_paragraphs(message.plain), 2):
            draft.add(paragraph, *((label, "") if label else ("¶", str(number))))
    elif message.html.strip():
        try:
            page = read_html(PurePath("body.html"), message.html, limits)
        except InputError as error:
            if "no text" not in error.message:
                raise
            return
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
            inner = part.get_payload()
            if depth < _DEEPEST and isinstance(inner, list) and inner and isinstance(inner[0], EmailMessage):
                found.messages.append(_shown(inner[0], depth + 1))
        elif not part.is_attachment() and kind == "text/plain" and not name:
            text = _text(part)
            found.plain = f"{found.plain}\n\n{text}" if found.plain else text
        elif not part.is_attachment() and kind == "text/html":
            found.html = found.html or _text(part).encode()
        elif name and not (part.get("Content-ID") and kind.split("/")[0] in _SKIPPED_PARTS) and kind != "text/css":
            found.attachments.append((name, _bytes(part)))
    return found


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold something, in order; of a forwarded message the whole."""
    waiting: list[EmailMessage] = [message]
    while waiting:
        part = waiting.pop()
        inner = part.get_payload() if part.get_content_maintype() == "multipart" else None
        if isinstance(inner, list):
            waiting += [each for each in reversed(inner) if isinstance(each, EmailMessage)]
        else:
            yield part


def _name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except (ValueError, LookupError, AttributeError, TypeError):
        name = ""
    return " ".join(PurePath(readable(name).replace("\\", "/")).name.split())


def _header(message: EmailMessage, name: str) -> str:
    """A header decoded and on one line; as it is written where it is malformed."""
    try:
        value = message.get(name)
        return " ".join(readable(str(value)).split()) if value is not None else ""
    except (ValueError, LookupError, AttributeError, TypeError):  # the standard library's parser gives up on some
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return " ".join(readable(str(raw)).split())


def _bytes(part: EmailMessage) -> bytes:
    try:
        content = part.get_payload(decode=True)
    except (binascii.Error, ValueError, AssertionError):
        content = b""
    return content if isinstance(content, bytes) else b""


def _text(part: EmailMessage) -> str:
    """A text part in its own character set, or what its bytes look like where that is wrong."""
    data = _bytes(part)
    charset = part.get_content_charset() or ""
    if charset in ("iso-8859-1", "latin-1", "windows-1252", "us-ascii", "ascii"):  # what such labels mean where they are wrong
        charset = "utf-8" if charset.endswith("ascii") or _is_utf8(data) else "cp1252"
    try:
        text = data.decode(charset or "utf-8")
    except (UnicodeDecodeError, LookupError):
        try:
            text = decode(data)
        except InputError:
            text = data.decode("cp1252", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if str(part.get_param("format", "")).lower() == "flowed":
        text = re.sub(r"(?m)(?<!^--) \n(?!>)", " ", text)
    return text


def _is_utf8(data: bytes) -> bool:
    """Whether these are letters in UTF-8: hardly any text in a code page is that by chance."""
    try:
        return not data.isascii() and bool(data.decode("utf-8"))
    except UnicodeDecodeError:
        return False


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
        found = _Message(
            " ".join(readable(message.subject or "").split()),
            [(name, readable(value)) for name, value in headers if value],
            (message.body or "").replace("\r\n", "\n"),
            html.encode() if isinstance(html, str) else html,
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
    """A sender without the encoding of Internet mail, and without the path of an Exchange server's directory."""
    with contextlib.suppress(ValueError, LookupError):  # else as it is written
        text = str(email.header.make_header(email.header.decode_header(text)))
    return re.sub(r"\s*</o=[^>]*>", "", text, flags=re.IGNORECASE)


def _person(name: str, address: str) -> str:
    address = "" if address.lower().startswith("/o=") else address
    return f"{name} <{address}>" if name and address and name != address else name or address
