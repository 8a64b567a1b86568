"""Answers the questions of `ask` and `chat`: through a running service with the same settings, or with an agent of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from selfrag.cli import terminal
from selfrag.cli.conversation import Conversation, open_rewriter, standalone

if TYPE_CHECKING:
    from selfrag.agent import Agent
    from selfrag.answers.trace import Recorder
    from selfrag.cli.live import Watcher
    from selfrag.cli.options import AgentFlags
    from selfrag.cli.stream import Stream
    from selfrag.service.registry import Running
    from selfrag.types import Answer, Engine, Event, Observer


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, the events that led to it, and what else it depends on (`Agent.describe`)."""

    answer: Answer
    recorder: Recorder
    described: Mapping[str, Any]


class Asker:
    """Asks a running service if there is one. Otherwise opens the agent that the flags describe, once, and keeps it open."""

    def __init__(
        self,
        flags: AgentFlags,
        choices: tuple[str, ...] = (),
        rewriter: str | None = None,
        quiet: bool = False,
        service: bool = True,
    ) -> None:
        from selfrag.config import settings

        self.flags, self.choices, self.rewriter, self.quiet = flags, choices, rewriter, quiet
        self.now = settings.load(**flags.given)
        self._service = service and not (flags.hyde or flags.files) and rewriter in (None, "rule", "off")
        self._agent: Agent | None = None
        self._engine: Engine | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def understood(self, typed: str, conversation: Conversation) -> str:
        """``typed`` as a question that stands alone in ``conversation``; a rewritten question is shown on stderr."""
        if not conversation.turns or self.rewriter == "off":
            return typed
        if self.running(follow_up=True) is None:
            await self.open()
        return await standalone(typed, conversation, self._engine, self.quiet)

    async def ask(self, question: str, stream: Stream | None = None) -> Asked:
        """The answer; the search is shown on stderr while it runs, and ``stream`` prints what is certain of the answer.

        Raises what the search raises, and what `open_agent` raises.
        """
        if running := self.running():
            from selfrag.service.client import ServiceLost

            try:
                return await self._remote(running, question, stream)
            except ServiceLost as error:
                terminal.say(f"note: the running service could not answer ({error}); loading the model", self.quiet)
                self._service = False
        return await ask_agent(await self.open(), question, self.quiet, stream)

    # --- the agent of this process ----------------------------------------------------------------------------------------

    async def open(self) -> Agent:
        """Opens the agent of this process, which answers from now on."""
        if self._agent is None:
            agent = await self._stack.enter_async_context(self.flags.open(self.choices, self.quiet))
            self._engine = await self._stack.enter_async_context(open_rewriter(self.rewriter, agent))
            self._agent = agent
        return self._agent

    # --- a service --------------------------------------------------------------------------------------------------------

    def running(self, follow_up: bool = False) -> Running | None:
        """A service with the same settings; None for a ``follow_up`` that a prompted model rewrites, which happens here."""
        if not self._service or self._agent is not None or not (self.now.paths.data / "services").is_dir():
            return None
        from selfrag.service import registry

        found = registry.find(self.now, [*(self.flags.collection or [self.now.collection]), *(self.flags.also or ())])
        needs_model = follow_up and self.rewriter is None and found is not None and found.reflection == "prompted"
        return None if needs_model else found

    async def _remote(self, running: Running, question: str, stream: Stream | None) -> Asked:
        from selfrag.answers.trace import Recorder
        from selfrag.cli.live import watching
        from selfrag.service import client

        body = {
            "question": question,
            "collections": self.flags.collection or [self.now.collection],
            "source": self.flags.source,
            "where": self.flags.where,
            "also": self.flags.also,
            "choices": self.choices,
            "options": self.now.search,
            "only": True,
            "history": False,
        }
        recorder = Recorder()
        with watching(self.quiet) as watcher:
            begin = (lambda options: stream.begin(question, options)) if stream else None
            found = await client.ask(running, body, observers(recorder, watcher, stream), begin)
        for warning in found.warnings:
            terminal.say(f"warning: {warning}", self.quiet)
        return Asked(found.answer, recorder, found.described)


async def ask_agent(agent: Agent, question: str, quiet: bool, stream: Stream | None = None) -> Asked:
    """Asks an open agent, and shows the search on stderr."""
    from selfrag.answers.trace import Recorder
    from selfrag.cli.live import watching

    recorder = Recorder()
    if stream:
        stream.begin(question, agent.options)
    with watching(quiet) as watcher:
        answer = await agent.ask(question, observer=observers(recorder, watcher, stream))
    for warning in agent.retriever.warnings if agent.retriever else ():
        terminal.say(f"warning: {warning}", quiet)
    return Asked(answer, recorder, agent.describe())


def observers(recorder: Recorder, watcher: Watcher, stream: Stream | None) -> Observer:
    """An observer that passes every event to all of them; ``stream`` prints where ``watcher`` draws."""
    if stream:
        stream.aside = watcher.aside

    def observe(event: Event) -> None:
        recorder(event)
        watcher(event)
        if stream:
            stream(event)

    return observe
