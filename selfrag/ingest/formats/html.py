"""HTML pages: the text of their visible blocks, each with its source line. Runs in the worker process.

lxml, since it knows the source line of an element; extractors that rewrite the page do not, and a citation needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import Decoded, declared, decoded
from selfrag.ingest.document import Document, Heading, Limits, Span
from selfrag.ingest.formats.numbering import written
from selfrag.ingest.formats.plain_tables import columns
from selfrag.ingest.formats.superscripts import raised

_CHARSET = re.compile(rb"<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,100}?encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
# fmt: off
_UNSEEN = frozenset((
    "script", "style", "template", "head", "iframe", "object", "embed", "canvas", "audio", "video", "datalist",
    "ix:header",  # of a company's report: what machines read
))
_FURNITURE = frozenset(("nav", "header", "footer", "aside"))
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "dialog", "dir", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "legend", "li", "listing", "main", "menu", "nav", "noscript", "ol", "optgroup", "option", "p", "plaintext", "pre",
    "search", "section", "select", "summary", "svg", "table", "tbody", "textarea", "tfoot", "thead", "tr", "ul", "xmp",
))
_TIGHT = frozenset(("li", "br", "tr", "dt", "dd", "option", "figcaption"))
_AS_WRITTEN = frozenset(("pre", "listing", "plaintext", "xmp", "textarea"))
_WHOLE = frozenset(("table", "ul", "ol", "dl", "menu", "li", "tr", "pre", "blockquote", "figure", "details", "p"))
_SHOWN_VALUE = frozenset(("", "text", "submit", "button", "reset", "email", "tel", "url", "number", "date", "time", "search"))
# fmt: on
_APART = frozenset(("button", "label"))
_STRUCK = frozenset(("del", "s", "strike"))
"""What is struck through stays, with its marks in Markdown: it is seen, and it is not what holds."""
_CELLS = frozenset(("td", "th"))
_BETWEEN = " | "
_LABEL = re.compile(r"[•·*–-]|\(?[\w.]{1,6}[.)]")  # of an item that is laid out as a row
_NOTE = "noteref"  # a mark that looks raised
_NEXT = "\ufdd2"  # no character of any text
_NEXT_ITEM = re.compile(rf"\s*{_NEXT}")
_FRACTION = re.compile(r"(?:(\d)\^)?(\d+)[/⁄]_(\d+)")
"""What a raised number, a slash and a lowered one come out as: 1½ is 1 1/2."""
_FORMS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"\s+")
_NEEDS_SCRIPT = re.compile(r"java ?script|enable|activate|browser", re.IGNORECASE)
_DEEP = 300
_CELL = 600  # characters: a cell with more text than this lays out a page
_LEAST, _LITTLE = 200, 30
_CONTACT = re.compile(r"\S@\S|\d{3}[ -]?\d{3}|\d:\d\d|\d ?[ap]\.?m\b", re.IGNORECASE)


def read_html(path: PurePath, data: bytes, limits: Limits, book: bool = False) -> Document:
    """The text of <main>, or else of the body without menus and the like, which a page of a ``book`` has not."""
    found = text_of(data)
    root = _parsed(found.text)
    page = _Page(limits.characters)
    _Walk(page, _content(root), book=book).all()
    if not page.pieces:
        _Walk(page, root, menus=True).all()  # it has nothing else
    title = _tidy(root.findtext(".//head/title") or "") or next((each.title for each in page.headings), "") or path.stem
    return Document(
        "".join(page.pieces),
        title,
        "html",
        headings=tuple(page.headings),
        anchors=tuple(page.anchors),
        spans=tuple(span for span in page.spans if span.end > span.start),
        notes=found.notes,
    )


def text_of(data: bytes) -> Decoded:
    """A page or an XML file in the encoding that it declares, if that fits. Raises InputError as `decoded` does."""
    label = _CHARSET.search(data[:4096])
    return declared(data, label.group(1).decode("ascii")) if label else decoded(data)


def _parsed(text: str) -> etree._Element:
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        raise InputError(f"not HTML: {str(error)[:200]}") from None
    if root is None:
        raise InputError("no text in it")
    return root


# --- what of the page is read --------------------------------------------------------------------------------------------------


def _content(root: etree._Element) -> etree._Element:
    """<main>, if it has the main content; otherwise the body, since the only <article> may be a teaser."""
    body = root.find(".//body")
    whole = root if body is None else body
    mains = root.xpath('.//main | .//*[@role="main"]')
    if len(mains) == 1 and _length(mains[0]) > max(_LEAST, _length(whole) // 5):
        return mains[0]
    return whole


def _length(element: etree._Element) -> int:
    """Characters of visible text below ``element``, without menus."""
    total = 0
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, each in walk:
        if event == "start" and each.tag in _UNSEEN | {"nav"} and each is not element:
            walk.skip_subtree()
        elif event == "start":
            total += len((each.text or "").strip())
        if event == "end" and each is not element:
            total += len((each.tail or "").strip())
    return total


def _furniture(element: etree._Element) -> bool:
    """Whether a header, a footer, an aside or a menu is not content: it is mostly links, or a few words, and not in an article or
    <main>. A footer needs some lines to be content, or an address, a number or hours to be reached at."""
    if element.tag == "nav":
        return True
    if (element.get("role") or "") in ("doc-footnote", "doc-endnotes", "doc-tip", "note"):
        return False
    if any(above.tag in ("article", "main", "section", "blockquote", "figure", "dialog") for above in element.iterancestors()):
        return False
    if element.tag == "header" and element.find(".//h1") is not None:
        return False
    inside = _length(element)
    links = sum(_length(link) for link in element.iterfind(".//a"))
    telling = _CONTACT.search(_inline(element)) if element.tag == "footer" else True
    return inside < (_LITTLE if telling else _LEAST) or links * 2 > inside


# --- the text and where it lies ------------------------------------------------------------------------------------------------


@dataclass
class _Page:
    """The text so far, in pieces, with headings, spans and lines. ``limit`` is in characters."""

    limit: int
    pieces: list[str] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    anchors: list[tuple[int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    offset: int = 0

    def add(self, text: str, line: int, tight: bool, level: int = 0) -> tuple[int, int]:
        """Appends a block; returns where it lies. A new line in ``text`` is one of the source."""
        gap = "" if not self.pieces else "\n" if tight else "\n\n"
        start = self.offset + len(gap)
        self.pieces += (gap, text)
        self.offset = start + len(text)
        if self.offset > self.limit:
            raise InputError(f"too much text: more than {self.limit:,} characters")
        if level:
            self.headings.append(Heading(start, self.offset, level, text.replace("\n", " ")))
        at = start
        for number, part in enumerate(text.split("\n")):
            self.anchors.append((at, max(line + number, self.anchors[-1][1] if self.anchors else 1)))
            at += len(part) + 1
        return start, self.offset


@dataclass
class _Numbers:
    """The numbers of a list: the last one, the step, and how they are written."""

    last: int
    step: int
    form: str

    @classmethod
    def of(cls, element: etree._Element) -> _Numbers:
        step = 1 if element.get("reversed") is None else -1
        default = 1 if step > 0 else len(element.findall("li"))
        return cls(_whole(element.get("start"), default) - step, step, _FORMS.get(element.get("type") or "", "decimal"))

    def next(self, given: str) -> str:
        self.last = _whole(given, self.last + self.step)
        return f"{written(self.last, self.form)}. "


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"-?\d{1,6}", text) else default


class _Walk:
    """One pass over the elements. A block of text ends where another begins or ends. Iterative, since pages may nest very
    deeply."""

    def __init__(self, page: _Page, root: etree._Element, menus: bool = False, book: bool = False) -> None:
        self.page = page
        self.book = book
        self.root = root
        self.menus = menus
        self.pieces: list[str] = []
        self.line = root.sourceline or 1
        self.level = 0
        self.tight = False
        self.marker = ""
        self.lists: list[_Numbers | None] = []
        self.open: list[tuple[etree._Element, int, int]] = []
        self.skipped: etree._Element | None = None

    def all(self) -> None:
        walk = etree.iterwalk(self.root, events=("start", "end"))
        for event, element in walk:
            name = element.tag.lower() if isinstance(element.tag, str) else ""
            if event == "end":
                self._end(element, name)
                continue
            if element is not self.root and self._instead(element, name):
                self.skipped = element
                walk.skip_subtree()
                continue
            self._start(element, name)
        self._flush()

    def _start(self, element: etree._Element, name: str) -> None:
        if name in _BLOCKS:
            self._flush()
            self.line = element.sourceline or self.line
            self.level = _HEADINGS.get(name, 0)
            self.tight = self.tight or name in _TIGHT
            if name == "ol":
                self.lists.append(_Numbers.of(element))
            elif name in ("ul", "menu", "dl"):
                self.lists.append(None)
            elif name == "li" and self.lists and (numbers := self.lists[-1]):
                self.marker = numbers.next(element.get("value") or "")
            if name in _WHOLE and len(self.open) < _DEEP:
                self.open.append((element, len(self.page.pieces), self.page.offset))
        elif ("-" in name or name in _APART) and self.pieces:
            self.pieces.append(" ")  # an element of the page's own making may be a block
        elif name in _CELLS and (before := "".join(self.pieces).strip()):
            self.pieces.append(" " if _LABEL.fullmatch(before) else _BETWEEN)  # of a table that lays out a page
        elif name in _STRUCK:
            self.pieces.append(" ~~")
        self.pieces.append(element.text or "")

    def _end(self, element: etree._Element, name: str) -> None:
        if name in _BLOCKS and element is not self.skipped:
            self._flush()
            if name in ("ol", "ul", "menu", "dl") and self.lists:
                self.lists.pop()
            self.line = element.sourceline or self.line
            self.level, self.tight = 0, name == "br"
            if self.open and self.open[-1][0] is element:
                self._close()
        if name in _STRUCK and element is not self.skipped:
            self.pieces.append("~~ ")
        if element is not self.root:
            self.pieces.append(element.tail or "")

    def _close(self) -> None:
        _, first, offset = self.open.pop()
        if len(self.page.pieces) > first:
            self.page.spans.append(Span(offset + len(self.page.pieces[first]), self.page.offset))

    def _flush(self) -> None:
        text = _tidy("".join(self.pieces).removesuffix(_BETWEEN))
        if text.strip("☐☒ "):  # a box without a label opens a menu
            self.page.add(self.marker + text, self.line, self.tight, self.level)
            self.tight, self.marker = False, ""
        self.pieces = []

    # --- what is not read as it stands ----------------------------------------------------------------------------------------

    def _instead(self, element: etree._Element, name: str) -> bool:
        """Reads ``element`` with its own method, if it has one; `_end` reads its tail."""
        if name == "script" and (element.get("type") or "").startswith("math/tex"):
            self.pieces.append(element.text or "")
            return True
        if name in _UNSEEN:
            return not (name == "template" and element.get("shadowrootmode"))
        if name in _FURNITURE and not self.menus and (name == "nav" or not self.book) and _furniture(element):
            self._flush()
            return True
        if name == "noscript":
            text = _inline(element)
            return len(text) < 400 and (bool(_NEEDS_SCRIPT.search(text)) or not text)
        if name in ("sup", "sub"):
            self.pieces.append(raised(name, _inline(element), "".join(self.pieces[-3:])))
            return True
        if name == "math":
            self.pieces.append(_formula(element))
            return True
        if name == "a" and _NOTE in (element.get("epub:type"), element.get("role", "").removeprefix("doc-")):
            self.pieces.append(f"[{_inline(element).strip('[]')}]")
            return True
        if name == "svg":
            self.pieces += [f" {_inline(each)} " for each in element.iter("{*}text", "text")]
            return True
        if name == "img":
            self.pieces.append(_described(element.get("alt") or ""))
            return True
        if name == "input":
            self.pieces.append(_entered(element))
            return True
        if name == "option":
            return element.get("selected") is None and _chosen(element)
        if name in ("rt", "rp"):
            self.pieces.append("" if name == "rp" else f"({_inline(element)})")
            return True
        if "katex-html" in (element.get("class") or ""):
            return True  # the same formula again, for the eye
        if name in _AS_WRITTEN:
            self._as_written(element)
            return True
        if name == "table" and _of_data(element):
            self._table(element)
            return True
        return False

    def _as_written(self, element: etree._Element) -> None:
        self._flush()
        text = readable(_raw(element)).replace("\xa0", " ").expandtabs(4)
        line = element.sourceline or self.line
        dropped = len(text) - len(text.lstrip("\n"))
        lines = [each.rstrip() for each in text.strip("\n").split("\n")]
        if any(lines):
            start, end = self.page.add("\n".join(lines), line + dropped, False)
            self.page.spans.append(Span(start, end))
        self.tight = False

    def _table(self, element: etree._Element) -> None:
        """Rows as lines ``a | b | c``; a cell that spans rows is repeated in each of them, an empty one keeps its column."""
        self._flush()
        caption = next(element.iter("caption"), None)
        if caption is not None and (text := _inline(caption)):
            self.page.add(text, caption.sourceline or self.line, False)
        header: list[list[str]] = []
        rows: list[Span] = []
        for row, cells, line in _rows(element):
            if not any(cells):
                continue
            if len(header) == len(rows) and (_heads(row) or (not rows and row.find("th") is None and _names(cells))):
                header.append(cells)
            start, end = self.page.add(" | ".join(cells).strip(), line, bool(rows))
            rows.append(Span(start, end))
        if rows:
            self.page.spans += [Span(rows[0].start, rows[-1].end, columns(header)), *rows]
        self.tight = False


# --- tables --------------------------------------------------------------------------------------------------------------------


_PARTS = ("h1", "h2", "h3", "pre", "form", "article", "section", "main")


def _of_data(table: etree._Element) -> bool:
    """Whether a table holds values, not the layout of a page."""
    if table.get("role") in ("presentation", "none"):
        return False
    if table.find(".//table") is not None or table.find(".//*[@role='main']") is not None:
        return False
    rows = list(table.iter("tr"))
    if len(rows) < 2 and not any(len(row) > 1 for row in rows):
        return False
    even = len({len(row) for row in rows}) == 1 and len(rows) > 1 and len(rows[0]) > 1
    lists = () if even or table.find(".//th") is not None else ("ul", "ol", "blockquote")
    if any(table.find(f".//td//{part}") is not None for part in (*_PARTS, *lists)):
        return False
    return all(len(_inline(cell)) <= _CELL for cell in table.iter("td"))


def _rows(table: etree._Element) -> Iterator[tuple[etree._Element, list[str], int]]:
    """For each row the texts of its cells, including cells that span into it from above, and its line; header rows first,
    the footer's last. Only in a header row does a cell that spans columns say its text in each."""
    below: dict[int, tuple[int, str]] = {}
    for row in _in_order(table):
        cells: list[str] = []
        heads = _heads(row) and len(row) > 1
        for cell in (each for each in row if each.tag in _CELLS):
            _fill(cells, below)
            text = _inline(cell)
            wide, high = _number(cell.get("colspan")), _number(cell.get("rowspan"))
            for column in range(wide):
                if high > 1:
                    below[len(cells)] = (high - 1, text if heads or column == 0 else "")
                cells.append(text if heads or column == 0 else "")
        _fill(cells, below)
        yield row, cells, row.sourceline or 1


def _in_order(table: etree._Element) -> Iterator[etree._Element]:
    order = {"thead": 0, "tfoot": 2}
    return iter(sorted(table.iter("tr"), key=lambda row: order.get(getattr(row.getparent(), "tag", ""), 1)))


def _fill(cells: list[str], below: dict[int, tuple[int, str]]) -> None:
    while len(cells) in below:
        left, text = below.pop(len(cells))
        if left > 1:
            below[len(cells)] = (left - 1, text)
        cells.append(text)


def _number(value: str | None) -> int:
    return min(max(int(value), 1), 100) if value and value.strip().isascii() and value.strip().isdigit() else 1


def _names(cells: list[str]) -> bool:
    """Whether cells are column names: several, none empty or a number, all different."""
    return len(set(cells)) == len(cells) > 1 and all(any(map(str.isalpha, cell)) for cell in cells)


def _heads(row: etree._Element) -> bool:
    parent = row.getparent()
    values = any(cell.tag == "td" and _inline(cell) for cell in row)
    return (row.find("th") is not None and not values) or (parent is not None and parent.tag == "thead")


# --- inside a block ------------------------------------------------------------------------------------------------------------


def _inline(element: etree._Element) -> str:
    """The text below ``element`` in one line."""
    pieces: list[str] = []
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, each in walk:
        name = each.tag.lower() if isinstance(each.tag, str) else ""
        if event == "start":
            own: str | None = None
            if each is not element:
                if name in _UNSEEN or "katex-html" in (each.get("class") or ""):
                    own = ""
                elif name in ("sup", "sub"):
                    own = raised(name, _inline(each), "".join(pieces[-3:]))
                elif name == "math":
                    own = _formula(each)
                elif name == "img":
                    own = _described(each.get("alt") or "")
                elif name == "input":
                    own = _entered(each)
                elif name == "option" and each.get("selected") is None and _chosen(each):
                    own = ""
            if own is not None:
                walk.skip_subtree()
                pieces.append(own)
            else:
                pieces.append(_NEXT if name == "li" and each.getprevious() is not None else _gap(name))
                pieces.append((" ~~" if name in _STRUCK else "") + (each.text or ""))
        elif each is not element:
            pieces.append(("~~ " if name in _STRUCK else _gap(name)) + (each.tail or ""))
    return _tidy("".join(pieces))


def _gap(name: str) -> str:
    return " " if name in _BLOCKS or name in _APART else ""


def _raw(element: etree._Element) -> str:
    """The text below ``element`` with its lines; <br> is one."""
    pieces: list[str] = []
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, each in walk:
        if event == "start":
            pieces.append("\n" if each.tag == "br" else "")
            pieces.append(each.text or "")
        elif each is not element:
            pieces.append(each.tail or "")
    return "".join(pieces).replace("\r\n", "\n")


def _described(alt: str) -> str:
    """A picture's alternative text, unless it is a word such as "logo"."""
    return f" {alt} " if " " in alt.strip() or not re.search(r"\w", alt) else ""


def _entered(element: etree._Element) -> str:
    """What a field of a form shows."""
    kind = (element.get("type") or "").lower()
    if kind in ("checkbox", "radio"):
        return " ☐ " if element.get("checked") is None else " ☒ "
    return f" {element.get('value') or ''} " if kind in _SHOWN_VALUE else ""


def _chosen(option: etree._Element) -> bool:
    """Whether one of the options of its list is chosen from the start, so that the others are not seen."""
    above = next(option.iterancestors("select"), None)
    return above is not None and above.find(".//option[@selected]") is not None


_JOINED = frozenset("()[]{}|,.;:!′'’\u2061\u2062\u2063\u2064")


def _formula(math: etree._Element, depth: int = 0) -> str:
    """MathML in a line: r = 0.37, x^2, (a + b)/c."""
    if depth > 60:
        return _inline(math)
    name = etree.QName(math).localname.lower() if isinstance(math.tag, str) else ""
    inner = [_formula(each, depth + 1) for each in math if isinstance(each.tag, str)]
    own = _tidy(math.text or "")
    if name in ("annotation", "annotation-xml"):
        return ""
    if name == "mo":
        return own if own in _JOINED or not own else f" {own} "
    if name in ("msup", "mover") and len(inner) == 2:
        return f"{inner[0]}{raised('sup', inner[1].strip(), 'x')}"
    if name in ("msub", "munder") and len(inner) == 2:
        return f"{inner[0]}{raised('sub', inner[1].strip(), '_')}"
    if name in ("msubsup", "munderover") and len(inner) == 3:
        return f"{inner[0]}{raised('sub', inner[1].strip(), '_')}{raised('sup', inner[2].strip(), 'x')}"
    if name == "mfrac" and len(inner) == 2:
        return "/".join(each if re.fullmatch(r"[\w.]+", each) else f"({each.strip()})" for each in inner)
    if name == "msqrt":
        return f"√({''.join(inner).strip()})"
    if name == "mroot" and len(inner) == 2:
        return f"{inner[1].strip()}√({inner[0].strip()})"
    if name == "mtable":
        return "; ".join(inner)
    if name == "mtr":
        return ", ".join(inner)
    return own + "".join(inner) + ("" if depth else " ") if name == "math" else own + "".join(inner)


def _tidy(text: str) -> str:
    if "_" in text:
        text = _FRACTION.sub(lambda found: f"{f'{found[1]} ' if found[1] else ''}{found[2]}/{found[3]}", text)
    if _NEXT in text:
        text = _NEXT_ITEM.sub("; ", text)
    return _SPACE.sub(" ", readable(text)).strip()
