"""Twenty follow-ups in seven conversations over corpora/wikipedia: how they are rewritten by rule, and what that is good for.

    python benchmarks/followups.py -c wikipedia -o benchmarks/results/followups.md

For each one: what was typed, what it was made into, whether that is what was meant, at which rank the search finds the source
that answers it, typed and rewritten, and the answer of the bundled model to the rewritten question. As in `selfrag chat`, each
follow-up stands on the one before it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import harness

from selfrag import open_agent
from selfrag.answers.schema import answer_json
from selfrag.conversation.followup import rewrite, turn_of

CONVERSATIONS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "Who discovered the element selenium?",
        "selenium",
        [
            ("and when?", "When was selenium discovered?"),
            ("what is its atomic number?", "What is selenium's atomic number?"),
            ("where does it occur?", "Where does selenium occur?"),
            ("who was he?", "Who was Jöns Jacob Berzelius?"),
        ],
    ),
    (
        "What is the capital and largest city of Nepal?",
        "kathmandu",
        [
            ("how many people live there?", "How many people live in Kathmandu?"),
            ("what was it called in ancient times?", "What was Kathmandu called in ancient times?"),
            ("and how high is it?", "How high is Kathmandu?"),
        ],
    ),
    (
        "Who was Gustave Eiffel?",
        "gustave-eiffel",
        [
            ("which viaduct is he famous for?", "Which viaduct is Gustave Eiffel famous for?"),
            ("what did he study after his retirement?", "What did Gustave Eiffel study after his retirement?"),
            ("did he work on the Statue of Liberty?", "Did Gustave Eiffel work on the Statue of Liberty?"),
        ],
    ),
    (
        "How high is Mount Everest?",
        "mount-everest",
        [
            ("where is it?", "Where is Mount Everest?"),
            ("when was it measured most recently?", "When was Mount Everest measured most recently?"),
            ("why?", "Why was Mount Everest measured?"),
        ],
    ),
    (
        "Who wrote The Tempest?",
        "the-tempest",
        [
            ("when?", "When was The Tempest written?"),
            ("what themes does it explore?", "What themes does The Tempest explore?"),
            ("who are the two servants in the play?", "Who are the two servants in The Tempest?"),
        ],
    ),
    (
        "Which US president served more than two terms?",
        "franklin-d-roosevelt",
        [
            ("when did he die?", "When did Franklin Delano Roosevelt die?"),
            ("what about the others?", "what about the others?"),
            ("and his party?", "What was Franklin Delano Roosevelt's party?"),
        ],
    ),
    ("Who was Gustave Eiffel?", "gustave-eiffel", [("그는 어느 나라 사람인가?", "그는 어느 나라 사람인가?")]),
]


async def rows(collection: str) -> list[str]:
    found = []
    async with open_agent(collection) as agent:
        assert agent.retriever is not None

        async def rank(query: str, source: str) -> str:
            passages = await agent.retriever.search(query, 5) if agent.retriever else []
            at = next((n for n, each in enumerate(passages, 1) if Path(each.source).stem == source), None)
            return "–" if at is None else str(at)

        for opening, source, follow_ups in CONVERSATIONS:
            first = await agent.ask(opening)
            turns = [turn_of(answer_json(first))]
            found.append(f"| *{opening}* | | | {await rank(opening, source)} | | {shown(first.text)} |")
            for typed, meant in follow_ups:
                question = rewrite(typed, turns)
                verdict = "good" if question == meant else "plain" if question == typed else "bad"
                answer = await agent.ask(question)
                turns = [*turns, turn_of(answer_json(answer))]
                found.append(
                    f"| {typed} | {question if question != typed else '(as typed)'} | {verdict} | {await rank(typed, source)} |"
                    f" {await rank(question, source)} | {shown(answer.text)} |"
                )
                print(found[-1], flush=True)
    return found


def shown(text: str) -> str:
    return " ".join(text.split())[:200].replace("|", "\\|") or "(abstained)"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("-c", "--collection", default="wikipedia")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    head = ["| typed | asked | rewriting | rank, typed | rank, asked | answer |", "|---|---|---|---|---|---|"]
    table = "\n".join([*head, *asyncio.run(rows(arguments.collection))]) + "\n"
    if arguments.out:
        arguments.out.write_text(table, encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
