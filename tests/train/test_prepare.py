"""Preparing rows from the published data sets' formats."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import pytest

from selfrag.algorithm.reflection import CONTINUE, FULLY, IRRELEVANT, ISSUP, NO_SUPPORT, PARAGRAPH, PARTIALLY, RELEVANT, RETRIEVAL
from selfrag.cli import run as program
from selfrag.errors import InputError, UsageError
from selfrag.train import sources
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds
from selfrag.train.prepare import CLAIMS, LIMITS, SENTENCES, PrepareConfig, limits_of, load, prepare
from selfrag.train.rows import Example, read
from selfrag.train.synthetic import instructions

CONTEXT = "Seoul is the capital of South Korea. It lies on the Han River. Busan is the second largest city of South Korea."
ANSWERABLE = {"id": "1", "title": "Korea", "context": CONTEXT, "question": "What is the capital?",
              "answers": [{"text": "Seoul", "start": 0}]}  # fmt: skip
IMPOSSIBLE = {"id": "2", "title": "Korea", "context": CONTEXT, "question": "Who founded Busan?", "answers": [],
              "plausible_answers": ["South Korea"]}  # fmt: skip


def controls(row: Example) -> list[str]:
    return [p.value for n in row.branches for p in n.parts if p.kind == "control"]


def test_an_answerable_question() -> None:
    """Its right answer is taught, a wrong one from the same passage is only judged, and all stand behind one passage."""
    (question,) = sources.squad([ANSWERABLE])
    row = sources.question_row(question, Random(1))
    right, wrong = row.branches[1], row.branches[2]
    assert [(p.value, p.loss) for p in right.parts if p.kind == "text"] == [("Seoul", 1.0)]
    assert [p.loss for p in wrong.parts if p.kind == "text"] == [0.0]
    assert FULLY in controls(row)
    assert NO_SUPPORT in controls(row)


def test_an_impossible_question() -> None:
    """It is irrelevant, no ISSUP follows the refusal, and its tempting answer is judged without support."""
    (question,) = sources.squad([IMPOSSIBLE])
    row = sources.question_row(question, Random(1))
    first = [p.value for p in row.branches[1].parts]
    assert first[0] == IRRELEVANT
    assert not set(first) & set(ISSUP)
    assert NO_SUPPORT in [p.value for p in row.branches[2].parts]


def test_a_question_is_compared_with_the_passage_that_the_search_would_take() -> None:
    """One question stands before two passages that do not see each other: its own, answered, and a similar one, refused, whose
    tempting words are judged without support."""
    (question,) = sources.squad([ANSWERABLE])
    near = HardNegatives([("Korea", CONTEXT), ("Towns", "Which town is called the capital of fashion? Many say it is Paris.")])
    row = next(filter(None, (sources.contrastive_row(question, near, Random(seed)) for seed in range(9))))
    own, other = (n for n, node in enumerate(row.branches) if PARAGRAPH in [p.value for p in node.parts])
    first = {(node.parent, node.parts[0].value) for node in row.branches if node.parts[0].loss}
    assert {(own, RELEVANT), (other, IRRELEVANT)} <= first
    assert [row.branches[n].parent for n in (own, other)] == [0, 0]
    assert NO_SUPPORT in [p.value for node in row.branches if node.parent == other for p in node.parts]


def test_the_other_passage_may_be_the_own_one_without_the_answer() -> None:
    """Where nothing similar is found, a question still stands before its own passage without the sentences that answer it."""
    long = f"{CONTEXT} Milan lies in the north of Italy, and many who know it like to go there for its clothes in the spring."
    (question,) = sources.squad([{**ANSWERABLE, "context": long}])
    texts = {
        text for seed in range(40) for _, text in sources.hard_negatives(question, HardNegatives([("Korea", long)]), Random(seed))
    }
    assert any(text in long and not holds(text, question.answers) for text in texts)


def test_wanting_sentences_makes_no_passage_relevant() -> None:
    """A question that asks to explain is answered with the sentence of its own passage and refuses the other; now and then one
    that cannot be answered asks so, too."""
    (question,) = sources.squad([ANSWERABLE])
    near = HardNegatives([("Korea", CONTEXT), ("Towns", "Which town is called the capital of fashion? Many say it is Paris.")])
    row = next(filter(None, (sources.explain_row(question, near, Random(seed)) for seed in range(9))))
    own, other = (n for n, node in enumerate(row.branches) if PARAGRAPH in [p.value for p in node.parts])
    taught = {(node.parent, p.value) for node in row.branches for p in node.parts if p.loss}
    assert {(own, RELEVANT), (own, "Seoul is the capital of South Korea."), (other, IRRELEVANT)} <= taught
    (impossible,) = sources.squad([IMPOSSIBLE])
    asked = [sources.question_row(impossible, Random(seed)).branches[0].parts[0].value for seed in range(60)]
    assert 0 < sum("sentence" in text or "xplain" in text for text in asked) < 20


def test_claims_share_their_evidence() -> None:
    """Claims on one evidence are branches of one row, and claims alone teach no words."""
    claims = [("Seoul is big .", "SUPPORTS"), ("Seoul is tiny .", "REFUTES")]
    records = [{"page": "Seoul", "evidence": "Seoul is a big city .", "claim": c, "label": v} for c, v in claims]
    (row,) = sources.vitaminc(records, Random(3))
    assert {FULLY, NO_SUPPORT} <= set(controls(row))
    assert all(p.loss == 0 for n in row.branches for p in n.parts if p.kind == "text")


def test_another_page_says_nothing_of_the_one_that_was_asked_for() -> None:
    """Beside some claims stands the evidence of another page, which is irrelevant and supports none of them."""
    said = [("Seoul", "Seoul is big ."), ("Seoul", "Seoul is old ."), ("Milan", "Milan is big ."), ("Milan", "Milan is old .")]
    records = [{"page": page, "evidence": f"{page} is a city .", "claim": claim, "label": "SUPPORTS"} for page, claim in said]
    rows = [row for seed in range(30) for row in sources.vitaminc(records, Random(seed))]
    beside = [row for row in rows if controls(row).count(PARAGRAPH) == 2]
    assert 0 < len(beside) < len(rows) / 2
    assert all({IRRELEVANT, NO_SUPPORT, FULLY} <= set(controls(row)) for row in beside)


def test_several_segments() -> None:
    """A summary goes on with the same evidence; a two-hop question retrieves a second time."""
    (summary,) = sources.summaries([{"document": CONTEXT, "right_summary": "Seoul is the capital. Busan is next."}], Random(1))
    assert CONTINUE in controls(summary)
    hop = {"_id": "h", "question": "q?", "context": [["A", ["a."]], ["B", ["b."]]],
           "supporting_facts": [["A", 0], ["B", 0]], "qa_pairs": [{"answer": "one"}, {"answer": "two"}]}  # fmt: skip
    (row,) = sources.hops([hop])
    assert controls(row).count(RETRIEVAL) == 2


def test_partial_support_comes_from_people() -> None:
    """WiCE's partially supported claims become `[Partially supported]`."""
    record = {"label": "partially_supported", "claim": "Seoul is large and old.", "evidence": ["Seoul", CONTEXT]}
    (row,) = sources.wice([record])
    assert PARTIALLY in controls(row)


def test_instructions_are_deterministic() -> None:
    """Rule-built instructions depend on the seed alone."""
    made = [list(instructions([("Korea", CONTEXT)], 40, Random(5))) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] != list(instructions([("Korea", CONTEXT)], 40, Random(6)))


def folder(tmp_path: Path) -> Path:
    """Published data sets of two records each."""
    many = [ANSWERABLE | {"id": f"a{i}"} for i in range(4)] + [IMPOSSIBLE | {"id": f"i{i}"} for i in range(4)]
    faq = {"id": "f", "title": "Korea", "passage": CONTEXT, "question": "Which is the capital?",
           "sentence_answers": ["Seoul is the capital of South Korea."], "negatives": ["Milan is a town."]}  # fmt: skip
    files = {"squad2_halfdev": many, "nq_open_questions": [{"question": "who is it"}], "docs_faq_en": [faq]}
    names = ("halueval_qa", "fairytaleqa", "vitaminc", "wice_chunks", "wice_partial_tokens", "halueval_summarization",
             "2wiki_hops", "clapnq_questions", "efficientqa_rated_answers", "selfinstruct_tasks", "tldr_howto_en",
             *SENTENCES, *CLAIMS)  # fmt: skip
    for name in {*files, *names}:
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(r) + "\n" for r in files.get(name, []))
    return tmp_path


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    """Preparing twice gives the same bytes; another seed gives others; the counts are those of the file."""
    data = folder(tmp_path)
    outs = [tmp_path / f"{i}.jsonl" for i in range(3)]
    counts = [prepare(PrepareConfig((data,), out, seed)) for out, seed in zip(outs, (1, 1, 2), strict=True)]
    assert outs[0].read_bytes() == outs[1].read_bytes() != outs[2].read_bytes()
    assert counts[0]["squad2", "rows"] == sum(row.source == "squad2" for row in read(outs[0]))
    assert counts[0]["nq_open", RETRIEVAL] == 1
    assert counts[0]["docs_faq_en", "rows"] == 1


def test_questions_that_are_kept_back_are_not_trained_on(tmp_path: Path) -> None:
    """A question of a file named in ``without`` is in no row, whatever its capitals and its mark."""
    data, kept = folder(tmp_path), tmp_path / "kept.jsonl"
    kept.write_text(json.dumps({"question": "Who is IT?"}) + "\n", encoding="utf-8")
    counts = prepare(PrepareConfig((data,), tmp_path / "rows.jsonl", without=(kept,)))
    assert counts["nq_open", "rows"] == 0 < counts["squad2", "rows"]
    assert program(["train", "prepare", str(data), "-o", str(tmp_path / "typed.jsonl"), "--without", str(kept), "-q"]) == 0
    assert (tmp_path / "typed.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("line", [b'{"a": ', b'{"a": "\xff"}', b"[1]"])
def test_malformed_data_is_refused_by_line(tmp_path: Path, line: bytes) -> None:
    """A line that is no JSON object, or no text, is named with its file."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        load(file)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    """A compressed file that is cut short, or is none, is an error that names it."""
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    for text in (whole[:-20], whole[:20] + b"\x00" * 9 + whole[29:], b"no archive"):
        (tmp_path / "rows.jsonl.gz").write_bytes(text)
        with pytest.raises(InputError, match=r"rows\.jsonl\.gz"):
            load(tmp_path / "rows.jsonl.gz")


def test_limits() -> None:
    """A limit names a source and a number, or is refused with the names that there are."""
    assert limits_of(["vitaminc=5"], LIMITS)["vitaminc"] == 5
    with pytest.raises(UsageError, match="vitamin=5"):
        limits_of(["vitamin=5"], LIMITS)
