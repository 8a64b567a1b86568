"""Renders answers, evidence and searches: pure functions from the JSON documents to rich renderables.

They take the documents of `selfrag.answer/1` and `selfrag.trace/1`, so that a fresh answer, a batch row and a stored trace look
the same. Text of questions, documents and models is never parsed as markup: brackets in it stay brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote as percent_encoded

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from selfrag._util import HELD_TAB, clean, printable, printable_path
from selfrag.answers.citations import location
from selfrag.answers.schema import (
    AnswerJson,
    CitationJson,
    CritiqueJson,
    EventJson,
    ExpandedJson,
    JudgedJson,
    OpenedJson,
    PassageJson,
    PrunedJson,
    QuoteJson,
    Searched,
    SegmentJson,
    evidence_means,
    utility,
)
from selfrag.types import SearchOptions, Standing

ABSENT = "–"
GROUPS = {"isrel": "ISREL", "issup": "ISSUP", "isuse": "ISUSE"}
"""The critiques in the order they are shown, by their key in JSON and their name."""
FILE_LINK = "file://{path}#L{line}"
"""What a citation links to. An editor has a form of its own: ``vscode://file{path}:{line}``."""
_LEVELS = ((2 / 3, "green"), (1 / 3, "yellow"), (-1.0, "red"))
_WORDS = {
    "isrel": {"yellow": "partly relevant", "red": "hardly relevant"},
    "issup": {"yellow": "weak support", "red": "hardly supported"},
    "isuse": {"yellow": "of some use", "red": "hardly useful"},
}


def where(found: Mapping[str, Any], base: Path | None = None) -> str:
    """The `location` of a passage, a citation or a quote, on one line, its path relative to ``base`` when it lies below it."""
    source = str(found["source"])
    if base and Path(source).is_absolute() and Path(source).is_relative_to(base):
        source = str(Path(source).relative_to(base))
    return printable_path(location(source, found))


def linked(found: Mapping[str, Any], base: Path | None, link: str | None, style: str = "") -> Text:
    """`where`, as a hyperlink made of the template ``link`` with {path}, {line} and {page}; plain without one."""
    shown = Style.parse(style)
    source = Path(str(found["source"]))
    if link and source.is_absolute():
        line = found["lines"][0] if found.get("lines") and not found.get("page") else 1
        path = percent_encoded(source.as_posix())
        shown += Style(
            link=link.replace("{path}", path).replace("{line}", str(line)).replace("{page}", str(found.get("page") or 1))
        )
    return Text(where(found, base).replace("\t", HELD_TAB), style=shown)


def level(value: float, low: float = 0.0) -> str:
    """The colour of a critique; ``low`` is the least value that its scale has."""
    share = (value - low) / (1.0 - low)
    return next(colour for least, colour in _LEVELS if share >= least)


def number(critique: CritiqueJson | JudgedJson, distributions: Mapping[str, Any], key: str) -> Text:
    """One critique in two decimals, or a dash where the segment does not carry it."""
    if GROUPS[key] not in distributions:
        return Text(ABSENT, style="dim", justify="right")
    value = _value(critique, key)
    return Text(f"{value:.2f}", style=_level(value, key), justify="right")


def _value(critique: CritiqueJson | JudgedJson, key: str) -> float:
    return {"isrel": critique["isrel"], "issup": critique["issup"], "isuse": critique["isuse"]}[key]


def _level(value: float, key: str) -> str:
    return level(value, -1.0 if key == "isuse" else 0.0)


def remarks(segment: SegmentJson) -> list[str]:
    """Words for the critiques of a segment that are low: "weak support"."""
    return [_WORDS[key][colour] for key, value in carried(segment) if (colour := _level(value, key)) in _WORDS[key]]


def carried(segment: SegmentJson) -> list[tuple[str, float]]:
    """The critiques that a segment has, by their keys in JSON."""
    return [(key, _value(segment["critique"], key)) for key, name in GROUPS.items() if name in segment["distributions"]]


# --- an answer -----------------------------------------------------------------------------------------------------------------


def sentences(segments: Sequence[SegmentJson], first: int = 0) -> Table:
    """Each segment as it is shown, preceded by its critique and followed by its citation and remarks on low scores.

    Segments before ``first`` and the header are already printed: the parts together look the same.
    """
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), show_header=first == 0)
    for name in GROUPS.values():
        table.add_column(name, header_style="dim", justify="right", no_wrap=True, min_width=len(name))
    table.add_column("", overflow="fold")
    seen: set[tuple[int | None, int, int]] = set()
    for place, segment in enumerate(segments):
        text, below = sentence(segment, seen)
        if place < first:
            continue
        if segment["citation"] is not None:
            text.append(f" [{segment['citation']}]", style="cyan")
        if low := remarks(segment):
            text.append(f" ({', '.join(low)})", style="yellow")
        text.append(below, style="dim")
        table.add_row(*(number(segment["critique"], segment["distributions"], key) for key in GROUPS), text)
    return table


def sentence(segment: SegmentJson, seen: set[tuple[int | None, int, int]]) -> tuple[Text, str]:
    """The quote with the model's words emphasised, and ""; or, if they are not in it, the words and the quote to show below.

    A quote within one of ``seen`` is not shown again.
    """
    quote, citation = segment["quote"], segment["citation"]
    if not quote or any(n == citation and start <= quote["start"] and quote["end"] <= end for n, start, end in seen):
        return Text(clean(segment["text"])), ""
    seen.add((citation, quote["start"], quote["end"]))
    above = f"{flowing(quote['header'])}\n" if quote.get("header") else ""
    if quote["span"]:
        return Text(above, style="dim").append_text(emphasised(quote)) if above else emphasised(quote), ""
    return Text(clean(segment["text"])), f"\n“{above}{flowing(quote['text']).strip()}”"


def emphasised(quote: QuoteJson) -> Text:
    """The quote, with the model's words in bold unless they are nearly all of it."""
    text, (start, end) = quote["text"], quote["span"] or (0, 0)
    style = "bold" if end - start < 0.9 * len(text) else ""
    return Text.assemble(flowing(text[:start]), (flowing(text[start:end]), style), flowing(text[end:]))


_FENCE = re.compile(r"^\s*(?:```|~~~).*\n?", re.MULTILINE)
_LINES = re.compile(r"^(?:\s*(?:```|~~~|\||[-*+•]\s|\d{1,3}[.)]\s)|    )", re.MULTILINE)
"""The beginning of a line that must not be joined with others."""


def flowing(text: str) -> str:
    """Text of a document without its line breaks; code, tables and lists keep theirs. Code fences are removed."""
    if _LINES.search(text):
        return re.sub(r"\n{3,}", "\n\n", _FENCE.sub("", printable(text)))
    return re.sub(r"\s+", " ", printable(text))


def sources(document: AnswerJson, base: Path | None = None, texts: bool = False, link: str | None = None) -> Group:
    """The citations by number, with their passages when ``texts``."""
    return Group(*_source_lines(document, base, texts, link))


def _source_lines(document: AnswerJson, base: Path | None, texts: bool, link: str | None) -> Iterator[RenderableType]:
    for citation in document["citations"]:
        line = Text(f"[{citation['n']}] ", style="cyan")
        for i, place in enumerate(places(document, citation)):
            line.append(", " if i else "").append_text(linked(place, base, link, "bold"))
        title = clean(citation["title"])
        if title and Path(citation["source"]).stem != title:
            line.append(f"  {title}", style="dim")
        yield line
        if texts:
            words = [line for line in map(clean, citation["text"].splitlines()) if line]
            yield Padding(Text("\n".join(words)), (0, 0, 1, 4), expand=False)


def places(document: AnswerJson, citation: CitationJson) -> list[Mapping[str, Any]]:
    """The distinct locations of a citation's quotes; the location of the citation itself if it has no quotes."""
    quotes = [s["quote"] for s in document["segments"] if s["quote"] and s["citation"] == citation["n"]]
    if document["status"] == "abstained":
        quotes = []
    distinct: dict[str, Mapping[str, Any]] = {location(quote["source"], quote): quote for quote in quotes}
    return list(distinct.values()) or [citation]


def decided(document: AnswerJson) -> str:
    """Whether it retrieved, and why."""
    retrieval = document["retrieval"]
    did = "retrieved" if retrieval["decision"] else "answered without retrieval"
    if retrieval["probability"] is None:
        return f"{did} (mode {retrieval['mode']})"
    sign = ">" if retrieval["probability"] > retrieval["threshold"] else "≤"
    return f"{did} (p {retrieval['probability']:.2f} {sign} {retrieval['threshold']:.2f})"


def footer(document: AnswerJson) -> Text:
    """One line on how the answer was found."""
    candidates, timing = document["candidates"], document["timing_ms"]
    sure = document.get("confidence") if document["status"] == "answered" else None
    parts = [
        decided(document),
        *([] if sure is None else [f"{'low ' if sure < 0.5 else ''}confidence {sure:.2f}"]),
        f"{candidates['expanded']} written, {candidates['pruned']} pruned",
        f"{timing['total'] / 1000:.1f} s",
        Path(document["model"]).name,
    ]
    if document["reflection"] == "prompted":
        parts.append("critique estimated by prompts")
    if not document["exact"]:
        parts.append("probabilities not exact")
    return Text(" · ".join(clean(part) for part in parts), style="dim")


def why_abstained(document: AnswerJson, options: SearchOptions | None = None) -> str:
    """Why the program abstained, in one sentence."""
    if not document["citations"]:
        some = document["candidates"]["expanded"] + document["candidates"]["pruned"]
        return "no answer was supported by what was found." if some else "nothing was found that could answer it."
    means = evidence_means(document["segments"])
    if not means and not document["candidates"]["expanded"]:
        return "no passage is relevant enough."
    if not means:
        return "no answer could be written from the evidence."
    if options and means[0] < options.abstain_isrel:
        return f"the best answer is not relevant enough (ISREL {means[0]:.2f}, at least {options.abstain_isrel:.3g} is wanted)."
    if options and means[1] < options.abstain_issup:
        return f"the best answer is not supported enough (ISSUP {means[1]:.2f}, at least {options.abstain_issup:.3g} is wanted)."
    sure, use = document.get("confidence"), utility(document["segments"])
    if options and use < options.abstain_isuse:
        return f"the best answer is not useful enough (ISUSE {use:.2f}, at least {options.abstain_isuse:.3g} is wanted)."
    if options and sure is not None and sure < options.abstain_confidence:
        return f"the best answer is right with probability {sure:.2f} only, at least {options.abstain_confidence:.3g} is wanted."
    return "the best answer is not relevant, supported or useful enough."


def answer(
    document: AnswerJson,
    options: SearchOptions | None = None,
    base: Path | None = None,
    evidence: bool = False,
    link: str | None = None,
    first: int = 0,
) -> Group:
    """The whole answer: sentences, sources, how it was found. ``evidence`` shows the cited passages in full; ``link`` is the
    template of the citations' hyperlinks, None for none. The sentences before ``first`` are left out: they are shown already."""
    parts: list[RenderableType] = []
    if document["status"] == "abstained":
        parts += [Text.assemble(("No answer: ", "bold yellow"), why_abstained(document, options))]
        if document["citations"]:
            parts += ["", Text("Nearest evidence", style="dim"), sources(document, base, True, link)]
    else:
        parts += [sentences(document["segments"], first)] if first < len(document["segments"]) or not first else []
        if document["citations"]:
            parts += ["", sources(document, base, evidence, link)]
    spaced = document["citations"] and (evidence or document["status"] == "abstained")
    return Group(*parts, *([] if spaced else [""]), footer(document))


# --- a search ------------------------------------------------------------------------------------------------------------------


def tree(answer: AnswerJson, events: Sequence[EventJson], passages: Mapping[str, PassageJson], base: Path | None = None) -> Tree:
    """The whole search: what was decided, every candidate with its critique, the rejected and the pruned ones too.

    ``events`` and ``passages`` are those of a trace.
    """
    root = Tree(Text(clean(answer["question"]), style="bold"), guide_style="dim")
    nodes: dict[int, Tree] = {}
    staying = kept(events)
    for event in events:
        if event["event"] == "decided":
            nodes.get(event["path"], root).add(Text(decision_words(**event["decision"]), style="dim"))
        elif event["event"] == "retrieved" or event["event"] == "corrected":
            style = "dim" if event["event"] == "retrieved" else "yellow"
            nodes.get(event["path"], root).add(Text(found_words(event), style=style))
        elif event["event"] == "reconsidered":
            root.add(Text(reconsidered_words(event["isuse"], event["sentences"]), style="yellow"))
        elif event["event"] == "opened":
            nodes[event["candidate"]] = nodes.get(event["path"], root).add(_opened_line(event, passages, base))
        elif event["event"] == "expanded":
            _extend_line(nodes[event["candidate"]], event, staying)
        elif event["event"] == "pruned":
            nodes[event["candidate"]].add(Text(f"✗ {pruned_words(event)}", style="red dim"))
    return root


def kept(events: Sequence[EventJson]) -> set[int]:
    """The ids of the candidates that a step kept, or that were added to the answer."""
    selected = {path for event in events if event["event"] == "selected" for path in event["paths"]}
    return selected | {candidate for event in events if event["event"] == "joined" for candidate in event["candidates"]}


def decision_words(action: Literal["retrieve", "continue", "none"], probability: float | None) -> str:
    """What was decided before a segment, with the probability of needing evidence."""
    words = {"retrieve": "evidence is needed", "continue": "the same evidence is used again", "none": "no evidence is needed"}
    return words[action] + ("" if probability is None else f" (p {probability:.2f})")


def found_words(event: Searched) -> str:
    """How many passages a search found, or one that was made again because those before were not relevant enough."""
    count, query = len(event["passages"]), clean(event["query"])
    if event["event"] == "retrieved":
        return f"{count} passages for: {query}"
    return f"{again_words(event['standing'], event['best'], event['collection'])}: {count} more passages for: {query}"


def again_words(standing: Standing, best: float, collection: str) -> str:
    """Why and where was searched again."""
    return f"{standing} (best ISREL {best:.2f}), searched again in {clean(collection)}"


def reconsidered_words(isuse: float, sentences: int) -> str:
    """Why sentences were judged, and how many."""
    return f"of little use (ISUSE {isuse:.2f}): judged {sentences} sentences of the relevant passages"


def pruned_words(event: PrunedJson) -> str:
    """Why a candidate was given up."""
    if event["when"] == "unsupported":
        return "dropped: not supported"
    if event["when"] == "irrelevant":
        return "not written: not relevant enough"
    return f"pruned {event['when']}: at most {event['bound']:.3f}, needed {event['needed']:.3f}"


def _opened_line(event: OpenedJson, passages: Mapping[str, PassageJson], base: Path | None) -> Text:
    place = where(passages[event["passage"]], base) if event["passage"] else "without evidence"
    line = Text.assemble((place, "bold"))
    if "ISREL" in event["critique"]["distributions"]:
        isrel = event["critique"]["isrel"]
        line.append(f"  ISREL {isrel:.2f}", style=level(isrel))
    return line


def _extend_line(node: Tree, event: ExpandedJson, kept: set[int]) -> None:
    critique = event["segment"]["critique"]
    mark = Text("✓ ", style="green") if event["candidate"] in kept else Text("· ", style="dim")
    line = Text.assemble(mark, clean(event["segment"]["text"]) or "(nothing)")
    for key in ("issup", "isuse"):
        if GROUPS[key] in critique["distributions"]:
            line.append_text(Text(f"  {GROUPS[key]} ")).append_text(number(critique, critique["distributions"], key))
    node.add(line.append(f"  score {event['score']:.3f}", style="dim"))
