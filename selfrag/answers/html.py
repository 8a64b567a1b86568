"""A stored search as one self-contained page: nothing is loaded, and what documents say stays text."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from selfrag._util import ACTING
from selfrag.algorithm import beam, reflection
from selfrag.algorithm.joined import NEW, allowed, is_useful, sides
from selfrag.algorithm.words import content_words
from selfrag.answers import render
from selfrag.answers.rescore import asked_sides, expanded, segment_from
from selfrag.answers.schema import CritiqueJson, ExpandedJson, JudgedJson, OpenedJson, PrunedJson, passage_json, quote_json
from selfrag.answers.trace import Trace

Json = dict[str, Any]
_SUPPORT = {reflection.FULLY: "full", reflection.PARTIALLY: "partial", reflection.NO_SUPPORT: "none"}


def page(trace: Trace, base: Path | None = None) -> str:
    """The page of a search. ``base`` is the folder that paths are shown relative to."""
    template = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    # Escaped, so that "</script>" in a document does not end the script.
    data = json.dumps(content(trace, base), ensure_ascii=False).replace("<", "\\u003c")
    return template.replace("@DATA@", data.encode("utf-8", "replace").decode())


def content(trace: Trace, base: Path | None = None) -> Json:
    """What the page shows, as JSON."""
    answer = trace.answer
    quotes = quoted(trace)
    return {
        "question": plain(answer["question"]),
        "status": answer["status"],
        "why": render.why_abstained(answer, trace.options) if answer["status"] == "abstained" else "",
        "about": render.footer(answer).plain,
        "segments": segments(trace) if answer["status"] == "answered" else [],
        "weights": {name: getattr(trace.options.weights, name) for name in ("rel", "sup", "use", "ret", "sequence")},
        "support": trace.options.require_support,
        "abstain": [trace.options.abstain_isrel, trace.options.abstain_issup, trace.options.abstain_isuse],
        "sure": asdict(trace.options.confidence) | {"least": 0 if trace.options.choices else trace.options.abstain_confidence},
        "join": {
            "most": allowed(answer["question"], trace.options),
            "all": trace.options.max_segments,
            "width": trace.options.beam_width,
            "new": NEW,
        },
        "sides": [
            {"root": root, "name": sorted(sides(answer["question"]).get(asked, ()))} for root, asked in asked_sides(trace).items()
        ],
        "asked": content_words(answer["question"]),
        "candidates": candidates(trace),
        "tree": tree(trace),
        "order": list(trace.passages),
        "passages": {
            chunk: {
                "where": render.where(passage_json(passage), base),
                "title": plain(passage.title),
                "text": plain(passage.text),
                "quotes": quotes.get(chunk, []),
            }
            for chunk, passage in trace.passages.items()
        },
    }


def plain(text: str) -> str:
    """``text`` at the same length, with control and bidirectional characters replaced by U+FFFD."""
    return ACTING.sub("\N{REPLACEMENT CHARACTER}", text)


def cited_chunks(trace: Trace) -> dict[int, str]:
    """The passages of the answer's citations, by number."""
    return {citation["n"]: citation["chunk"] for citation in trace.answer["citations"]}


def segments(trace: Trace) -> list[Json]:
    chunks = cited_chunks(trace)
    return [
        {
            "text": plain(segment["text"]),
            "quote": {**quote, "text": plain(quote["text"]), "header": plain(quote.get("header", ""))}
            if (quote := segment["quote"])
            else None,
            "chunk": chunk if (chunk := chunks.get(segment["citation"] or 0)) in trace.passages else None,
            "critique": numbers(segment["critique"]),
            "carried": list(segment["distributions"]),
            "remarks": render.remarks(segment),
        }
        for segment in trace.answer["segments"]
    ]


def candidates(trace: Trace) -> list[Json]:
    """Every written candidate, in order, with the fields that `rescore` uses. Whether it adds new words does not depend on the
    weights."""
    paths = {0: beam.Path(0)}
    found = []
    for order, event in enumerate(expanded(trace)):
        segment = segment_from(event["segment"], trace.passages)
        parent = paths.get(event["path"], beam.Path(event["path"]))
        gains = parent.gains(segment)
        if gains:
            paths[event["candidate"]] = beam.Path(
                event["candidate"], (*parent.segments, segment), (*parent.scores, 0.0), True, order
            )
        found.append(
            {
                "id": event["candidate"],
                "parent": event["path"],
                "text": plain(segment.text),
                "passage": event["segment"]["passage"],
                "critique": numbers(event["segment"]["critique"]),
                "carried": list(segment.critique.distributions),
                "support": _SUPPORT.get(reflection.verdict(segment.critique, "ISSUP") or ""),
                "gains": gains,
                "useful": is_useful(segment, trace.answer["question"], trace.options),
                "words": content_words(segment.text),
            }
        )
    return found


def numbers(critique: CritiqueJson | JudgedJson) -> Json:
    found = {name: critique.get(name, 0.0) for name in ("isrel", "issup", "isuse", "sequence", "retrieval")}
    return found | {"similarity": critique.get("similarity")}


def quoted(trace: Trace) -> dict[str, list[Json]]:
    """The quotes of the answer and of every written candidate by the passage they stand in, in order of place. Of those that
    overlap only the first counts."""
    chunks, question = cited_chunks(trace), trace.answer["question"]
    quotes = [(chunks.get(segment["citation"] or 0), segment["quote"]) for segment in trace.answer["segments"]]
    for event in expanded(trace):
        quotes.append((event["segment"]["passage"], quote_json(segment_from(event["segment"], trace.passages), question)))
    found: dict[str, list[Json]] = {}
    for chunk, quote in quotes:
        if quote and chunk:
            places = found.setdefault(chunk, [])
            if all(quote["end"] <= other["start"] or other["end"] <= quote["start"] for other in places):
                places.append({"start": quote["start"], "end": quote["end"], "span": quote["span"]})
    return {chunk: sorted(places, key=lambda place: place["start"]) for chunk, places in found.items()}


# --- the tree -------------------------------------------------------------------------------------------------------------------


def tree(trace: Trace) -> list[Json]:
    """The decisions, passages and candidates, in order, each below the path that it belongs to."""
    top: list[Json] = []
    nodes: dict[int, Json] = {}
    kept = render.kept(trace.events)
    for event in trace.events:
        if event["event"] == "selected" or event["event"] == "joined":
            continue
        below = nodes[event["path"]]["children"] if event["path"] in nodes else top
        if event["event"] == "decided":
            below.append(leaf(render.decision_words(**event["decision"])))
        elif event["event"] == "retrieved" or event["event"] == "corrected":
            below.append(leaf(render.found_words(event)))
        elif event["event"] == "reconsidered":
            top.append(leaf(render.reconsidered_words(event["isuse"], event["sentences"])))
        elif event["event"] == "opened":
            nodes[event["candidate"]] = opened(event)
            below.append(nodes[event["candidate"]])
        elif event["event"] == "expanded":
            write(nodes[event["candidate"]], event, event["candidate"] in kept)
        else:
            give_up(nodes[event["candidate"]], event)
    return top


def leaf(text: str) -> Json:
    empty: Json = {"mark": "", "style": "soft", "passage": None, "critique": None, "carried": [], "note": ""}
    return {"text": text, **empty, "children": []}


def opened(event: OpenedJson) -> Json:
    found = leaf("" if event["passage"] else "without evidence")
    return found | {
        "passage": event["passage"],
        "critique": numbers(event["critique"]),
        "carried": list(event["critique"]["distributions"]),
    }


def write(node: Json, event: ExpandedJson, kept: bool) -> None:
    node["text"] = f"{plain(event['segment']['text']) or '(nothing)'} · score {event['score']:.3f}"
    node["mark"], node["style"] = ("✓ kept:", "kept") if kept else ("written:", "soft")
    node["critique"] = numbers(event["segment"]["critique"])
    node["carried"] = list(event["segment"]["critique"]["distributions"])


def give_up(node: Json, event: PrunedJson) -> None:
    node["mark"], node["style"] = "✗", "pruned"
    node["note"] = render.pruned_words(event)
