"""Follow-ups by rule and by an instruct model: what is filled in, and what is left as it was typed."""

from __future__ import annotations

import pytest

from selfrag import prompts
from selfrag.answers.schema import answer_json, error_json
from selfrag.conversation.followup import Turn, rewrite, rewrite_with, turn_of
from selfrag.types import SearchOptions
from tests.fake_agent import fake_answer
from tests.scripted_engine import ScriptedEngine, words

SELENIUM = Turn("Who discovered selenium?", "Selenium was discovered in 1817 by Jöns Jacob Berzelius.", ("Selenium",))
ADA = Turn("When was Ada Lovelace born?", "Ada Lovelace was born on 10 December 1815.", ("Ada Lovelace",), "She was a writer.")
MOONS = Turn("What are the four largest moons of Jupiter?", "They are Io, Europa, Ganymede and Callisto.", ("Jupiter",))
FRANCE = Turn("What is the capital of France?", "The capital of France is Paris.", ("Paris",))
CURIES = Turn("Who discovered polonium?", "Marie and Pierre Curie discovered polonium in 1898.", ("Polonium",))
TOWER = Turn("How tall is the Eiffel Tower?", "The Eiffel Tower is 330 m tall.", ("Eiffel Tower",))
PEOPLE = Turn("How many people live in France?", "68 million people live in France.", ("France",))
PLAY = Turn("Which magician lives on an island in Shakespeare's The Tempest?", "Prospero.", ("The Tempest",))
TRANSISTOR = Turn("When was the transistor invented?", "", ())


@pytest.mark.parametrize(
    ("turn", "typed", "meant"),
    [
        (SELENIUM, "and when was he born?", "When was Jöns Jacob Berzelius born?"),
        (SELENIUM, "what is it used for?", "What is selenium used for?"),
        (SELENIUM, "when?", "When was selenium discovered?"),
        (SELENIUM, "Who else?", "Who else discovered selenium?"),
        (ADA, "what did she study after her marriage?", "What did Ada Lovelace study after her marriage?"),
        (SELENIUM, "how did he discover it?", "How did Jöns Jacob Berzelius discover selenium?"),
        (ADA, "And when did she die?", "When did Ada Lovelace die?"),
        (ADA, "who were her parents?", "Who were Ada Lovelace's parents?"),
        (ADA, "where?", "Where was Ada Lovelace born?"),
        (ADA, "did she know Charles Babbage?", "Did Ada Lovelace know Charles Babbage?"),
        (ADA, "what about Charles Babbage?", "When was Charles Babbage born?"),
        (MOONS, "the second one", "What is Europa?"),
        (MOONS, "how big is the last one?", "How big is Callisto?"),
        (MOONS, "tell me about the third one", "Tell me about Ganymede."),
        (MOONS, "which of them is the largest?", "Which of Io, Europa, Ganymede and Callisto is the largest?"),
        (FRANCE, "how many people live there?", "How many people live in Paris?"),
        (FRANCE, "and Germany?", "What is the capital of Germany?"),
        (CURIES, "where did they work?", "Where did Marie and Pierre Curie work?"),
        (TOWER, "who built it?", "Who built the Eiffel Tower?"),
        (PEOPLE, "and in Germany?", "How many people live in Germany?"),
        (PLAY, "who is his daughter?", "Who is Prospero's daughter?"),
        (TRANSISTOR, "who invented it?", "Who invented the transistor?"),
        (Turn("How do I search only in Python files?"), "what about Rust files?", "How do I search only in Rust files?"),
        (Turn("Where does ripgrep look for ignore files?"), "can it be told to stop?", "Can ripgrep be told to stop?"),
        (Turn("How is the ignore file different from that one?"), "who reads it?", "Who reads the ignore file?"),
        (
            Turn("Which bridge is Thomas Telford known for?", "He is known for the Menai Bridge.", ("Thomas Telford",)),
            "when did he die?",
            "When did Thomas Telford die?",
        ),
    ],
)
def test_what_is_filled_in(turn: Turn, typed: str, meant: str) -> None:
    """Pronouns, bare question words, "what about" and "the second one" are filled from the last question and answer."""
    assert rewrite(typed, [turn]) == meant


@pytest.mark.parametrize(
    ("turn", "typed"),
    [
        (CURIES, "when did she die?"),  # one of two
        (ADA, "did he build a machine?"),  # the passage speaks of a woman
        (MOONS, "the seventh one"),
        (MOONS, "the fifth one"),  # there are four
        (TOWER, "the second one"),  # nothing is listed
        (PLAY, "what is it about?"),  # the play, or the magician
        (ADA, "What did Charles Darwin write in his first book?"),  # his own name
        (MOONS, "Where does an editor look for its settings?"),  # the editor's
        (ADA, "what about the others?"),
        (Turn("What about the others?", "Although they lay eggs, they are mammals."), "and his party?"),
        (SELENIUM, "Where is the Louvre?"),
        (SELENIUM, "thanks"),
        (TOWER, "is it raining?"),
        (Turn("Is photosynthesis efficient?", "No."), "why?"),  # of what is not so
        (Turn("세종대왕은 언제 태어났나?", "1397년", ("세종",)), "그는 언제 죽었나?"),
        (SELENIUM, "그것은 언제 발견되었나?"),
        (SELENIUM, "и когда он родился?"),
    ],
)
def test_what_stays_as_it_was_typed(turn: Turn, typed: str) -> None:
    """In doubt, and in other scripts, the question is the plain one, to the letter."""
    assert rewrite(typed, [turn]) == typed


def test_nothing_was_asked_before() -> None:
    """The first question of a conversation is never rewritten."""
    assert rewrite("when was she born?", []) == "when was she born?"


def test_turns_from_documents() -> None:
    """A turn takes its names from the cited passages; what was abstained from, and failed, gives its question alone."""
    turn = turn_of(answer_json(fake_answer("Who?", SearchOptions())))
    assert (turn.question, turn.answer, turn.titles) == ("Who?", "Who?", ("Title",))
    assert turn.evidence
    abstained = turn_of(answer_json(fake_answer("unknown?", SearchOptions())))
    assert abstained == Turn("unknown?")
    assert turn_of(error_json("Who?", "engine lost")) == Turn("Who?")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("When was Ada Lovelace born?", "When was Ada Lovelace born?"),
        ('"When was Ada Lovelace born?"\n', "When was Ada Lovelace born?"),
        ("Sure! Here it is:\nWhen was Ada born?", "and when?"),
        ("Ada Lovelace was born in 1815.", "and when?"),
        ("x" * 400 + "?", "and when?"),
        ("", "and when?"),
    ],
)
async def test_an_instruct_model(written: str, meant: str) -> None:
    """One question on one line is taken, without its quotation marks; anything else leaves the question as it was typed."""
    engine = ScriptedEngine(lambda _: words(written))
    assert await rewrite_with(engine, prompts.load("followup").render, "and when?", [ADA]) == meant
    [message] = engine.requests[0].prompt
    assert f"Q: {ADA.question}\nA: {ADA.answer}\n\nFollow-up: and when?" in getattr(message, "text", "")
