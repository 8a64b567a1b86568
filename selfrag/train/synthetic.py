"""Instructions that need no evidence, built by rule, with answers where a rule can know them.

They use words of the same passages as the questions and often look like questions, so that the genre does not reveal the choice
between `[Retrieval]` and `[No Retrieval]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from selfrag.algorithm.reflection import NO_RETRIEVAL
from selfrag.train.rows import END, Example, control, packed, prompt, text
from selfrag.train.sources import utility

Task = tuple[str, str, str]
"""Instruction, separate input, answer ("" when no rule knows it)."""

_CHAT = (
    ("Hello!", "Hello! What would you like to know?"),
    ("Hi, how are you?", "I am fine, thank you. What would you like to know?"),
    ("Thank you very much.", "You are welcome."),
    ("Good morning", "Good morning! What would you like to know?"),
    ("Who are you?", "I am an assistant that answers questions from your documents."),
    ("What can you do?", "I answer questions from your documents and show the evidence."),
    ("Thanks, that was helpful", "You are welcome."),
    ("Bye", "Goodbye!"),
    ("Are you a robot?", "I am a program that answers questions from your documents."),
    ("Can you help me?", "Yes. What would you like to know?"),
)
_OPEN = (
    "Write a short poem about {t}.", "Do you like {t}?", "Imagine you visited {t}. Write a diary entry.",
    "Write a friendly email inviting a colleague to a talk about {t}.", "What would be a good title for an essay on {t}?",
    "Make up a riddle whose answer is {t}.", "Give me three ideas for a party with the theme {t}.", "Tell me a joke about {t}.",
    "Write a story that begins with the words: {t}.", "What is your opinion of {t}?", "How would you feel about {t}?",
    "Compose a slogan for a shop called {t}.", "Suggest a name for a dog whose owner loves {t}.",
)  # fmt: skip
_REWRITE = (
    "Rewrite this sentence in simpler words.", "Translate this sentence to French.", "Make this sentence more formal.",
    "Is this sentence positive or negative?", "Correct the grammar of this sentence.", "Paraphrase the text.",
    "What is the tone of this text?", "Turn this sentence into a question.", "Shorten this text.", "Translate into German:",
)  # fmt: skip
_SUMS: tuple[tuple[str, Callable[[int, int], int]], ...] = (
    ("What is {a} plus {b}?", lambda a, b: a + b), ("what is {a} minus {b}", lambda a, b: a - b),
    ("How much is {a} times {b}?", lambda a, b: a * b), ("Add {a} and {b}.", lambda a, b: a + b),
    ("Calculate {a} + {b}", lambda a, b: a + b),
    ("If I have {a} apples and get {b} more, how many do I have?", lambda a, b: a + b),
    ("How many hours are {a} hours and {b} hours together?", lambda a, b: a + b), ("{a} - {b} = ?", lambda a, b: a - b),
    ("Which number is larger, {a} or {b}?", max), ("which is smaller: {a} or {b}", min),
)  # fmt: skip


def sums(rng: Random, _: str, __: str) -> Task:
    question, rule = rng.choice(_SUMS)
    a, b = sorted((rng.randint(1, 60), rng.randint(1, 60)), reverse=True)
    return question.format(a=a, b=b), "", str(rule(a, b))


def words(rng: Random, sentence: str, _: str) -> Task:
    """A question about the words of a given sentence."""
    shown = sentence.split()[:8]
    n = rng.randrange(min(3, len(shown)))
    quoted = " ".join(shown)
    options: tuple[Task, ...] = (
        (f'What is the {("first", "second", "third")[n]} word of "{quoted}"?', "", shown[n]),
        (f'How many words are in "{quoted}"?', "", str(len(shown))),
        ("Write the text in capital letters.", quoted, quoted.upper()),
        (f"What is the last letter of the word {shown[n]}?", "", shown[n][-1]),
        (f'What is the last word in "{quoted}"?', "", shown[-1]),
        (f"Repeat after me: {quoted}", "", quoted),
        ("Put these words in alphabetical order: " + ", ".join(shown[:4]), "", ", ".join(sorted(shown[:4], key=str.lower))),
    )
    return rng.choice(options)


def rewrite(rng: Random, sentence: str, _: str) -> Task:
    order = rng.choice(_REWRITE)
    return (order, sentence, "") if rng.random() < 0.5 else (f"{order} {sentence}", "", "")


def open_ended(rng: Random, _: str, title: str) -> Task:
    return rng.choice(_OPEN).format(t=title), "", ""


def chat(rng: Random, _: str, __: str) -> Task:
    said, reply = rng.choice(_CHAT)
    return rng.choice((said, said.lower(), said.rstrip(".!?"))), "", reply


KINDS = (sums, words, rewrite, open_ended, words, rewrite, open_ended, chat)


def instructions(sentences: Sequence[tuple[str, str]], count: int, rng: Random) -> Iterator[Example]:
    """``count`` rows about (title, sentence) pairs drawn from ``sentences``."""
    for index in range(count):
        title, sentence = rng.choice(sentences)
        order, extra, answer = KINDS[index % len(KINDS)](rng, sentence, title)
        root = (prompt(order, extra), control(NO_RETRIEVAL))
        yield packed(f"instruction-{index}", "instructions", root, [(text(answer, 0.5), utility(5), END)] if answer else [])
