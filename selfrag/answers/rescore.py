"""Re-ranks a stored search under other weights. No model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from selfrag.algorithm import beam, reflection
from selfrag.answers.schema import Json, cited_json, passage_json
from selfrag.answers.trace import Trace
from selfrag.types import Critique, Expanded, Passage, SearchOptions, Segment, Support, Weights


def rescore(trace: Trace, weights: Weights, require_support: Support | None = None) -> Json:
    """The answer that the stored candidates give under other weights, in the answer schema; no model is asked.

    Only candidates that were written can win: after a pruned search, or where the beam would have gone elsewhere, a new search
    may find a better one. A trace made with ``--no-prune`` holds every candidate of its first step.
    """
    options = replace(trace.options, weights=reflection.check_weights(weights), require_support=require_support)
    paths = {0: beam.Path(0)}
    parents, ended = set(), set()
    for order, row in enumerate(row for row in trace.events if row["event"] == Expanded.__name__.lower()):
        segment = segment_from(row["segment"], trace.passages)
        if row["path"] not in paths or not reflection.supported(segment.critique, require_support):
            continue
        parent = paths[row["path"]]
        if not parent.gains(segment):
            ended.add(parent.id)
            continue
        parents.add(row["path"])
        scores = (*parent.scores, reflection.segment_score(segment.critique, weights))
        paths[row["candidate"]] = beam.Path(row["candidate"], (*parent.segments, segment), scores, True, order)
    leaves = [path for path in paths.values() if path.segments and (path.id in ended or path.id not in parents)]
    best = min(leaves, key=lambda p: (-p.score, p.order), default=beam.Path(0))
    return answer_again(trace, best, options)


def segment_from(row: Json, passages: Mapping[str, Passage]) -> Segment:
    c = row["critique"]
    critique = Critique(c["isrel"], c["issup"], c["isuse"], c["sequence"], c["distributions"], c.get("retrieval", 0.0))
    passage = passages[row["passage"]] if row["passage"] else None
    return Segment(row["text"], passage, critique, row["carry"], finished=row["finished"])


def answer_again(trace: Trace, path: beam.Path, options: SearchOptions) -> Json:
    cited, evidence = beam.cite(path)
    text = beam.text_of(cited)
    abstained = not text or reflection.doubtful(path.segments, options.abstain_isrel, options.abstain_issup)
    return {
        **trace.answer,
        "status": "abstained" if abstained else "answered",
        "answer": "" if abstained else text,
        "score": path.score,
        "segments": [cited_json(c) for c in cited],
        "citations": [{"n": n, **passage_json(p)} for n, p in enumerate(evidence, 1)],
    }
