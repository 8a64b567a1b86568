"""Charts and diagrams of Office documents, which are separate parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.formats import numbers
from selfrag.ingest.formats.package import Package, attribute, below, child, children, local, relation

_DOCUMENTS = (".docx", ".docm", ".xlsx", ".xlsm", ".xlsb", ".xls", ".pptx", ".pptm", ".odt", ".ods", ".odp", ".pdf", ".rtf")


def alternative(properties: etree._Element | None) -> str:
    """A picture's alternative text, unless it is a file name."""
    text = " ".join(attribute(properties, "descr").split())
    named = re.search(r"[\\/]|\.(?:png|jpe?g|gif|svg|emf|wmf|bmp|tiff?)\b", text, re.IGNORECASE)
    return text if " " in text and not named else ""


def embedded(package: Package, element: etree._Element, related: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """The text of the documents that are embedded in ``element``, such as the sheet behind a table on a slide."""
    from selfrag.ingest.readers import parse  # it knows these readers, too

    objects = below(element, "oleObj", "OLEObject")
    for part in dict.fromkeys(related.get(relation(each), ("", ""))[1] for each in objects):  # it may stand in two forms
        if part in package and part.lower().endswith(_DOCUMENTS):
            try:
                yield parse(PurePath(part), package.read(part)).text.strip()
            except InputError as error:
                yield f"[{PurePath(part).name}: {error.message}]"


def charts(package: Package, graphic: etree._Element, related: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """The lines of the charts and diagrams that a graphic refers to."""
    for element in graphic.iter():
        name = local(element)
        if name not in ("chart", "relIds"):
            continue
        _, part = related.get(attribute(element, "id") or attribute(element, "dm"), ("", ""))
        if part in package:
            yield from _chart(package.xml(part)) if name == "chart" else _diagram(package.xml(part))


def _diagram(root: etree._Element) -> Iterator[str]:
    for point in below(root, "pt"):
        text = " ".join("".join(each.text or "" for each in below(point, "t")).split())
        if text:
            yield text


def _chart(root: etree._Element) -> Iterator[str]:
    """Titles, then a line for each series: its name, and each value under its category."""
    for title in below(root, "title"):
        if text := "".join(each.text or "" for each in below(title, "t")).strip():
            yield text
    for series in below(root, "ser"):
        name = "".join(_values(child(series, "tx")))
        categories = _values(child(series, "cat")) or _values(child(series, "xVal"))
        values = _values(child(series, "val")) or _values(child(series, "yVal"))
        cells = [f"{categories[at]} {value}" if at < len(categories) else value for at, value in enumerate(values)]
        if cells:
            yield f"{name}: {', '.join(cells)}" if name else ", ".join(cells)


def _values(element: etree._Element | None) -> list[str]:
    if element is None:
        return []
    caches = list(below(element, "strCache", "numCache"))
    form = next((each.text or "" for cache in caches[:1] for each in children(cache, "formatCode")), "")
    points = [point for cache in caches[:1] for point in children(cache, "pt")] or list(children(element, "v"))
    texts = [(value.text if (value := child(each, "v")) is not None else each.text) or "" for each in points]
    return [_shown(text, form) for text in texts] if re.search("[0#]", form) else texts


def _shown(text: str, form: str) -> str:
    try:
        return numbers.shown(float(text), form)
    except ValueError:
        return text
