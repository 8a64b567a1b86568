"""PromptLookup at repeated text, alone and in the engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from selfrag.algorithm.reflection import JUDGEMENTS
from selfrag.engines.local.engine import LocalEngine
from selfrag.engines.local.onnx import OnnxEngine
from selfrag.engines.local.prompt_lookup import PromptLookup
from selfrag.engines.local.transformers import TransformersEngine
from selfrag.types import Completion, Request, Token
from tests.engines.contract import LONG, PROMPT


@pytest.mark.parametrize(
    ("ids", "most", "expected"),
    [
        ([], 3, []),
        ([1, 2, 3], 3, []),
        ([1, 2, 3, 1], 3, [2]),
        ([1, 2, 3, 4, 5, 6, 1, 2], 9, [3, 4, 5, 6]),
        ([1, 2, 3, 4, 5, 6, 1, 2], 2, [3, 4]),
        ([1, 2, 3, 9, 8, 7, 1, 2, 3], 8, [9, 8, 7, 1, 2, 3]),
        ([1, 2, 9, 1, 2, 7, 1, 2], 1, [7]),
        ([4, 1, 2, 9, 1, 2, 7, 4, 1, 2], 1, [9]),
        ([5, 5], 4, [5]),
    ],
)
def test_a_guess_follows_the_longest_likeness(ids: list[int], most: int, expected: list[int]) -> None:
    """What followed the longest earlier text with the same end comes next, of equals the latest; few ids where few are alike."""
    assert list(PromptLookup(ids).next(most)) == expected


def test_ids_that_are_appended_count() -> None:
    """The text grows; what was written is looked up like what was read."""
    guesses = PromptLookup([1, 2, 3])
    for token in (7, 8, 9, 7, 8):
        guesses.append(token)
    assert list(guesses.next(2)) == [9, 7]


@pytest.mark.parametrize("kind", [OnnxEngine, TransformersEngine])
@pytest.mark.parametrize(
    ("wrong", "saved"), [((), 5 / 6), (range(100), 0), (range(2, 100, 3), 2 / 3)], ids=["right", "wrong", "some"]
)
async def test_guesses_change_nothing_but_the_steps(
    kind: type[LocalEngine], wrong: Sequence[int], saved: float, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses, right or wrong, leave tokens and log-probabilities as they are; every right one saves a step. A request can be
    stopped at any token and continued from there: no wrong guess stays in the cache."""
    monkeypatch.setattr("selfrag.engines.local.scheduler._GUESSES", 0)
    engine = kind(str(checkpoint), threads=1)
    plain = await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS))
    await engine.close()
    ids = [token.id for token in plain.tokens]
    assert engine.steps == len(ids)

    class Told(PromptLookup):
        """Knows the answer, and says something else in the places ``wrong``."""

        def next(self, most: int) -> Sequence[int]:
            at = len(self._ids) - plain.prompt_tokens
            return [0 if n in wrong else ids[n] for n in range(at, min(at + most, len(ids)))]

    monkeypatch.setattr("selfrag.engines.local.scheduler._GUESSES", 5)
    monkeypatch.setattr("selfrag.engines.local.scheduler.PromptLookup", Told)
    engine = kind(str(checkpoint), threads=1)
    same(await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS)), plain)
    assert engine.steps == pytest.approx(len(ids) * (1 - saved), abs=2)
    assert engine.prefilled == plain.prompt_tokens + len(ids) - 1
    await engine.close()

    for stop in range(1, len(ids), 4):
        engine = kind(str(checkpoint), threads=1)
        seen: list[Token] = []
        await engine.complete(Request(PROMPT, LONG), lambda token, seen=seen, stop=stop: seen.append(token) or len(seen) < stop)
        same(await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS)), plain)
        await engine.close()


def same(left: Completion, right: Completion) -> None:
    assert [token.id for token in left.tokens] == [token.id for token in right.tokens]
    for a, b in zip(left.tokens, right.tokens, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert dict(a.watched) == pytest.approx(dict(b.watched), abs=1e-4)
