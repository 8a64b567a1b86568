"""Servers over HTTP, without a real one: what is asked, what is believed, and what happens when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from selfrag.algorithm.reflection import ISREL, ISUSE, RELEVANT
from selfrag.engines.http.client import Policy
from selfrag.engines.http.engine import ServerEngine
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.errors import EngineBusy, EngineError, ModelError, UsageError
from selfrag.types import Completion, Control, Message, Request, Text, Token
from tests.engines.fake_server import BROKEN, DIES, OVERLOADED, FakeServer, Fault, serving

HASTY = Policy(attempts=3, pause=0.001, longest=0.01, patience=0.2)
REQUEST = Request((Text("Tell me more:"),), 8, frozenset(ISUSE), ISREL)


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> PromptTokenizer:
    return PromptTokenizer.load(str(checkpoint))


@pytest.fixture
def alphabet(tokenizer: PromptTokenizer) -> FakeServer:
    """A server that writes a, b, c, … each letter according to how long the text is already."""
    return FakeServer(letters(tokenizer))


def letters(tokenizer: PromptTokenizer, model: str = "tiny") -> object:
    start = len(tokenizer.encode(REQUEST.prompt))

    def next_id(ids: Sequence[int]) -> int:
        return tokenizer.text_ids("abcdefghij"[(len(ids) - start) % 10])[0]

    return next_id


def text(completion: Completion) -> str:
    return "".join(token.text for token in completion.tokens)


def engine(urls: Sequence[str], checkpoint: Path, policy: Policy = HASTY) -> ServerEngine:
    return ServerEngine(urls, str(checkpoint), served="tiny", policy=policy)


# --- what is asked and believed ------------------------------------------------------------------------------------------------


async def test_watched_tokens_are_exact_where_the_server_tells_them_by_name(checkpoint: Path, alphabet: FakeServer) -> None:
    """A server that honours the ids gives every watched log-probability, and the completion says that it is exact."""
    async with serving(alphabet) as urls:
        done = await engine(urls, checkpoint).complete(REQUEST)
    assert text(done) == "abcdefgh"
    assert done.finish == "length"
    assert done.exact
    assert done.cached_tokens == 3
    assert all(token.watched.keys() == set(ISREL) for token in done.tokens)


async def test_a_server_that_ignores_the_names_is_noticed(
    checkpoint: Path, alphabet: FakeServer, tokenizer: PromptTokenizer
) -> None:
    """Then the longest top-k list that it allows is asked for, what is not in it is missing, and nothing claims to be exact."""
    alphabet.honours, alphabet.max_logprobs, alphabet.top = False, 5, [tokenizer.control[RELEVANT]]
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint)
        done = await subject.complete(REQUEST)
    assert not done.exact
    assert not subject.exact
    assert done.tokens[0].watched.keys() == {RELEVANT}
    assert alphabet.completions[0]["logprobs"] == 5


async def test_each_server_is_asked_once_what_it_can_do(checkpoint: Path, alphabet: FakeServer) -> None:
    """Many first requests at once share one probe."""
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint)
        await asyncio.gather(*(subject.complete(REQUEST) for _ in range(5)))
    assert alphabet.paths.count("/v1/models") == 1
    assert len(alphabet.requests) == 1 + 5


async def test_a_server_without_token_ids_is_refused(checkpoint: Path, alphabet: FakeServer) -> None:
    """Text alone cannot tell a control token from words that read like one."""
    alphabet.ids = False
    async with serving(alphabet) as urls:
        with pytest.raises(EngineError, match="reports no token ids") as caught:
            await engine(urls, checkpoint).complete(REQUEST)
    assert "--reflection prompted" in str(caught.value.hint)


async def test_another_model_is_refused(checkpoint: Path, alphabet: FakeServer) -> None:
    """The server's model must be the one that was asked for; the error names both."""
    alphabet.model = "other/model"
    async with serving(alphabet) as urls:
        with pytest.raises(ModelError, match=r"serves other/model, not tiny"):
            await engine(urls, checkpoint).complete(REQUEST)


@pytest.mark.parametrize("served", ["folder", "name"])
async def test_a_model_is_known_by_its_folder_or_its_name(checkpoint: Path, alphabet: FakeServer, served: str) -> None:
    """A folder may be served under its path or its last part."""
    alphabet.model = str(checkpoint) if served == "folder" else checkpoint.name
    async with serving(alphabet) as urls:
        assert text(await ServerEngine(urls, str(checkpoint), policy=HASTY).complete(REQUEST)) == "abcdefgh"


async def test_a_stop_token_that_the_server_ignored_ends_the_completion(checkpoint: Path, tokenizer: PromptTokenizer) -> None:
    """Stops are applied here as well, the stop token being the last."""
    utility = tokenizer.control["[Utility:5]"]
    heedless = FakeServer(lambda ids: utility)
    heedless._pieces = lambda body: FakeServer._pieces(heedless, body | {"stop_token_ids": []})  # type: ignore[method-assign]
    async with serving(heedless) as urls:
        done = await engine(urls, checkpoint).complete(REQUEST)
    assert [token.control for token in done.tokens] == ["[Utility:5]"]
    assert done.finish == "stop"


async def test_a_prompt_longer_than_the_window_is_an_error(checkpoint: Path, alphabet: FakeServer) -> None:
    """It names both numbers and is not sent."""
    async with serving(alphabet) as urls:
        with pytest.raises(EngineError, match=r"has \d+ tokens, but .* 512"):
            await engine(urls, checkpoint).complete(Request((Text("word " * 600),), 8))
    assert not alphabet.completions


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "nonsense"])
def test_what_is_not_a_url_is_refused(checkpoint: Path, url: str) -> None:
    """At once, with an example."""
    with pytest.raises(UsageError, match="not the URL of a server"):
        engine([url], checkpoint)


# --- streaming -----------------------------------------------------------------------------------------------------------------


async def test_tokens_stream_only_when_somebody_listens(checkpoint: Path, alphabet: FakeServer) -> None:
    """A stream costs the server more, so it is not asked for in vain; both ways give the same tokens."""
    heard: list[Token] = []

    def on_token(token: Token) -> bool:
        heard.append(token)
        return True

    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint)
        silent, loud = await subject.complete(REQUEST), await subject.complete(REQUEST, on_token)
    assert [body.get("stream", False) for body in alphabet.completions] == [False, True]
    assert silent == loud
    assert tuple(heard) == loud.tokens


async def test_a_cancelled_request_is_taken_from_the_server(checkpoint: Path, alphabet: FakeServer) -> None:
    """The connection is closed at once, so that the server stops generating."""
    async with serving(alphabet) as urls:
        long = Request(REQUEST.prompt, 400)
        done = await engine(urls, checkpoint).complete(long, lambda token: token.text != "c")
        await asyncio.wait_for(alphabet.hung_up.wait(), 20)
    assert text(done) == "abc"
    assert done.finish == "cancelled"


# --- failures ------------------------------------------------------------------------------------------------------------------


async def test_nobody_there_is_an_error_with_the_command_that_helps(checkpoint: Path, alphabet: FakeServer) -> None:
    """A server that never answered is not waited for."""
    async with serving(alphabet) as urls:
        pass
    with pytest.raises(EngineError, match=f"no server answers at {urls[0]}") as caught:
        await engine(urls, checkpoint).complete(REQUEST)
    assert not isinstance(caught.value, EngineBusy)
    assert "selfrag serve" in str(caught.value.hint)


@pytest.mark.parametrize("fault", [OVERLOADED, BROKEN, Fault(status=429, headers={"Retry-After": "0.01"}), DIES])
async def test_a_passing_failure_is_tried_again(checkpoint: Path, alphabet: FakeServer, fault: Fault) -> None:
    """429, 5xx and a lost connection are no reason to give up."""
    alphabet.faults.extend([fault, fault])
    async with serving(alphabet) as urls:
        assert text(await engine(urls, checkpoint).complete(REQUEST)) == "abcdefgh"
    assert len(alphabet.completions) == 3


async def test_a_server_that_stays_overloaded_is_busy(checkpoint: Path, alphabet: FakeServer) -> None:
    """After its attempts the request fails in a way that callers may try again later."""
    alphabet.faults.extend([OVERLOADED] * 9)
    async with serving(alphabet) as urls:
        with pytest.raises(EngineBusy, match=r"answers 503: no luck \(3 attempts\)"):
            await engine(urls, checkpoint).complete(REQUEST)


async def test_what_was_written_before_a_stream_broke_is_kept(checkpoint: Path, alphabet: FakeServer) -> None:
    """The rest is asked for from there: no token is heard twice, none is lost, and the answer is the same."""
    heard: list[str] = []

    def on_token(token: Token) -> bool:
        heard.append(token.text)
        return True

    alphabet.faults.append(Fault(cut=True, after=3))
    async with serving(alphabet) as urls:
        done = await engine(urls, checkpoint).complete(REQUEST, on_token)
    assert text(done) == "".join(heard) == "abcdefgh"
    assert [body["max_tokens"] for body in alphabet.completions] == [8, 5]
    assert done.prompt_tokens == len(alphabet.completions[0]["prompt"])


async def test_a_server_that_is_started_again_goes_on(checkpoint: Path, alphabet: FakeServer) -> None:
    """Requests wait for a server that worked before; each is answered once."""
    patient = Policy(pause=0.01, longest=0.05, patience=20)
    alphabet.delay = 0.02
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint, patient)
        await subject.complete(REQUEST)
        waiting = [asyncio.create_task(subject.complete(REQUEST)) for _ in range(20)]
        await asyncio.sleep(0.01)
        await alphabet.stop()
        await asyncio.sleep(0.1)
        await alphabet.start(alphabet.port)
        assert [text(done) for done in await asyncio.gather(*waiting)] == ["abcdefgh"] * 20


async def test_patience_with_a_lost_server_ends(checkpoint: Path, alphabet: FakeServer) -> None:
    """A server that does not return makes the request fail as busy, and says so."""
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint)
        await subject.complete(REQUEST)
    with pytest.raises(EngineBusy, match="no server answers"):
        await subject.complete(REQUEST)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1, 2]", b"", b'{"choices": [{"logprobs": {"tokens": [7]}}]}'])
async def test_nonsense_is_an_error(checkpoint: Path, alphabet: FakeServer, body: bytes) -> None:
    """Whatever speaks HTTP and not the protocol is named, not believed."""
    alphabet.faults.append(Fault(status=200, body=body))
    async with serving(alphabet) as urls:
        with pytest.raises(EngineError, match=r"OpenAI protocol|neither vLLM's|web page"):
            await engine(urls, checkpoint).complete(REQUEST)


async def test_a_slow_server_is_given_up(checkpoint: Path, alphabet: FakeServer) -> None:
    """A server that keeps silent for longer than the time-out counts as gone."""
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint, Policy(pause=0.001, longest=0.01, patience=0.05, read=0.1))
        await subject.complete(REQUEST)
        alphabet.delay = 5
        with pytest.raises(EngineBusy, match="does not answer in time"):
            await subject.complete(REQUEST)


async def test_the_api_key_is_sent_and_never_shown(
    checkpoint: Path, alphabet: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes from the environment alone; an error that quotes it does not."""
    alphabet.key = "right-key"
    monkeypatch.setenv("SELFRAG_API_KEY", "right-key")
    async with serving(alphabet) as urls:
        assert text(await engine(urls, checkpoint).complete(REQUEST)) == "abcdefgh"
        monkeypatch.setenv("SELFRAG_API_KEY", "wrong-key")
        with pytest.raises(EngineError, match="refuses the API key") as caught:
            await engine(urls, checkpoint).complete(REQUEST)
    assert "wrong-key" not in f"{caught.value!r}{caught.value.hint}{caplog.text}"
    assert "SELFRAG_API_KEY" in str(caught.value.hint)


async def test_a_closed_connection_is_not_taken_for_a_lost_server(checkpoint: Path, alphabet: FakeServer) -> None:
    """A server that closes a kept connection in silence, as llama.cpp does after a stream, is asked again at once."""
    alphabet.hangs_up = True
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint, Policy(pause=30, longest=60, patience=60))
        for _ in range(3):
            assert text(await asyncio.wait_for(subject.complete(REQUEST), 10)) == "abcdefgh"


# --- several servers -----------------------------------------------------------------------------------------------------------


async def test_servers_share_the_load(checkpoint: Path, tokenizer: PromptTokenizer) -> None:
    """Each request goes to the server with the least in flight."""
    first, second = FakeServer(letters(tokenizer), delay=0.02), FakeServer(letters(tokenizer), delay=0.02)
    async with serving(first, second) as urls:
        subject = engine(urls, checkpoint)
        await asyncio.gather(*(subject.complete(REQUEST) for _ in range(20)))
    assert len(first.completions) == len(second.completions) == 10


async def test_the_others_take_over_from_one_that_is_down(checkpoint: Path, tokenizer: PromptTokenizer) -> None:
    """It is left alone for a while, tried again later, and used again when it is back."""
    first, second = FakeServer(letters(tokenizer)), FakeServer(letters(tokenizer))
    async with serving(first, second) as urls:
        await first.stop()
        subject = engine(urls, checkpoint)
        done = await asyncio.gather(*(subject.complete(REQUEST) for _ in range(10)))
        assert {text(each) for each in done} == {"abcdefgh"}
        assert len(second.completions) == 10
        await first.start(first.port)
        while not first.completions:
            await asyncio.gather(*(subject.complete(REQUEST) for _ in range(4)))


async def test_requests_in_flight_are_bounded(checkpoint: Path, alphabet: FakeServer) -> None:
    """However many callers there are."""
    alphabet.delay = 0.005
    async with serving(alphabet) as urls:
        subject = engine(urls, checkpoint, Policy(in_flight=4))
        await asyncio.gather(*(subject.complete(REQUEST) for _ in range(40)))
    assert alphabet.most_at_once <= 4


# --- messages ------------------------------------------------------------------------------------------------------------------


def position(token: str, **tops: float) -> dict[str, object]:
    listed = [{"token": name, "logprob": value} for name, value in tops.items()]
    return {"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": listed}


@pytest.mark.parametrize("stream", [False, True])
async def test_any_chat_server_can_be_asked_with_messages(checkpoint: Path, alphabet: FakeServer, stream: bool) -> None:
    """For prompted reflection: no tokenizer is needed, and the choices are found among the likeliest tokens by their text."""
    alphabet.chat = [position("Yes", Yes=-0.1, No=-2.5), position(" indeed", Yes=-9.0)]
    async with serving(alphabet) as urls:
        subject = ServerEngine(urls, "tiny", reflection="prompted", policy=HASTY)
        prompt = (Message("system", "Judge."), Message("user", "Is it?"))
        done = await subject.complete(Request(prompt, 4, choices=("Yes", "No")), (lambda token: True) if stream else None)
    assert text(done) == "Yes indeed"
    assert done.finish == "end"
    assert done.tokens[0].watched == {"Yes": -0.1, "No": -2.5}
    assert done.tokens[1].watched == {"Yes": -9.0}
    assert not done.exact
    assert alphabet.completions[0]["messages"][1] == {"role": "user", "content": "Is it?"}


async def test_control_tokens_cannot_go_into_messages(checkpoint: Path, alphabet: FakeServer) -> None:
    """They would arrive as words."""
    async with serving(alphabet) as urls:
        subject = ServerEngine(urls, "tiny", reflection="prompted", policy=HASTY)
        with pytest.raises(UsageError, match="cannot be sent as a message"):
            await subject.complete(Request((Control(RELEVANT),), 4))
