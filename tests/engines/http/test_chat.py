"""Messages to servers of other makes, by the shapes of their answers: probabilities or none, thinking, refused fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from selfrag.engines.http.chat import Visible
from selfrag.engines.http.client import Policy
from selfrag.engines.http.engine import ServerEngine
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, Message, Request, Token
from tests.engines.fake_server import FakeServer, Fault, serving

HASTY = Policy(attempts=3, pause=0.001, longest=0.01, patience=0.2)
QUESTION = Message("user", "Is it?")
JUDGE = Request((QUESTION,), 1, choices=("No", "Yes"))
PAIR = Request((QUESTION,), 4, choices=("A", "B", "1", "2"), answers=(("A", "B"), ("1", "2")))
WRITE = Request((QUESTION,), 20)
Body = dict[str, Any]


def said(text: str, *, finish: str = "stop", **message: Any) -> Body:
    """An answer in one piece without log-probabilities, in OpenAI's, Ollama's and LM Studio's shape."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 9}}


def server(reply: Callable[[Body], Body], **features: Any) -> FakeServer:
    return FakeServer(lambda ids: 0, model="m", reply=reply, **features)


async def asked(fake: FakeServer, request: Request, heard: list[Token] | None = None, **options: Any) -> Completion:
    async with serving(fake) as urls:
        engine = ServerEngine(urls, "m", reflection="prompted", policy=HASTY, **options)
        try:
            return await engine.complete(request, None if heard is None else lambda token: heard.append(token) is None)
        finally:
            await engine.close()


def text(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)


# --- no probabilities ----------------------------------------------------------------------------------------------------------


async def test_without_probabilities_a_reply_is_held_to_the_choices() -> None:
    """A schema names them; the one that comes back counts as certain, and the completion says that it was only stated."""
    fake = server(lambda body: said(json.dumps({"answer": "Yes"}) if "response_format" in body else "Well"))
    done = await asked(fake, JUDGE)
    assert done.tokens[0].watched == {"Yes": 0.0}
    assert (done.exact, done.stated) == (False, True)
    schema = fake.requests[-1]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["No", "Yes"]
    assert not any("logprobs" in body for body in fake.requests[-1:])


async def test_two_answers_come_in_one_reply() -> None:
    """One choice of each set, in order."""
    fake = server(lambda body: said('{"answer_1": "B", "answer_2": "2"}' if "response_format" in body else "Well"))
    assert [token.watched for token in (await asked(fake, PAIR)).tokens] == [{"B": 0.0}, {"2": 0.0}]


@pytest.mark.parametrize(
    ("reply", "watched"),
    [
        ('```json\n{"answer": "No"}\n```', {"No": 0.0}),
        ("**Yes**, it is.", {"Yes": 0.0}),
        ("yes", {"Yes": 0.0}),
        ("Yesterday it rained.", {}),
        ('{"answer": "Perhaps"}', {}),
    ],
)
async def test_a_reply_that_names_no_choice_judges_nothing(reply: str, watched: dict[str, float]) -> None:
    """Where a server holds its model to nothing, a choice is found as a word of its own or not at all."""
    assert (await asked(server(lambda body: said(reply)), JUDGE)).tokens[0].watched == watched


async def test_words_are_written_without_probabilities_too() -> None:
    """Their sequence term counts the same for all."""
    done = await asked(server(lambda body: said("It is.")), WRITE)
    assert text(done.tokens) == "It is."
    assert {token.logprob for token in done.tokens} == {0.0}


# --- thinking ------------------------------------------------------------------------------------------------------------------


def thinker(body: Body) -> Body:
    """Qwen3, DeepSeek and the like behind a server that keeps the thinking apart."""
    if body["max_tokens"] < 100:
        return said("", finish="length", reasoning_content="Let me")
    return said('{"answer": "No"}' if "response_format" in body else "It is.", reasoning_content="Yes, Yes, I think A.")


def open_thinker(body: Body) -> Body:
    """The same behind a server that leaves it in the text."""
    if body["max_tokens"] < 100:
        return said("<think>", finish="length")
    return said("<think>\nYes or A?\n</think>\n\n" + ("No" if "response_format" in body else "It is."))


@pytest.mark.parametrize("reply", [thinker, open_thinker])
async def test_thinking_is_no_answer_and_no_judgement(reply: Callable[[Body], Body]) -> None:
    """It is left out of the text, and a choice that it mentions is not taken for one."""
    assert text((await asked(server(reply), WRITE)).tokens) == "It is."
    assert (await asked(server(reply), JUDGE)).tokens[0].watched == {"No": 0.0}


async def test_thinking_is_turned_off_where_that_is_possible() -> None:
    """The server's own switches are tried first, and then judgements are probabilities as usual."""
    fake = server(lambda body: thinker(body) if "reasoning_effort" not in body else said("It is."))
    await asked(fake, WRITE)
    assert fake.requests[-1]["max_tokens"] == 20
    assert fake.requests[-1]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("where", ["reasoning_content", "reasoning", "tags", "hidden"])
async def test_an_answer_cut_off_while_thinking_is_an_error(where: str) -> None:
    """Its message names the limit."""

    def reply(body: Body) -> Body:
        if where == "tags":
            return said("<think>Hm, well", finish="length")
        if where == "hidden":
            usage = {"completion_tokens_details": {"reasoning_tokens": body["max_tokens"]}}
            return said("", finish="length") | {"usage": usage}
        return said("", finish="length", **{where: "Hm, well"})

    with pytest.raises(EngineError, match=r"still thinking when its limit of 2068 tokens"):
        await asked(server(reply), WRITE)


async def test_thinking_without_a_beginning_is_an_error() -> None:
    """Templates that open the tag themselves leave only its end in the text: nobody can tell the answer from the thought."""
    with pytest.raises(EngineError, match="mixed with its answer"):
        await asked(server(lambda body: said("Hm.</think>It is.")), WRITE)


@pytest.mark.parametrize("cut", [1, 3, 50])
@pytest.mark.parametrize(
    ("raw", "visible"),
    [
        ("<think>a</think>\n\nb", "b"),
        ("\n<thinking>a < b</thinking> b", "b"),
        ("<think></think>b", "b"),
        ("<thin ice", "<thin ice"),
        ("x <think> y", "x <think> y"),
    ],
)
def test_thinking_is_found_however_the_text_is_cut(raw: str, visible: str, cut: int) -> None:
    """Tags may come in any number of pieces."""
    reader = Visible()
    assert "".join(reader.feed(raw[i : i + cut]) for i in range(0, len(raw), cut)) == visible


# --- refused fields ------------------------------------------------------------------------------------------------------------

REFUSALS = {
    "OpenAI": (400, "Unrecognized request argument supplied: {}"),
    "OpenAI's newer models": (400, "Unsupported parameter: '{}' is not supported with this model."),
    "FastAPI": (422, "extra_forbidden: body.{}: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("shape", REFUSALS)
async def test_a_field_that_a_server_refuses_is_left_out(shape: str) -> None:
    """One after the other, for this server from then on."""
    code, words = REFUSALS[shape]
    refused = {"seed", "stream_options", "logprobs", "temperature"}
    fake = server(lambda body: said("It is."), refuses=refused, refusal=(code, words))
    heard: list[Token] = []
    assert text((await asked(fake, WRITE, heard)).tokens) == text(heard) == "It is."
    assert not refused & fake.requests[-1].keys()


async def test_the_limit_has_two_names() -> None:
    """Newer models of OpenAI refuse the older one."""
    fake = server(lambda body: said("It is."), refuses={"max_tokens"}, refusal=REFUSALS["OpenAI's newer models"])
    await asked(fake, WRITE)
    assert fake.requests[-1]["max_completion_tokens"] == 20


async def test_another_refusal_is_raised() -> None:
    """With the server's own words."""
    fake = server(lambda body: said("It is."))
    fake.faults.append(Fault(status=400, body=b'{"error": {"message": "max_tokens is too large: 20"}}'))
    with pytest.raises(EngineError, match="too large"):
        await asked(fake, WRITE)


async def test_a_server_that_does_not_stream_is_read_all_the_same() -> None:
    """Its whole answer comes as one piece."""
    heard: list[Token] = []
    await asked(server(lambda body: said("It is."), streams=False), WRITE, heard)
    assert text(heard) == "It is."


# --- the rest ------------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_broke_off_is_not_heard_twice() -> None:
    """It is asked for again, and goes on where the listener has it."""
    fake = server(lambda body: said("It is."), words=True)
    fake.faults.append(Fault(cut=True, after=1))
    heard: list[Token] = []
    done = await asked(fake, WRITE, heard)
    assert text(heard) == text(done.tokens) == "It is."
    assert done.requests == 2


@pytest.mark.parametrize(
    ("cards", "message", "remedy"),
    [
        ({"data": [{"id": "qwen3:8b"}, {"id": "m2"}]}, "serves qwen3:8b, m2, not m", "--model m2"),
        ({"object": "list", "data": None}, "serves no model", "load a model"),
        ([{"id": "other"}], "serves other, not m", "--model other"),
    ],
)
async def test_a_wrong_model_is_answered_with_the_right_ones(cards: Any, message: str, remedy: str) -> None:
    """Whatever shape the list has."""
    with pytest.raises(ModelError, match=message) as caught:
        await asked(server(lambda body: said("It is."), cards=cards), WRITE)
    assert remedy in str(caught.value.hint)


async def test_a_tag_may_be_left_out() -> None:
    """Ollama's `m:latest` is `m`."""
    fake = server(lambda body: said("It is."), cards={"data": [{"id": "m:latest"}]})
    await asked(fake, WRITE)
    assert fake.requests[-1]["model"] == "m:latest"


async def test_what_is_written_goes_on_as_the_server_can() -> None:
    """As a message that is continued, or with the request to go on where a server would begin another one."""
    prompt = (QUESTION, Message("assistant", "It"))
    for prefill, last in ((True, "assistant"), (False, "user")):
        fake = server(lambda body: said(" is."))
        await asked(fake, Request(prompt, 20), prefill=prefill)
        assert fake.requests[-1]["messages"][-1]["role"] == last
        assert ("continue_final_message" in fake.requests[-1]) == prefill
