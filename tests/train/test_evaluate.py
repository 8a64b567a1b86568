"""Measuring a model: a perfect one, a useless one, and the thresholds that are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selfrag.algorithm.reflection import ISSUP
from selfrag.train.dev_set import Evidence, Items
from selfrag.train.evaluate import evaluate, rank_correlation, table
from selfrag.types import Alive, Critique, Decision, Engine, Opening, Passage, ReflectionKind, Reflector, Segment


class Knows:
    """A reflector that finds in the texts what is right."""

    kind: ReflectionKind = "tokens"
    relevant, irrelevant, full, useful, useless = 0.8, 0.2, 0.9, 1.0, -1.0

    @property
    def engine(self) -> Engine:
        raise AssertionError("nothing asks for the engine")

    def using(self, engine: Engine) -> Knows:
        return self

    def describe(self) -> dict[str, object]:
        return {}

    async def decide(self, instruction: str, path: Sequence[Segment], threshold: float) -> Decision:
        if path:
            return Decision("continue", 0.1)
        p = self.relevant if instruction.startswith("look up") else self.irrelevant
        return Decision("retrieve" if p > threshold else "none", p)

    async def open(self, instruction: str, path: Sequence[Segment], passage: Passage | None, carry: bool) -> Opening:
        p = self.relevant if passage and "gold" in passage.text else self.irrelevant
        return Opening(passage, Critique() if carry else Critique(p, distributions={"ISREL": {}}), carry)

    async def extend(self, instruction: str, path: Sequence[Segment], opening: Opening, alive: Alive) -> Segment | None:
        """A few words at once; sentences one after the other."""
        critique = replace(opening.critique, issup=self.full, isuse=self.useful, distributions={"ISSUP": {}, "ISUSE": {}})
        if instruction == "q?":
            return Segment("The answer", opening.passage, critique, finished=True)
        words = ("Seoul is the capital.", "It is large.")[len(path)]
        return Segment(words, opening.passage, critique if path else opening.critique, opening.carry, finished=bool(path))

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique:
        full = self.full if answer == "true" else 1 - self.full
        use = self.useful if answer == "right" else self.useless
        support = dict(zip(ISSUP, (full, (1 - full) / 2, (1 - full) / 2), strict=True))
        return Critique(isuse=use, distributions={"ISSUP": support})


class Same(Knows):
    """A reflector that says the same of everything."""

    relevant = irrelevant = full = 0.5
    useful = useless = 0.0

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique:
        return Critique(isuse=0.0, distributions={"ISSUP": dict.fromkeys(ISSUP, 1 / 3)})


def evidence(passage: str) -> Evidence:
    return Evidence("q?", "title", passage)


def items() -> Items:
    titles = ["a", "b"] * 4
    answers = [(evidence("gold"), ("answer",), t) for t in titles] + [(evidence("other"), (), t) for t in titles]
    return Items(
        answers=tuple(answers),
        open=((Evidence("Which is the capital?", "Korea", "gold"), ("Seoul is the capital.", "It is large.")),) * 2,
        relevance={
            "gold": (evidence("gold"),) * 4,
            "unanswerable": (evidence("other"),) * 4,
            "neighbour": (evidence("other"),) * 4,
            "same article": (evidence("other"),) * 4,
        },
        explained=((evidence("gold"), evidence("other")),) * 2,
        support=(
            (evidence("gold"), "true", "SUPPORTS"),
            (evidence("gold"), "false", "REFUTES"),
            (evidence("gold"), "unsaid", "NOT ENOUGH INFO"),
        ),
        utility=((evidence("gold"), "right", 5), (evidence("gold"), "wrong", 2)),
        retrieve={("questions", True): ("look up a", "look up b"), ("sums", False): ("1 + 1", "2 + 2")},
    )


async def figures(reflector: Reflector) -> dict[str, float | None]:
    return (await evaluate(reflector, "test", items(), lambda _line: None)).figures


async def test_a_model_that_knows_everything() -> None:
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
    for name in ("whole sentences", "content-word recall", "content-word precision", "holds a gold sentence"):
        assert found[f"open: {name}"] == 1.0, name
    assert found["open: words"] == 7.0


async def test_a_model_that_knows_nothing() -> None:
    """It is at chance."""
    found = await figures(Same())
    assert found["ISREL AUROC, neighbour, asked to explain"] == 0.5
    assert found["ISREL AUROC, neighbour"] == found["Retrieve AUROC, worst source"] == found["ISSUP AUROC, supported"] == 0.5
    assert found["ISUSE rank correlation"] is None
    assert found["ISUSE ECE"] == 0.125  # says 0.5 of two answers that are worth 1 and 0.25


async def test_the_table_has_a_column_for_each_model() -> None:
    """Model and baseline stand side by side, with the goals."""
    results = [await evaluate(r, name, items(), lambda _line: None) for r, name in ((Knows(), "knows"), (Same(), "same"))]
    lines = table(results).splitlines()
    assert lines[0] == "| | goal | knows | same |"
    assert "| ISREL AUROC, neighbour | 0.95 | 1.000 | 0.500 |" in lines


def test_ranks() -> None:
    """A rank correlation ignores scale, and ties share their rank."""
    assert rank_correlation(np.array([1.0, 2, 30]), np.array([5.0, 6, 7])) == 1.0
