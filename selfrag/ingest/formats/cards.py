"""Calendars (.ics) and address cards (.vcf), which share a grammar. Runs in the worker process.

Not done by a library: of those compared, one reads only calendars, the other rejects entries that lack a field.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator
from pathlib import PurePath

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft

_PROPERTY = re.compile(r"(?:[\w-]+\.)?([A-Za-z][\w-]*)((?:;[^:\"]*(?:\"[^\"]*\"[^:\"]*)*)?):(.*)", re.DOTALL)
_ITEMS = ("VEVENT", "VTODO", "VJOURNAL", "VCARD", "VFREEBUSY")
# fmt: off
_NAMES = {
    "FN": "Name", "N": "Name", "EXDATE": "Except", "RDATE": "Also on",
    "TEL": "Telephone", "EMAIL": "E-mail", "ADR": "Address", "ORG": "Organisation", "TITLE": "Title",
    "BDAY": "Birthday", "NOTE": "Note", "URL": "URL",
    "SUMMARY": "Summary", "DTSTART": "Start", "DTEND": "End", "DUE": "Due", "LOCATION": "Location",
    "DESCRIPTION": "Description", "ORGANIZER": "Organizer", "ATTENDEE": "Attendee", "RRULE": "Repeats", "STATUS": "Status",
    "NICKNAME": "Nickname", "ROLE": "Role", "CATEGORIES": "Categories", "ANNIVERSARY": "Anniversary", "COMMENT": "Comment",
    "DURATION": "Duration", "CONTACT": "Contact", "PRIORITY": "Priority", "COMPLETED": "Completed", "IMPP": "Messenger",
}
_TYPED = ("TEL", "EMAIL", "ADR")
_KINDS = {
    "WORK": "work", "HOME": "home", "CELL": "mobile", "MOBILE": "mobile", "FAX": "fax", "PAGER": "pager", "CAR": "car",
    "MAIN": "main", "OTHER": "other", "TEXT": "text",
}
_DAYS = {"MO": "Monday", "TU": "Tuesday", "WE": "Wednesday", "TH": "Thursday", "FR": "Friday", "SA": "Saturday", "SU": "Sunday"}
_UNITS = {"YEARLY": "year", "MONTHLY": "month", "WEEKLY": "week", "DAILY": "day", "HOURLY": "hour"}
# fmt: on


def read_cards(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Events, tasks and persons, one entry each: a line ``name: value`` for each field that people fill in or read."""
    found = Draft(limits)
    entry: list[tuple[str, str]] = []
    began, depth, known = 0, 0, False
    for number, line in _unfolded(decode(data)):
        match = _PROPERTY.match(line)
        if not match:
            continue
        name, value = match[1].upper(), match[3]
        if name == "BEGIN":
            known = True
            if value.strip().upper() in _ITEMS:
                entry, began, depth = [], number, 1
            else:
                depth += bool(depth)
        elif name == "END":
            depth -= bool(depth)
            if not depth and entry:
                _entry(found, entry, began)
                entry = []
        elif depth == 1 and name in _NAMES:
            entry.append((name, f"{_kind(match[2]) if name in _TYPED else ''}: {_value(name, match[2], value)}"))
    if not known:
        raise InputError("not a calendar or an address card: no entry begins in it")
    _entry(found, entry, began)
    return found.document(path, path.suffix[1:].lower() or "vcf")


def _entry(found: Draft, entry: list[tuple[str, str]], line: int) -> None:
    known = any(name == "FN" for name, _ in entry)
    entry = [("FN" if name == "N" else name, value) for name, value in entry if not (name == "N" and known)]
    found.line("\n".join(f"{_NAMES[name]}{value}" for name, value in entry if not value.endswith(": ")), line)


def _kind(parameters: str) -> str:
    """The purpose of a number or an address, in brackets: ``TYPE=cell``, ``TYPE="work,fax"`` or a bare ``CELL``."""
    said = re.findall(r";(?:TYPE=)?\"?([A-Za-z0-9,_-]+)\"?(?=;|$)", parameters, re.IGNORECASE)
    kinds = [_KINDS[each] for words in said for each in words.upper().split(",") if each in _KINDS]
    return f" ({', '.join(dict.fromkeys(kinds))})" if kinds else ""


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first one: unfolds the standard's folding and soft breaks of quoted-printable."""
    waiting, began = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        soft = "QUOTED-PRINTABLE" in waiting[:200].upper() and waiting.endswith("=")
        if waiting and (line[:1] in (" ", "\t") or soft):
            waiting = waiting[:-1] + line.lstrip() if soft else waiting + line[1:]
            continue
        if waiting:
            yield began, waiting
        waiting, began = line, number
    if waiting:
        yield began, waiting


def _value(name: str, parameters: str, value: str) -> str:
    settings = parameters.upper()
    if "QUOTED-PRINTABLE" in settings:
        charset = re.search(r"CHARSET=\"?([\w-]+)", settings)
        try:
            value = quopri.decodestring(value.encode("utf-8", "replace")).decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            value = quopri.decodestring(value.encode("utf-8", "replace")).decode("utf-8", "replace")
    common = re.search(r"CN=\"?([^\";:]+)", parameters, re.IGNORECASE)
    value = re.sub(r"(?i)\Amailto:|\Atel:", "", value)
    if common and common[1] != value:
        value = f"{common[1]} <{value}>"
    if name in ("DTSTART", "DTEND", "DUE", "BDAY", "COMPLETED", "ANNIVERSARY"):
        value = _date(value, re.search(r"TZID=\"?([^\";:]+)", parameters))
    elif name in ("EXDATE", "RDATE"):
        value = ", ".join(_date(each, None) for each in value.split(","))
    elif name == "RRULE":
        value = _rule(value)
    elif name == "N":  # family, given, further, before, after
        family, given, further, before, after = [*re.split(r"(?<!\\);", value), *[""] * 5][:5]
        value = " ".join(filter(None, (before, given, further, family, after)))
    text = re.sub(
        r"\\([,;:\\])", r"\1", re.sub(r"\\[nN]", "\n", re.sub(r"(?<!\\);", " ", value) if name in ("ADR", "ORG") else value)
    )
    return " ".join(readable(text).split())


def _rule(value: str) -> str:
    """A recurrence rule in words: every 2 weeks, on Monday and Friday, 10 times."""
    said = dict(part.split("=", 1) for part in value.strip().upper().split(";") if "=" in part)
    unit, every = _UNITS.get(said.pop("FREQ", "")), said.pop("INTERVAL", "1")
    if unit is None:
        return value
    parts = [f"every {unit}" if every == "1" else f"every {every} {unit}s"]
    if days := [_day(each) for each in said.pop("BYDAY", "").split(",") if each]:
        parts.append("on " + " and ".join(filter(None, (", ".join(days[:-1]), days[-1]))))
    if count := said.pop("COUNT", ""):
        parts.append(f"{count} times")
    if until := said.pop("UNTIL", ""):
        parts.append(f"until {_date(until, None)}")
    said.pop("WKST", "")
    return ", ".join([*parts, *(f"{name}={each}" for name, each in said.items())])


def _day(text: str) -> str:
    """``2MO`` is the second Monday."""
    place, day = text[:-2], _DAYS.get(text[-2:], text)
    known = {"1": "first", "2": "second", "3": "third", "4": "fourth", "-1": "last"}
    return f"the {known.get(place.lstrip('+'), place)} {day}" if place else day


def _date(value: str, zone: re.Match[str] | None) -> str:
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})(?:T(\d{2}):?(\d{2})(?::?\d{2})?(Z?))?", value.strip())
    if not found:
        return value
    day, time = "-".join(found.group(1, 2, 3)), f" {found[4]}:{found[5]}" if found[4] else ""
    return f"{day}{time}{' UTC' if found[6] else f' {zone[1]}' if zone and time else ''}"
