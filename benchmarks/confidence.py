"""The weights of the confidence, fitted on answers to training-side questions, and what its threshold does there.

    python benchmarks/confidence.py DATA --model MODEL [--work runs/confidence] [--out benchmarks/results/confidence.md]

Three sets of questions, all of training files:

- mix: 420 questions of Natural Questions, QED and TyDi QA over 5,000 of their passages; the passages of every fifth question are
  left out, so that nothing answers it.
- squad: 220 questions of SQuAD 2.0, answerable and not, over 483 paragraphs.
- open: 64 of the open Natural Questions over 10,033 Wikipedia summaries, most of which do not answer them.

The program answers all of them in short form without a threshold of ISSUP, ISUSE or the confidence. The weights are a logistic
regression (with an L2 penalty of one half) of "the model's words hold a gold answer" on the log-odds of ISREL and of the utility
and the cosine of question and passage. The Platt scaling of ISREL and ISUSE that fits the same answers is printed, too.
Development questions are not read: benchmarks/evaluation.py reports on them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import harness
import numpy as np
from ablation import answer, outcomes
from corpus import Corpus, read_rows, wikipedia
from evaluation import Table, drawn, indexed, written
from numpy.typing import NDArray
from scipy.optimize import minimize

from selfrag.agent import open_agent
from selfrag.algorithm.options import ABSTAINS_NEVER
from selfrag.algorithm.reflection import confidence, log_odds
from selfrag.answers.schema import SegmentJson, critique_of
from selfrag.batch.questions import open_questions
from selfrag.config.library_env import silence_libraries
from selfrag.evaluation import calibrate, temperatures, thresholds
from selfrag.evaluation.curves import auroc, ece
from selfrag.evaluation.report import read_run
from selfrag.evaluation.tables import markdown_table
from selfrag.types import ConfidenceWeights, Critique, SearchOptions, Segment

MIXED = ("nq_gold_sentences", "qed_sentences", "tydiqa_en_sentences")
NONE = Corpus("", (), (), (), ())


def mix(data: Path, work: Path) -> Table:
    rng = random.Random(7)
    rows = [row for name in MIXED for row in read_rows(data / "train" / f"{name}.jsonl.gz") if row["answers"]]
    rng.shuffle(rows)
    asked = list({row["question"]: row for row in rows}.values())[:420]
    left_out = {row["passage"] for row in asked if rng.random() < 0.2}
    documents = {row["passage"]: row["title"] for row in rows if row["passage"] not in left_out}
    questions = [
        {
            "id": f"mix-{number}",
            **{name: row[name] for name in ("question", "answers")},
            "unanswerable": row["passage"] in left_out,
        }
        for number, row in enumerate(asked)
    ]
    found = replace(NONE, titles=tuple(documents.values()), texts=tuple(documents))
    return written("confidence-mix", "mix", questions, found, work)


def squad(data: Path, work: Path) -> Table:
    return drawn("confidence-squad", data / "train" / "squad2_halfdev.jsonl.gz", 220, work)


def open_domain(data: Path, work: Path) -> Table:
    rows = random.Random(3).sample(list(read_rows(data / "train" / "nq_open_questions.jsonl.gz")), 64)
    questions = [{"id": f"open-{n}", "question": row["question"], "answers": row["answer"]} for n, row in enumerate(rows)]
    return written("confidence-open", "open", questions, wikipedia(data), work)


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered to one set; arrays of its n questions. ``first`` holds the first segment of each answer. ``written``:
    from a passage with a cosine. ``kept``: above the other thresholds, too."""

    name: str
    first: tuple[Segment, ...]
    right: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    written: NDArray[np.bool_]
    kept: NDArray[np.bool_]

    @property
    def features(self) -> NDArray[np.float64]:
        """The log-odds of ISREL and of the utility, and the cosine, of what was written, shape (n, 3)."""
        found = [segment.critique for segment, there in zip(self.first, self.written, strict=True) if there]
        return np.array([(log_odds(c.isrel), log_odds((c.isuse + 1) / 2), c.similarity) for c in found], dtype=np.float64)

    def sure(self, weights: ConfidenceWeights) -> NDArray[np.float64]:
        """The confidence of each answer, -1 where nothing was written."""
        return np.array(
            [(confidence([s], weights) or 0.0) if there else -1.0 for s, there in zip(self.first, self.written, strict=True)]
        )


def read(name: str, run: Path, least: SearchOptions) -> Answers:
    rows, found = read_run(run), outcomes(run)
    first = tuple(_first(row["segments"]) for row in rows)
    written = [segment.critique.similarity is not None for segment in first]
    kept = [
        there and segment.critique.issup >= least.abstain_issup and segment.critique.isuse >= least.abstain_isuse
        for segment, there in zip(first, written, strict=True)
    ]
    right = [bool(each.accuracy) for each in found]
    empty = [each.gold.answerable is False for each in found]
    return Answers(name, first, np.array(right), np.array(empty), np.array(written), np.array(kept))


def _first(segments: Sequence[SegmentJson]) -> Segment:
    """The first segment's critique, as a segment; an empty one where nothing was written."""
    row = segments[0] if segments else None
    return Segment("", None, critique_of(row["critique"], row["distributions"]) if row else Critique())


def fit(features: NDArray[np.float64], right: NDArray[np.bool_]) -> ConfidenceWeights:
    centre, spread = features.mean(axis=0), features.std(axis=0)
    rows, true = np.c_[(features - centre) / spread, np.ones(len(features))], right.astype(np.float64)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds, bent = rows @ weights, np.append(weights[:-1], 0.0)
        slope = rows.T @ (1 / (1 + np.exp(-odds)) - true) + bent
        return float((np.logaddexp(0, odds) - true * odds).sum() + bent @ bent / 2), slope

    found = minimize(loss, np.zeros(4), jac=True).x
    isrel, isuse, similarity = found[:3] / spread
    bias = found[3] - isrel * centre[0] - isuse * centre[1]
    return ConfidenceWeights(*map(float, (bias, isrel, isuse, similarity, centre[2])))


def table(sets: Sequence[Answers], weights: ConfidenceWeights) -> str:
    lines = []
    for each in sets:
        sure = np.where(each.kept, each.sure(weights), -1.0)
        for least in (0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
            given = sure >= least
            right = int((given & each.right).sum())
            found = thresholds.f1(~given, each.empty)
            lines.append(
                [
                    each.name,
                    str(len(sure)),
                    f"{least:.2f}",
                    str(given.sum()),
                    str(right),
                    str(given.sum() - right),
                    f"{found:.3f}",
                ]
            )
    head = ["set", "questions", "threshold", "answered", "right", "wrong", "abstention F1"]
    return markdown_table(head, lines)


def scaling(found: Sequence[temperatures.Example], group: str) -> str:
    """The temperature and the bias that fit ``group``, on top of the model's own, with the log-loss before and after."""
    temperature, bias, _ = temperatures.fit_scaling(found, group)
    values, label = temperatures.labelled(found, group)
    was = temperatures.log_loss(temperatures.scaled(group, values, 1.0, 0.0), label)
    now = temperatures.log_loss(temperatures.scaled(group, values, temperature, bias), label)
    return f"{group} temperature {temperature:.2f}, bias {bias:+.2f} ({len(label)} labels, log-loss {was:.3f} to {now:.3f})"


async def main(given: argparse.Namespace) -> None:
    given.work.mkdir(parents=True, exist_ok=True)
    sets, answered = [], list[temperatures.Example]()
    for made in (mix(given.data, given.work), squad(given.data, given.work), open_domain(given.data, given.work)):
        indexed(made)
        async with open_agent(made.name, model=given.model) as agent:
            options = agent.options
            free = replace(options, max_segments=1, **{**ABSTAINS_NEVER, "abstain_isrel": options.abstain_isrel})
            run = given.work / f"{made.name}.jsonl"
            await answer(agent, free, open_questions(str(made.questions)), run, given.concurrency)
            model = agent.reflector.engine.model
        sets.append(read(made.name.removeprefix("confidence-"), run, options))
        answered += calibrate.examples(read_run(run), {})
    features = np.concatenate([each.features for each in sets])
    right = np.concatenate([each.right[each.written] for each in sets])
    weights = fit(features, right)
    sure = np.concatenate([each.sure(weights)[each.written] for each in sets])
    told = ", ".join(f"{name} {value:.2f}" for name, value in asdict(weights).items())
    trust = f"Over these answers its AUROC is {auroc(sure, right):.3f}, its ECE {ece(sure, right):.3f}."
    scales = ", ".join(scaling(answered, group) for group in ("ISREL", "ISUSE"))
    said = f"Weights: {told}, fitted on {len(right)} answers, {int(right.sum())} of them right. {trust}"
    title, about = "Confidence", (__doc__ or "").partition("\n\n")[0]
    harness.write(given.out, title, about, said, f"Scaling: {scales}.", table(sets, weights), head=harness.provenance(model))


if __name__ == "__main__":
    parser = harness.parser(__doc__, "confidence.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("runs/confidence"))
    silence_libraries()
    asyncio.run(main(parser.parse_args()))
