"""Servers by name: their address, the environment variable of their key, and how to start them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfrag import environment
from selfrag.errors import EngineError, UsageError

if TYPE_CHECKING:
    from selfrag._http import Endpoint
    from selfrag.environment import Variable


@dataclass(frozen=True, slots=True)
class Preset:
    """``url`` is where the server listens unless the environment variable ``address`` says otherwise; ``key`` holds its API key.
    ``prefill``: it continues a last assistant message. ``start`` is the hint if it does not answer."""

    url: str
    key: Variable
    start: str
    address: Variable | None = None
    prefill: bool = True


PRESETS: Mapping[str, Preset] = {
    "ollama": Preset(
        "http://127.0.0.1:11434",
        environment.OLLAMA_KEY,
        "start Ollama (`ollama serve`) and fetch a model: `ollama pull qwen3:4b`",
        address=environment.OLLAMA_HOST,
    ),
    "lmstudio": Preset(
        "http://127.0.0.1:1234",
        environment.LM_STUDIO_KEY,
        "start LM Studio's server (its Developer page, or `lms server start`) and load a model",
    ),
    "llamacpp": Preset(
        "http://127.0.0.1:8080",
        environment.LLAMA_KEY,
        "start llama.cpp's server: `llama-server -m FILE.gguf --alias NAME -c 8192 -np 2`",
    ),
    "vllm": Preset(
        "http://127.0.0.1:8000",
        environment.VLLM_KEY,
        "start one with `selfrag serve MODEL`, or install vLLM here: pip install 'selfrag[vllm]'",
    ),
    "openai": Preset(
        "https://api.openai.com/v1",
        environment.OPENAI_KEY,
        "is the network up? OPENAI_BASE_URL names another server",
        address=environment.OPENAI_URL,
        prefill=False,
    ),
}


def endpoint_of(name: str, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The server of the preset ``name``. Raises UsageError for a missing key or an invalid address."""
    from selfrag import _http

    preset = PRESETS[name]
    variable = preset.address
    given = variable.read(environ) if variable else ""
    verbatim = bool(given) and name == "openai"  # as OpenAI's own clients take it
    if variable and verbatim and "://" not in given:
        raise UsageError(f"{variable.name} is {given!r}, which is no URL", f"export {variable.name}=https://{given}")
    url = given if verbatim else _ollama_url(given) if given else preset.url
    found = _http.endpoint(url, named=True, variable=preset.key.name, verbatim=verbatim, environ=environ)
    if found.host == _http.OPENAI_HOST and not found.key:
        raise UsageError(
            "the openai engine needs an API key", found.withheld or f"set {preset.key.name} in the environment to your key"
        )
    return found


def _ollama_url(address: str) -> str:
    """OLLAMA_HOST may have no scheme, no port, no host, or name all interfaces; a URL stays as it is."""
    if "://" not in address:
        host, colon, port = address.partition(":")
        address = f"http://{host or '127.0.0.1'}:{port if colon else 11434}"
    return address.replace("//0.0.0.0", "//127.0.0.1")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a server lists it; ``window`` is its context in tokens, None where the server does not say."""

    name: str
    window: int | None


def served_models(spec: str) -> tuple[str, list[ServedModel]]:
    """The address of the server ``spec``, a preset or a URL (the first of several), and the models that it lists.

    Raises UsageError for anything else, EngineError if no server answers, EngineBusy for a server that is still loading.
    """
    from selfrag import _http
    from selfrag.engines.http import completions
    from selfrag.engines.http.engine import model_cards

    first = spec.split(",")[0].strip()
    server = endpoint_of(first) if first in PRESETS else _http.endpoint(first, named=True)
    caller = _http.Caller(server, timeout=20.0, attempts=1)
    try:
        cards = model_cards(caller.fetch("/models"))
    except _http.TransientError as error:
        if not error.unreachable:
            raise
        raise EngineError(error.message, PRESETS[first].start if first in PRESETS else error.hint) from error
    finally:
        caller.close()
    return server.shown, [ServedModel(str(card["id"]), completions.window(card)) for card in cards]
