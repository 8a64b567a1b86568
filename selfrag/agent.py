"""The front door: `open_agent` joins documents, model, engine and options into an `Agent`, which answers questions.

    async with selfrag.open_agent("papers", k=8) as agent:
        answer = await agent.ask("What does the second experiment show?")

Every command that asks goes through it, so the library and the command line give the same answers.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfrag import telemetry
from selfrag._util import is_url
from selfrag.algorithm.options import check
from selfrag.algorithm.search import Search
from selfrag.config import settings as settings_module
from selfrag.config.options import search_options
from selfrag.errors import EngineBusy, UsageError
from selfrag.types import Answer, Observer, Reflector, Retriever, SearchOptions

if TYPE_CHECKING:
    from selfrag.config.profiles import Profile
    from selfrag.config.settings import Settings
    from selfrag.index.retriever import CollectionRetriever
    from selfrag.index.search.hyde import Hyde
    from selfrag.models import ModelInfo
    from selfrag.types import Engine, ReflectionKind

log = logging.getLogger(__name__)

OPTION_OF = {"retrieve": "threshold", "isrel": "abstain_isrel", "issup": "abstain_issup", "isuse": "abstain_isuse",
              "confidence": "abstain_confidence", "found": "found_isrel", "reconsider": "reconsider_isuse",
              "join": "join_isuse"}  # fmt: skip
"""The option that each fitted threshold is the default of."""


class Agent:
    """Answers questions from documents. Any number of questions may be asked at once, in one event loop.

    `open_agent` makes one from settings; this makes one from parts. ``retriever`` None means no documents: the agent abstains
    from every question that needs evidence. ``options`` None are the defaults of `SearchOptions`, without what was fitted for a
    model. ``warnings`` holds messages for the user about how the agent was opened. ``wider`` takes the place of ``retriever``
    where a search is made again (`SearchOptions.correct`). Whoever opened the parts closes them.
    """

    def __init__(
        self,
        reflector: Reflector,
        retriever: Retriever | None = None,
        options: SearchOptions | None = None,
        warnings: tuple[str, ...] = (),
        wider: Retriever | None = None,
    ) -> None:
        self.reflector = reflector
        self.retriever = retriever
        self.options = options or SearchOptions()
        self.warnings = warnings
        self.wider = wider

    def describe(self) -> dict[str, dict[str, object]]:
        """What answers depend on besides the question, the options and the model."""
        retriever = dict(self.retriever.describe()) if self.retriever else {}
        return {"reflector": dict(self.reflector.describe()), "retriever": retriever}

    async def ask(
        self,
        question: str,
        options: SearchOptions | None = None,
        observer: Observer | None = None,
        instruction: str | None = None,
    ) -> Answer:
        """Searches for the best supported answer to ``question``. An abstention is also an `Answer`; see its ``status``.

        ``options`` replace the agent's own, all of them. ``observer`` is called with every event of the search, in order, on the
        event loop. ``instruction`` is what the model reads, if that differs from the text to search for (a task's wording around
        the question). Cancelling the call stops generation.

        Raises UsageError for an empty question and for options that are not allowed, EngineError if generation fails,
        CollectionError if a search does.
        """
        options = check(options or self.options)
        if not question.strip():
            raise UsageError("the question is empty", 'selfrag ask "Who wrote Faust?"')
        tracer = telemetry.tracer()
        if tracer is None:
            return await Search(self.reflector, self.retriever, options, question, instruction, observer, self.wider).run()
        spans = telemetry.Spans(tracer, self.reflector, self.retriever)
        with spans.question(question) as span:
            watching = spans.observing(observer)
            wider = telemetry.TracedRetriever(self.wider, spans) if self.wider else None
            answer = await Search(spans.reflector, spans.retriever, options, question, instruction, watching, wider).run()
            spans.answered(span, answer)
        return answer


@asynccontextmanager
async def open_agent(
    collections: str | Sequence[str] = (),
    *,
    also: Sequence[str] = (),
    source: Sequence[str] = (),
    where: Sequence[str] = (),
    hyde: str | None = None,
    choices: Sequence[str] = (),
    files: Sequence[str] = (),
    settings: Settings | None = None,
    **given: object,
) -> AsyncIterator[Agent]:
    """Opens an agent over ``collections`` (the default collection where none is named) and closes it at the end.

    ``files`` are searched without a stored index: paths, ``-`` for standard input, URLs of pages. They form an in-memory
    collection for this agent, and are the only documents if ``collections`` is empty. ``also`` are further collections, searched
    where nothing relevant was found in those: they turn ``correct`` on.

    ``source`` (git-style patterns) and ``where`` ("key=value") restrict the sources that may answer; ``hyde`` names the instruct
    model of hypothetical passages; ``choices`` is a closed set of answers. ``given`` takes every setting by the name that
    `selfrag config show` lists: ``model``, ``engine``, ``k``, ``mode`` and so on. Other values come from ``settings`` (by
    default the environment and the configuration file), then from those fitted for the model, then from the defaults.

    Raises ConfigError for settings that are not allowed, CollectionError (before a model is loaded), ModelError, EngineError.
    """
    given = {**given, "correct": True} if also else given
    now = settings_module.override(settings or settings_module.load(), given)
    names = (collections,) if isinstance(collections, str) else tuple(collections)
    async with AsyncExitStack() as stack:
        retriever = None
        if now.value("mode") != "never":
            retriever = open_retriever(now, names, source, where, hyde, files, also)
            stack.push_async_callback(retriever.close)
        model, profile = find_model(now), find_profile(now)
        if retriever:
            retriever.warm()  # opens in threads while the model is loaded here
        thresholds = {**model.thresholds, **(profile.thresholds if profile else {})}
        reflector = open_reflector(now, model, profile, thresholds)
        stack.push_async_callback(reflector.engine.close)
        options = check(search_options(now.search, fitted_options(model, profile), tuple(choices)))
        options = comparable(options, retriever, model)
        log.debug("model %s on %s, collections %s, %s", model.name, reflector.engine.name, names or now.collection, options)
        yield Agent(reflector, retriever, options, _warnings(model, profile), retriever.wider if retriever else None)


def fitted_options(model: ModelInfo, profile: Profile | None) -> dict[str, float]:
    """The search options that were fitted: for the model, or by `selfrag calibrate` for the profile."""
    thresholds = {**model.thresholds, **(profile.thresholds if profile else {})}
    fitted = {OPTION_OF[name]: value for name, value in thresholds.items()}
    fitted |= {f"w_{name}": value for name, value in model.weights.items()}
    sure = {**model.confidence, **(profile.confidence if profile else {})}
    return fitted | {f"confidence_{name}": value for name, value in sure.items()}


def comparable(options: SearchOptions, retriever: CollectionRetriever | None, model: ModelInfo) -> SearchOptions:
    """The options, without the cosine in the confidence where it is not that of the embedder which the model was fitted with."""
    if retriever is None or not options.confidence.similarity or retriever.embeds_by(model.embedder):
        return options
    return replace(options, confidence=replace(options.confidence, similarity=0.0))


def _warnings(model: ModelInfo, profile: Profile | None) -> tuple[str, ...]:
    if profile is None or profile.model in ("", model.name):
        return ()
    return (f"the profile {profile.name} was fitted on {profile.model}, not on {model.name}",)


def open_retriever(
    settings: Settings,
    collections: Sequence[str] = (),
    source: Sequence[str] = (),
    where: Sequence[str] = (),
    hyde: str | None = None,
    files: Sequence[str] = (),
    also: Sequence[str] = (),
) -> CollectionRetriever:
    """The collections and ``files`` as one retriever, and with ``also`` as its ``wider`` one.

    Raises CollectionError for a collection that does not exist, InputError for a file that cannot be read, ModelError for the
    re-ranker or ``hyde``'s model.
    """
    from selfrag import index
    from selfrag.index.search.hybrid import Filter

    if files:
        from selfrag.ingest import use_converters, use_ocr

        use_converters(settings.readers)
        use_ocr(settings.ocr)
    wanted = Filter.of(source, where)
    names = collections or (() if files else (settings.collection,))
    retriever = index.open_retriever(
        settings.paths.data,
        names,
        chroma_url=settings.chroma,
        filter=wanted,
        reranker=settings.reranker,
        graph=settings.graph,
        files=files,
        embedder=settings.embedder,
        also=also,
    )
    if hyde:
        retriever.use_hyde(open_hyde(settings, hyde))
    return retriever


def open_hyde(settings: Settings, model: str) -> Hyde:
    """HyDE with the instruct model ``model``. Raises ModelError."""
    from selfrag import prompts
    from selfrag.index.search.hyde import Hyde

    return Hyde(model, find_instruct(settings, model).open(settings.device), prompts.load("hyde").render)


@dataclass(frozen=True, slots=True)
class Instruct:
    """An instruct model that is not open yet: its name, its path (or name on the server), and its engine."""

    model: str
    path: str
    engine: str

    def open(self, device: str | None) -> Engine:
        """For prompts in words. Raises ModelError."""
        from selfrag.engines import open_engine

        return open_engine(self.engine, self.path, name=self.model, device=device, reflection="prompted")


def find_instruct(settings: Settings, name: str) -> Instruct:
    """The instruct model ``name`` for the engine of the settings, or ``URL#NAME``, ``PRESET#NAME`` behind a server.

    Raises ModelError for one that does not exist, UsageError for a URL without a name.
    """
    from selfrag import engines, models

    before, mark, after = name.partition("#")
    engine, model = (before, after) if is_url(name) or (mark and engines.is_server(before)) else (settings.engine, name)
    if not model:
        raise UsageError(f"{engine} names no model", f"name one that it serves: {engine}#MODEL")
    return Instruct(model, model if engines.is_server(engine) else str(models.resolve(model, settings.paths.cache).path), engine)


def find_model(settings: Settings) -> ModelInfo:
    """The model's metadata. The model must have been fetched, if only for its tokenizer, unless a server is asked by prompts.

    Raises ModelError, and EngineError if a server must say what it serves and does not answer.
    """
    from selfrag import engines, models

    engines.check_spec(settings.engine)
    name, cache = settings.model, settings.paths.cache
    if not engines.is_server(settings.engine):
        return models.resolve(name, cache)
    if "model" not in settings.origins:
        name = _only_served(settings.engine) or name
    foreign = models.ModelInfo(name, name, "hub", reflection="prompted")
    if settings.reflection == "prompted" or (settings.reflection == "auto" and not models.reflects_by_tokens(name, cache)):
        return foreign
    return models.resolve(name, cache)


def _only_served(spec: str) -> str | None:
    """The model of a server that serves only one; None also while it is loading, which the engine waits for."""
    from selfrag.engines.http.presets import served_models

    try:
        _, found = served_models(spec)
    except EngineBusy:
        return None
    return found[0].name if len(found) == 1 else None


def reflection_kind(settings: Settings, model: ModelInfo) -> ReflectionKind:
    """How ``model`` reflects: as the settings say; on "auto", by its own reflection tokens if it has them, else by prompts."""
    from selfrag import models

    if settings.reflection != "auto":
        return settings.reflection
    return models.reflection_of(model) or "tokens"


def find_profile(settings: Settings) -> Profile | None:
    """The profile that the settings name. Raises UsageError and ConfigError."""
    from selfrag.config import profiles

    return profiles.load(settings.profile, settings.paths.profiles) if settings.profile else None


def open_reflector(settings: Settings, model: ModelInfo, profile: Profile | None, thresholds: dict[str, float]) -> Reflector:
    """The reflector for ``model``, with its engine."""
    from selfrag.engines import open_engine

    kind = reflection_kind(settings, model)
    engine = open_engine(
        settings.engine,
        model.path,
        name=model.name,
        device=settings.device,
        cache_bytes=settings.cache_mb << 20 if settings.cache_mb else None,
        reflection=kind,
    )
    if kind == "prompted":
        from selfrag.reflectors.prompted import PromptedReflector

        return PromptedReflector(engine)
    from selfrag.reflectors.tokens import TokenReflector

    above = settings.relevant_above if settings.relevant_above is not None else thresholds.get("isrel", 0.0)
    scaling = profile or model
    return TokenReflector(engine, temperatures=scaling.temperatures, biases=scaling.biases, relevant_above=above)
