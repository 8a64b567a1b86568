"""Answers, evidence and searches as a person sees them: pure functions from the JSON documents to rich renderables.

They take the documents of `selfrag.answer/1` and `selfrag.trace/1`, so that a fresh answer, a batch row and a stored trace look
the same. Words of questions, documents and models are put in as `Text`, never as markup: brackets in them stay brackets.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from selfrag.answers.citations import location
from selfrag.types import SearchOptions

Json = Mapping[str, Any]

ABSENT = "–"
GROUPS = {"isrel": "ISREL", "issup": "ISSUP", "isuse": "ISUSE"}
"""The critiques in the order they are shown, by their key in JSON and their name."""
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LEVELS = ((2 / 3, "green"), (1 / 3, "yellow"), (-1.0, "red"))


def clean(text: str) -> str:
    """``text`` on one line, without the characters that move the cursor, ring the bell or turn the direction of writing."""
    return " ".join("".join("\N{REPLACEMENT CHARACTER}" if _acts(c) else c for c in text).split())


def _acts(character: str) -> bool:
    return character in _BIDI or (unicodedata.category(character) in ("Cc", "Cs") and not character.isspace())


def where(passage: Json, base: Path | None = None) -> str:
    """The `location`, its path relative to ``base`` when it lies below it."""
    source = str(passage["source"])
    if base and Path(source).is_absolute() and Path(source).is_relative_to(base):
        source = str(Path(source).relative_to(base))
    return clean(location(source, passage))


def level(value: float, low: float = 0.0) -> str:
    """The colour of a critique; ``low`` is the least value that its scale has."""
    share = (value - low) / (1.0 - low)
    return next(colour for least, colour in _LEVELS if share >= least)


def number(critique: Json, distributions: Json, key: str) -> Text:
    """One critique in two decimals, or a dash where the segment does not carry it."""
    if GROUPS[key] not in distributions:
        return Text(ABSENT, style="dim", justify="right")
    value = critique[key]
    return Text(f"{value:.2f}", style=level(value, -1.0 if key == "isuse" else 0.0), justify="right")


# --- an answer -----------------------------------------------------------------------------------------------------------------


def sentences(document: Json) -> Table:
    """Each sentence with its citation, and its critique before it."""
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in GROUPS.values():
        table.add_column(name, header_style="dim", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for segment in document["segments"]:
        text = Text(clean(segment["text"]))
        if segment["citation"] is not None:
            text.append(f" [{segment['citation']}]", style="cyan")
        table.add_row(*(number(segment["critique"], segment["distributions"], key) for key in GROUPS), text)
    return table


def sources(document: Json, base: Path | None = None, texts: bool = False) -> Group:
    """The citations by number, with their passages when ``texts``."""
    return Group(*_source_lines(document["citations"], base, texts))


def _source_lines(citations: Sequence[Json], base: Path | None, texts: bool) -> Iterator[RenderableType]:
    for citation in citations:
        line = Text.assemble((f"[{citation['n']}] ", "cyan"), (where(citation, base), "bold"))
        title = clean(citation["title"])
        if title and Path(citation["source"]).stem != title:
            line.append(f"  {title}", style="dim")
        yield line
        if texts:
            words = [line for line in map(clean, citation["text"].splitlines()) if line]
            yield Padding(Text("\n".join(words)), (0, 0, 1, 4), expand=False)


def decided(document: Json) -> str:
    """How it came to look for evidence, or not to."""
    retrieval = document["retrieval"]
    did = "retrieved" if retrieval["decision"] else "answered without retrieval"
    if retrieval["probability"] is None:
        return f"{did} (mode {retrieval['mode']})"
    sign = ">" if retrieval["probability"] > retrieval["threshold"] else "≤"
    return f"{did} (p {retrieval['probability']:.2f} {sign} {retrieval['threshold']:.2f})"


def footer(document: Json) -> Text:
    """One line on how the answer was found."""
    candidates, timing = document["candidates"], document["timing_ms"]
    parts = [
        decided(document),
        f"{candidates['expanded']} written, {candidates['pruned']} pruned",
        f"{timing['total'] / 1000:.1f} s",
        Path(document["model"]).name,
    ]
    if document["reflection"] == "prompted":
        parts.append("critique estimated by prompts")
    if not document["exact"]:
        parts.append("probabilities not exact")
    return Text(" · ".join(clean(part) for part in parts), style="dim")


def why_abstained(document: Json, options: SearchOptions | None = None) -> str:
    """What was missing, in one sentence."""
    if not document["citations"]:
        some = document["candidates"]["expanded"] + document["candidates"]["pruned"]
        return "no answer was supported by what was found." if some else "nothing was found that could answer it."
    judged = [s["critique"] for s in document["segments"] if "ISREL" in s["distributions"]]
    if not judged:
        return "no answer could be written from the evidence."
    for key, least in (("isrel", options.abstain_isrel), ("issup", options.abstain_issup)) if options else ():
        mean = sum(c[key] for c in judged) / len(judged)
        if mean < least:
            what = "relevant" if key == "isrel" else "supported"
            return f"the best answer is not {what} enough ({GROUPS[key]} {mean:.2f}, at least {least:.3g} is wanted)."
    return "the best answer is not relevant or supported enough."


def answer(document: Json, options: SearchOptions | None = None, base: Path | None = None, evidence: bool = False) -> Group:
    """The whole answer: sentences, sources, how it was found. ``evidence`` shows the cited passages in full."""
    parts: list[RenderableType] = []
    if document["status"] == "abstained":
        parts += [Text.assemble(("No answer: ", "bold yellow"), why_abstained(document, options))]
        if document["citations"]:
            parts += ["", Text("Nearest evidence", style="dim"), sources(document, base, texts=True)]
    else:
        parts += [sentences(document)]
        if document["citations"]:
            parts += ["", sources(document, base, texts=evidence)]
    spaced = document["citations"] and (evidence or document["status"] == "abstained")
    return Group(*parts, *([] if spaced else [""]), footer(document))


# --- a search ------------------------------------------------------------------------------------------------------------------


def tree(answer: Json, events: Sequence[Json], passages: Mapping[str, Json], base: Path | None = None) -> Tree:
    """The whole search: what was decided, every candidate with its critique, the rejected and the pruned ones too.

    ``events`` and ``passages`` are those of a trace.
    """
    root = Tree(Text(clean(answer["question"]), style="bold"), guide_style="dim")
    nodes: dict[int, Tree] = {}
    kept = _kept(events)
    for event in events:
        parent = nodes.get(event["path"], root) if "path" in event else root
        match event["event"]:
            case "decided":
                parent.add(_decision_line(event["decision"]))
            case "retrieved":
                parent.add(Text(f"{len(event['passages'])} passages for: {clean(event['query'])}", style="dim"))
            case "corrected":
                parent.add(_corrected_line(event))
            case "opened":
                nodes[event["candidate"]] = parent.add(_opened_line(event, passages, base))
            case "expanded":
                _extend_line(nodes[event["candidate"]], event, kept)
            case "pruned":
                nodes[event["candidate"]].add(_pruned_line(event))
    return root


def _kept(events: Sequence[Json]) -> set[int]:
    return {path for event in events if event["event"] == "selected" for path in event["paths"]}


def _decision_line(decision: Json) -> Text:
    words = {"retrieve": "evidence is needed", "continue": "the same evidence is used again", "none": "no evidence is needed"}
    shown = "" if decision["probability"] is None else f" (p {decision['probability']:.2f})"
    return Text(words[decision["action"]] + shown, style="dim")


def _corrected_line(event: Json) -> Text:
    found = f"{event['standing']} (best ISREL {event['best']:.2f}), searched again"
    return Text(f"{found}: {len(event['passages'])} more passages for: {clean(event['query'])}", style="yellow")


def _opened_line(event: Json, passages: Mapping[str, Json], base: Path | None) -> Text:
    place = where(passages[event["passage"]], base) if event["passage"] else "without evidence"
    line = Text.assemble((place, "bold"))
    if "ISREL" in event["critique"]["distributions"]:
        isrel = event["critique"]["isrel"]
        line.append(f"  ISREL {isrel:.2f}", style=level(isrel))
    return line


def _extend_line(node: Tree, event: Json, kept: set[int]) -> None:
    critique = event["segment"]["critique"]
    mark = Text("✓ ", style="green") if event["candidate"] in kept else Text("· ", style="dim")
    line = Text.assemble(mark, clean(event["segment"]["text"]) or "(nothing)")
    for key in ("issup", "isuse"):
        if GROUPS[key] in critique["distributions"]:
            line.append_text(Text(f"  {GROUPS[key]} ")).append_text(number(critique, critique["distributions"], key))
    node.add(line.append(f"  score {event['score']:.3f}", style="dim"))


def _pruned_line(event: Json) -> Text:
    if event["when"] == "unsupported":
        return Text("✗ dropped: not supported", style="red")
    return Text(f"✗ pruned {event['when']}: at most {event['bound']:.3f}, needed {event['needed']:.3f}", style="red dim")
