"""Re-ranks a stored search with other weights, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from selfrag.algorithm import beam, reflection
from selfrag.algorithm.joined import additions, joinable, joined, told_of_sides
from selfrag.answers.schema import AnswerJson, ExpandedJson, WrittenJson, critique_of, passage_json, segments_json
from selfrag.answers.trace import Trace
from selfrag.types import Passage, SearchOptions, Segment, Support, Weights


def rescore(trace: Trace, weights: Weights, require_support: Support | None = None) -> AnswerJson:
    """The answer from the stored candidates with other weights, in the answer schema.

    Only candidates that were written can win: after a pruned search, or where the beam would have gone elsewhere, a new search
    may find a better one. A trace made with ``--no-prune`` holds every candidate of its first step.
    """
    options = replace(trace.options, weights=reflection.check_weights(weights), require_support=require_support)
    paths = {0: beam.Path(0)}
    sides: dict[int, list[beam.Path]] = {root: [] for root in asked_sides(trace)}
    parents, ended = set(), set()
    for order, row in enumerate(expanded(trace)):
        segment = segment_from(row["segment"], trace.passages)
        if not reflection.supported(segment.critique, require_support):
            continue
        if row["path"] in sides:
            score = reflection.segment_score(segment.critique, weights)
            sides[row["path"]].append(beam.Path(row["candidate"], (segment,), (score,), True, order))
        if row["path"] not in paths:
            continue
        parent = paths[row["path"]]
        if not parent.gains(segment):
            ended.add(parent.id)
            continue
        parents.add(row["path"])
        scores = (*parent.scores, reflection.segment_score(segment.critique, weights))
        paths[row["candidate"]] = beam.Path(row["candidate"], (*parent.segments, segment), scores, True, order)
    leaves = [path for path in paths.values() if path.segments and (path.id in ended or path.id not in parents)]
    best = min(leaves, key=lambda path: path.rank, default=beam.Path(0))
    firsts = [path for path in paths.values() if len(path.segments) == 1]
    question = trace.answer["question"]
    more = additions(best, firsts, question, options)
    if joinable(best, question, options):
        found = {asked: min(sides[root], key=lambda path: path.rank) for root, asked in asked_sides(trace).items() if sides[root]}
        more += told_of_sides((best, *more), found, question, options)
    return answer_again(trace, joined(best, more), options)


def asked_sides(trace: Trace) -> dict[int, str]:
    """The paths, without segments, that the searches for a question's sides began with, and what each asked; the answer's own
    search begins with path 0."""
    return {e["path"]: e["query"] for e in trace.events if e["event"] == "retrieved" and e["step"] == 0 and e["path"]}


def expanded(trace: Trace) -> list[ExpandedJson]:
    """The candidates that were written, in order."""
    return [event for event in trace.events if event["event"] == "expanded"]


def segment_from(row: WrittenJson, passages: Mapping[str, Passage]) -> Segment:
    critique = critique_of(row["critique"], row["critique"]["distributions"])
    passage = passages[row["passage"]] if row["passage"] else None
    return Segment(row["text"], passage, critique, row["carry"], finished=row["finished"])


def answer_again(trace: Trace, path: beam.Path, options: SearchOptions) -> AnswerJson:
    cited, evidence = beam.cite(path)
    text = beam.text_of(cited)
    abstained = not text or reflection.doubtful(path.segments, options)
    return {
        **trace.answer,
        "status": "abstained" if abstained else "answered",
        "answer": "" if abstained else text,
        "score": path.score,
        "confidence": reflection.confidence(path.segments, options.confidence),
        "segments": segments_json(cited, trace.answer["question"], options),
        "citations": [{"n": n, **passage_json(p)} for n, p in enumerate(evidence, 1)],
    }
