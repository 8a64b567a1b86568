"""OpenTelemetry spans of a question: retrieve, judge, generate and select, below one for the whole. The extra otel exports them.

Names and attributes are those of the GenAI semantic conventions (opentelemetry.io, in development) where they have any; our own
begin with ``selfrag.``. Nothing is recorded unless the program that runs has set OpenTelemetry up, or `exporting` did so because
the environment names an exporter. Questions and passages stay out of the spans unless
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is true.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfrag import environment
from selfrag._version import __version__
from selfrag.errors import SelfragError
from selfrag.types import (
    Alive,
    Answer,
    Critique,
    Decision,
    Engine,
    Event,
    Observer,
    Opening,
    Passage,
    ReflectionKind,
    Reflector,
    Retriever,
    Segment,
    Selected,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_EVALUATIONS = {"ISREL": "isrel", "ISSUP": "issup", "ISUSE": "isuse"}


def tracer() -> Tracer | None:
    """The tracer; None if OpenTelemetry's SDK is not loaded, so that tracing costs nothing."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    return trace.get_tracer("selfrag", __version__)


def exporter_named(environ: Mapping[str, str]) -> str:
    """The exporter that the environment names: otlp, console or another; "none" without one."""
    if environment.OTEL_DISABLED.read(environ).lower() == "true":
        return "none"
    endpoint = environment.OTEL_ENDPOINT.read(environ) or environment.OTEL_TRACES_ENDPOINT.read(environ)
    return environment.OTEL_EXPORTER.read(environ) or ("otlp" if endpoint else "none")


@contextmanager
def exporting(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Exports spans for as long as this lasts if the environment names an exporter (OTEL_EXPORTER_OTLP_ENDPOINT, or
    OTEL_TRACES_EXPORTER=otlp or console, which writes to stderr). Raises SelfragError without the extra."""
    if (wanted := exporter_named(environ)) == "none":
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

        exporter: SpanExporter
        if wanted == "console":
            exporter = ConsoleSpanExporter(out=sys.stderr)
        elif wanted == "otlp":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        else:
            raise SelfragError(f"OTEL_TRACES_EXPORTER is {wanted!r}", "otlp, console or none")
    except ImportError as error:
        raise SelfragError(f"spans cannot be exported: {error}", "pip install 'selfrag[otel]', or unset OTEL_*") from error
    name = {} if environment.OTEL_SERVICE.read(environ) else {SERVICE_NAME: "selfrag"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()  # sends what is left


class Spans:
    """The spans of one question: wraps what a search uses, and observes it."""

    def __init__(self, tracer: Tracer, reflector: Reflector, retriever: Retriever | None) -> None:
        self.tracer = tracer
        self.model, self.source = reflector.engine.model, retriever.name if retriever else ""
        self.content = environment.OTEL_CONTENT.read().lower() == "true"
        self.reflector = TracedReflector(reflector, self)
        self.retriever = TracedRetriever(retriever, self) if retriever else None

    @contextmanager
    def question(self, text: str) -> Iterator[Span]:
        """The whole search."""
        with self.span("invoke_agent", "selfrag", {"gen_ai.agent.name": "selfrag", "gen_ai.request.model": self.model}) as span:
            if self.source:
                span.set_attribute("gen_ai.data_source.id", self.source)
            if self.content:
                message = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
                span.set_attribute("gen_ai.input.messages", json.dumps(message, ensure_ascii=False))
            yield span

    def answered(self, span: Span, answer: Answer) -> None:
        """Records the answer."""
        span.set_attributes(
            {
                "gen_ai.response.model": answer.model,
                "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": answer.usage.cached_tokens,
                "selfrag.status": answer.status,
                "selfrag.score": answer.score,
                "selfrag.candidates.expanded": answer.expanded,
                "selfrag.candidates.pruned": answer.pruned,
            }
        )
        if self.content:
            message = [{"role": "assistant", "parts": [{"type": "text", "content": answer.text}], "finish_reason": "stop"}]
            span.set_attribute("gen_ai.output.messages", json.dumps(message, ensure_ascii=False))

    def observing(self, observer: Observer | None) -> Observer:
        """An observer that records each selection and passes every event to ``observer``."""

        def observe(event: Event) -> None:
            if isinstance(event, Selected):
                with self.tracer.start_as_current_span("select") as span:
                    kept = {"selfrag.paths": event.paths, "selfrag.scores": event.scores}
                    span.set_attributes({"selfrag.operation": "select", "selfrag.step": event.step, **kept})
            if observer:
                observer(event)

        return observe

    @contextmanager
    def span(self, operation: str, name: str, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """A span of a GenAI operation; an error is recorded as its type."""
        with self.tracer.start_as_current_span(f"{operation} {name}".strip()) as span:
            span.set_attributes({"gen_ai.operation.name": operation, "gen_ai.provider.name": "selfrag", **attributes})
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def inference(self, operation: str) -> Any:
        """A span of the model: ``operation`` is decide, judge or generate."""
        attributes = {"gen_ai.request.model": self.model, "selfrag.operation": operation}
        return self.span("text_completion", self.model, attributes)


def evaluated(span: Span, critique: Critique) -> None:
    """Records the critique, one event for each group that it has."""
    for group, name in _EVALUATIONS.items():
        if group in critique.distributions:
            values = {"gen_ai.evaluation.name": group, "gen_ai.evaluation.score.value": getattr(critique, name)}
            span.add_event("gen_ai.evaluation.result", values)


@dataclass(frozen=True, slots=True)
class TracedReflector:
    """A reflector whose calls are spans."""

    inner: Reflector
    spans: Spans

    @property
    def kind(self) -> ReflectionKind:
        return self.inner.kind

    @property
    def engine(self) -> Engine:
        return self.inner.engine

    def using(self, engine: Engine) -> Reflector:
        return TracedReflector(self.inner.using(engine), self.spans)

    def describe(self) -> Mapping[str, object]:
        return self.inner.describe()

    async def decide(self, instruction: str, path: Sequence[Segment], threshold: float) -> Decision:
        with self.spans.inference("decide") as span:
            decision = await self.inner.decide(instruction, path, threshold)
            span.set_attribute("selfrag.decision", decision.action)
            return decision

    async def open(self, instruction: str, path: Sequence[Segment], passage: Passage | None, carry: bool) -> Opening:
        with self.spans.inference("judge") as span:
            opening = await self.inner.open(instruction, path, passage, carry)
            if passage:
                span.set_attribute("selfrag.passage", passage.chunk)
            evaluated(span, opening.critique)
            return opening

    async def extend(self, instruction: str, path: Sequence[Segment], opening: Opening, alive: Alive) -> Segment | None:
        with self.spans.inference("generate") as span:
            segment = await self.inner.extend(instruction, path, opening, alive)
            span.set_attribute("selfrag.pruned", segment is None)
            if opening.passage:
                span.set_attribute("selfrag.passage", opening.passage.chunk)
            if segment:
                evaluated(span, segment.critique)
            return segment

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique:
        with self.spans.inference("judge") as span:
            critique = await self.inner.judge(instruction, passage, answer)
            evaluated(span, critique)
            return critique


class TracedRetriever:
    """A retriever whose searches are spans."""

    def __init__(self, inner: Retriever, spans: Spans) -> None:
        self.inner, self.spans, self.name = inner, spans, inner.name

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.inner.warnings

    def describe(self) -> Mapping[str, object]:
        return self.inner.describe()

    async def search(self, query: str, k: int) -> list[Passage]:
        attributes = {"gen_ai.data_source.id": self.name, "gen_ai.retrieval.top_k": k, "selfrag.operation": "retrieve"}
        with self.spans.span("retrieval", self.name, attributes) as span:
            found = await self.inner.search(query, k)
            span.set_attribute("selfrag.passages", len(found))
            if self.spans.content:
                span.set_attribute("gen_ai.retrieval.query.text", query)
                documents = [{"id": passage.chunk, "score": passage.score} for passage in found]
                span.set_attribute("gen_ai.retrieval.documents", json.dumps(documents))
            return found

    async def close(self) -> None:
        await self.inner.close()
