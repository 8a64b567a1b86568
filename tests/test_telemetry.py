"""Spans of a question, taken by the SDK's in-memory exporter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from selfrag import telemetry
from selfrag.agent import Agent
from selfrag.environment import OTEL_CONTENT
from selfrag.errors import EngineError, SelfragError
from selfrag.types import Request, Token
from tests.algorithm.test_certain import chain
from tests.algorithm.test_search import LONG, Shelf, passage
from tests.cli.process import environment

OPTIONS = replace(LONG, beam_width=1)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider of this test alone."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "false")
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("selfrag"))
    yield found
    provider.shutdown()


def agent() -> Agent:
    return Agent(chain(0.9, 0.8), Shelf(passage(1), passage(2)), OPTIONS)


def of(spans: tuple[ReadableSpan, ...], operation: str) -> list[ReadableSpan]:
    return [span for span in spans if (span.attributes or {}).get("selfrag.operation") == operation]


async def test_a_question_is_a_tree_of_spans(exporter: InMemorySpanExporter) -> None:
    """Below one span for the agent stand retrieve, judge, generate and select, named as the GenAI conventions name them."""
    answer = await agent().ask("q?")
    spans = exporter.get_finished_spans()
    [root] = [span for span in spans if span.parent is None]
    assert root.name == "invoke_agent selfrag"
    told = dict(root.attributes or {})
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.data_source.id"] == "shelf"
    assert told["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert told["selfrag.status"] == "answered"
    assert all(span.parent and span.parent.span_id == root.context.span_id for span in spans if span is not root)

    assert [span.name for span in of(spans, "retrieve")] == ["retrieval shelf"] * 2
    assert {(span.attributes or {})["gen_ai.retrieval.top_k"] for span in of(spans, "retrieve")} == {OPTIONS.k}
    assert {span.name for span in (*of(spans, "judge"), *of(spans, "generate"))} == {"text_completion scripted"}
    assert len(of(spans, "judge")) == 4
    assert len(of(spans, "generate")) == answer.expanded + answer.pruned
    assert len(of(spans, "select")) == 2

    judged = {event.attributes["gen_ai.evaluation.name"] for event in of(spans, "judge")[0].events if event.attributes}
    assert judged == {"ISREL"}
    chosen = {str(c.segment.critique.issup) for c in answer.segments}
    values = {
        str(event.attributes["gen_ai.evaluation.score.value"])
        for span in of(spans, "generate")
        for event in span.events
        if event.attributes and event.attributes["gen_ai.evaluation.name"] == "ISSUP"
    }
    assert chosen <= values


@pytest.mark.parametrize("capture", ["false", "true"])
async def test_content_is_opt_in(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, capture: str) -> None:
    """The words of question, query and answer are in no attribute unless the environment asks for them."""
    monkeypatch.setenv(OTEL_CONTENT.name, capture)
    answer = await agent().ask("secret?")
    spans = exporter.get_finished_spans()
    told = json.dumps([dict(span.attributes or {}) for span in spans])
    assert ("secret?" in told, answer.text in told) == (capture == "true", capture == "true")


async def test_an_error_is_recorded(exporter: InMemorySpanExporter) -> None:
    """A failure of the engine ends its span and the agent's with the type of the error, and is raised as it is."""

    def reply(request: Request) -> list[Token]:
        raise EngineError("gone")

    broken = agent()
    broken.reflector.engine._reply = reply  # type: ignore[attr-defined]
    with pytest.raises(EngineError):
        await broken.ask("q?")
    spans = exporter.get_finished_spans()
    assert {(span.attributes or {}).get("error.type") for span in spans} == {"EngineError"}
    assert all(not span.status.is_ok for span in spans)


async def test_off_without_configuration() -> None:
    """Where nobody has set OpenTelemetry up, no exporter is opened and a question makes no span."""
    before = trace.get_tracer_provider()
    with telemetry.exporting({}), telemetry.exporting({"OTEL_TRACES_EXPORTER": "none"}):
        assert trace.get_tracer_provider() is before
        assert (await agent().ask("q?")).text == "one two1"


def test_the_sdk_is_not_loaded(home: Path) -> None:
    """Importing the agent loads nothing of OpenTelemetry."""
    code = "import sys, selfrag.agent, selfrag.cli; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(home), timeout=120)
    assert done.stdout.strip() == "[]"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter in the environment without the package is an error with the command that installs it; so is an unknown one."""
    with (
        pytest.raises(SelfragError, match="OTEL_TRACES_EXPORTER is 'zipkin'"),
        telemetry.exporting({"OTEL_TRACES_EXPORTER": "zipkin"}),
    ):
        pass
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(SelfragError) as refused, telemetry.exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}):
        pass
    assert "selfrag[otel]" in (refused.value.hint or "")
