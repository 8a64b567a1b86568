"""`selfrag train prepare`: labelled data in, a deterministic file of training rows and a table of counts out."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from selfrag._util import write_whole
from selfrag.errors import InputError, UsageError
from selfrag.train import sentence_sources, sources
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import sentences
from selfrag.train.rows import Example, to_json
from selfrag.train.sources import Record
from selfrag.train.synthetic import instructions
from selfrag.train.user_data import own_rows

# Rows by source that the bundled model was last trained on: sentences for questions as they are typed, in a tenth of the rows
# spans for questions that ask for a few words, and enough of its earlier tasks. Most questions have their own passage and one
# that does not answer them, so that neither the question nor the words that it shares with a passage reveal the relevance.
LIMITS: Mapping[str, int] = {
    "docs_faq_en": 900, "docs_headings_en": 150, "docs_glossary": 150, "medquad": 220, "nq_gold_sentences": 450,
    "qed_sentences": 300,
    "selqa_sentences": 550, "tydiqa_en_sentences": 550, "covidqa_sentences": 60, "policyqa_sentences": 120,
    "tydiqa_ko_sentences": 70, "docs_faq_ko": 15, "tldr": 120,
    "squad2-sentence": 700, "halueval_qa-sentence": 250, "fairytaleqa-sentence": 120,
    "squad2-unanswerable": 700, "squad2-compared": 450, "halueval_qa-compared": 250, "fairytaleqa-compared": 60,
    "squad2-explain": 0, "fever_evidence": 400, "fool_me_twice": 200, "summedits": 45,
    "vitaminc": 500, "wice": 100, "halueval_summarization": 20, "2wiki": 30, "nq_open": 70,
    "clapnq": 70, "efficientqa": 50, "selfinstruct": 100, "instructions": 160,
    "squad2": 0, "halueval_qa": 0, "fairytaleqa": 0, "fairytaleqa-explain": 0,
}  # fmt: skip
EVERYTHING: Mapping[str, int] = dict.fromkeys(LIMITS, 10**9) | {"instructions": 12000}


SENTENCES = ("docs_faq_en", "docs_headings_en", "docs_glossary", "medquad", "nq_gold_sentences", "qed_sentences",
             "selqa_sentences",
             "tydiqa_en_sentences", "covidqa_sentences", "policyqa_sentences", "tydiqa_ko_sentences", "docs_faq_ko")  # fmt: skip
CLAIMS = {"fever_evidence": sources.CLAIM_PROMPTS, "fool_me_twice": sources.CLAIM_PROMPTS,
          "summedits": ("Summarize the text.", "What does the text say?", "State what is said.")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """``data``: folders of the published data sets, and files of a person's own rows. ``limits``: rows of the published sets by
    source; a source that is not named is left out. ``without``: files whose questions are never trained on. Chance comes from
    ``seed`` alone."""

    data: tuple[Path, ...]
    out: Path
    seed: int = 1
    limits: Mapping[str, int] = field(default_factory=lambda: LIMITS)
    without: tuple[Path, ...] = ()


def load(path: Path) -> list[Record]:
    """Records of a JSONL file, gzipped or not. Raises InputError, naming file and line, where a line is not a JSON object in
    UTF-8, and for a file that cannot be read."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            return [_record(path, number, line) for number, line in enumerate(lines, 1)]
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {path}",
            "name the folder of the published data sets: the one with train/, dev/ and corpora/, or one of these",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}", "fetch it again") from error


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}:{number}: a JSON object was expected")
    return record


def prepare(config: PrepareConfig) -> Counter[tuple[str, str]]:
    """Writes the shuffled rows to ``config.out``; returns how often each source uses each token."""
    rows = [row for path in config.data for row in _rows(path, config)]
    if not rows:
        raise InputError(f"no rows in {', '.join(map(str, config.data))}", "raise the limits, or name other data")
    Random(config.seed).shuffle(rows)
    return save(rows, config.out)


def save(rows: Sequence[Example], out: Path) -> Counter[tuple[str, str]]:
    """Writes ``rows`` to ``out``, whole or not at all; returns `counts`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (f"{to_json(row)}\n".encode() for row in rows))
    return counts(rows)


def counts(rows: Iterable[Example]) -> Counter[tuple[str, str]]:
    """How often each (source, token) carries loss; (source, "rows") counts rows."""
    table: Counter[tuple[str, str]] = Counter()
    for row in rows:
        table[row.source, "rows"] += 1
        table.update((row.source, p.value) for n in row.branches for p in n.parts if p.kind == "control" and p.loss)
    return table


def limits_of(given: Iterable[str], base: Mapping[str, int]) -> dict[str, int]:
    """``base`` with the ``SOURCE=N`` texts of ``given`` over it. Raises UsageError for an unknown source or an invalid number."""
    limits = dict(base)
    for item in given:
        name, _, number = item.partition("=")
        if name not in limits or not number.isdigit():
            raise UsageError(f"cannot read the limit {item!r}", f"SOURCE=N, where SOURCE is one of: {', '.join(limits)}")
        limits[name] = int(number)
    return limits


def _rows(path: Path, config: PrepareConfig) -> list[Example]:
    if path.is_dir():
        return build(path, config)
    if not path.exists():
        raise InputError(f"there is no {path}", "name a folder of data sets, or a JSONL file")
    return list(own_rows(load(path), path))


def build(data: Path, config: PrepareConfig) -> list[Example]:
    """All rows of the published sets, source by source; each has its own generator, so that a limit changes no other source."""
    limits: Mapping[str, int] = config.limits
    banned = {plain_question(r["question"]) for path in config.without for r in load(path)}
    rows: list[Example] = []

    def rng(name: str) -> Random:
        return Random(f"{config.seed}-{name}")

    def take(name: str, found: Iterable[Example | None]) -> None:
        rows.extend(islice((row for row in found if row), limits.get(name, 0)))

    def records(name: str) -> list[Record]:
        loaded = [r for r in load(data / f"{name}.jsonl.gz") if plain_question(r.get("question", "")) not in banned]
        rng(name).shuffle(loaded)
        return loaded

    squad = list(sources.squad(records("squad2_halfdev")))
    told = (
        ("squad2", squad),
        ("halueval_qa", list(sources.halueval_qa(records("halueval_qa")))),
        ("fairytaleqa", list(sources.fairytale(records("fairytaleqa")))),
    )
    for name, questions in told:
        take(name, (sources.question_row(q, r) for r in [rng(name)] for q in questions if q.answers))
        take(
            f"{name}-unanswerable", (sources.question_row(q, r) for r in [rng(name + "-un")] for q in questions if not q.answers)
        )
        near = HardNegatives(sorted({(q.title, q.passage) for q in questions}))
        for kind, row in (("explain", sources.explain_row), ("compared", sources.contrastive_row)):
            take(f"{name}-{kind}", (row(q, near, r) for r in [rng(f"{name}-{kind}")] for q in questions if q.answers))
        with_sentence = list(sentence_sources.of_spans(questions))
        rng(name + "-order").shuffle(with_sentence)
        drawn = rng(f"{name}-sentence")
        take(f"{name}-sentence", (sentence_sources.sentence_row(a, near, drawn) for a in with_sentence))
    for name in SENTENCES:  # a Korean syllable takes several tokens: longer passages would not fit
        found = [a for a in sentence_sources.answered(records(name), name) if not korean(name) or len(a.passage) < 260]
        near = HardNegatives(sorted({(a.title, a.passage) for a in found}))
        take(name, (sentence_sources.sentence_row(a, near, r) for r in [rng(f"{name}-rows")] for a in found))
    pages = list(sentence_sources.howto(records("tldr_howto_en")))
    near = HardNegatives(sorted({(a.title, a.passage) for a in pages}))
    take("tldr", (sentence_sources.howto_row(a, near, r) for r in [rng("tldr")] for a in pages))
    for name, prompts in CLAIMS.items():
        take(name, sentence_sources.claim_rows(records(name), name, prompts, rng(f"{name}-rows")))
    take("vitaminc", _shuffled(sources.vitaminc(records("vitaminc"), rng("vitaminc-rows")), rng("vitaminc-order")))
    take("wice", _shuffled(_wice(records), rng("wice-order")))
    take("halueval_summarization", sources.summaries(records("halueval_summarization"), rng("summaries")))
    take("2wiki", sources.hops(records("2wiki_hops")))
    for name, file in (("nq_open", "nq_open_questions"), ("clapnq", "clapnq_questions")):
        take(name, sources.retrieve_only((r["question"] for r in records(file)), name, rng(name)))
    take("efficientqa", sources.rated(records("efficientqa_rated_answers")))
    take("selfinstruct", sources.selfinstruct(r for r in records("selfinstruct_tasks") if not held_out(r["id"])))
    told_sentences = [
        (q.title, s) for _, qs in told for q in qs[:1500] for s in sentences(q.passage)[:3] if 4 < len(s.split()) < 30
    ]
    take("instructions", instructions(told_sentences, limits.get("instructions", 0), rng("instructions")))
    return rows


def korean(name: str) -> bool:
    return name.endswith("_ko") or "_ko_" in name


def held_out(task: str) -> bool:
    """Every fifth task of Self-Instruct is kept for development scores."""
    return sum(task.encode()) % 5 == 0


def plain_question(question: str) -> str:
    """A question as it is compared: lower case, without its mark."""
    return " ".join(question.lower().strip("? ").split())


def _wice(records: Callable[[str], list[Record]]) -> Iterator[Example]:
    yield from sources.wice(records("wice_chunks"))
    yield from sources.wice(records("wice_partial_tokens"))


def _shuffled(rows: Iterable[Example], rng: Random) -> list[Example]:
    found = list(rows)
    rng.shuffle(found)
    return found
