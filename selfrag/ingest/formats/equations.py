"""Equations of Office documents (OMML) in one line, in typed notation: ``x^2``, ``(a+b)/(c)``, ``√(x)``, ``∑_(i=1)^(n)``."""

from __future__ import annotations

from lxml import etree

from selfrag.ingest.formats.package import attribute, child, children, local


def text(element: etree._Element | None) -> str:
    """The text of an equation; an unknown construction is read from left to right."""
    if element is None:
        return ""
    name = local(element)
    if name == "t":
        return element.text or ""
    if name.endswith("Pr"):
        return ""
    part = {local(each): text(each) for each in element}
    match name:
        case "f":
            return f"{_grouped(part.get('num', ''))}/{_grouped(part.get('den', ''))}"
        case "sSup":
            return f"{part.get('e', '')}^{_grouped(part.get('sup', ''))}"
        case "sSub":
            return f"{part.get('e', '')}_{_grouped(part.get('sub', ''))}"
        case "sSubSup" | "sPre":
            return f"{part.get('e', '')}_{_grouped(part.get('sub', ''))}^{_grouped(part.get('sup', ''))}"
        case "rad":
            return f"{part.get('deg', '')}√({part.get('e', '')})"
        case "nary":
            return _nary(element, part)
        case "d":
            return _delimited(element)
        case "mr":
            return " ".join(text(each) for each in element) + "; "
    return "".join(text(each) for each in element)


def _nary(element: etree._Element, part: dict[str, str]) -> str:
    sign = attribute(child(element, "naryPr", "chr"), "val", "∫")
    low = f"_{_grouped(part['sub'])}" if part.get("sub") else ""
    high = f"^{_grouped(part['sup'])}" if part.get("sup") else ""
    return f"{sign}{low}{high} {part.get('e', '')}"


def _delimited(element: etree._Element) -> str:
    kinds = child(element, "dPr")
    opening = attribute(child(kinds, "begChr"), "val", "(")
    closing = attribute(child(kinds, "endChr"), "val", ")")
    between = attribute(child(kinds, "sepChr"), "val", "|")
    return opening + between.join(text(each) for each in children(element, "e")) + closing


def _grouped(inner: str) -> str:
    return inner if len(inner) == 1 or inner.isalnum() else f"({inner})"
