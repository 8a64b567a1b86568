"""A hand-written agent for the tests of batch runs: cheap, deterministic, with the failures that a test asks for."""

from __future__ import annotations

import asyncio
import hashlib

from selfrag.types import (
    Answer,
    Cited,
    Critique,
    Decision,
    Observer,
    Opened,
    Passage,
    Retrieved,
    SearchOptions,
    Segment,
    Timing,
    Usage,
)


def fake_answer(question: str, options: SearchOptions) -> Answer:
    """The same answer for the same question: its first word, cited; abstains where the question contains "unknown"."""
    share = int(hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()[:4], 16) / 65536
    passage = Passage(f"c-{share:.4f}", "Title", f"Text about {question[:20]}", "notes.md", (3, 4))
    critique = Critique(share, 0.9, 0.5, 0.8, {"ISREL": {"[Relevant]": share, "[Irrelevant]": 1 - share}})
    abstained = "unknown" in question
    text = options.choices[0] if options.choices else question.split()[0]
    return Answer(
        question=question,
        status="abstained" if abstained else "answered",
        text="" if abstained else text,
        segments=(Cited(Segment(text, passage, critique), 1, 3.0),),
        evidence=(passage,),
        options=options,
        decision=Decision("retrieve", 0.9),
        expanded=1,
        pruned=0,
        exact=True,
        reflection="tokens",
        model="fake",
        engine="fake",
        collection="notes",
        usage=Usage(10, 5),
        timing=Timing(1.0, 2.0, 3.0),
        score=3.0,
    )


class FakeAgent:
    """Counts its calls; ``trouble`` maps a question to the exceptions that its first calls raise, in turn."""

    def __init__(self, delay: float = 0.0, trouble: dict[str, list[Exception]] | None = None) -> None:
        self.delay, self.trouble = delay, trouble or {}
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def ask(self, question: str, options: SearchOptions, observer: Observer, instruction: str | None = None) -> Answer:
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.at_once -= 1
        if self.trouble.get(question):
            raise self.trouble[question].pop(0)
        answer = fake_answer(question, options)
        passage = answer.evidence[0]
        observer(Retrieved(0, 0, question, (passage,)))
        observer(Opened(0, 0, 1, passage, answer.segments[0].segment.critique))
        return answer
