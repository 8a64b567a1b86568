"""Answers as JSON: ``selfrag.answer/1``, for `ask --json`, batch rows and the head of a trace, and ``selfrag.trace/1``.

The types here are the schema: docs/schema/*.json is generated from them, docs/answer-schema.md explains every field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NotRequired, cast

from typing_extensions import TypedDict  # pydantic, which makes the JSON Schema, refuses typing's before Python 3.12

from selfrag.algorithm import reflection
from selfrag.algorithm.joined import goes_on
from selfrag.answers.quotes import continued, quote_of
from selfrag.types import (
    Answer,
    Cited,
    Critique,
    Header,
    Mode,
    Passage,
    ReflectionKind,
    SearchOptions,
    Segment,
    Standing,
    Status,
    Timing,
    Usage,
)

SCHEMA: Literal["selfrag.answer/1"] = "selfrag.answer/1"
TRACE_SCHEMA: Literal["selfrag.trace/1"] = "selfrag.trace/1"

Json = dict[str, Any]
Pair = list[int]
"""Two numbers: first and last line, 1-based, inclusive; or offsets of characters, the second exclusive."""


class HeaderJson(TypedDict):
    """The header of ``text[start:end]`` of a passage: its table's header row, or the first line of its record. A header that
    starts at 0 is not part of the passage. ``place`` is that of the table or the record, where the format names places."""

    start: int
    end: int
    text: str
    place: NotRequired[str]


class PlaceJson(TypedDict):
    source: str
    lines: Pair | None
    page: int | None
    place: str | None


class PassageJson(PlaceJson):
    title: str
    chunk: str
    text: str
    headers: list[HeaderJson]


class CitationJson(PassageJson):
    n: int


class FoundJson(PlaceJson):
    """A passage that was retrieved. ``text`` only if the run stores it; ``isrel`` is None if the model did not read it."""

    title: str
    chunk: str
    text: NotRequired[str]
    headers: NotRequired[list[HeaderJson]]
    isrel: float | None


class QuoteJson(PlaceJson):
    """``text`` is the citation's ``text[start:end]``; ``span`` are offsets in the quote's own text; ``header`` is the header row
    of its table, or the first line of its record, if the quote does not contain it."""

    text: str
    start: int
    end: int
    span: Pair | None
    header: NotRequired[str]


class CritiqueJson(TypedDict):
    isrel: float
    issup: float
    isuse: float
    sequence: float
    retrieval: float
    similarity: float | None


class JudgedJson(CritiqueJson):
    """A critique with the probabilities that it was read from, in a trace."""

    distributions: dict[str, dict[str, float]]


class SegmentJson(TypedDict):
    text: str
    citation: int | None
    quote: QuoteJson | None
    critique: CritiqueJson
    score: float
    distributions: dict[str, dict[str, float]]


class RetrievalJson(TypedDict):
    mode: Mode
    decision: bool
    probability: float | None
    threshold: float


class CandidatesJson(TypedDict):
    expanded: int
    pruned: int


class UsageJson(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    requests: NotRequired[int]


class TimingJson(TypedDict):
    retrieve: float
    generate: float
    total: float


class AnswerJson(TypedDict):
    """``selfrag.answer/1``. Every key is present for every outcome."""

    schema: Literal["selfrag.answer/1"]
    id: str | int | None
    question: str
    status: Status
    answer: str
    score: float
    confidence: float | None
    retrieval: RetrievalJson
    segments: list[SegmentJson]
    citations: list[CitationJson]
    candidates: CandidatesJson
    exact: bool
    reflection: ReflectionKind
    model: str
    engine: str
    collection: str
    usage: UsageJson
    timing_ms: TimingJson
    warnings: list[str]
    error: str | None


class BatchRow(AnswerJson):
    """A row of `selfrag batch`: an answer, where it came from, and the input's other columns under their own names."""

    passages: list[FoundJson]
    line: int
    hash: str


class DecisionJson(TypedDict):
    action: Literal["retrieve", "continue", "none"]
    probability: float | None


class WrittenJson(TypedDict):
    """A candidate's segment in a trace; ``passage`` is a chunk id."""

    text: str
    carry: bool
    finished: bool
    passage: str | None
    critique: JudgedJson


class StepJson(TypedDict):
    step: int
    path: int


class DecidedJson(StepJson):
    event: Literal["decided"]
    decision: DecisionJson


class RetrievedJson(StepJson):
    event: Literal["retrieved"]
    query: str
    passages: list[str]


class CorrectedJson(StepJson):
    event: Literal["corrected"]
    number: int
    standing: Standing
    best: float
    query: str
    passages: list[str]
    collection: str


class ReconsideredJson(StepJson):
    event: Literal["reconsidered"]
    isuse: float
    sentences: int


class OpenedJson(StepJson):
    event: Literal["opened"]
    candidate: int
    passage: str | None
    critique: JudgedJson


class ExpandedJson(StepJson):
    event: Literal["expanded"]
    candidate: int
    segment: WrittenJson
    score: float


class PrunedJson(StepJson):
    event: Literal["pruned"]
    candidate: int
    passage: str | None
    when: Literal["before writing", "while writing", "unsupported", "irrelevant"]
    bound: float | None
    needed: float | None


class SelectedJson(TypedDict):
    event: Literal["selected"]
    step: int
    paths: list[int]
    scores: list[float]


class JoinedJson(StepJson):
    event: Literal["joined"]
    candidates: list[int]


Searched = RetrievedJson | CorrectedJson
EventJson = DecidedJson | Searched | ReconsideredJson | OpenedJson | ExpandedJson | PrunedJson | SelectedJson | JoinedJson


class WeightsJson(TypedDict):
    rel: float
    sup: float
    use: float
    sequence: bool
    ret: float


class ConfidenceWeightsJson(TypedDict):
    bias: float
    isrel: float
    isuse: float
    similarity: float
    centre: float


class OptionsJson(TypedDict):
    k: int
    mode: Mode
    threshold: float
    beam_width: int
    max_segments: int
    weights: WeightsJson
    require_support: Literal["full", "partial"] | None
    prune: bool
    abstain_isrel: float
    abstain_issup: float
    abstain_isuse: float
    abstain_confidence: float
    reconsider_isuse: float
    join_isuse: float
    choices: list[str]
    correct: bool
    found_isrel: float
    confidence: ConfidenceWeightsJson


class TraceJson(TypedDict):
    """``selfrag.trace/1``. Events name passages by chunk id; ``passages`` holds them."""

    schema: Literal["selfrag.trace/1"]
    answer: AnswerJson
    options: OptionsJson
    events: list[EventJson]
    passages: dict[str, PassageJson]


def answer_json(answer: Answer, id: str | int | None = None) -> AnswerJson:
    """The document of ``ask --json``, a row of ``batch``, the head of a trace: all the same keys in the same order."""
    options, decision = answer.options, answer.decision
    return {
        **error_json(answer.question, "", id),
        "status": answer.status,
        "answer": answer.text,
        "score": answer.score,
        "confidence": answer.confidence,
        "retrieval": {
            "mode": options.mode,
            "decision": decision.action == "retrieve",
            "probability": decision.probability,
            "threshold": options.threshold,
        },
        "segments": segments_json(answer.segments, answer.question, options),
        "citations": [{"n": n, **passage_json(passage)} for n, passage in enumerate(answer.evidence, 1)],
        "candidates": {"expanded": answer.expanded, "pruned": answer.pruned},
        "exact": answer.exact,
        "reflection": answer.reflection,
        "model": answer.model,
        "engine": answer.engine,
        "collection": answer.collection,
        "usage": cast("UsageJson", asdict(answer.usage)),
        "timing_ms": cast("TimingJson", asdict(answer.timing)),
        "warnings": list(answer.warnings),
        "error": None,
    }


def error_json(question: str, error: str, id: str | int | None = None) -> AnswerJson:
    """A row for a failed question: every key of the schema, ``status`` "error", and the reason."""
    return {
        "schema": SCHEMA,
        "id": id,
        "question": question,
        "status": "error",
        "answer": "",
        "score": 0.0,
        "confidence": None,
        "retrieval": {"mode": "adaptive", "decision": False, "probability": None, "threshold": 0.0},
        "segments": [],
        "citations": [],
        "candidates": {"expanded": 0, "pruned": 0},
        "exact": False,
        "reflection": "tokens",
        "model": "",
        "engine": "",
        "collection": "",
        "usage": cast("UsageJson", asdict(Usage())),
        "timing_ms": cast("TimingJson", asdict(Timing())),
        "warnings": [],
        "error": error,
    }


def segments_json(cited: Sequence[Cited], question: str, options: SearchOptions) -> list[SegmentJson]:
    """The segments of an answer. Quotes go on as far as the question asks for it."""
    return [cited_json(each, question, goes_on(question, place, options)) for place, each in enumerate(cited)]


def cited_json(cited: Cited, question: str, most: int) -> SegmentJson:
    """A group that the segment does not carry counts 0 in ``critique`` and is missing from ``distributions``."""
    return {
        "text": cited.segment.text,
        "citation": cited.citation,
        "quote": quote_json(cited.segment, question, most),
        "critique": critique_json(cited.segment.critique),
        "score": cited.score,
        "distributions": distributions_json(cited.segment.critique),
    }


def quote_json(segment: Segment, question: str, most: int = 0) -> QuoteJson | None:
    """The quote of the passage that the segment rests on; None without a passage or a matching quote. A quote of words of the
    passage goes on with the sentences that follow them, up to ``most`` words in all."""
    passage = segment.passage
    found = quote_of(segment.text, passage.text, question) if passage else None
    if passage is None or found is None:
        return None
    if most and found.span:
        found = continued(found, passage.text, most)
    quote: QuoteJson = {
        "text": passage.text[found.start : found.end],
        "source": passage.source,
        "lines": lines_within(passage.text, passage.lines, found.start, found.end),
        "page": passage.page,
        "place": passage.where(found.start, found.end),
        "start": found.start,
        "end": found.end,
        "span": list(found.span) if found.span else None,
    }
    above = passage.header(found.start)
    return {**quote, "header": above} if above else quote


def lines_within(text: str, lines: tuple[int, int] | None, start: int, end: int) -> Pair | None:
    """The source's lines of ``text[start:end]``, where ``lines`` are those of ``text``. Where the text does not have the lines of
    its source (a paragraph of .docx, say, or HTML), they stay ``lines``."""
    if lines is None:
        return None
    if lines[1] - lines[0] != text.rstrip("\n").count("\n"):
        return list(lines)
    return [lines[0] + text.count("\n", 0, start), lines[0] + text.count("\n", 0, end)]


def critique_json(critique: Critique) -> CritiqueJson:
    return {
        "isrel": critique.isrel,
        "issup": critique.issup,
        "isuse": critique.isuse,
        "sequence": critique.sequence,
        "retrieval": critique.retrieval,
        "similarity": critique.similarity,
    }


def distributions_json(critique: Critique) -> dict[str, dict[str, float]]:
    return {group: dict(found) for group, found in critique.distributions.items()}


def passage_json(passage: Passage) -> PassageJson:
    return {
        "title": passage.title,
        "source": passage.source,
        "lines": list(passage.lines) if passage.lines else None,
        "page": passage.page,
        "place": passage.place,
        "chunk": passage.chunk,
        "text": passage.text,
        "headers": [header_json(each) for each in passage.headers],
    }


def header_json(header: Header) -> HeaderJson:
    found: HeaderJson = {"start": header.start, "end": header.end, "text": header.text}
    return {**found, "place": header.place} if header.place else found


def critique_of(row: CritiqueJson | JudgedJson, distributions: Mapping[str, Mapping[str, float]]) -> Critique:
    """The critique that `critique_json` wrote."""
    found = row.get("retrieval", 0.0), row.get("similarity")
    return Critique(row["isrel"], row["issup"], row["isuse"], row["sequence"], distributions, *found)


def evidence_means(segments: Sequence[SegmentJson]) -> tuple[float, float] | None:
    """Mean ISREL and ISSUP of a stored answer, as `reflection.evidence_means` has them."""
    return reflection.evidence_means([critique_of(s["critique"], s["distributions"]) for s in segments])


def utility(segments: Sequence[SegmentJson]) -> float:
    """ISUSE of a stored answer: the mean over the segments that carry it, 0 where none does."""
    carried = [s["critique"]["isuse"] for s in segments if "ISUSE" in s["distributions"]]
    return sum(carried) / len(carried) if carried else 0.0


def shown(segment: SegmentJson) -> str:
    """The text shown for a segment: the quote that contains its words, or its own words if there is no such quote."""
    quote = segment.get("quote")  # rows of version 0.1 have none
    return quote["text"] if quote and quote["span"] else segment["text"]


def shown_answer(answer: AnswerJson) -> str:
    """The answer as it is read, each quote once; empty where the program abstained."""
    if answer["status"] != "answered":
        return ""
    whole = ""
    for text in (" ".join(shown(segment).split()) for segment in answer["segments"]):
        if text not in whole:
            whole = f"{whole} {text}".lstrip()
    return whole
