"""The reflection vocabulary, and every score computed from it. Pure: no model, no tokenizer, no input or output.

Names and formulas are those of Self-RAG (Asai et al. 2023, arXiv 2310.11511), section 3.3 and appendix A.3; sums run in the
order of its published code, so that scores agree with it bit by bit on IEEE doubles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from selfrag.errors import UsageError
from selfrag.types import ConfidenceWeights, Critique, Decision, SearchOptions, Segment, Support, Token, Weights

NO_RETRIEVAL, RETRIEVAL, CONTINUE = "[No Retrieval]", "[Retrieval]", "[Continue to Use Evidence]"
IRRELEVANT, RELEVANT = "[Irrelevant]", "[Relevant]"
FULLY, PARTIALLY, NO_SUPPORT = "[Fully supported]", "[Partially supported]", "[No support / Contradictory]"
PARAGRAPH, END_PARAGRAPH = "<paragraph>", "</paragraph>"

RETRIEVE = (NO_RETRIEVAL, RETRIEVAL, CONTINUE)
ISREL = (IRRELEVANT, RELEVANT)
ISSUP = (FULLY, PARTIALLY, NO_SUPPORT)
ISUSE = ("[Utility:1]", "[Utility:2]", "[Utility:3]", "[Utility:4]", "[Utility:5]")
MARKUP = (PARAGRAPH, END_PARAGRAPH)
GROUPS: Mapping[str, tuple[str, ...]] = {"Retrieve": RETRIEVE, "ISREL": ISREL, "ISSUP": ISSUP, "ISUSE": ISUSE}

REFLECTION_TOKENS = (*RETRIEVE, *ISREL, *MARKUP, *ISUSE, *ISSUP)
"""All fifteen, in the order in which the published models number them."""
JUDGEMENTS = (*RETRIEVE, *ISREL, *ISSUP, *ISUSE)
"""The thirteen that carry a probability."""

UTILITY_WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
WORTH: Mapping[str, Mapping[str, float]] = {
    "Retrieve": {RETRIEVAL: 1.0},
    "ISREL": {RELEVANT: 1.0},
    "ISSUP": {FULLY: 1.0, PARTIALLY: 0.5},
    "ISUSE": {token: (weight + 1) / 2 for token, weight in zip(ISUSE, UTILITY_WEIGHTS, strict=True)},
}
"""What each token of a group counts in the probability that the group stands for, in [0, 1]; 0 where it is missing."""
ABSENT = -100.0
"""The log-probability of a watched token that a position does not report, as in the published short form."""

LogProbs = Mapping[str, float]


def probabilities(logprobs: LogProbs, group: Sequence[str]) -> list[float]:
    """Full-vocabulary probabilities of the tokens of ``group``, in its order."""
    return [math.exp(logprobs.get(token, ABSENT)) for token in group]


def distribution(logprobs: LogProbs, group: Sequence[str]) -> dict[str, float]:
    """The group's probabilities, normalised to sum to 1."""
    weights = probabilities(logprobs, group)
    total = sum(weights)
    return {token: weight / total for token, weight in zip(group, weights, strict=True)}


def reports(logprobs: LogProbs, group: Sequence[str]) -> bool:
    """Whether a position reports any token of ``group``; a top-k list may not."""
    return any(token in logprobs for token in group)


# --- scores --------------------------------------------------------------------------------------------------------------------


def isrel(logprobs: LogProbs) -> float:
    """p(Relevant) / (p(Relevant) + p(Irrelevant)), in [0, 1], at the first position after a passage."""
    irrelevant, relevant = probabilities(logprobs, ISREL)
    return relevant / (irrelevant + relevant)


def issup(logprobs: LogProbs) -> float:
    """(p(Fully) + p(Partially) / 2) over the group, in [0, 1], at a segment's first ISSUP token."""
    full, partial, none = probabilities(logprobs, ISSUP)
    total = full + partial + none
    return full / total + 0.5 * (partial / total)


def isuse(logprobs: LogProbs) -> float:
    """The expected utility over the group, in [-1, 1], at a segment's first ISUSE token."""
    utilities = probabilities(logprobs, ISUSE)
    total = sum(utilities)
    return sum(weight * (p / total) for weight, p in zip(UTILITY_WEIGHTS, utilities, strict=True))


def sequence_term(logprob: float, count: int) -> float:
    """exp of the mean log-probability of ``count`` tokens, in [0, 1]; 0 for none."""
    return math.exp(logprob / count) if count else 0.0


def segment_score(critique: Critique, weights: Weights) -> float:
    """f = [sequence term] + w_rel·ISREL + w_sup·ISSUP + w_use·ISUSE (paper, eq. 4) + w_ret·(the passage's retrieval score)."""
    first = critique.sequence if weights.sequence else 0.0
    reflected = first + weights.rel * critique.isrel + weights.sup * critique.issup + weights.use * critique.isuse
    return reflected + weights.ret * critique.retrieval


def path_score(segment_scores: Sequence[float]) -> float:
    """A path's score is the mean of its segments' scores, so that answers of different lengths compare fairly; 0 for none."""
    return sum(segment_scores) / len(segment_scores) if segment_scores else 0.0


def score_bound(critique: Critique, weights: Weights, sequence: float = 1.0) -> float:
    """The upper bound of ``segment_score``, given the scores that ``critique`` has so far, its retrieval score included.

    Every unknown score counts as its maximum, 1; ``sequence`` bounds the sequence term. Sound because weights are non-negative.
    """
    known = critique.distributions
    best = Critique(
        isrel=critique.isrel if "ISREL" in known else 1.0,
        issup=critique.issup if "ISSUP" in known else 1.0,
        isuse=critique.isuse if "ISUSE" in known else 1.0,
        sequence=sequence,
        retrieval=critique.retrieval,
    )
    return segment_score(best, weights)


def expected_score(critique: Critique, weights: Weights) -> float:
    """An estimate of ``segment_score`` from the ISREL in ``critique``: relevant passages mostly give supported and useful
    segments. It decides only the order of work."""
    good = 0.9 * critique.isrel if "ISREL" in critique.distributions else 0.9
    return segment_score(replace(critique, issup=good, isuse=good, sequence=0.8), weights)


def sequence_bound(logprob: float, max_tokens: int) -> float:
    """The upper bound of the sequence term after tokens of summed ``logprob``: many further tokens of probability 1."""
    return sequence_term(min(logprob, 0.0), max_tokens)


def check_weights(weights: Weights) -> Weights:
    """Rejects negative or non-finite weights: the bounds of pruning, and the meaning of a weight, need them non-negative."""
    for name in ("rel", "sup", "use", "ret"):
        value = getattr(weights, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"w_{name} is {value}, but a weight is a finite number of at least 0", f"pass --w-{name} 1.0")
    return weights


# --- reading a generated segment -----------------------------------------------------------------------------------------------


def first_of(tokens: Iterable[Token], group: Sequence[str]) -> LogProbs | None:
    """The log-probabilities of ``group`` at the position of its first control token, recognised by id.

    The token's own log-probability is always known, even if the engine reports no other.
    """
    for token in tokens:
        if token.control is not None and token.control in group:
            return {token.control: token.logprob, **token.watched}
    return None


def critique(tokens: Sequence[Token], opening: Critique | None = None) -> Critique:
    """The critique of the generated ``tokens`` of one segment.

    ISREL comes from ``opening`` where the passage was judged beforehand, otherwise from the first position if that reports it.
    ISSUP and ISUSE come from the segment's first token of that group; without one they count as 0, which is common.
    """
    found: dict[str, Mapping[str, float]] = dict(opening.distributions) if opening else {}
    rel = opening.isrel if opening else 0.0
    if opening is None and tokens and reports(tokens[0].watched, ISREL):
        rel, found["ISREL"] = isrel(tokens[0].watched), distribution(tokens[0].watched, ISREL)
    sup = use = 0.0
    if supported := first_of(tokens, ISSUP):
        sup, found["ISSUP"] = issup(supported), distribution(supported, ISSUP)
    if useful := first_of(tokens, ISUSE):
        use, found["ISUSE"] = isuse(useful), distribution(useful, ISUSE)
    sequence = sequence_term(sum(token.logprob for token in tokens), len(tokens))
    return replace(opening or Critique(), isrel=rel, issup=sup, isuse=use, sequence=sequence, distributions=found)


def temper(token: Token, temperatures: Mapping[str, float], biases: Mapping[str, float]) -> Token:
    """``token`` with the log-probabilities of each group divided by its temperature (> 0), and moved by its bias times what the
    token is worth: Platt scaling of the group's probability.

    Only ratios within a group are ever read, so the missing normalisation does not matter. Nothing named: the same token.
    """
    if not (temperatures or biases):
        return token
    watched = dict(token.watched)
    for group in temperatures.keys() | biases.keys():
        for name in GROUPS[group]:
            if name in watched:
                shift = biases.get(group, 0.0) * WORTH[group].get(name, 0.0)
                watched[name] = watched[name] / temperatures.get(group, 1.0) + shift
    return replace(token, watched=watched)


def verdict(critique: Critique, group: str) -> str | None:
    """The most likely token of ``group`` ("ISREL", "ISSUP", "ISUSE"), None if the segment carries none."""
    found = critique.distributions.get(group)
    return max(found, key=lambda token: found[token]) if found else None


def text_of(tokens: Iterable[Token]) -> str:
    """The words of ``tokens`` without the control tokens."""
    return "".join(token.text for token in tokens if token.control is None).strip()


# --- deciding ------------------------------------------------------------------------------------------------------------------


def p_retrieve(logprobs: LogProbs) -> float:
    """p(Retrieval) / (p(Retrieval) + p(No Retrieval)), in [0, 1]: of probabilities, not of their logarithms."""
    none, retrieve = math.exp(logprobs.get(NO_RETRIEVAL, ABSENT)), math.exp(logprobs.get(RETRIEVAL, ABSENT))
    return retrieve / (none + retrieve)


def decide(logprobs: LogProbs, threshold: float, has_evidence: bool) -> Decision:
    """Whether the next segment needs evidence, from the Retrieve tokens at the position where it begins.

    The current evidence is used again when `[Continue to Use Evidence]` is the likeliest of the three; otherwise passages are
    retrieved when ``p_retrieve`` is above ``threshold``. If the position reports no Retrieve token, there is no probability, and
    passages are retrieved.
    """
    if not reports(logprobs, RETRIEVE):
        return Decision("retrieve")
    probability = p_retrieve(logprobs)
    none, retrieve, go_on = probabilities(logprobs, RETRIEVE)
    if has_evidence and CONTINUE in logprobs and go_on > max(none, retrieve):
        return Decision("continue", probability)
    return Decision("retrieve" if probability > threshold else "none", probability)


# --- choosing ------------------------------------------------------------------------------------------------------------------


def vote(scored: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Closed sets (multiple choice, true or false): the summed score of each distinct answer, stripped, in order of arrival."""
    totals: dict[str, float] = {}
    for answer, score in scored:
        totals[answer.strip()] = totals.get(answer.strip(), 0.0) + score
    return totals


def evidence_means(critiques: Iterable[Critique]) -> tuple[float, float] | None:
    """Mean ISREL and ISSUP over the segments' critiques that carry ISREL, None where no segment was written from a passage.

    A segment from a passage without ISSUP counts as 0: the model did not judge its support.
    """
    judged = [critique for critique in critiques if "ISREL" in critique.distributions]
    if not judged:
        return None
    return sum(c.isrel for c in judged) / len(judged), sum(c.issup for c in judged) / len(judged)


def confidence(segments: Iterable[Segment], weights: ConfidenceWeights) -> float | None:
    """The probability, in [0, 1], that an answer is right, from its first segment that was written from a passage; None if there
    is none. Evidence that the segment lacks, ISUSE or the similarity, moves nothing."""
    first = next((s.critique for s in segments if "ISREL" in s.critique.distributions), None)
    if first is None:
        return None
    odds = weights.bias + weights.isrel * log_odds(first.isrel)
    if "ISUSE" in first.distributions:
        odds += weights.isuse * log_odds((first.isuse + 1) / 2)
    if first.similarity is not None:
        odds += weights.similarity * (first.similarity - weights.centre)
    return (1 + math.tanh(odds / 2)) / 2  # 1 / (1 + exp(-odds)), which overflows


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), of a probability that is cut to [1e-4, 1 - 1e-4]."""
    cut = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(cut / (1 - cut))


def doubtful(segments: Sequence[Segment], options: SearchOptions) -> bool:
    """Whether to abstain: the answer's mean ISREL, ISSUP or ISUSE, the ISREL of its first segment, or its confidence lies below
    its threshold.

    It depends on probabilities, not on wording. An answer without evidence is never doubtful, and ISUSE counts only if a segment
    has it. The confidence does not count for a closed set of answers: one of them is right.
    """
    scores = evidence_means(segment.critique for segment in segments)
    if scores is None:
        return False
    uses = [segment.critique.isuse for segment in segments if "ISUSE" in segment.critique.distributions]
    useless = bool(uses) and sum(uses) / len(uses) < options.abstain_isuse
    sure = confidence(segments, options.confidence)
    unsure = sure is not None and sure < options.abstain_confidence and not options.choices
    return unsure or (
        strays(segments[0].critique, options) or useless or scores[0] < options.abstain_isrel or scores[1] < options.abstain_issup
    )


def strays(critique: Critique, options: SearchOptions) -> bool:
    """Whether the passage of a first segment is too irrelevant for the answer to begin with it."""
    return "ISREL" in critique.distributions and critique.isrel < options.abstain_isrel


def supported(critique: Critique, required: Support | None) -> bool:
    """The hard constraint (paper, 3.3), on a segment written from new evidence: its likeliest ISSUP token must be good enough."""
    if required is None or "ISREL" not in critique.distributions:
        return True
    return verdict(critique, "ISSUP") in {"full": (FULLY,), "partial": (FULLY, PARTIALLY)}[required]
