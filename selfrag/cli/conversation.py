"""The conversation behind `ask --continue` and `chat`: its turns, its place in the history, and how follow-ups are rewritten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.errors import SelfragError, UsageError

if TYPE_CHECKING:
    from selfrag.agent import Agent
    from selfrag.conversation.followup import Turn
    from selfrag.conversation.history import Entry, History
    from selfrag.types import Answer, Engine

Keep = Annotated[
    bool | None, typer.Option("--history/--no-history", help="Keep questions and answers, for `selfrag history`.  [on]")
]
Rewrite = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="How follow-ups are rewritten: rule, off, or by the instruct model M, or URL#M.  [--hyde's model, or rule]",
    ),
]

_TURNS = 20


class Conversation:
    """The turns so far, and the history that stores them (not stored if ``history`` is None)."""

    def __init__(self, history: History | None = None) -> None:
        self.history = history
        self.session: int | None = None
        self.turns: list[Turn] = []
        self.documents: list[Any] = []
        self.last: Entry | None = None

    def resume(self, entries: list[Entry]) -> None:
        """Continues from these answers of one session."""
        from selfrag.conversation.followup import turn_of

        self.session, self.last = entries[-1].session, entries[-1]
        self.documents = [entry.document for entry in entries]
        self.turns = [turn_of(document) for document in self.documents][-_TURNS:]

    def begin(self) -> None:
        """Forgets the turns; the next question starts a new session."""
        self.session, self.turns, self.documents, self.last = None, [], [], None

    def remember(self, typed: str, answer: Answer, described: Mapping[str, Any], quiet: bool) -> None:
        """Adds a turn and stores it. If the history cannot be written, stderr says so and the answer is still given."""
        from selfrag.answers.schema import answer_json
        from selfrag.conversation.followup import turn_of

        document = answer_json(answer)
        self.documents.append(document)
        self.turns = [*self.turns, turn_of(document)][-_TURNS:]
        if self.history is None:
            return
        conditions = {"options": asdict(answer.options), **described}
        try:
            self.last = self.history.add(document, typed, self.session, conditions)
            self.session = self.last.session
        except SelfragError as error:
            terminal.say(f"warning: the answer was not kept: {error.message}", quiet)


def open_conversation(keep: bool | None, resume: bool = False, quiet: bool = False) -> Conversation:
    """A conversation, kept as the settings say; ``resume`` continues the last one.

    Raises UsageError if ``resume`` finds none to continue. A history that cannot be opened is fatal only then.
    """
    from selfrag.config import settings
    from selfrag.conversation.history import History

    now = settings.load(history=keep)
    if not now.history and not resume:
        return Conversation()
    try:
        history = History.open(now.paths.conversations, now.history_mb * 2**20)
    except SelfragError as error:
        if resume:
            raise
        terminal.say(f"warning: {error.message}", quiet)
        return Conversation()
    conversation = Conversation(history if now.history else None)
    if resume:
        last = history.last()
        if last is None:
            raise UsageError("there is no conversation to continue", "leave out --continue")
        conversation.resume(history.session(last.session))
    return conversation


@asynccontextmanager
async def open_rewriter(wanted: str | None, agent: Agent) -> AsyncIterator[Engine | None]:
    """The instruct model that rewrites follow-ups, None to rewrite by rule. Raises ModelError for one that does not exist."""
    from selfrag.agent import find_instruct
    from selfrag.config import settings

    if wanted in (None, "rule", "off"):
        hyde = getattr(agent.retriever, "hyde", None)
        prompted = agent.reflector.engine if agent.reflector.kind == "prompted" else None
        yield (hyde.engine if hyde else prompted) if wanted is None else None
        return
    now = settings.load()
    engine = find_instruct(now, wanted or "").open(now.device)
    try:
        yield engine
    finally:
        await engine.close()


async def standalone(typed: str, conversation: Conversation, rewriter: Engine | None, quiet: bool) -> str:
    """``typed`` as a question that stands alone; a rewritten question is shown on stderr."""
    from selfrag import prompts
    from selfrag.conversation.followup import rewrite, rewrite_with

    if rewriter and conversation.turns:
        question = await rewrite_with(rewriter, prompts.load("followup").render, typed, conversation.turns)
    else:
        question = rewrite(typed, conversation.turns)
    if question != typed and not quiet:
        from rich.text import Text

        from selfrag._util import clean

        terminal.err().print(Text(f"→ {clean(question)}", style="dim"), soft_wrap=True)
    return question
