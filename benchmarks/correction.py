"""Measures corrective retrieval: the same questions with and without it, those that the documents do not answer, too.

    python benchmarks/correction.py QUESTIONS -c COLLECTION [--answerable 40] [--out FILE]

QUESTIONS is JSONL with question and answers (none: the documents do not answer it), such as corpora/wikipedia/questions.jsonl.
All unanswerable questions are asked, and a fixed random sample of the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness

from selfrag.agent import Agent, open_agent
from selfrag.train.passages import holds
from selfrag.types import Corrected, Event


async def ask(agent: Agent, row: dict[str, Any], correct: bool) -> dict[str, Any]:
    """Status, whether the answer is right, how many rounds it took, and seconds of the processor."""
    events: list[Event] = []
    started = time.process_time()
    answer = await agent.ask(row["question"], replace(agent.options, correct=correct), events.append)
    return {
        "status": answer.status,
        "text": answer.text,
        "right": bool(row.get("answers")) and holds(answer.text, row["answers"]),
        "rounds": [(event.standing, event.best, event.query) for event in events if isinstance(event, Corrected)],
        "seconds": time.process_time() - started,
    }


async def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("-c", "--collection", required=True)
    parser.add_argument("--answerable", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [json.loads(each) for each in options.questions.read_text("utf-8").splitlines()]
    answerable = [row for row in rows if row.get("answers")]
    random.Random(0).shuffle(answerable)
    asked = [row for row in rows if not row.get("answers")] + answerable[: options.answerable]
    found = []
    async with open_agent(options.collection) as agent:
        for row in asked:
            found.append({"question": row["question"], "off": await ask(agent, row, False), "on": await ask(agent, row, True)})
            if options.out:
                options.out.write_text("".join(json.dumps(each) + "\n" for each in found), "utf-8")
    first = len(asked) - len(answerable[: options.answerable])
    for kind, some in (("answerable", slice(first, None)), ("unanswerable", slice(first))):
        for way in ("off", "on"):
            chosen = [each[way] for each in found[some]]
            answered = sum(each["status"] == "answered" for each in chosen)
            seconds = sum(each["seconds"] for each in chosen) / max(1, len(chosen))
            right = sum(each["right"] for each in chosen)
            print(f"{kind}, correction {way}: {len(chosen)} asked, {answered} answered, {right} right, {seconds:.1f} CPU s each")


if __name__ == "__main__":
    asyncio.run(main())
