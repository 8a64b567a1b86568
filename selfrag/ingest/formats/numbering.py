"""The numbers that Word writes before the paragraphs of a list or before clauses: ``4.2``, ``(c)``, ``•``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml import etree

from selfrag.ingest.formats.package import Package, attribute, child, children

_PLACEHOLDER = re.compile(r"%(\d)")
# fmt: off
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"),
    (5, "v"), (4, "iv"), (1, "i"),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class _Level:
    form: str
    text: str
    start: int


class Numbering:
    """Counts the paragraphs of each list, in the order in which `label` is asked."""

    def __init__(self, package: Package, name: str) -> None:
        root = package.xml(name) if name in package else None
        abstract = {attribute(each, "abstractNumId"): each for each in children(root, "abstractNum")}
        self._lists: dict[str, tuple[str, dict[int, _Level]]] = {}
        self._restarts: dict[str, dict[int, int]] = {}
        for each in children(root, "num"):
            key = attribute(child(each, "abstractNumId"), "val")
            levels = _levels(abstract.get(key))
            for override in children(each, "lvlOverride"):
                levels |= _levels(override)
            number = attribute(each, "numId")
            self._lists[number] = (key, levels)
            self._restarts[number] = _restarts(each)
        self._counts: dict[str, list[int]] = {}

    def label(self, properties: etree._Element | None) -> str:
        """The number or bullet before a paragraph with these ``numPr``; empty without one."""
        number = attribute(child(properties, "numId"), "val")
        depth = attribute(child(properties, "ilvl"), "val", "0")
        if number not in self._lists or not depth.isdigit():
            return ""
        key, levels = self._lists[number]
        at = int(depth)
        level = levels.get(at)
        if level is None or at > 8:
            return ""
        counts = self._counts.setdefault(key, [])
        again = self._restarts[number].pop(at, None)  # the first paragraph of a list that begins again
        counts[:] = counts[: at if again is not None else at + 1]
        while len(counts) <= at:
            start = levels[len(counts)].start if len(counts) in levels else 1
            if len(counts) == at:
                start = (start if again is None else again) - 1
            counts.append(start)
        counts[at] += 1
        if level.form == "bullet":
            return "•"
        if level.form == "none":
            return ""

        def count(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            return written(counts[place], levels[place].form) if place < len(counts) and place in levels else ""

        return _PLACEHOLDER.sub(count, level.text).strip()


def _levels(parent: etree._Element | None) -> dict[int, _Level]:
    found = {}
    for each in children(parent, "lvl"):
        at, start = attribute(each, "ilvl"), attribute(child(each, "start"), "val")
        if at.isdigit():
            form = attribute(child(each, "numFmt"), "val", "decimal")
            found[int(at)] = _Level(form, attribute(child(each, "lvlText"), "val"), int(start) if start.isdigit() else 1)
    return found


def _restarts(number: etree._Element) -> dict[int, int]:
    """Where a list restarts, by level; otherwise lists of one kind continue counting."""
    found = {}
    for each in children(number, "lvlOverride"):
        at, start = attribute(each, "ilvl"), attribute(child(each, "startOverride"), "val")
        if at.isdigit() and start.isdigit():
            found[int(at)] = int(start)
    return found


def written(number: int, form: str) -> str:
    if form in ("lowerLetter", "upperLetter") and number > 0:
        letter = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 8)
        return letter.upper() if form == "upperLetter" else letter
    if form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        letters = ""
        for value, sign in _ROMAN:
            letters += sign * (number // value)
            number %= value
        return letters.upper() if form == "upperRoman" else letters
    return f"{number:02}" if form == "decimalZero" else str(number)
