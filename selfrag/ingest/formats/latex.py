"""LaTeX as it is printed, paragraph by paragraph, cited by the lines of the source. Runs in the worker process."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath

from pylatexenc.latex2text import LatexNodes2Text

from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.superscripts import marked, resolved
from selfrag.ingest.sandbox import ask_for_time

_SECTION = re.compile(r"\\(part|chapter|section|subsection|subsubsection|paragraph)\*?\s*(?:\[[^\]]*\])?\{")
_LEVELS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_TITLE = re.compile(r"\\title\s*(?:\[[^\]]*\])?\{")
_COMMENT = re.compile(r"(?m)(?<!\\)%.*?$")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(\w+\*?)\}(?:\[[^\]]*\])?(?:\{[^{}]*\})?")
_DROPPED = re.compile(
    r"\\(?:maketitle|tableofcontents|listoffigures|listoftables|newpage|clearpage)(?![a-zA-Z])|\\(?:this)?pagestyle\*?\{[^{}]*\}"
    r"|\\(?:label|bibliographystyle|bibliography|vspace|hspace|input|include|usepackage)\*?\{[^{}]*\}"
)
_REFERENCE = re.compile(r"\\(?:[a-zA-Z]*cite[a-zA-Z]*|(?:eq|auto|page|c|C)?ref)\*?(?:\[[^\]]*\])*\{([^{}]*)\}")
_KEPT = ("equation", "align", "gather", "math", "verbatim", "lstlisting", "tabular", "eqnarray", "multline")
_MARKUP = re.compile(r"[\\${}~&#^_%`]|--|''")
_TABLE = re.compile(r"\\begin\s*\{(tabular[*xy]?|longtable|supertabular|tabu|longtabu)\}(.*?)\\end\s*\{\1\}", re.DOTALL)
_ARGUMENT = re.compile(r"\s*(?:(\{)|\[[^\]]*\])")
_ROW_END = re.compile(r"\\\\\*?(?:\[[^\]]*\])?|\\tabularnewline(?![a-zA-Z])|\\cr(?![a-zA-Z])")
_CELL_END = re.compile(r"(?<!\\)&")
_RULE = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfirsthead|endfoot|endlastfoot|noalign\s*\{[^{}]*\}"
    r"|c(?:mid)?(?:line|rule)\s*(?:\([^)]*\))?\s*\{[^{}]*\})(?![a-zA-Z])"
)
_WORDS = re.compile(r"(?<![\\A-Za-z])(?<!\\.)[A-Za-z][A-Za-z0-9,.;:()]*(?:[ \n][A-Za-z0-9(][A-Za-z0-9,.;:()]*)+")
"""Words without mark-up, at least two."""
_SIGNS = {
    "pounds": "£", "euro": "€", "EUR": "€", "degree": "°", "S": "§", "P": "¶", "copyright": "©", "celsius": "°C", "yen": "¥",
}  # fmt: skip
_SIGN = re.compile(rf"\\({'|'.join(sorted(_SIGNS, key=len, reverse=True))})(?![a-zA-Z])(?:\{{\}})?")
_RAISED = re.compile(r"\\textsuperscript\s*\{([^{}]*)\}")
_SPANNING = re.compile(r"\\multi(?:column|row)\s*\{[^{}]*\}\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}(?=\s*\{)")
_LINK = re.compile(r"\\href\s*\{[^{}]*\}(?=\s*\{)")
_VERBATIM = re.compile(r"\\(?:verb\*?|lstinline)([^a-zA-Z\s{*\[])(.*?)\1|\\(?:url|path|nolinkurl)\s*\{([^{}]*)\}")
_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_QUANTITY = re.compile(r"\\(?:(?:SI|qty)(?:\[[^\]]*\])?\{([^{}]*)\}|(?:si|unit)(?:\[[^\]]*\])?)\{([^{}]*)\}")
_UNITS = {
    "kilo": "k", "mega": "M", "giga": "G", "centi": "c", "milli": "m", "micro": "µ", "nano": "n", "metre": "m", "meter": "m",
    "gram": "g", "second": "s", "kelvin": "K", "celsius": "°C", "degreeCelsius": "°C", "percent": r"\%", "litre": "l",
    "liter": "l", "hertz": "Hz", "volt": "V", "watt": "W", "ampere": "A", "newton": "N", "pascal": "Pa", "joule": "J",
    "mole": "mol", "per": "/", "squared": "²", "cubed": "³", "square": "", "hour": "h", "minute": "min", "degree": "°",
}  # fmt: skip
_HIDDEN = 0xF0000  # a private plane of Unicode
_PER_MIB = 10.0  # seconds of work


def read_latex(path: PurePath, data: bytes, limits: Limits) -> Document:
    """What is printed, paragraph by paragraph, with the line of the source; comments and the preamble are left out."""
    ask_for_time(limits.seconds + _PER_MIB * len(data) / 2**20)
    source = decode(data)
    begin, end = source.find(r"\begin{document}"), source.find(r"\end{document}")
    start = begin + len(r"\begin{document}") if begin >= 0 else 0
    found = Draft(limits)
    found_title = _TITLE.search(source)
    title = _latex(_braced(source, found_title.end())) if found_title else ""
    if title and begin >= 0:
        found.line(title, source.count("\n", 0, found_title.start()) + 1 if found_title else 1, 1)
    line = source.count("\n", 0, start) + 1
    body = _COMMENT.sub("", source[start : end if end > start else len(source)])
    at = 0
    for number, table in enumerate(_TABLE.finditer(body), 1):
        _paragraphs(found, body[at : table.start()], line + body.count("\n", 0, at))
        _table(found, table[2], line + body.count("\n", 0, table.start(2)), number)
        at = table.end()
    _paragraphs(found, body[at:], line + body.count("\n", 0, at))
    return found.document(path, "tex", title)


def _paragraphs(found: Draft, text: str, line: int) -> None:
    for paragraph in re.split(r"(\n[ \t]*(?:\n[ \t]*)+)", text):
        _tex_paragraph(found, paragraph, line)
        line += paragraph.count("\n")


def _table(found: Draft, source: str, line: int, number: int) -> None:
    """Rows as ``a | b | c``; a header that is repeated for every page stands once."""
    arguments = _ARGUMENT.match(source)
    while arguments:
        inner = _braced(source, arguments.end()) if arguments[1] == "{" else ""
        cut = arguments.end() + (len(inner) + 1 if inner or arguments[1] == "{" else 0)
        line += source.count("\n", 0, cut)
        source = source[cut:]
        arguments = _ARGUMENT.match(source)
    seen = ""
    for row in _ROW_END.split(source):
        bare = _RULE.sub(lambda rule: re.sub(r"[^\n]", " ", rule[0]), row)
        cells = [" ".join(_latex(cell).split()) for cell in _CELL_END.split(bare)]
        shown = " | ".join(cells)
        if any(cells) and shown != seen:
            blank = len(bare) - len(bare.lstrip())
            found.line(shown, line + row.count("\n", 0, blank), tight=bool(seen), table=number)
            seen = seen or shown
        line += row.count("\n")


def _tex_paragraph(found: Draft, paragraph: str, line: int) -> None:
    at = 0
    for section in _SECTION.finditer(paragraph):
        if section.start() < at:
            continue
        name = _braced(paragraph, section.end())
        found.line(_latex(paragraph[at : section.start()]), line + paragraph.count("\n", 0, at))
        found.line(_latex(name), line + paragraph.count("\n", 0, section.start()), _LEVELS[section[1]])
        at = section.end() + len(name) + 1
    rest = paragraph[at:]
    found.line(_latex(rest), line + paragraph.count("\n", 0, at + len(rest) - len(rest.lstrip("\n"))))


def _braced(text: str, start: int) -> str:
    """The text from an opening brace to the matching closing one."""
    depth = 1
    for at in range(start, min(len(text), start + 5000)):
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return text[start:at]
    return text[start : start + 5000]


def _printed(source: str) -> str:
    """What the parser makes of it. It takes each character by itself, so runs of plain words are one character to it."""
    hidden: list[str] = []

    def hide(words: re.Match[str]) -> str:
        hidden.append(words[0])
        return chr(_HIDDEN + len(hidden) - 1)

    short = _WORDS.sub(hide, source) if len(source) < _HIDDEN and max(map(ord, source)) < _HIDDEN else source
    text: str = _converter().latex_to_text(short, tolerant_parsing=True)
    return re.sub("[\U000f0000-\U000fffff]", lambda found: hidden[ord(found[0]) - _HIDDEN], text) if hidden else text


@cache
def _converter() -> LatexNodes2Text:
    return LatexNodes2Text(math_mode="text", keep_comments=False)


def _latex(source: str) -> str:
    """A piece of LaTeX as it is printed; unchanged if that cannot be determined."""
    if not source.strip() or source.strip() in (r"\maketitle", r"\tableofcontents"):
        return ""
    source = _REFERENCE.sub(r"[\1]", _spelled(source))
    plain = _DROPPED.sub("", source.replace(r"\-", "").replace("``", "“").replace("''", "”"))
    plain = _ENVIRONMENT.sub(lambda each: each[0] if each[1].rstrip("*").startswith(_KEPT) else "", plain)
    try:
        text = _printed(plain) if _MARKUP.search(plain) else plain
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, RecursionError):
        text = plain
    text = resolved(readable(text).replace("\u00a0", " "))
    return re.sub(r"[ \t]+", " ", re.sub(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)", " ", text)).strip()


def _spelled(source: str) -> str:
    """Commands that the parser does not know, in ways that it does."""
    source = _SIGN.sub(lambda sign: _SIGNS[sign[1]], _SPANNING.sub("", _LINK.sub("", source)))
    source = _QUANTITY.sub(lambda found: f"{found[1] or ''} {_units(found[2])}".strip(), source)
    source = _VERBATIM.sub(lambda found: _escaped(found[2] if found[1] else found[3]), source)
    return _RAISED.sub(lambda found: marked(found[1]), source)


def _units(source: str) -> str:
    return re.sub(r"\\([a-zA-Z]+)\s*", lambda name: _UNITS.get(name[1], name[1]), source)


def _escaped(text: str) -> str:
    return re.sub(r"[\\{}$&#^_%~]", lambda sign: _ESCAPES.get(sign[0], f"\\{sign[0]}"), text)
