"""Measuring a judge: a perfect one, a useless one, and the thresholds that are fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrag.train.dev_set import Items
from selfrag.train.evaluate import evaluate, fit_abstention, rank_correlation, table
from selfrag.train.judges import Evidence, Judge, TokenJudge, Written
from selfrag.types import Completion, OnToken, Request, Token


class Knows:
    """A judge that is told in the texts what is right."""

    name = "knows"

    async def retrieve(self, question: str) -> float:
        return 0.9 if question.startswith("look up") else 0.1

    async def relevance(self, evidence: Evidence) -> float:
        return 0.8 if "gold" in evidence.passage else 0.2

    async def support(self, evidence: Evidence, claim: str) -> Sequence[float]:
        return (0.9, 0.05, 0.05) if claim == "true" else (0.1, 0.1, 0.8)

    async def utility(self, evidence: Evidence, answer: str) -> float:
        return 1.0 if answer == "right" else -1.0

    async def answer(self, evidence: Evidence) -> Written:
        return Written("The answer", await self.relevance(evidence), 0.9, 1.0)


class Same(Knows):
    """A judge that says the same of everything."""

    name = "same"

    async def retrieve(self, question: str) -> float:
        return 0.5

    async def relevance(self, evidence: Evidence) -> float:
        return 0.5

    async def support(self, evidence: Evidence, claim: str) -> Sequence[float]:
        return (1 / 3, 1 / 3, 1 / 3)

    async def utility(self, evidence: Evidence, answer: str) -> float:
        return 0.0


def evidence(passage: str) -> Evidence:
    return Evidence("q?", "title", passage)


def items() -> Items:
    titles = ["a", "b"] * 4
    answers = [(evidence("gold"), ("answer",), t) for t in titles] + [(evidence("other"), (), t) for t in titles]
    return Items(
        answers=tuple(answers),
        relevance={"neighbour": (evidence("other"),) * 4, "same article": (evidence("other"),) * 4},
        explained=((evidence("gold"), evidence("other")),) * 2,
        support=(
            (evidence("gold"), "true", "SUPPORTS"),
            (evidence("gold"), "false", "REFUTES"),
            (evidence("gold"), "unsaid", "NOT ENOUGH INFO"),
        ),
        utility=((evidence("gold"), "right", 5), (evidence("gold"), "wrong", 2)),
        retrieve={("questions", True): ("look up a", "look up b"), ("sums", False): ("1 + 1", "2 + 2")},
    )


async def figures(judge: Judge) -> dict[str, float | None]:
    return (await evaluate(judge, items(), lambda _line: None)).figures


async def test_a_judge_that_knows_everything() -> None:
    """It separates everything, and abstains where it should, on articles that its thresholds were not fitted on."""
    found = await figures(Knows())
    for name in (
        "ISREL AUROC, neighbour",
        "ISREL AUROC, neighbour, asked to explain",
        "ISREL AUROC, unanswerable",
        "ISSUP AUROC, supported",
        "ISSUP macro-F1",
        "Retrieve AUROC, worst source",
        "ISUSE AUROC",
        "abstention F1",
    ):
        assert found[name] == 1.0, name
    assert found["answer F1"] == 100.0


async def test_a_judge_that_knows_nothing() -> None:
    """It is at chance."""
    found = await figures(Same())
    assert found["ISREL AUROC, neighbour, asked to explain"] == 0.5
    assert found["ISREL AUROC, neighbour"] == found["Retrieve AUROC, worst source"] == found["ISSUP AUROC, supported"] == 0.5
    assert found["ISUSE rank correlation"] is None
    assert found["ISUSE ECE"] == 0.125  # says 0.5 of two answers that are worth 1 and 0.25


async def test_the_table_has_a_column_for_each_judge() -> None:
    """Model and baseline stand side by side, with the goals."""
    results = [await evaluate(judge, items(), lambda _line: None) for judge in (Knows(), Same())]
    lines = table(results).splitlines()
    assert lines[0] == "| | goal | knows | same |"
    assert "| ISREL AUROC, neighbour | 0.95 | 1.000 | 0.500 |" in lines


def test_fitted_thresholds_and_ranks() -> None:
    """A threshold lies between what should and should not be answered; ranks ignore scale, and ties share theirs."""
    rel, sup = fit_abstention(np.array([[0.9, 0.8], [0.8, 0.9], [0.2, 0.9], [0.9, 0.1]]), np.array([False, False, True, True]))
    assert 0.2 < rel <= 0.8
    assert 0.1 < sup <= 0.8
    assert rank_correlation(np.array([1.0, 2, 30]), np.array([5.0, 6, 7])) == 1.0


class Watches:
    """An engine that reports every watched token as likely as its place in the request says, and remembers the request."""

    name, model, exact = "watches", "none", True

    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        self.seen.append(request)
        watched = {token: -float(i) for i, token in enumerate(request.watch)}
        return Completion((Token(1, "x", -0.1, watched),), "length", 1)

    async def close(self) -> None: ...


async def test_reflection_tokens_are_read_where_the_grammar_has_them() -> None:
    """A claim stands behind `[Relevant]`, and its three support probabilities sum to 1 in the order Fully, Partially, No."""
    engine = Watches()
    support = await TokenJudge(engine).support(evidence("gold"), "claim")
    assert abs(sum(support) - 1) < 1e-12
    assert list(support) == sorted(support, reverse=True)
    shown = [getattr(part, "token", None) or getattr(part, "text", "") for part in engine.seen[0].prompt]
    assert shown[1:] == ["[Retrieval]", "<paragraph>", "title\ngold", "</paragraph>", "[Relevant]", "claim"]


async def test_an_answer_is_written_after_relevant_even_where_it_is_doubted() -> None:
    """Its relevance is read from a request of its own, and the words stand behind `[Relevant]`."""
    engine = Watches()
    await TokenJudge(engine).answer(evidence("gold"))
    ends = [getattr(request.prompt[-1], "token", "") for request in engine.seen]
    assert ends == ["</paragraph>", "[Relevant]"]
