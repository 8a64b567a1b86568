"""The search on a scripted model: what it asks for, what it keeps, and that pruning changes nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selfrag.agent import Agent
from selfrag.algorithm.certain import Certain
from selfrag.algorithm.joined import asks_for_one, asks_for_several, asks_to_explain, sides
from selfrag.algorithm.reflection import (
    CONTINUE,
    END_PARAGRAPH,
    FULLY,
    IRRELEVANT,
    ISREL,
    ISSUP,
    ISUSE,
    NO_RETRIEVAL,
    NO_SUPPORT,
    PARTIALLY,
    RELEVANT,
    RETRIEVAL,
    RETRIEVE,
)
from selfrag.answers import trace
from selfrag.answers.decode import answer_from, event_from
from selfrag.answers.rescore import rescore
from selfrag.answers.schema import answer_json
from selfrag.errors import EngineError, UsageError
from selfrag.reflectors.tokens import TokenReflector
from selfrag.types import (
    Answer,
    ConfidenceWeights,
    Control,
    Corrected,
    Event,
    Expanded,
    Generated,
    Joined,
    Mode,
    Opened,
    Passage,
    Prompt,
    Pruned,
    Reconsidered,
    Request,
    Retrieved,
    SearchOptions,
    Token,
    Weights,
)
from tests.fake_retriever import FakeRetriever
from tests.scripted_engine import END, ScriptedEngine, control, prompt_text, words

ASK = SearchOptions(mode="always", k=3, max_segments=1)


def passage(n: int, text: str = "", score: float = 0.0) -> Passage:
    return Passage(chunk=f"c{n}", title=f"T{n}", text=text or f"passage {n}", source=f"d{n}.md", lines=(1, 2), score=score)


class Shelf(FakeRetriever):
    """The same passages for every query."""

    def __init__(self, *passages: Passage) -> None:
        super().__init__(lambda _: list(passages), "shelf")


def logs(group: Sequence[str], *probabilities: float) -> dict[str, float]:
    return {token: math.log(p) for token, p in zip(group, probabilities, strict=True)}


def judged(rel: float) -> Token:
    """The first token after a passage: `[Relevant]` with probability ``rel``."""
    return control(RELEVANT if rel >= 0.5 else IRRELEVANT, logs(ISREL, 1 - rel, rel))


def backed(full: float, partial: float = 0.0) -> Token:
    rest = max(1 - full - partial, 1e-9)
    said = max((FULLY, full), (PARTIALLY, partial), (NO_SUPPORT, rest), key=lambda pair: pair[1])[0]
    return control(said, logs(ISSUP, max(full, 1e-9), max(partial, 1e-9), rest))


def useful(k: int) -> Token:
    return control(ISUSE[k - 1], logs(ISUSE, *(0.96 if i == k else 0.01 for i in range(1, 6))))


def then(token: str, retrieve: float = 0.01, none: float = 0.01) -> Token:
    return control(token, logs(RETRIEVE, none, retrieve, 1 - none - retrieve))


def opened(request: Request) -> tuple[Prompt, int]:
    """The prompt up to where the segment begins, and how many of its tokens are there already: its opening one, or none."""
    last = request.prompt[-1]
    if isinstance(last, Generated) or (isinstance(last, Control) and last.token in ISREL):
        return request.prompt[:-1], 1
    return request.prompt, 0


def model(scripts: dict[str, Sequence[Token]]) -> ScriptedEngine:
    """A model that writes, after a prompt that ends with a key of ``scripts``, that key's tokens; longer keys go first."""

    def reply(request: Request) -> Sequence[Token]:
        prompt, done = opened(request)
        text = prompt_text(prompt)
        key = max((key for key in scripts if text.endswith(key)), key=len)
        return [*scripts[key], END][done:]

    return ScriptedEngine(reply)


def after(n: int) -> str:
    return f"T{n}\npassage {n}{END_PARAGRAPH}"


def agent(engine: ScriptedEngine, shelf: Shelf | None, options: SearchOptions = ASK) -> Agent:
    return Agent(TokenReflector(engine), shelf, options)


# --- short form ----------------------------------------------------------------------------------------------------------------


async def test_the_best_scored_passage_wins() -> None:
    """The answer is the candidate with the largest score, with its citation and critique."""
    engine = model({after(1): [judged(0.6), *words("one"), backed(0.2)], after(2): [judged(0.9), *words("two"), backed(0.9)]})
    answer = await agent(engine, Shelf(passage(1), passage(2))).ask("q?")
    assert (answer.text, answer.status, answer.evidence[0].chunk) == ("two", "answered", "c2")
    critique = answer.segments[0].segment.critique
    assert critique.isrel == pytest.approx(0.9)
    assert critique.issup == pytest.approx(0.9)


async def test_the_earlier_passage_wins_a_tie() -> None:
    """Of two candidates with equal scores the one that was retrieved first is the answer."""
    same = [judged(0.9), *words("w"), backed(0.9)]
    engine = model({after(1): [same[0], *words("first"), same[2]], after(2): [same[0], *words("second"), same[2]]})
    assert (await agent(engine, Shelf(passage(1), passage(2))).ask("q?")).text == "first"


@pytest.mark.parametrize(("p_yes", "retrieves"), [(0.9, True), (0.21, True), (0.19, False), (0.01, False)])
async def test_retrieval_is_decided_on_probabilities(p_yes: float, retrieves: bool) -> None:
    """Evidence is retrieved when p(Retrieval) / (p(Retrieval) + p(No Retrieval)) exceeds the threshold: .9 retrieves."""
    first = control(RETRIEVAL, logs(RETRIEVE, 1 - p_yes, p_yes, 0.001))
    engine = model(
        {
            "Response:\n": [first],
            after(1): [judged(0.9), *words("found"), backed(0.9)],
            NO_RETRIEVAL: [*words("known"), useful(5)],
        }
    )
    answer = await agent(engine, Shelf(passage(1)), replace(ASK, mode="adaptive")).ask("q?")
    assert answer.text == ("found" if retrieves else "known")
    assert answer.decision.probability == pytest.approx(p_yes)


async def test_a_comparison_is_answered_from_evidence() -> None:
    """Whatever the model decides, a question with two sides searches for passages, except in mode "never"."""
    engine = model(
        {
            "Response:\n": [control(RETRIEVAL, logs(RETRIEVE, 0.9, 0.1, 0.001))],
            after(1): [judged(0.9), *words("found"), backed(0.9)],
            NO_RETRIEVAL: [*words("known"), useful(5)],
        }
    )

    async def said(question: str, mode: Mode) -> str:
        return (await agent(engine, Shelf(passage(1)), replace(ASK, mode=mode)).ask(question)).text

    assert await said("Compare the kite and the bird.", "adaptive") == "found"
    assert await said("Draw the kite and the bird.", "adaptive") == "known"
    assert await said("Compare the kite and the bird.", "never") == "known"


async def test_utility_counts_with_its_weight() -> None:
    """ISUSE and the w_* weights enter the score: with w_use 0 the other candidate wins."""
    engine = model({after(1): [judged(0.9), *words("useful"), useful(5)], after(2): [judged(0.95), *words("useless"), useful(1)]})
    shelf = Shelf(passage(1), passage(2))
    assert (await agent(engine, shelf).ask("q?")).text == "useful"
    unused = replace(ASK, weights=Weights(use=0.0))
    assert (await agent(engine, shelf, unused).ask("q?")).text == "useless"


async def test_the_sequence_term_can_be_left_out() -> None:
    """A hesitant sentence loses with the sequence term and wins without it."""
    engine = model(
        {after(1): [judged(0.9), *words("sure", -0.1), backed(0.5)], after(2): [judged(0.91), *words("unsure", -5), backed(0.5)]}
    )
    shelf = Shelf(passage(1), passage(2))
    assert (await agent(engine, shelf).ask("q?")).text == "sure"
    without = replace(ASK, weights=Weights(sequence=False))
    assert (await agent(engine, shelf, without).ask("q?")).text == "unsure"


async def test_equal_answers_of_a_closed_set_add_up() -> None:
    """Two middling votes for one choice beat a single good one for another."""
    engine = model(
        {
            after(1): [judged(0.9), *words("no"), backed(0.9)],
            after(2): [judged(0.6), *words("Yes."), backed(0.6)],
            after(3): [judged(0.6), *words("yes"), backed(0.5)],
        }
    )
    shelf = Shelf(passage(1), passage(2), passage(3))
    answer = await agent(engine, shelf, replace(ASK, choices=("yes", "no"))).ask("q?")
    assert answer.text == "yes"
    assert answer.expanded == 3


async def test_a_strict_model_is_asked_to_write_from_what_is_relevant_enough() -> None:
    """At or above ``relevant_above`` the words follow `[Relevant]`, below it the model's own `[Irrelevant]`."""
    engine = model({after(1): [judged(0.4), *words("an answer"), backed(0.9)]})
    for above, wanted in ((0.3, RELEVANT), (0.5, IRRELEVANT)):
        reflector = TokenReflector(engine, relevant_above=above)
        answer = await Agent(reflector, Shelf(passage(1)), ASK).ask("q?")
        assert engine.requests[-1].prompt[-1] == Control(wanted)
        assert answer.segments[0].segment.critique.isrel == pytest.approx(0.4)


# --- long form -----------------------------------------------------------------------------------------------------------------

LONG = SearchOptions(mode="adaptive", k=2, max_segments=3, beam_width=2)


async def test_a_later_segment_retrieves_with_the_question_and_the_last_segment() -> None:
    """The second retrieval's query is the question and what was said last."""
    engine = model(
        {
            "Response:\n": [then(RETRIEVAL, 0.9)],
            after(1): [judged(0.9), *words("Ann wrote it."), backed(0.9), then(RETRIEVAL, 0.9)],
            f"[Fully supported][Retrieval]<paragraph>{after(1)}": [judged(0.9), *words("In 1900."), backed(0.9), useful(5)],
        }
    )
    shelf = Shelf(passage(1))
    answer = await agent(engine, shelf, LONG).ask("Who and when?")
    assert shelf.queries == ["Who and when?", "Who and when? Ann wrote it."]
    assert answer.text == "Ann wrote it. In 1900."


async def test_continuing_keeps_the_passage_and_its_citation() -> None:
    """`[Continue to Use Evidence]` reads no new passage, cites the old one, and stays out of the answer's words."""
    engine = model(
        {
            after(1): [judged(0.9), *words("One."), backed(0.9), then(CONTINUE)],
            CONTINUE: [*words("Two."), useful(5)],
            "Response:\n": [then(RETRIEVAL, 0.9)],
        }
    )
    shelf = Shelf(passage(1))
    answer = await agent(engine, shelf, LONG).ask("q?")
    assert answer.text == "One. Two."
    assert [c.citation for c in answer.segments] == [1, 1]
    assert "ISREL" not in answer.segments[1].segment.critique.distributions
    assert len(shelf.queries) == 1


async def test_a_candidate_sees_its_own_parent_alone() -> None:
    """No candidate's prompt holds a sibling's words: each second segment follows its own first one."""
    engine = model(
        {
            after(1): [judged(0.9), *words("alpha"), backed(0.9), then(CONTINUE)],
            after(2): [judged(0.9), *words("beta"), backed(0.9), then(CONTINUE)],
            f"alpha{FULLY}{CONTINUE}": [*words("after alpha"), useful(5)],
            f"beta{FULLY}{CONTINUE}": [*words("after beta"), useful(5)],
            "Response:\n": [then(RETRIEVAL, 0.9)],
        }
    )
    events: list[Event] = []
    await agent(engine, Shelf(passage(1), passage(2)), LONG).ask("q?", observer=events.append)
    second = {e.segment.text for e in events if isinstance(e, Expanded) and e.step == 1}
    assert second == {"after alpha", "after beta"}


async def test_a_finished_answer_is_not_lost_when_another_path_goes_deeper() -> None:
    """A finished path with the better mean score wins over a longer, worse one."""
    engine = model(
        {
            after(1): [judged(0.99), *words("done"), backed(0.99), useful(5)],
            after(2): [judged(0.9), *words("more"), backed(0.5), then(CONTINUE)],
            CONTINUE: [*words("and more", -2)],
            "Response:\n": [then(RETRIEVAL, 0.9)],
        }
    )
    answer = await agent(engine, Shelf(passage(1), passage(2)), LONG).ask("q?")
    assert answer.text == "done"


async def test_a_repeated_sentence_ends_the_answer() -> None:
    """A segment that says nothing new ends its path with what was there before."""
    engine = model(
        {
            after(1): [judged(0.9), *words("Same."), backed(0.9), then(CONTINUE)],
            CONTINUE: [*words("Same."), then(CONTINUE)],
            "Response:\n": [then(RETRIEVAL, 0.9)],
        }
    )
    answer = await agent(engine, Shelf(passage(1)), replace(LONG, max_segments=9)).ask("q?")
    assert answer.text == "Same."


async def test_citation_numbers_are_positions_in_the_list() -> None:
    """Numbers follow first use even where a segment has no citation, and the last character is never cut."""
    engine = model(
        {
            "Response:\n": [then(RETRIEVAL, 0.9)],
            after(2): [judged(0.9), *words("No final period"), backed(0.9), then(NO_RETRIEVAL, 0.001, 0.9)],
            NO_RETRIEVAL: [*words("Known"), then(RETRIEVAL, 0.9)],
            f"Known[Retrieval]<paragraph>{after(2)}": [judged(0.9), *words("Again"), backed(0.9), useful(5)],
        }
    )
    answer = await agent(engine, Shelf(passage(2)), LONG).ask("q?")
    assert answer.text == "No final period Known Again"
    assert [c.citation for c in answer.segments] == [1, None, 1]
    assert [p.chunk for p in answer.evidence] == ["c2"]


# --- what must not crash -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shelf", [None, Shelf()])
async def test_no_passage_is_an_abstention(shelf: Shelf | None) -> None:
    """Nothing to read is said so, and nothing is made up."""
    answer = await agent(model({"": []}), shelf).ask("q?")
    assert (answer.status, answer.text, answer.evidence) == ("abstained", "", ())
    assert "no passage" in answer.warnings[0]


async def test_a_missing_isrel_token_counts_nothing() -> None:
    """A segment without ISREL and ISSUP scores its sequence term alone, never a log-probability as a probability."""
    engine = model({after(1): words("plain", -1.0)})
    answer = await agent(engine, Shelf(passage(1))).ask("q?")
    assert answer.score == pytest.approx(math.exp(-0.5))  # the word and the end of sequence
    assert answer.segments[0].segment.critique.distributions == {}


async def test_certain_probabilities_do_not_divide_by_zero() -> None:
    """Both probabilities equal to 1, as a broken server reports them, give one half."""
    engine = model({after(1): [control(RELEVANT, {RELEVANT: 0.0, IRRELEVANT: 0.0}), *words("w"), useful(5)]})
    answer = await agent(engine, Shelf(passage(1))).ask("q?")
    assert answer.segments[0].segment.critique.isrel == 0.5


async def test_literal_tokens_in_generated_text_are_words() -> None:
    """Text that reads `[Fully supported]` gives no support; only the control token does."""
    engine = model({after(1): [judged(0.9), *words("says [Fully supported]")]})
    answer = await agent(engine, Shelf(passage(1))).ask("q?")
    assert answer.text == "says [Fully supported]"
    assert answer.segments[0].segment.critique.issup == 0


async def test_an_engine_failure_is_raised_once() -> None:
    """The first error ends the question as it is, and the other candidates with it."""

    def reply(request: Request) -> Sequence[Token]:
        if "passage 2" in prompt_text(request.prompt):
            raise EngineError("out of memory")
        return [judged(0.9), *words("w"), END][: request.max_tokens]

    with pytest.raises(EngineError, match="out of memory"):
        await agent(ScriptedEngine(reply), Shelf(passage(1), passage(2))).ask("q?")


@pytest.mark.parametrize(
    "bad", [{"k": 0}, {"beam_width": 0}, {"threshold": 1.5}, {"weights": Weights(sup=-1)}, {"weights": Weights(rel=math.nan)}]
)
async def test_impossible_options_are_refused(bad: dict[str, object]) -> None:
    """Options that cannot be are a usage error before anything is asked."""
    engine = model({"": []})
    with pytest.raises(UsageError):
        await agent(engine, None, replace(ASK, **bad)).ask("q?")  # type: ignore[arg-type]
    assert engine.requests == []


async def test_an_empty_question_is_refused() -> None:
    """White space is no question."""
    with pytest.raises(UsageError):
        await agent(model({"": []}), None).ask("  \n")


# --- abstention and constraint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rel", "sup", "status"), [(0.9, 0.9, "answered"), (0.3, 0.9, "abstained"), (0.9, 0.2, "abstained")])
async def test_abstention_is_decided_on_probabilities(rel: float, sup: float, status: str) -> None:
    """An answer below the fitted ISREL or ISSUP threshold is withheld, and its evidence is shown all the same."""
    engine = model({after(1): [judged(rel), *words("claim"), backed(sup), useful(5)]})
    answer = await agent(engine, Shelf(passage(1)), replace(ASK, abstain_isrel=0.5, abstain_issup=0.4)).ask("q?")
    assert answer.status == status
    assert [p.chunk for p in answer.evidence] == ["c1"]
    assert answer.text == ("claim" if status == "answered" else "")


@pytest.mark.parametrize(("cosine", "status"), [(0.9, "answered"), (0.1, "abstained"), (None, "answered")])
async def test_the_cosine_of_the_passage_counts_in_the_confidence(cosine: float | None, status: str) -> None:
    """The answer tells its confidence; what the search found far from the question is withheld, the same in JSON and back."""
    engine = model({after(1): [judged(0.9), *words("claim"), backed(0.9), useful(5)]})
    options = replace(ASK, confidence=ConfidenceWeights(similarity=10.0, centre=0.5), abstain_confidence=0.5)
    answer = await agent(engine, Shelf(replace(passage(1), dense=cosine)), options).ask("q?")
    assert answer.status == status
    assert answer.segments[0].segment.critique.similarity == cosine
    assert ((answer.confidence or 0.0) >= 0.5) == (status == "answered")
    assert answer_from(answer_json(answer), options).confidence == answer.confidence


@pytest.mark.parametrize(("required", "text"), [(None, "wrong"), ("partial", "half"), ("full", "true")])
async def test_required_support_drops_candidates(required: str | None, text: str) -> None:
    """A candidate whose likeliest ISSUP token is not good enough cannot win, whatever its score."""
    engine = model(
        {
            after(1): [judged(0.99), *words("wrong"), backed(0.45), useful(5)],
            after(2): [judged(0.6), *words("half"), backed(0.05, 0.9), useful(4)],
            after(3): [judged(0.5), *words("true"), backed(0.6), useful(1)],
        }
    )
    shelf = Shelf(passage(1), passage(2), passage(3))
    answer = await agent(engine, shelf, replace(ASK, require_support=required)).ask("q?")  # type: ignore[arg-type]
    assert answer.text == text


async def test_everything_dropped_is_an_abstention_with_the_nearest_evidence() -> None:
    """If no candidate is supported enough there is no answer, and the passages are shown, the most relevant first."""
    engine = model({after(1): [judged(0.2), *words("a"), backed(0.1)], after(2): [judged(0.7), *words("b"), backed(0.1)]})
    answer = await agent(engine, Shelf(passage(1), passage(2)), replace(ASK, require_support="full")).ask("q?")
    assert answer.status == "abstained"
    assert [p.chunk for p in answer.evidence] == ["c2", "c1"]


# --- pruning -------------------------------------------------------------------------------------------------------------------


async def test_the_search_score_of_a_passage_counts_by_its_weight() -> None:
    """With ``w_ret`` the passage that was found first can outweigh one that the model judges a little better; without, not."""
    engine = model(
        {
            after(1): [judged(0.7), *words("found"), backed(0.9), useful(5)],
            after(2): [judged(0.9), *words("judged"), backed(0.9), useful(5)],
        }
    )
    asked = agent(engine, Shelf(passage(1, score=1.0), passage(2, score=0.4)))
    assert (await asked.ask("q?")).text == "judged"
    answer = await asked.ask("q?", replace(asked.options, weights=Weights(ret=1.0)))
    assert (answer.text, answer.segments[0].segment.critique.retrieval) == ("found", 1.0)


# --- a second look at the sentences -------------------------------------------------------------------------------------------

BRIDGE = "The bridge crosses the Rhine here. It was opened to traffic in 1847. Painters came to see it."
LEAD, FOUND, REST = (f"{sentence}." for sentence in BRIDGE.removesuffix(".").split(". "))


async def looked_again(written: int, threshold: float, relevant: float = 0.9) -> tuple[Answer, list[Event]]:
    """Asks a model that writes the lead with utility ``written``, and judges the second sentence useful, the others useless."""
    end = f"T1\n{BRIDGE}{END_PARAGRAPH}"
    scripts: dict[str, Sequence[Token]] = {end: [judged(relevant), *words("lead"), backed(0.9), useful(written)]}
    for sentence, use in ((LEAD, 2), (FOUND, 5), (REST, 1)):
        scripts |= {f"{RELEVANT}{sentence}": [backed(0.95)], f"{RELEVANT}{sentence}{FULLY}": [useful(use)]}
    events: list[Event] = []
    options = replace(ASK, reconsider_isuse=threshold, abstain_isrel=0.2)
    answer = await agent(model(scripts), Shelf(passage(1, BRIDGE)), options).ask("q?", observer=events.append)
    return answer, events


async def test_an_answer_of_little_use_gives_way_to_the_sentence_that_answers() -> None:
    """The sentences of the passage are judged, the best one is the answer, and the search says so."""
    answer, events = await looked_again(written=2, threshold=0.3)
    assert answer.text == FOUND
    assert answer.segments[0].segment.critique.isrel == pytest.approx(0.9)
    assert [(e.sentences, e.isuse < 0) for e in events if isinstance(e, Reconsidered)] == [(3, True)]


@pytest.mark.parametrize(("written", "threshold", "relevant"), [(5, 0.3, 0.9), (2, -1.0, 0.9), (2, 0.3, 0.1)])
async def test_no_second_look_without_a_reason(written: int, threshold: float, relevant: float) -> None:
    """Nothing is judged again where the answer is useful, the option is off, or the passage is irrelevant."""
    answer, events = await looked_again(written, threshold, relevant)
    assert FOUND not in answer.text
    assert sum(e.sentences for e in events if isinstance(e, Reconsidered)) == 0


async def test_nothing_is_certain_before_the_second_look() -> None:
    """What is shown while the search goes on is never an answer that the second look replaces."""
    answer, events = await looked_again(written=2, threshold=0.3)
    certain = Certain(answer.options)
    shown = []
    for event in events:
        certain(event)
        shown.append([cited.segment.text for cited in certain.segments])
    assert all(texts in ([], [FOUND]) for texts in shown)
    assert shown[-1] == [FOUND]


async def test_the_stored_search_gives_the_same_answer_again() -> None:
    """A trace of a second look is read back, and re-scored with the same weights it gives the same answer."""
    answer, events = await looked_again(written=2, threshold=0.3)
    stored = trace.read(trace.trace_json(answer, events))
    assert rescore(stored, answer.options.weights)["answer"] == FOUND
    assert [event_from(event, stored.passages) for event in stored.events if event["event"] == "reconsidered"] == [
        e for e in events if isinstance(e, Reconsidered)
    ]


BUILD = "Some words.\n\nTo build it:\n\n```sh\nmake all\n```\n"


@pytest.mark.parametrize("prune", [True, False])
async def test_words_that_lead_to_code_are_judged_with_it(prune: bool) -> None:
    """The critique of the lead alone, which says nothing yet, neither counts nor makes the search give it up."""
    whole = "To build it:\n\n```sh\nmake all\n```"
    engine = model(
        {
            f"T1\n{BUILD}{END_PARAGRAPH}": [judged(0.9), *words("To build it:"), backed(0.5), useful(1)],
            f"{RELEVANT}{whole}": [backed(0.95)],
            f"{RELEVANT}{whole}{FULLY}": [useful(5)],
            after(2): [judged(0.8), *words("other"), backed(0.9), useful(3)],
        }
    )
    options = replace(ASK, prune=prune)
    answer = await agent(engine, Shelf(passage(1, BUILD), passage(2)), options).ask("how is it built?")
    critique = answer.segments[0].segment.critique
    assert (answer.text, critique.isrel, critique.issup) == (whole, pytest.approx(0.9), pytest.approx(0.95))
    assert critique.isuse > 0.9


POINTING = "Kites fly at night. See the guide on kites for more details."


@pytest.mark.parametrize("prune", [True, False])
async def test_a_sentence_that_only_points_elsewhere_gives_way_to_its_passage(prune: bool) -> None:
    """In its place the best other sentence of the passage is judged; to a question that asks where, it is the answer."""
    told, pointer = POINTING.split(". ")[0] + ".", POINTING.split(". ")[1]
    engine = model(
        {
            f"T1\n{POINTING}{END_PARAGRAPH}": [judged(0.9), *words(pointer), backed(0.5), useful(1)],
            f"{RELEVANT}{told}": [backed(0.95)],
            f"{RELEVANT}{told}{FULLY}": [useful(5)],
            after(2): [judged(0.8), *words("other"), backed(0.9), useful(3)],
        }
    )
    shelf, options = Shelf(passage(1, POINTING), passage(2)), replace(ASK, prune=prune)
    assert (await agent(engine, shelf, options).ask("how?")).text == told
    assert (await agent(engine, shelf, options).ask("where is it?")).text == "other"


# --- an answer from several passages ------------------------------------------------------------------------------------------


async def from_several(
    question: str, second: int = 5, other: str = "other", third: int = 5, instruction: str | None = None, **options: Any
) -> Answer:
    """Asks a model that ends its answer after one segment; of the second passage it writes something of utility ``second``."""
    engine = model(
        {
            after(1): [judged(0.9), *words("first"), backed(0.95), useful(5)],
            after(2): [judged(0.8), *words(other), backed(0.9), useful(second)],
            after(3): [judged(0.7), *words("third"), backed(0.9), useful(third)],
        }
    )
    asked = replace(ASK, **{"max_segments": 4, "beam_width": 2, "join_isuse": 0.6, **options})
    events: list[Event] = []
    answer = await agent(engine, Shelf(passage(1), passage(2), passage(3)), asked).ask(
        question, observer=events.append, instruction=instruction
    )
    stored = trace.read(trace.trace_json(answer, events))
    assert rescore(stored, answer.options.weights)["answer"] == answer.text
    assert [event_from(e, stored.passages) for e in stored.events if e["event"] == "joined"] == [
        e for e in events if isinstance(e, Joined)
    ]
    return answer


async def test_an_open_question_is_answered_from_several_passages() -> None:
    """What the beam keeps from another passage is added, cited by itself; the stored search gives the same answer again."""
    answer = await from_several("why?")
    assert answer.text == "first other"
    assert [cited.citation for cited in answer.segments] == [1, 2]
    assert (await from_several("why?", beam_width=3)).text == "first other third"
    assert (await from_several("why?", beam_width=3, max_segments=2)).text == "first other"
    assert (await from_several("why?", instruction="Answer why in a word.")).text == "first"


@pytest.mark.parametrize(
    ("question", "second", "text", "options"),
    [
        ("when?", 5, "other", {}),
        ("why?", 3, "other", {}),
        ("why?", 5, "first", {}),
        ("why?", 5, "other", {"join_isuse": 1.0}),
        ("why?", 5, "other", {"max_segments": 1}),
        ("why?", 5, "other", {"beam_width": 1}),
    ],
)
async def test_nothing_is_added_without_a_reason(question: str, second: int, text: str, options: dict[str, Any]) -> None:
    """Not to a single fact, nothing of little use, nothing said already, nothing where the option is off."""
    assert (await from_several(question, second, text, third=1, **options)).text == "first"


@pytest.mark.parametrize(
    ("question", "one"),
    [
        ("Who wrote it?", True),
        ("In which year was it built?", True),
        ("What colour is it?", True),
        ("What is the largest phylum of fungi?", True),
        ("Which medieval court chef wrote it?", True),
        ("How many are there?", True),
        ("Is it free?", True),
        ("Who were the first two people on the moon?", False),
        ("Which shells are supported?", False),
        ("What are workspaces?", False),
        ("What is the operation log?", False),
        ("Which Git features are not supported?", False),
        ("What is a lockfile?", False),
        ("How do I build it?", False),
        ("Why?", False),
        ("Compare a and b.", False),
    ],
)
def test_a_question_for_one_fact_is_told_by_its_first_words(question: str, one: bool) -> None:
    """Who, when, how many and yes or no ask for one thing; the plural, what is, how and why do not."""
    assert asks_for_one(question) == one


@pytest.mark.parametrize(
    ("question", "several"),
    [
        ("Who were the first two people on the moon?", True),
        ("What are the three branches of government?", True),
        ("Which two rivers meet there?", True),
        ("Name four planets.", True),
        ("Who are its two founders?", True),
        ("Which two-time champion won?", False),
        ("Who was the second of three sons?", False),
        ("What year did Seven come out?", False),
        ("How many are there?", False),
        ("Which rivers meet there?", False),
    ],
)
def test_a_question_for_several_things_is_told_by_its_first_words(question: str, several: bool) -> None:
    """A number after who, what, which or name asks for that many things; a number elsewhere does not."""
    assert asks_for_several(question) == several


async def test_several_things_may_stand_in_several_passages() -> None:
    """Where two are asked for, a sentence of another passage need only be useful in part; join_isuse 1 still adds nothing."""
    which = "Which two stand there?"
    assert (await from_several(which, second=3, third=1)).text == "first other"
    assert (await from_several("Which are there?", second=3, third=1)).text == "first"
    assert (await from_several(which, second=3, third=1, join_isuse=1.0)).text == "first"
    assert (await from_several(which, second=1, third=1)).text == "first"


@pytest.mark.parametrize(
    ("question", "explains"),
    [
        ("How do I build it?", True),
        ("Why is it slow?", True),
        ("What is the operation log?", True),
        ("What's a lockfile?", True),
        ("What are workspaces?", True),
        ("What is the purpose of the log?", True),
        ("Which shells are supported?", True),
        ("Compare a and b.", True),
        ("uv vs. pip", True),
        ("Who wrote it?", False),
        ("When was it built?", False),
        ("How many are there?", False),
        ("Is it free?", True),
        ("Can I mute others?", True),
        ("Was it built in 1889?", False),
        ("Did she write it?", False),
        ("What is the boiling point of water?", False),
        ("What did she write?", False),
        ("What was his profession?", False),
        ("The bridge was built in which year?", False),
    ],
)
def test_a_question_that_asks_to_explain_is_told_by_its_first_words(question: str, explains: bool) -> None:
    """How, why, what is, comparisons, and yes or no do; a property of a thing, what happened once, who, when and where do not."""
    assert asks_to_explain(question) == explains


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("What is the difference between a change ID and a commit ID?", ["What is change ID?", "What is commit ID?"]),
        ("Compare jj rebase and jj duplicate.", ["What is jj rebase?", "What is jj duplicate?"]),
        ("How does the formatter differ from Black?", ["What is formatter?", "What is Black?"]),
        ("noqa or per-file-ignores: which should I use?", ["What is noqa?", "What is per-file-ignores?"]),
        ("uv vs. pip", ["What is uv?", "What is pip?"]),
        ("Which is taller, the mill or the tower?", ["What is mill?", "What is tower?"]),
        ("Is the mill older than the tower?", ["What is mill?", "What is tower?"]),
        ("Is uv more reliable than pip?", ["What is uv?", "What is pip?"]),
        ("Does Peru have a larger area than Chile?", ["What is the area of Peru?", "What is the area of Chile?"]),
        ("Which bridge is longer, the old or the new bridge?", ["What is old?", "What is new bridge?"]),
        ("Is it true that the mill is older than the tower?", []),
        ("Is Neptune further from the Sun than Uranus?", ["What is Neptune?", "What is Uranus?"]),
        ("Was Edison born before Tesla?", ["What is Edison?", "What is Tesla?"]),
        ("Is the mill used rather than the tower?", []),
        ("Do I need more than one file?", []),
        ("What stands between the bridge and the mill?", []),
        ("How do I compare two files?", []),
    ],
)
def test_the_sides_of_a_question(question: str, asked: list[str]) -> None:
    """Questions that name two things ask for both."""
    assert list(sides(question)) == asked


def shelves(query: str) -> list[Passage]:
    return {"What is kite?": [passage(2)], "What is bird?": [passage(3)]}.get(query, [passage(1)])


async def both_sides(question: str, written: str, use: int = 5, bird: str = "the bird") -> tuple[Answer, list[Event]]:
    """Asks a model that writes ``written``, and of the sides "the kite", with utility ``use``, and ``bird``."""
    engine = model(
        {
            after(1): [judged(0.9), *words(written), backed(0.95), useful(5)],
            after(2): [judged(0.8), *words("the kite"), backed(0.9), useful(use)],
            after(3): [judged(0.7), *words(bird), backed(0.9), useful(5)],
        }
    )
    options, events = replace(ASK, max_segments=4, beam_width=2, join_isuse=0.6), list[Event]()
    answer = await Agent(TokenReflector(engine), FakeRetriever(shelves, "shelves"), options).ask(question, observer=events.append)
    return answer, events


@pytest.mark.parametrize(
    ("question", "written", "text"),
    [
        ("Compare kite and bird.", "first", "first the kite the bird"),
        ("Compare kite and bird.", "first kite", "first kite the bird"),
        ("Why kite and bird?", "first", "first"),
    ],
)
async def test_each_side_of_a_question_is_looked_for(question: str, written: str, text: str) -> None:
    """What a search of its own finds on a side that the answer does not name is added, with its citation; the stored search gives
    the same answer again, and what is shown while it goes on only grows."""
    answer, events = await both_sides(question, written)
    assert answer.text == text
    assert len({cited.citation for cited in answer.segments}) == len(answer.segments)
    stored = trace.read(trace.trace_json(answer, events))
    assert rescore(stored, answer.options.weights)["answer"] == text
    certain, shown = Certain(answer.options), [""]
    for event in events:
        certain(event)
        shown.append(" ".join(cited.segment.text for cited in certain.segments))
    assert shown[-1] == text
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))


async def test_what_tells_nothing_of_a_side_is_not_added() -> None:
    """Nothing of little use, and nothing that does not name the side."""
    answer, _ = await both_sides("Compare kite and bird.", "first", use=2, bird="something")
    assert answer.text == "first"


QUESTION = "When was the old Rhine bridge built?"

Again = tuple[str, list[Corrected], FakeRetriever]
"""The answer, the rounds of correction, and the retriever that was asked."""


def library(query: str) -> list[Passage]:
    """Finds passage 1 by the question itself, 2 by its key terms alone, and 3 by what passage 2 says."""
    if "gothic" in query:
        return [passage(3), passage(1)]
    return [passage(1)] if query == QUESTION else [passage(2, "gothic gothic"), passage(1)]


async def asked_again(
    first: float, second: float, third: float, correct: bool = True
) -> tuple[str, list[Corrected], FakeRetriever]:
    """Asks ``QUESTION`` of a model that finds passages 1 to 3 that relevant."""
    engine = model(
        {
            after(1): [judged(first), *words("one"), backed(0.9)],
            f"T2\ngothic gothic{END_PARAGRAPH}": [judged(second), *words("two"), backed(0.9)],
            after(3): [judged(third), *words("three"), backed(0.9)],
        }
    )
    events: list[Event] = []
    retriever = FakeRetriever(library)
    options = replace(ASK, correct=correct, abstain_isrel=0.2, found_isrel=0.5)
    answer = await Agent(TokenReflector(engine), retriever, options).ask(QUESTION, observer=events.append)
    return answer.text, [e for e in events if isinstance(e, Corrected)], retriever


async def test_a_relevant_passage_ends_the_searching() -> None:
    """Where the first passages will do, nothing is searched for again."""
    text, again, retriever = await asked_again(0.9, 0.9, 0.9)
    assert (text, again, retriever.queries) == ("one", [], [QUESTION])


async def test_what_was_not_found_is_searched_for_in_other_words() -> None:
    """The first round asks for the key terms; its passages that were not read yet are read, and the better one answers."""
    text, again, _ = await asked_again(0.1, 0.9, 0.9)
    assert text == "two"
    assert [(e.number, e.standing, [p.chunk for p in e.passages]) for e in again] == [(1, "not found", ["c2"])]
    assert again[0].best == pytest.approx(0.1)


async def test_a_second_round_learns_from_the_first() -> None:
    """What is doubtful still is searched for with the words of the best passages; after it the program stops."""
    text, again, retriever = await asked_again(0.1, 0.4, 0.95)
    assert text == "three"
    assert [e.standing for e in again] == ["not found", "doubtful"]
    assert "gothic" in retriever.queries[2]


async def test_it_abstains_after_the_last_round_alone() -> None:
    """Passages that stay irrelevant lead to an abstention, not to an answer, after both rounds."""
    text, again, retriever = await asked_again(0.1, 0.1, 0.1)
    assert (text, len(again), len(retriever.queries)) == ("", 2, 3)


async def test_the_second_search_is_made_wherever_it_may() -> None:
    """With a wider retriever only the first search stays narrow; question, answer and event say where was searched."""
    engine = model({after(1): [judged(0.1), *words("one"), backed(0.9)], after(2): [judged(0.9), *words("two"), backed(0.9)]})
    narrow, wide = FakeRetriever(lambda _: [passage(1)]), FakeRetriever(lambda _: [passage(1), passage(2)])
    wide.name = "all"
    options = replace(ASK, correct=True, abstain_isrel=0.2, found_isrel=0.5)
    events: list[Event] = []
    asking = Agent(TokenReflector(engine), narrow, options, wider=wide)
    answer = await asking.ask("towers", observer=events.append)
    assert (answer.text, answer.collection, narrow.queries, wide.queries) == ("two", "all", ["towers"], ["towers"])
    assert [(e.collection, len(e.passages)) for e in events if isinstance(e, Corrected)] == [("all", 1)]
    assert (await Agent(TokenReflector(engine), wide, options, wider=narrow).ask("towers")).collection == "all"


async def test_without_correction_the_first_passages_are_all() -> None:
    """Without ``correct`` the search is the paper's."""
    text, again, retriever = await asked_again(0.1, 0.9, 0.9, correct=False)
    assert (text, again, retriever.queries) == ("", [], [QUESTION])


async def test_a_hopeless_candidate_is_not_written() -> None:
    """Once a good answer is there, a passage whose bound is below it is read for ISREL and never written."""
    engine = model(
        {
            after(1): [judged(0.01), *words("never written"), backed(0.9), useful(5)],
            after(2): [judged(0.99), *words("good"), backed(0.99), useful(5)],
        }
    )
    events: list[Event] = []
    answer = await agent(engine, Shelf(passage(1), passage(2))).ask("q?", observer=events.append)
    assert (answer.text, answer.expanded, answer.pruned) == ("good", 1, 1)
    pruned = next(e for e in events if isinstance(e, Pruned))
    assert pruned.when == "before writing"
    assert pruned.bound is not None
    assert pruned.needed is not None
    assert pruned.bound < pruned.needed
    assert not any(r.max_tokens > 1 and "passage 1" in prompt_text(r.prompt) for r in engine.requests)


@pytest.mark.parametrize(("rel", "segments", "written"), [(0.09, 1, 0), (0.11, 1, 1), (0.09, 2, 0)])
async def test_nothing_is_written_where_the_search_abstains_in_any_case(rel: float, segments: int, written: int) -> None:
    """If ISREL of every passage is below its threshold, no passage is written from, and the passages are shown all the same."""
    engine = model({after(1): [judged(rel), *words("one"), backed(0.9), useful(5)]})
    options = replace(ASK, abstain_isrel=0.1, max_segments=segments)
    events: list[Event] = []
    answer = await agent(engine, Shelf(passage(1)), options).ask("q?", observer=events.append)
    assert (answer.expanded, answer.pruned) == (written, 1 - written)
    assert [e.when for e in events if isinstance(e, Pruned)] == ["irrelevant"] * (1 - written)
    assert answer.status == ("answered" if rel > 0.1 else "abstained")
    assert [p.chunk for p in answer.evidence] == ["c1"]


@pytest.mark.parametrize("prune", [True, False])
async def test_an_irrelevant_passage_does_not_cost_the_answer(prune: bool) -> None:
    """A passage below the ISREL threshold is not written from, so that its sentence cannot win and make the program abstain."""
    engine = model(
        {
            after(1): [judged(0.05), *words("wrong"), backed(0.99), useful(5)],
            after(2): [judged(0.2), *words("right"), backed(0.6), useful(4)],
        }
    )
    events: list[Event] = []
    options = replace(ASK, abstain_isrel=0.1, prune=prune)
    answer = await agent(engine, Shelf(passage(1), passage(2)), options).ask("q?", observer=events.append)
    assert (answer.status, answer.text, answer.expanded, answer.pruned) == ("answered", "right", 1, 1)
    assert [e.when for e in events if isinstance(e, Pruned)] == ["irrelevant"]


async def test_a_candidate_is_stopped_in_the_middle() -> None:
    """When its support turns out bad, a candidate that can no longer win is not written to the end."""
    tail = words(" ".join(["more"] * 30))
    engine = model(
        {
            after(1): [judged(0.99), *words("good"), backed(0.99), useful(5)],
            after(2): [judged(0.98), *words("bad"), backed(0.01), *tail, useful(5)],
        }
    )
    events: list[Event] = []
    await agent(engine, Shelf(passage(1), passage(2))).ask("q?", observer=events.append)
    assert [e.when for e in events if isinstance(e, Pruned)] == ["while writing"]


def random_model(seed: int) -> ScriptedEngine:
    """A model whose every segment is drawn at random from few values, so that ties, repeats and early ends are common."""

    def segment(key: str) -> list[Token]:
        draw = random.Random(f"{seed}{key}")
        p = lambda: draw.choice([0.05, 0.3, 0.5, 0.7, 0.95])  # noqa: E731
        tokens = [judged(p())] if key.endswith(END_PARAGRAPH) and draw.random() < 0.9 else []
        for _ in range(draw.randint(0, 4)):
            tokens += words(draw.choice("abc"), draw.choice([0.0, -0.2, -1.5]))
        if draw.random() < 0.8:
            full = p()
            tokens.append(backed(full, draw.choice([0.0, (1 - full) / 2])))
        tokens += words("tail", -0.1) * draw.choice([0, 0, 3])
        end = draw.random()
        if end < 0.4:
            tokens.append(useful(draw.randint(1, 5)))
        elif end < 0.8:
            tokens.append(then(draw.choice(RETRIEVE), p() / 2, p() / 2))
        return [*tokens, END]

    def reply(request: Request) -> Sequence[Token]:
        prompt, done = opened(request)
        text = prompt_text(prompt)
        if text.endswith("Response:\n"):
            return [then(RETRIEVAL, 0.6)]
        return segment(text)[done:]

    return ScriptedEngine(reply)


WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 3.0])
OPTIONS = st.builds(
    SearchOptions,
    k=st.integers(1, 5),
    mode=st.sampled_from(["adaptive", "always"]),
    beam_width=st.integers(1, 3),
    max_segments=st.integers(1, 4),
    weights=st.builds(Weights, *[WEIGHT] * 3, sequence=st.booleans(), ret=WEIGHT),
    require_support=st.sampled_from([None, "full", "partial"]),
    abstain_isrel=st.sampled_from([0.0, 0.4]),
    correct=st.booleans(),
    join_isuse=st.sampled_from([1.0, 0.0, -1.0]),
)


ALL_TIED = SearchOptions(k=2, beam_width=1, max_segments=2, weights=Weights(0.0, 0.0, 0.0, sequence=False))


@given(seed=st.integers(0, 10**9), options=OPTIONS)
@example(seed=366, options=ALL_TIED)
@settings(max_examples=400, deadline=None)
async def test_pruning_never_changes_the_answer(seed: int, options: SearchOptions) -> None:
    """With pruning and without it the answer, its score, its citations and its status are identical, for no more tokens."""
    shelf = Shelf(*(passage(n, score=(1.0, 0.7, 0.7, 0.2, 0.0)[n]) for n in range(5)))  # k widened finds more of them
    pruned = await Agent(TokenReflector(random_model(seed), max_tokens=12), shelf, options).ask("q?")
    unpruned = replace(options, prune=False)
    events: list[Event] = []
    whole = await Agent(TokenReflector(random_model(seed), max_tokens=12), shelf, unpruned).ask("q?", observer=events.append)
    assert (pruned.text, pruned.status) == (whole.text, whole.status)
    assert pruned.usage.completion_tokens <= whole.usage.completion_tokens
    assert pruned.score == whole.score
    assert [(c.segment.text, c.citation, c.score) for c in pruned.segments] == [
        (c.segment.text, c.citation, c.score) for c in whole.segments
    ]
    assert {e.when for e in events if isinstance(e, Pruned)} <= {"irrelevant", "unsupported"}


async def test_events_tell_the_whole_search() -> None:
    """Every candidate is opened once and then either written or pruned; retrievals carry their query."""
    events: list[Event] = []
    shelf = Shelf(*(passage(n) for n in range(5)))
    answer = await Agent(TokenReflector(random_model(7)), shelf, LONG).ask("q?", observer=events.append)
    opened = {e.candidate for e in events if isinstance(e, Opened)}
    expanded = {e.candidate for e in events if isinstance(e, Expanded)}
    pruned = {e.candidate for e in events if isinstance(e, Pruned) and e.when != "unsupported"}
    assert opened == expanded | pruned
    assert not expanded & pruned
    assert (len(expanded), len(pruned)) == (answer.expanded, answer.pruned)
    assert all(e.query for e in events if isinstance(e, Retrieved))
