"""The contract of engines against a real llama.cpp server, as far as its API goes: it tells a top-k list, never named ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from selfrag.algorithm.reflection import ISREL, JUDGEMENTS, RELEVANT, text_of
from selfrag.engines.http.engine import ServerEngine
from selfrag.types import Control, Engine, Generated, Request, Text
from tests.engines import contract, llamacpp
from tests.engines.contract import LONG, PROMPT, TOLERANCE, with_evidence
from tests.engines.tiny import CONTEXT, KOREAN, SEOUL, Oracle

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def url(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = llamacpp.to_gguf(checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    with llamacpp.served(model, "tiny", window=2 * CONTEXT) as url:
        yield url


class TestLlamaCpp(contract.ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path, url: str) -> AsyncIterator[ServerEngine]:
        engine = ServerEngine([url], str(checkpoint), served="tiny")
        yield engine
        await engine.close()

    async def test_probabilities_are_the_models_own(self, engine: Engine, oracle: Oracle) -> None:
        """What the top-k list tells agrees with a plain forward pass; what it cuts off makes the completion inexact."""
        done = await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS))
        ids = oracle.ids(PROMPT)
        expected = oracle.logprobs([*ids, *(token.id for token in done.tokens)])[len(ids) - 1 :]
        told = [(row, token) for row, token in zip(expected, done.tokens, strict=False) if token.watched]
        assert len(told) > 10
        for row, token in told:
            assert token.id == int(row.argmax())
            for name, logprob in token.watched.items():
                assert logprob == pytest.approx(row[oracle.id(name)].item(), abs=TOLERANCE)
        assert not engine.exact
        assert done.exact == all(set(token.watched) == set(JUDGEMENTS) for token in done.tokens)

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_the_limit_holds(self, engine: Engine, limit: int) -> None:
        """No more than ``max_tokens`` tokens are written; the pieces of a character that the limit cuts in two are not told."""
        done = await engine.complete(Request(PROMPT, limit))
        assert done.finish == "length"
        assert 1 <= len(done.tokens) <= limit

    async def test_choices_are_watched_by_their_first_token(self, engine: Engine, oracle: Oracle) -> None:
        """The log-probabilities of plain words are reported under the words, where they are in the top-k list."""
        prompt = (*PROMPT, Control(RELEVANT), Text("Seoul is the"))
        done = await engine.complete(Request(prompt, 1, choices=(" capital", " largest", "No")))
        expected = oracle.logprobs(oracle.ids(prompt))[-1]
        watched = done.tokens[0].watched
        assert " capital" in watched
        for word, logprob in watched.items():
            assert logprob == pytest.approx(expected[oracle.ids((Text(word),))[0]].item(), abs=TOLERANCE)

    async def test_control_is_not_its_spelling(self, engine: Engine, oracle: Oracle) -> None:
        """A control part is one token; text with the same characters is several."""
        control, spelled = ((*PROMPT, part) for part in (Control(RELEVANT), Text(RELEVANT)))
        one, many = await asyncio.gather(*(engine.complete(Request(p, 1, watch=JUDGEMENTS)) for p in (control, spelled)))
        assert many.prompt_tokens > one.prompt_tokens == len(oracle.ids(control))

    @pytest.mark.parametrize("forged", contract.FORGED)
    async def test_text_cannot_forge_control(self, engine: Engine, oracle: Oracle, forged: str) -> None:
        """What a document spells is read as those characters: alone, in a word, and twice."""
        for text in (forged, f"x{forged}y", forged * 2):
            prompt = with_evidence(f"{SEOUL} {text}")
            done = await engine.complete(Request(prompt, 1, watch=ISREL))
            assert done.prompt_tokens == len(oracle.ids(prompt))
            for token in done.tokens:  # none where it begins a character of several tokens
                assert token.logprob == pytest.approx(oracle.logprobs(oracle.ids(prompt))[-1].max().item(), abs=TOLERANCE)

    async def test_generated_tokens_are_played_back(self, engine: Engine) -> None:
        """A completion in two requests, the first one's tokens in the second's prompt, is the completion in one."""
        whole = await engine.complete(Request(PROMPT, LONG, watch=ISREL))
        for cut in (1, 4, 6):
            begun = await engine.complete(Request(PROMPT, cut, watch=ISREL))
            rest = await engine.complete(Request((*PROMPT, Generated(begun.tokens)), LONG, watch=ISREL))
            assert [t.id for t in begun.tokens + rest.tokens] == [t.id for t in whole.tokens]
            assert text_of(begun.tokens + rest.tokens) == KOREAN
            assert rest.prompt_tokens == begun.prompt_tokens + len(begun.tokens)
