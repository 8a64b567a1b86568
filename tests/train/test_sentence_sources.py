"""Examples that teach whole sentences."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from selfrag.algorithm.reflection import CONTINUE, FULLY, IRRELEVANT, NO_SUPPORT, RELEVANT
from selfrag.train import sentence_sources, sources
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.rows import Branch, Example

PASSAGE = "Seoul is the capital of South Korea. It lies on the Han River. Busan is the second city, with 3,400,000 people."
OTHER = "Milan is a town in the north of Italy. Many who know it like to go there for its clothes."
NEAR = HardNegatives([("Korea", PASSAGE), ("Milan", OTHER)])
GOLD = ["Seoul is the capital of South Korea.", "It lies on the Han River."]
FAQ = {
    "id": "f",
    "title": "Korea",
    "passage": PASSAGE,
    "question": "Which is it?",
    "sentence_answers": GOLD,
    "negatives": [OTHER],
}


def made(**changes: Any) -> list[Example]:
    found = list(sentence_sources.answered([FAQ | changes], "faq"))
    return [sentence_sources.sentence_row(a, NEAR, Random(seed)) for a in found for seed in range(12)]


def said(branch: Branch) -> str:
    return "".join(p.value for p in branch.parts if p.kind == "text")


def branches(examples: list[Example]) -> Iterator[Branch]:
    return (b for example in examples for b in example.branches if b.parent > 0)


def test_the_gold_sentences_are_the_answer() -> None:
    """They are taught in order, the second as going on with the same evidence, and the answer is of use."""
    taught = [b for b in branches(made()) if any(p.kind == "text" and p.loss for p in b.parts) and b.parts[0].value == RELEVANT]
    assert taught
    for branch in taught:
        assert said(branch) == "Seoul is the capital of South Korea.It lies on the Han River."
        assert [p.value for p in branch.parts if p.kind == "control"] == [RELEVANT, FULLY, CONTINUE, "[Utility:5]"]


def test_another_sentence_is_supported_and_of_no_use() -> None:
    """A sentence that does not answer is shown, never taught: the passage says it, and its utility is low."""
    others = [b for b in branches(made()) if said(b).startswith("Busan is the second city, with 3,400,000")]
    assert others
    for branch in others:
        assert not any(p.loss for p in branch.parts if p.kind == "text")
        assert [p.value for p in branch.parts if p.kind == "control"][1:] == [FULLY, "[Utility:2]"]


def test_sentences_behind_a_lead_are_not_called_wrong() -> None:
    """Where only the beginning of an answer is known, nothing is said of the sentences behind it."""
    lead = made(answer_mode="lead", sentence_answers=["Seoul is the capital of South Korea."])
    assert not any("Busan" in said(b) and FULLY in [p.value for p in b.parts] for b in branches(lead))


def test_a_hard_negative_is_irrelevant_and_does_not_support_the_answer() -> None:
    """Before a passage that does not answer, the model refuses, and the right answer has no support."""
    behind = [b for e in made() for b in e.branches if b.parent > 0 and "Milan" in said(e.branches[b.parent])]
    found = {p.value for b in behind for p in b.parts if p.kind == "control"}
    assert {IRRELEVANT, NO_SUPPORT} <= found
    assert found & {"[Utility:1]"}


def test_what_cannot_be_read_alone_is_left_out() -> None:
    """Lists, sentences cut from the middle and sentences that the passage does not have are no answers."""
    assert not made(answer_mode="list")
    assert not made(sentence_answers=["is the capital of South Korea."])
    assert not made(sentence_answers=["Seoul is the largest city."])


def test_a_sentence_is_made_false_by_a_number_or_name_of_the_passage() -> None:
    """The changed sentence differs in one span, which the passage has elsewhere."""
    passage = "In 1953 the war ended. The city had 1,500,000 people in 1950 and 2,445,000 ten years later."
    false = {sentence_sources.falsified("In 1953 the war ended.", passage, Random(seed)) for seed in range(8)} - {""}
    assert false
    assert all(s.startswith("In ") and s.endswith(" the war ended.") and "1953" not in s for s in false)


def test_span_answers_become_their_sentence() -> None:
    """A SQuAD question, as it is typed, is answered with the sentence that holds the span."""
    record = {"id": "1", "title": "Korea", "context": PASSAGE, "question": "What is the capital?",
              "answers": [{"text": "Seoul", "start": 0}]}  # fmt: skip
    (found,) = sentence_sources.of_spans(sources.squad([record]))
    assert found.gold == ("Seoul is the capital of South Korea.",)


def test_a_command_is_answered_in_a_sentence() -> None:
    """How-to pages are answered with the sentence that names the command; the same with another command has no support."""
    page = "ls\nList files.\n- List all files:\n`ls -a`\n- List files by size:\n`ls -S`"
    record = {"id": "t", "title": "ls", "passage": page, "question": "How do I list all files?", "negatives": [],
              "sentence_answers": ["- List all files:\n`ls -a`"], "long_answer": "To list all files, run `ls -a`."}  # fmt: skip
    (a,) = sentence_sources.howto([record])
    row = sentence_sources.howto_row(a, NEAR, Random(1))
    assert row is not None
    answers = {said(b): [p.value for p in b.parts if p.kind == "control"] for b in row.branches if b.parent > 0}
    assert answers["To list all files, run `ls -a`."][-1] == "[Utility:5]"
    assert NO_SUPPORT in answers["To list all files, run `ls -S`."]


def test_claims_teach_support_alone() -> None:
    """Claims on one passage are branches behind one reading of it, with loss on ISSUP alone."""
    labels = {"It is a capital.": "supported", "It is in Italy.": "not_supported", "Maybe.": "partial"}
    claims = [{"title": "Seoul", "passage": PASSAGE, "claim": claim, "label": label} for claim, label in labels.items()]
    (row,) = sentence_sources.claim_rows(claims, "c", ("What of {page}?",), Random(1))
    assert [p.value for b in row.branches if b.parent > 0 for p in b.parts if p.loss] == [FULLY, NO_SUPPORT]
