"""The options that commands share. A command takes ``flags: AgentFlags`` and is decorated with ``with_flags``.

Every default is None: what is not given on the command line comes from the settings.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from selfrag._util import is_url
from selfrag.cli import terminal
from selfrag.errors import UsageError

if TYPE_CHECKING:
    from selfrag.algorithm.search import Agent
    from selfrag.config.settings import Settings
    from selfrag.index.retriever import CollectionRetriever
    from selfrag.index.search.hyde import Hyde
    from selfrag.models import ModelInfo
    from selfrag.types import Engine, Reflector

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
CollectionName = Annotated[str | None, typer.Option("--collection", "-c", metavar="NAME", help="Collection.  [default: default]")]
CollectionNames = Annotated[
    list[str] | None,
    typer.Option("--collection", "-c", metavar="NAME", help="Collection to ask; may be repeated.  [default: default]"),
]

Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="GLOB", help="Only such sources; git-style, may be repeated.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only sources whose front matter says so; may be repeated."),
]
HydeModel = Annotated[
    str | None,
    typer.Option("--hyde", metavar="M", help="Search with a passage that the instruct model M, or URL#M, makes up (HyDE), too."),
]


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Makes every field of the command's dataclass parameters an option of its own, under the field's annotation."""
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, type] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            bundles[parameter.name] = parameter.annotation
            parameters += _as_parameters(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        flags = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in bundles.items()}
        command(**given, **flags)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _as_parameters(flags: type) -> list[inspect.Parameter]:
    hints = get_type_hints(flags, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name]) for f in fields(flags)]


_DOCUMENTS = ("collection", "source", "where", "hyde")
"""The fields of AgentFlags that are no settings."""


@dataclass(frozen=True, slots=True)
class AgentFlags:
    """What `ask`, `chat`, `batch` and `eval` have in common: which documents, which model, how to search."""

    collection: CollectionNames = None
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="M", help="Registry name, Hugging Face name or folder.  [smollm2-135m-selfrag]"),
    ] = None
    engine: Annotated[
        str | None, typer.Option(metavar="E", help="auto, onnx, transformers, vllm, or the URL of a server.  [auto]")
    ] = None
    reflection: Annotated[
        Literal["auto", "tokens", "prompted"] | None,
        typer.Option(help="How the model reflects: with its own reflection tokens, or asked by prompts.  [auto]"),
    ] = None
    device: Annotated[str | None, typer.Option(metavar="D", help="Device of the transformers engine: cpu, cuda, cuda:1.")] = None
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="Thresholds that `selfrag calibrate` fitted.")] = None
    k: Annotated[int | None, typer.Option("-k", "--k", metavar="N", help="Passages retrieved for a segment.  [5]")] = None
    mode: Annotated[Literal["adaptive", "always", "never"] | None, typer.Option(help="When to retrieve.  [adaptive]")] = None
    threshold: Annotated[
        float | None, typer.Option(metavar="T", help="Retrieve when the model's probability is above T.  [the model's, or 0.2]")
    ] = None
    beam_width: Annotated[int | None, typer.Option(metavar="B", help="Answers kept after each segment.  [2]")] = None
    max_segments: Annotated[int | None, typer.Option(metavar="N", help="Segments of an answer at most; 1: short form.  [4]")] = (
        None
    )
    w_rel: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISREL, relevance.  [the model's, or 1]")] = None
    w_sup: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISSUP, support.  [the model's, or 1]")] = None
    w_use: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISUSE, usefulness.  [the model's, or 0.5]")] = None
    w_ret: Annotated[
        float | None, typer.Option(metavar="X", help="Weight of the passage's score in the search.  [the model's, or 0]")
    ] = None
    sequence: Annotated[
        bool | None, typer.Option("--sequence/--no-sequence", help="Count the mean token probability in scores.  [on]")
    ] = None
    require_support: Annotated[
        Literal["full", "partial"] | None, typer.Option(help="Drop segments whose most likely ISSUP is below this.")
    ] = None
    prune: Annotated[
        bool | None, typer.Option("--prune/--no-prune", help="Skip candidates that cannot win; the answer is the same.  [on]")
    ] = None
    abstain_isrel: Annotated[
        float | None, typer.Option(metavar="P", help="Abstain when relevance is below P.  [the model's, or 0]")
    ] = None
    abstain_issup: Annotated[
        float | None, typer.Option(metavar="P", help="Abstain when support is below P.  [the model's, or 0]")
    ] = None

    source: Sources = None
    where: Where = None
    hyde: HydeModel = None

    def settings(self) -> Settings:
        """The settings with these flags over them. Raises ConfigError for values that cannot be."""
        from selfrag.config import settings

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _DOCUMENTS}
        return settings.load(**given)

    def collections(self, settings: Settings) -> tuple[str, ...]:
        """The collections that are asked."""
        return tuple(self.collection or [settings.collection])


@asynccontextmanager
async def open_agent(flags: AgentFlags, choices: tuple[str, ...] = (), quiet: bool = False) -> AsyncIterator[Agent]:
    """The documents, the model and the engine that ``flags`` and the settings name, joined; the engine is closed at the end.

    Raises ConfigError, CollectionError (before a model is loaded), ModelError and EngineError as they come.
    """
    settings = flags.settings()
    from selfrag.algorithm.search import Agent
    from selfrag.config import profiles

    profile = profiles.load(settings.profile, settings.paths.profiles) if settings.profile else None
    with terminal.stopping_at_once(), terminal.waiting("opening the collection and the model", quiet):
        retriever = None if settings.mode == "never" else open_documents(settings, flags)
        model = open_model(settings)
        thresholds = {**model.thresholds, **(profile.thresholds if profile else {})}
        options = settings.search_options(thresholds, choices, model.weights)
        temperatures = profile.temperatures if profile else model.temperatures
        reflector = open_reflector(settings, model, temperatures, options.abstain_isrel)
    if profile and profile.model not in ("", model.name):
        terminal.say(f"warning: the profile {profile.name} was fitted on {profile.model}, not on {model.name}", quiet)
    try:
        yield Agent(reflector, retriever, options)
    finally:
        await reflector.engine.close()
        if retriever:
            await retriever.close()


def open_documents(settings: Settings, flags: AgentFlags) -> CollectionRetriever:
    """The collections that are asked, as one. Raises CollectionError for one that is not there, ModelError without --hyde's."""
    from selfrag import index
    from selfrag.index.search.hybrid import Filter

    hyde = open_hyde(settings, flags.hyde) if flags.hyde else None
    wanted = Filter.of(flags.source or (), flags.where or ())
    return index.open_retriever(
        settings.paths.data, flags.collections(settings), chroma_url=settings.chroma, filter=wanted, hyde=hyde
    )


def open_hyde(settings: Settings, model: str) -> Hyde:
    """HyDE with the instruct model ``model``. Raises ModelError."""
    from selfrag import prompts
    from selfrag.index.search.hyde import Hyde

    return Hyde(model, find_instruct(settings, model).open(settings.device), prompts.load("hyde").render)


def open_model(settings: Settings) -> ModelInfo:
    """What is known of the model. It must have been fetched, if only for its tokenizer, unless a server is asked in words.

    Raises ModelError.
    """
    from selfrag import models

    if is_url(settings.engine) and settings.reflection == "prompted":
        return models.ModelInfo(settings.model, settings.model, "hub")
    return models.resolve(settings.model, settings.paths.cache)


@dataclass(frozen=True, slots=True)
class Instruct:
    """An instruct model that is not open yet: its name, where its weights or its server know it, and its engine."""

    model: str
    path: str
    engine: str

    def open(self, device: str | None) -> Engine:
        """For prompts in words. Raises ModelError."""
        from selfrag.engines import open_engine

        engine = open_engine(self.engine, self.path, device=device, reflection="prompted")
        engine.model = self.model
        return engine


def find_instruct(settings: Settings, name: str) -> Instruct:
    """The instruct model ``name`` for the engine of the settings, or ``URL#NAME`` behind a server.

    Raises ModelError for one that is not there, UsageError for a URL without a name.
    """
    from selfrag import models

    engine, _, model = name.partition("#") if is_url(name) else (settings.engine, "", name)
    if not model:
        raise UsageError(f"{engine} says no model", f"name one that it serves: {engine}#MODEL")
    return Instruct(model, model if is_url(engine) else str(models.resolve(model, settings.paths.cache).path), engine)


def open_reflector(settings: Settings, model: ModelInfo, temperatures: Mapping[str, float], relevant_above: float) -> Reflector:
    """The model behind its engine, and the way that it reflects: what is relevant enough for an answer is written as relevant."""
    from selfrag.engines import open_engine

    prompted = settings.reflection == "prompted"
    engine = open_engine(settings.engine, model.path, device=settings.device, reflection="prompted" if prompted else "tokens")
    engine.model = model.name  # answers name the model as a person does, not by its folder in the cache
    if prompted:
        from selfrag.reflectors.prompted import PromptedReflector

        return PromptedReflector(engine)
    from selfrag.reflectors.tokens import TokenReflector

    return TokenReflector(engine, temperatures=temperatures, relevant_above=relevant_above)
