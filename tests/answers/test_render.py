"""What a person sees of an answer and of a search, as plain text and with colours."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from selfrag.answers import render
from selfrag.answers.schema import AnswerJson, shown_answer
from selfrag.answers.trace import trace_json
from selfrag.cli import live
from selfrag.types import (
    Answer,
    Cited,
    Corrected,
    Critique,
    Decided,
    Decision,
    Event,
    Expanded,
    Opened,
    Passage,
    Pruned,
    Retrieved,
    SearchOptions,
    Segment,
    Selected,
    Timing,
    Usage,
)

TOWER = Passage("c1", "Eiffel Tower", "The tower was built in 1889.", "/docs/tower.md", lines=(3, 4))
BOOK = Passage("c2", "Gustave Eiffel", "Eiffel was an engineer.", "/docs/book.pdf", page=7)
JUDGED = {"ISREL": {"[Irrelevant]": 0.02, "[Relevant]": 0.98}, "ISSUP": {"[Fully supported]": 1.0}}


def segment(text: str, passage: Passage | None, critique: Critique) -> Segment:
    return Segment(text, passage, critique, carry=False)


FIRST = segment("It was built in 1889.", TOWER, Critique(0.98, 0.93, 0.0, 0.5, JUDGED))
SECOND = segment("Paris is lovely.", None, Critique(0.0, 0.0, -0.5, 0.5, {"ISUSE": {"[Utility:2]": 1.0}}))


def answer(**changes: Any) -> Answer:
    plain = Answer(
        question="When was it built?",
        status="answered",
        text="It was built in 1889. Paris is lovely.",
        segments=(Cited(FIRST, 1, 2.4), Cited(SECOND, None, 0.2)),
        evidence=(TOWER, BOOK),
        options=SearchOptions(),
        decision=Decision("retrieve", 0.97),
        expanded=3,
        pruned=2,
        exact=True,
        reflection="tokens",
        model="small",
        engine="scripted",
        collection="default",
        usage=Usage(),
        timing=Timing(total=1234.0),
    )
    return replace(plain, **changes)


EVENTS: tuple[Event, ...] = (
    Decided(0, 0, Decision("retrieve", 0.97)),
    Retrieved(0, 0, "When was it built?", (TOWER, BOOK)),
    Opened(0, 0, 1, TOWER, FIRST.critique),
    Opened(0, 0, 2, BOOK, Critique(0.1, distributions={"ISREL": {"[Relevant]": 0.1}})),
    Expanded(0, 0, 1, FIRST, 2.41),
    Pruned(0, 0, 2, BOOK, "before writing", 1.1, 2.41),
    Selected(0, (1,), (2.41,)),
)


def text(thing: RenderableType, width: int = 100, colour: bool = False) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(thing)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def document(**changes: Any) -> AnswerJson:
    return trace_json(answer(**changes), EVENTS)["answer"]


def test_sentences_carry_citation_and_critique() -> None:
    """Each sentence stands in a line with its number and its three critiques, a dash for one that it does not carry."""
    lines = text(render.sentences(document()["segments"])).splitlines()
    assert lines[0].split() == ["ISREL", "ISSUP", "ISUSE"]
    assert lines[1].split() == ["0.98", "0.93", "–", "It", "was", "built", "in", "1889.", "[1]"]
    assert lines[2].strip() == "“The tower was built in 1889.”"
    assert lines[3].split()[:6] == ["–", "–", "-0.50", "Paris", "is", "lovely."]


def test_a_fragment_is_read_in_its_sentence() -> None:
    """Words that stand in the passage are shown within their whole sentence, set off where colours are allowed, once."""
    piece = replace(FIRST, text="in 1889")
    shown = document(segments=(Cited(piece, 1, 2.4), Cited(replace(FIRST, text="The tower"), 1, 2.0)))
    assert text(render.sentences(shown["segments"])).count("The tower was built in 1889. [1]") == 1
    assert "\x1b[1min 1889\x1b[0m" in text(render.sentences(shown["segments"]), colour=True)
    assert shown_answer(shown) == "The tower was built in 1889."


def test_what_a_longer_quote_holds_is_not_quoted_again() -> None:
    """A quote within one that is shown above is left out; the answer as text has its words once."""
    passage = replace(TOWER, text="The tower was built in 1889. It is of iron.")
    cited = tuple(
        Cited(replace(FIRST, text=text, passage=passage), 1, 2.0) for text in ("The tower was built in 1889.", "of iron")
    )
    shown = document(question="What is the tower?", segments=cited, options=SearchOptions(join_isuse=0.6))
    assert shown_answer(shown) == "The tower was built in 1889. It is of iron."
    lines = text(render.sentences(shown["segments"])).splitlines()
    assert [line.split(maxsplit=3)[3].rstrip() for line in lines[1:]] == [
        "The tower was built in 1889. It is of iron. [1]",
        "of iron [1]",
    ]


def test_low_critiques_have_words() -> None:
    """Beside low numbers stands what they mean; high ones speak for themselves."""
    weak = replace(FIRST, critique=Critique(0.98, 0.4, 0.0, 0.5, JUDGED))
    poor = replace(FIRST, critique=Critique(0.2, 0.1, -1.0, 0.5, {**JUDGED, "ISUSE": {"[Utility:1]": 1.0}}))
    shown = document(segments=(Cited(weak, 1, 1.0), Cited(poor, 1, 1.0), Cited(FIRST, 1, 1.0)))
    found = [render.remarks(segment) for segment in shown["segments"]]
    assert found == [["weak support"], ["hardly relevant", "hardly supported", "hardly useful"], []]
    assert "(weak support)" in text(render.sentences(shown["segments"]))


def test_citations_are_links_where_they_may_be() -> None:
    """A citation is an OSC 8 hyperlink to its file and line, or what a template makes of them; without one there is none."""
    linked = text(render.sources(document(), Path("/docs"), link=render.FILE_LINK), colour=True)
    assert "\x1b]8;" in linked
    assert "file:///docs/tower.md#L3" in linked
    assert "vscode://file/docs/tower.md:3" in text(render.sources(document(), link="vscode://file{path}:{line}"), colour=True)
    assert "\x1b" not in text(render.sources(document(), link=render.FILE_LINK))
    odd = replace(TOWER, source="/docs/a \x1b[31mb.md")
    shown = render.sources(document(segments=(), evidence=(odd,)), link=render.FILE_LINK)
    assert "/docs/a%20%1B%5B31mb.md" in text(shown, colour=True)


def test_narrow_terminals_fold_words_not_numbers() -> None:
    """On a narrow terminal the sentence is folded; the critiques stay whole."""
    shown = text(render.sentences(document()["segments"]), width=40)
    assert "0.98" in shown
    assert "0.93" in shown


def test_sources_tell_line_or_page() -> None:
    """A source is a path with a line or a page, shortened where it lies below the present folder."""
    shown = text(render.sources(document(), Path("/docs")))
    assert "[1] tower.md:3" in shown
    assert "[2] book.pdf p.7" in shown
    assert "/docs/tower.md:3" in text(render.sources(document(), Path("/elsewhere")))


def test_evidence_is_shown_in_full_when_asked_for() -> None:
    """With evidence the passages' words follow their source."""
    assert "Eiffel was an engineer." in text(render.answer(document(), evidence=True))
    assert "Eiffel was an engineer." not in text(render.answer(document()))


def test_footer_tells_how_the_answer_was_found() -> None:
    """Decision with its probability and threshold, candidates, time, model; and where numbers are not the model's own."""
    assert "retrieved (p 0.97 > 0.20) · 3 written, 2 pruned · 1.2 s · small" in text(render.footer(document()))
    estimated = text(render.footer(document(exact=False, reflection="prompted")))
    assert "not exact" in estimated
    assert "estimated" in estimated


@pytest.mark.parametrize(("sure", "said"), [(0.91, "· confidence 0.91 ·"), (0.31, "· low confidence 0.31 ·"), (None, "")])
def test_the_footer_tells_the_confidence(sure: float | None, said: str) -> None:
    """Below one half in words, too; an answer without evidence and an abstention have none."""
    assert said in text(render.footer(document(confidence=sure)))
    assert ("confidence" in text(render.footer(document(confidence=sure)))) == (sure is not None)
    assert "confidence" not in text(render.footer(document(confidence=sure, status="abstained")))


def test_abstaining_says_why_and_shows_the_nearest() -> None:
    """An abstention names the critique that was too low, and shows the passages all the same."""
    options = SearchOptions(abstain_isrel=0.99)
    shown = text(render.answer(document(status="abstained", text=""), options))
    assert "No answer: the best answer is not relevant enough (ISREL 0.98, at least 0.99 is wanted)." in shown
    assert "The tower was built in 1889." in shown
    nothing = text(render.answer(document(status="abstained", text="", segments=(), evidence=(), expanded=0, pruned=0)))
    assert "nothing was found" in nothing


def test_tree_shows_rejected_branches() -> None:
    """The tree holds the decision, every candidate with its ISREL, what was written, and what was pruned and why."""
    trace = trace_json(answer(), EVENTS)
    shown = text(render.tree(trace["answer"], trace["events"], trace["passages"], Path("/docs")))
    assert "evidence is needed (p 0.97)" in shown
    assert "tower.md:3  ISREL 0.98" in shown
    assert "✓ It was built in 1889.  ISSUP 0.93  score 2.410" in shown
    assert "✗ pruned before writing: at most 1.100, needed 2.410" in shown


def test_brackets_and_control_characters_are_text() -> None:
    """What looks like markup or moves the cursor in a document, a question or a file name is shown and does nothing."""
    nasty = replace(
        TOWER, text="[bold red]x[/] [Relevant] \x1b[2J\a", source="/docs/[link=x]a[/link].md", title="[Fully supported]"
    )
    bad = segment("[Relevant] [/nonsense] \x1b[31mred\u202e", nasty, FIRST.critique)
    shown = text(render.answer(document(segments=(Cited(bad, 1, 1.0),), evidence=(nasty,), question="[/]"), evidence=True), 200)
    assert "[Relevant] [/nonsense] \N{REPLACEMENT CHARACTER}[31mred" in shown
    assert "[bold red]x[/] [Relevant]" in shown
    assert "[link=x]a[/link].md:3" in shown
    assert not set(shown) & {"\x1b", "\a", "\u202e"}


def test_colours_follow_the_level() -> None:
    """High, middling and low critiques differ; utility is read on its own scale from -1 to 1."""
    assert [render.level(v) for v in (0.9, 0.5, 0.1)] == ["green", "yellow", "red"]
    assert [render.level(v, -1.0) for v in (0.5, 0.0, -0.9)] == ["green", "yellow", "red"]
    assert "\x1b[" in text(render.sentences(document()["segments"]), colour=True)
    assert "\x1b" not in text(render.sentences(document()["segments"]))


def test_searching_again_is_part_of_the_tree() -> None:
    """A round of corrective retrieval shows what was thought of the passages before it, the new words, and what they found."""
    again = Corrected(0, 0, 1, "not found", 0.12, "spindrift lighthouse", (BOOK,), "notes,papers")
    trace = trace_json(answer(), (again,))
    assert "not found (best ISREL 0.12), searched again in notes,papers: 1 more passages for: spindrift" in text(
        render.tree(trace["answer"], trace["events"], trace["passages"])
    )
    assert "not found (best ISREL 0.12), searched again in notes,papers: spindrift" in (live.line(again) or "")
