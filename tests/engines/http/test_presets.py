"""Servers by the name of their program, and how a model behind one is asked to reflect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfrag import agent, engines
from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.config.settings import Settings, find_paths
from selfrag.engines.http.engine import ServerEngine
from selfrag.engines.http.presets import PRESETS, endpoint_of, served_models
from selfrag.errors import EngineBusy, EngineError, UsageError
from tests.test_http import answering


@pytest.mark.parametrize(
    ("name", "environ", "url", "key"),
    [
        ("ollama", {}, "http://127.0.0.1:11434/v1", None),
        ("ollama", {"OLLAMA_HOST": "0.0.0.0:11500"}, "http://127.0.0.1:11500/v1", None),
        ("ollama", {"OLLAMA_HOST": "http://box:1"}, "http://box:1/v1", None),
        ("ollama", {"OLLAMA_HOST": "box"}, "http://box:11434/v1", None),
        ("ollama", {"OLLAMA_HOST": ":1"}, "http://127.0.0.1:1/v1", None),
        ("lmstudio", {"LM_API_TOKEN": "t"}, "http://127.0.0.1:1234/v1", "t"),
        ("llamacpp", {"SELFRAG_API_KEY": "mine"}, "http://127.0.0.1:8080/v1", "mine"),
        ("vllm", {"VLLM_API_KEY": "v", "OPENAI_API_KEY": "sk"}, "http://127.0.0.1:8000/v1", "v"),
        ("openai", {"OPENAI_API_KEY": "sk"}, "https://api.openai.com/v1", "sk"),
        (
            "openai",
            {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "https://proxy.example/api"},
            "https://proxy.example/api",
            "sk",
        ),
        ("openai", {"OPENAI_BASE_URL": "http://localhost:9/v1"}, "http://localhost:9/v1", None),
    ],
)
def test_a_preset_is_an_address_and_a_key(name: str, environ: dict[str, str], url: str, key: str | None) -> None:
    """Where the program listens by default, or where its own environment variable says."""
    found = endpoint_of(name, environ)
    assert (found.url, found.key) == (url, key)


def test_openai_without_a_key_is_told_which() -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="needs an API key") as caught:
        endpoint_of("openai", {})
    assert "OPENAI_API_KEY" in str(caught.value.hint)


def test_an_openai_address_without_a_scheme_is_told() -> None:
    """OPENAI_BASE_URL without https:// is an error that shows the whole address."""
    with pytest.raises(UsageError, match="which is no URL") as caught:
        endpoint_of("openai", {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "gateway.example/v1"})
    assert caught.value.hint == "export OPENAI_BASE_URL=https://gateway.example/v1"


@pytest.mark.parametrize("name", PRESETS)
async def test_every_preset_opens_its_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers call the engine by the preset's name; nothing is asked before the first question."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)  # no vLLM in this process
    engine = engines.open_engine(name, "some-model", reflection="prompted")
    assert isinstance(engine, ServerEngine)
    assert (engine.name, engine.model) == (name, "some-model")
    await engine.close()


@pytest.mark.parametrize("spec", ["localhost:8000", "localhost", "my.server.example/v1", "10.0.0.1:80"])
def test_a_forgotten_http_is_put_before_the_address(spec: str) -> None:
    """In the remedy of the error."""
    with pytest.raises(UsageError, match="needs http://") as caught:
        engines.open_engine(spec, "m")
    assert caught.value.hint == f"--engine http://{spec}"


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ({"data": [{"id": "a", "max_model_len": 4096}, {"id": "b", "meta": {"n_ctx": 512}}]}, [("a", 4096), ("b", 512)]),
        ({"data": [{"id": "qwen3:4b", "object": "model", "owned_by": "library"}]}, [("qwen3:4b", None)]),
        ({"data": None}, []),
        ([{"id": "bare"}], [("bare", None)]),
    ],
)
def test_the_models_of_a_server_are_listed(listed: Any, found: list[tuple[str, int | None]]) -> None:
    """With their context window where the server says it; in vLLM's, llama.cpp's, Ollama's shape, and as a bare list."""
    with answering(lambda path: (200, {}, json.dumps(listed))) as (url, _):
        address, models = served_models(url)
    assert address == url
    assert [(model.name, model.window) for model in models] == found


def test_nobody_there_is_told_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that a newcomer sees."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(EngineError, match=r"no server answers at http://127.0.0.1:9") as caught:
        served_models("ollama")
    assert "ollama serve" in str(caught.value.hint)


def test_a_server_that_still_loads_is_not_told_to_start(tmp_path: Path) -> None:
    """llama.cpp's 503: its list is an error that may pass, and a question goes on to the engine, which waits."""
    loading = (503, {}, '{"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}')
    with answering(lambda path: loading) as (url, _):
        with pytest.raises(EngineBusy, match="Loading model"):
            served_models(url)
        assert agent.find_model(settings(tmp_path, engine=url, reflection="prompted")).name == "smollm2-135m-selfrag"


# --- how a model reflects ------------------------------------------------------------------------------------------------------


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(paths=find_paths({"SELFRAG_HOME": str(tmp_path)}), **given)


def checkpoint(folder: Path, tokens: tuple[str, ...]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"content": token} for token in tokens]}))
    return str(folder)


@pytest.mark.parametrize(
    ("tokens", "kind"), [(REFLECTION_TOKENS, "tokens"), (REFLECTION_TOKENS[:14], "prompted"), ((), "prompted")]
)
@pytest.mark.parametrize("engine", ["auto", "http://127.0.0.1:9"])
def test_auto_takes_reflection_tokens_where_the_vocabulary_has_them(
    tmp_path: Path, tokens: tuple[str, ...], kind: str, engine: str
) -> None:
    """All fifteen; else the model is asked by prompts. In this process and behind a server."""
    model = checkpoint(tmp_path / "model", tokens)
    now = settings(tmp_path, model=model, engine=engine, origins={"model": "--model"})
    assert agent.reflection_kind(now, agent.find_model(now)) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [("smollm2-135m-selfrag", "tokens"), ("smollm2-135m-instruct", "prompted"), ("selfrag/selfrag_llama2_7b", "tokens")],
)
def test_auto_knows_what_the_models_of_the_registry_were_trained_for(tmp_path: Path, name: str, kind: str) -> None:
    """The plain base has the tokens in its vocabulary too, but was not trained to use them."""
    from selfrag import models

    assert models.reflection_of(models.show(name, tmp_path)) == kind


def test_a_model_that_only_the_server_knows_is_asked_by_prompts(tmp_path: Path) -> None:
    """Nothing of it need be here."""
    now = settings(tmp_path, model="qwen3:4b", engine="ollama", origins={"model": "--model"})
    found = agent.find_model(now)
    assert (found.path, agent.reflection_kind(now, found)) == ("qwen3:4b", "prompted")


def test_a_server_of_one_model_needs_no_name(tmp_path: Path) -> None:
    """The one that it has is meant; with several the default stays, and the error names them."""
    for count, name in ((1, "m0"), (2, "smollm2-135m-selfrag")):
        listed = {"data": [{"id": f"m{i}"} for i in range(count)]}
        with answering(lambda path, listed=listed: (200, {}, json.dumps(listed))) as (url, _):
            assert agent.find_model(settings(tmp_path, engine=url, reflection="prompted")).name == name
