"""An answer with its sources as Markdown, to be kept or sent."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from selfrag._util import clean
from selfrag.answers import render
from selfrag.answers.schema import AnswerJson, SegmentJson
from selfrag.types import SearchOptions

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~])")


def document(answer: AnswerJson, options: SearchOptions | None = None, base: Path | None = None) -> str:
    """The question as heading, each segment as it is read with its citation and critique, the sources, how it was found."""
    parts = [f"# {escaped(answer['question'])}"]
    if answer["status"] == "answered":
        parts += [segment_text(segment) for segment in answer["segments"]]
        heading = "Sources"
    else:
        parts.append(f"**No answer:** {escaped(render.why_abstained(answer, options))}")
        heading = "Nearest evidence"
    if answer["citations"]:
        parts += [f"## {heading}", "\n".join(source_lines(answer, base))]
    return "\n\n".join([*parts, f"*{escaped(render.footer(answer).plain)}*"]) + "\n"


def segment_text(segment: SegmentJson) -> str:
    words, below = render.sentence(segment, set())
    pieces = sorted({0, len(words.plain), *(offset for span in words.spans for offset in (span.start, span.end))})
    text = ""
    for start, end in pairwise(pieces):
        bold = any(span.start <= start < span.end for span in words.spans if "bold" in str(span.style))
        piece = "\\\n".join(escaped(line) for line in re.sub(r"\n+", "\n", words.plain[start:end]).split("\n"))
        text += f"**{piece.strip()}**" if bold and piece.strip() else piece
    cited = f" \\[{segment['citation']}\\]" if segment["citation"] is not None else ""
    quote = f"\n\n> {escaped(below)}" if below else ""
    return f"{text}{cited}{quote}\n\n<small>{critique(segment)}</small>"


def critique(segment: SegmentJson) -> str:
    """ "ISREL 0.98 · ISSUP 0.40 · weak support"."""
    said = [f"{render.GROUPS[key]} {value:.2f}" for key, value in render.carried(segment)]
    return " · ".join([*said, *render.remarks(segment)])


def source_lines(answer: AnswerJson, base: Path | None) -> list[str]:
    """A list item for each citation: its number is its place in the list."""
    lines = []
    for citation in answer["citations"]:
        where = ", ".join(escaped(render.where(place, base)) for place in render.places(answer, citation))
        title = escaped(citation["title"])
        lines.append(f"{citation['n']}. {where}" + (f" ({title})" if title and title not in where else ""))
        if answer["status"] != "answered":
            lines.append(f"   > {escaped(citation['text'])}")
    return lines


def escaped(text: str) -> str:
    """Words on one line that Markdown shows as they are."""
    lead = " " if text[:1].isspace() else ""
    tail = " " if len(text) > 1 and text[-1:].isspace() else ""
    return lead + _MARKUP.sub(r"\\\1", clean(text)) + tail
