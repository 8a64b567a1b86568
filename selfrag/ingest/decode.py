"""Bytes to text: detects a file's encoding, and whether it is text at all."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import chardetng_py

from selfrag.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 64 * 1024
_GUESSED = 64 * 1024
"""Bytes given to the detector, of lines that are not ASCII alone; it counts letter pairs, and more text changes nothing."""
_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20)])
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")
"""Terminal escape sequences (ECMA-48), which are frequent in logs and not content."""
_OVERSTRUCK = re.compile(rb"[ -~]\x08")
"""Bold and underlined letters as terminals and old printers have them: a letter, a step back, a letter."""
_NUL_RUN = re.compile(rb"\x00{8,}")
_LEAD = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
_HIGH = re.compile(rb"[\x80-\xff]")
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_SUPERSETS = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "l1": "cp1252",
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "windows-1252": "cp1252",
    "iso-8859-9": "cp1254",
    "latin5": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso8859_8",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "x-gbk": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "koi8-r": "koi8_u",
}
"""Labels whose text is, in practice, in a superset of the named encoding, as browsers decode them (WHATWG Encoding)."""
_OLD = (
    "iso8859_15",
    "cp850",
    "cp437",
    "mac_roman",
    "cp852",
    "cp866",
    "mac_cyrillic",
    "mac_latin2",
    "cp858",
    "mac_greek",
    "cp737",
    "cp862",
)
"""Code pages of DOS and the old Macintosh, which the detector does not know."""
_UNTOLD = ("utf-8", "utf_8", "utf-16", "utf_16", "utf-32", "utf_32", "idna", "punycode")
"""Codecs of labels that say nothing which the bytes do not say themselves."""
_BETWEEN = frozenset(("Sc", "Sk", "Sm", "So", "Ps", "Pi", "Po", "No"))
_APOSTROPHES = frozenset("’‘'ʼ´`·…–—\u00ad/-°²³¹®™ªº")
_RAISED = re.compile(r"[^\W\d_][²³¹®™ªº][^\W\d_]")
"""Signs that end a word."""
_ALPHABETS = tuple(map(frozenset, ("éèêëàâçùûîïôœæÿ", "äöüß", "áéíóúñü", "áâãàéêíóôõúç", "àèéìòù", "åäöé", "åøæéó", "éëïöüè")))
"""The letters beyond ASCII of French, German, Spanish, Portuguese, Italian, Swedish, Danish and Dutch."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """``text`` with ``\\n`` for every newline and no byte-order mark; ``encoding`` as Python names it. ``notes`` name guesses and
    omissions."""

    text: str
    encoding: str
    notes: tuple[str, ...] = ()


def decode(data: bytes) -> str:
    """The text of ``data``; see `decoded`."""
    return decoded(data).text


def decoded(data: bytes) -> Decoded:
    """The text of ``data``: by its byte-order mark, as UTF-16 or UTF-32 without one, as UTF-8, as UTF-8 with lines in an older
    encoding, and last in the encoding that chardetng finds.

    Raises InputError if it is not text, or if its encoding cannot be found: a guess that does not produce words is rejected.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            cut = len(data) % 2 if encoding == "utf-16" else 0
            text = _newlines(_strictly(data[: len(data) - cut], encoding))
            return Decoded(text, encoding, ("ends in the middle of a character",) if cut else ())
    if wide := _wide(data):
        return Decoded(_newlines(data.decode(wide)), wide, (f"read as {wide.upper()}, without a byte-order mark",))
    if b"\x08" in data:
        data = _OVERSTRUCK.sub(b"", data)
    if not looks_like_text(data[:_SAMPLE]):
        raise InputError("binary, not text")
    nuls = data.count(b"\x00")
    found = _narrow(data.replace(b"\x00", b"") if nuls else data)
    notes = (*found.notes, f"{nuls:,} NUL bytes left out") if nuls else found.notes
    text = _ESCAPES.sub("", found.text) if "\x1b" in found.text else found.text
    return Decoded(_newlines(text), found.encoding, notes)


def looks_like_text(data: bytes) -> bool:
    """Whether the beginning of a file may be text: it has a byte-order mark, is UTF-16 or UTF-32, or holds hardly any control
    characters. Runs of NUL, which a crash leaves in a log, do not count; an archive of text files is not text."""
    if data.startswith(tuple(mark for mark, _ in _MARKS)):
        return True
    if data[257:262] == b"ustar":
        return False
    rest = _NUL_RUN.sub(b"", data)
    controls = len(rest) - len(rest.translate(None, _CONTROLS))
    return (controls * 100 <= len(rest) and len(rest) * 4 >= len(data)) or bool(_wide(data))


def python_codec(label: str) -> str | None:
    """The codec for the charset label of a page or a message, widened to the encoding that such texts actually use; None if
    unknown."""
    name = label.strip().strip("\"'").lower()
    name = _SUPERSETS.get(name, _SUPERSETS.get(name.replace("_", "-"), name))
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    return info.name if info._is_text_encoding else None


def declared(data: bytes, label: str) -> Decoded:
    """The text of ``data``, whose author says that it is in ``label``; UTF-8 and other evidence in the bytes comes first, since
    such labels are often wrong: where they make no words, those of another encoding are taken. Raises InputError as `decoded`
    does."""
    codec = python_codec(label)
    if codec is None or codec.startswith(_UNTOLD) or data.startswith(tuple(mark for mark, _ in _MARKS)):
        return decoded(data)
    if not data.isascii() and _is_utf8(data):
        return decoded(data)
    text = data.decode(codec, "replace")
    wrong = text.count("\ufffd")
    if wrong * 200 > len(text):
        return decoded(data)
    if not data.isascii() and not _wordlike(text):
        with contextlib.suppress(InputError):  # else as its author says
            found = _guessed(data)
            return Decoded(_newlines(found.text), found.encoding, found.notes if found.encoding != codec else ())
    return Decoded(_newlines(text), codec, (f"{wrong:,} characters are not valid {codec}",) if wrong else ())


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- UTF-16 and UTF-32 without a mark ------------------------------------------------------------------------------------------


def _wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark: recognised by the zero bytes of its spaces, newlines and Latin letters, all at
    even or all at odd offsets."""
    sample = data[: _SAMPLE // 4 * 4]
    if len(sample) < 4 or b"\x00" not in sample:
        return None
    for name, unit, ascii_at in (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1)):
        if len(data) % unit:
            continue
        lanes = [sample[at::unit] for at in range(unit)]
        zeros = [lane.count(0) for lane in lanes]
        others = sum(zeros) - zeros[ascii_at]
        lane = len(lanes[0])
        if zeros[ascii_at] * 50 > lane or others * 20 < lane * (unit - 1) or (unit == 4 and others < lane * 1.9):
            continue
        try:
            text = data[: len(sample)].decode(name, "ignore")
            data.decode(name)
        except UnicodeDecodeError:
            continue
        if _proper(text):
            return name
    return None


def _proper(text: str) -> bool:
    """Whether hardly any character is a control, unassigned or private."""
    strange = sum(unicodedata.category(char) in ("Cc", "Cn", "Co") and char not in "\t\n\r\x0c\x1b\x00" for char in text)
    return strange * 100 <= len(text)


# --- everything else -----------------------------------------------------------------------------------------------------------


def _narrow(data: bytes) -> Decoded:
    if b"\x1b$" in data and (found := _escaped(data)):
        return found
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(data) - error.start < 4 and _MULTIBYTE.search(data):
            note = "ends in the middle of a character"
            return Decoded(data.decode("utf-8", "replace"), "utf-8", (note,))
    return _by_line(data) or _guessed(data)


def _escaped(data: bytes) -> Decoded | None:
    """ISO-2022, which is ASCII with escape sequences."""
    for codec in ("iso2022_jp_2", "iso2022_kr"):
        try:
            return Decoded(data.decode(codec), codec)
        except UnicodeDecodeError:
            continue
    return None


def _by_line(data: bytes) -> Decoded | None:
    """UTF-8 except for some lines, or a few bytes; None if it is not mainly UTF-8."""
    if not _LEAD.search(data):
        return None
    proper, odd, lines = 0, 0, data.split(b"\n")
    foreign: list[int] = []
    broken: list[int] = []
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        sequences = len(_MULTIBYTE.findall(line))
        stray = len(_HIGH.findall(_MULTIBYTE.sub(b"", line)))
        if not stray:
            proper += sequences
        elif sequences >= stray:
            proper += sequences
            broken.append(number)
        else:
            odd += stray
            foreign.append(number)
    if proper == 0 or proper * 10 < odd:
        return None
    texts = [line.decode("utf-8", "replace") for line in lines] if len(broken) + len(foreign) < len(lines) else None
    texts = texts or [line.decode("utf-8", "replace") for line in lines]
    notes = []
    if foreign:
        found = _guessed(b"\n".join(lines[number] for number in foreign))
        for number, text in zip(foreign, found.text.split("\n"), strict=True):
            texts[number] = text
        notes.append(f"{_lines(foreign)} not UTF-8, read as {found.encoding}")
    if broken:
        notes.append(f"{_lines(broken)} not valid UTF-8, the bytes that are not stand as \ufffd")
    return Decoded("\n".join(texts), "utf-8", tuple(notes))


def _lines(numbers: Iterable[int]) -> str:
    shown = [str(number + 1) for number in numbers]
    if len(shown) == 1:
        return f"line {shown[0]} is"
    return f"lines {', '.join(shown[:5])}{f' and {len(shown) - 5:,} more' if len(shown) > 5 else ''} are"


def _guessed(data: bytes) -> Decoded:
    """The text in the encoding that chardetng finds, if that gives plausible words, otherwise in an older code page that does. It
    needs a few words: for one or two, or for signs alone, windows-1252 is the likeliest if it makes sense."""
    codec = python_codec(chardetng_py.detect(_telling(data))) or "cp1252"
    text = plain = _mostly_valid(data, "cp1252")
    likely = plain is not None and ((_wordlike if codec == "cp1252" else _western)(plain) or _only_signs(plain))
    if likely:
        codec = "cp1252"
    elif (text := _mostly_valid(data, codec)) is None or not _wordlike(text):
        old = [(codec, text) for codec in _OLD if (text := _mostly_valid(data, codec)) is not None and _wordlike(text)]
        if not old:
            raise InputError("text in an encoding that cannot be told; save it as UTF-8")
        codec, text = max(old, key=lambda each: sum(map(each[1][:_SAMPLE].count, _USUAL)))
    return Decoded(text or "", codec, (f"not UTF-8, read as {codec}",))


def _telling(data: bytes) -> bytes:
    """The detector's input: the lines with bytes beyond ASCII, up to a limit."""
    lines, size, at = [], 0, 0
    while size < _GUESSED and (found := _HIGH.search(data, at)):
        start = max(data.rfind(b"\n", at, found.start()) + 1, found.start() - _GUESSED // 4, at)
        end = data.find(b"\n", found.end())
        at = min(end + 1 or len(data), start + _GUESSED)
        lines.append(data[start:at])
        size += at - start
    return b"".join(lines)


def _mostly_valid(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        text = data.decode(codec, "replace")
        return text if text.count("\ufffd") * 1000 <= len(text) else None


_USUAL = "éüöäàèóíáçñåøæßêúãõôâěščřžýůąęłńśżćőűαετονсоаенитאויה"
_SIGN_IN_WORD = re.compile(
    r"[^\W\d_][^\x00-\x7f’‘“”–—…\xa0°²³®™]|[^\x00-\x7f’‘“”–—…\xa0°©µ«§£¥€][^\W\d_]|[^\W\d_]µ|\x7f|[\x80-\x9f]"
)
_WORDS = re.compile(r"[^\W\d_]*[^\x00-\x7f][^\s\x00-\x40\x5b-\x60\x7b-\x7f]*")


def _wordlike(text: str) -> bool:
    """Whether the words beyond ASCII are plausible: letters of one script, no capital after a small letter, no symbol between
    letters, no lone Chinese character in a Latin word."""
    words = _WORDS.findall(text, 0, _SAMPLE) or _WORDS.findall(text)
    return sum(map(_strange, words)) * 8 <= len(words)


def _only_signs(text: str) -> bool:
    """Whether all characters beyond ASCII are quotation marks, dashes, currency and other signs."""
    return not _SIGN_IN_WORD.search(text) and not any(char.isalpha() for char in set(text) - {"µ"} if char > "\x7f")


def _western(text: str) -> bool:
    """Whether the one or two words that hold more than ASCII are written with the letters of one Western language, ASCII among
    them."""
    words = {word for word in _WORDS.findall(text) if any(map(str.isalpha, word))}
    letters = {char for char in "".join(words).lower() if char > "\x7f" and char.isalpha()}
    latin = all(re.search("[A-Za-z]", word) for word in words)
    return len(words) <= 2 and latin and any(letters <= each for each in _ALPHABETS) and _wordlike(text)


def _strange(word: str) -> bool:
    if _RAISED.search(word):
        return True
    before, scripts, eastern = "", set(), 0
    for char in word:
        kind = unicodedata.category(char)
        if kind in ("Cc", "Cn", "Co"):
            return True
        if char >= "\u2e80":
            eastern += 1
        elif kind[0] == "L":
            if kind == "Lu" and before == "Ll" and char > "\x7f":
                return True
            scripts.add(_script(char))
        elif before[:1] == "L" and char > "\x7f" and char not in _APOSTROPHES and kind in _BETWEEN:
            return True
        before = kind
    return len(scripts) > 1 or (0 < eastern <= 2 and bool(scripts))


def _script(char: str) -> str:
    return unicodedata.name(char, "").split(" ", 1)[0] if char > "\x7f" else "LATIN"


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"text that is not valid {encoding.removesuffix('-sig')} (byte {error.start}); save it as UTF-8"
        ) from None


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
