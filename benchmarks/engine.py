"""The engines of one machine, onnx and transformers, and plain batched `generate` of the same model, in one run.

For each question: its passages are judged (one token each) and then written from (`--write` tokens each), as the search does.
Plain `generate` gets the same batches, left-padded, and reads every prompt twice, since nothing is kept between two calls.

    python benchmarks/engine.py MODEL --out benchmarks/results/engine.json

Wall times of a busy machine say little: CPU seconds of one thread are given beside them, and rates are per CPU second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import harness
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfrag.algorithm import reflection
from selfrag.algorithm.reflection import END_PARAGRAPH, ISREL, JUDGEMENTS, PARAGRAPH, RETRIEVAL
from selfrag.engines.local.engine import LocalEngine
from selfrag.engines.local.onnx import OnnxEngine
from selfrag.engines.local.transformers import TransformersEngine
from selfrag.types import Completion, Control, Generated, Prompt, Request, Text


@dataclass
class Cost:
    """What some work took in all: wall and CPU seconds, prompt tokens computed, tokens written, passes that write."""

    wall: float = 0.0
    cpu: float = 0.0
    read: int = 0
    written: int = 0
    steps: int = 0
    _started: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> Cost:
        self._started = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._started[0]
        self.cpu += time.process_time() - self._started[1]

    def rates(self) -> dict[str, float]:
        shown = {key: value for key, value in asdict(self).items() if not key.startswith("_")}
        rates = {"read_per_cpu_second": self.read / self.cpu, "written_per_cpu_second": self.written / self.cpu}
        return {
            key: round(value, 2)
            for key, value in (shown | rates | {"cpu_ms_per_step": 1e3 * self.cpu / (self.steps or 1)}).items()
        }


def questions(count: int, passages: int) -> Iterator[list[Prompt]]:
    """Prompts of ``passages`` passages for each of ``count`` questions, from the shipped Wikipedia summaries."""
    texts = [" ".join(path.read_text(encoding="utf-8").split()[:150]) for path in sorted(harness.CORPUS.glob("*/*.md"))]
    texts = [text for text in texts if len(text.split()) >= 80][:: max(1, 300 // (count * passages))]
    for n in range(count):
        asked = f"### Instruction:\nWhat is number {n} best known for?\n\n### Response:\n"
        batch = texts[n * passages : (n + 1) * passages]
        yield [(Text(asked), Control(RETRIEVAL), Control(PARAGRAPH), Text(text), Control(END_PARAGRAPH)) for text in batch]


class Plain:
    """`generate` on left-padded batches."""

    def __init__(self, model: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.pad = AutoTokenizer.from_pretrained(model).eos_token_id

    def generate(self, rows: list[list[int]], tokens: int, cost: Cost) -> list[list[int]]:
        width = max(map(len, rows))
        ids = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with cost, torch.inference_mode():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=self.pad,
            )
        cost.read += sum(map(len, rows))
        cost.written += tokens * len(rows)
        cost.steps += tokens
        return [row[width:] for row in out.tolist()]


async def ask(engine: LocalEngine, prompts: list[Prompt], tokens: int, cost: Cost) -> list[Completion]:
    before = engine.prefilled
    with cost:
        done = await asyncio.gather(*(engine.complete(Request(prompt, tokens, watch=JUDGEMENTS)) for prompt in prompts))
    cost.written += sum(len(completion.tokens) for completion in done)
    cost.read += engine.prefilled - before - sum(len(completion.tokens) - 1 for completion in done)
    cost.steps += tokens
    return done


def agree(plain: list[int], ours: list[int], end: int) -> bool:
    """Whether two texts are equal as far as they can be: `generate` must not end before its limit and writes on otherwise."""
    length = ours.index(end) if end in ours else len(ours)
    return plain[:length] == ours[:length]


def opened(engine: LocalEngine) -> LocalEngine:
    engine._scheduler._ends = frozenset()  # everything is written to the limit, so that lengths are equal
    return engine


async def compare(model: str, options: argparse.Namespace) -> dict[str, Any]:
    plain = Plain(model)
    kinds = {"transformers": TransformersEngine, "onnx": OnnxEngine}
    engines = {name: opened(kind(model, threads=options.threads)) for name, kind in kinds.items()}
    names = ["generate", *engines]
    judge, write = {name: Cost() for name in names}, {name: Cost() for name in names}
    differences: list[float] = []
    isrels: dict[str, list[float]] = {name: [] for name in engines}
    same = total = 0
    plain.generate([[1, 2, 3]], 2, Cost())
    for prompts in questions(options.questions, options.passages):
        rows = [engines["transformers"].tokenizer.encode(prompt) for prompt in prompts]
        first = plain.generate(rows, 1, judge["generate"])
        rest = plain.generate([row + token for row, token in zip(rows, first, strict=True)], options.write, write["generate"])
        for name, engine in engines.items():
            judged = await ask(engine, prompts, 1, judge[name])
            isrels[name] += [reflection.isrel(completion.tokens[0].watched) for completion in judged]
            on = [(*prompt, Generated(completion.tokens)) for prompt, completion in zip(prompts, judged, strict=True)]
            wrote = await ask(engine, on, options.write, write[name])
            if name == "transformers":
                both = zip(rest, wrote, strict=True)
                same += sum(agree(ids, [token.id for token in completion.tokens], plain.pad) for ids, completion in both)
                total += len(rest)
                reference = judged
            else:
                pairs = zip(reference, judged, strict=True)
                differences += [abs(a.tokens[0].watched[t] - b.tokens[0].watched[t]) for a, b in pairs for t in ISREL]
    for engine in engines.values():
        await engine.close()
    pairs_of_isrel = list(zip(*isrels.values(), strict=True))
    return {
        "judge": {name: cost.rates() for name, cost in judge.items()},
        "write": {name: cost.rates() for name, cost in write.items()},
        "texts_equal_to_generate": f"{same} of {total}",
        "onnx_against_transformers": {
            "mean_isrel_difference": round(statistics.mean(abs(a - b) for a, b in pairs_of_isrel), 4),
            "max_isrel_difference": round(max(abs(a - b) for a, b in pairs_of_isrel), 4),
            "mean_watched_logprob_difference": round(statistics.mean(differences), 7),
            "same_isrel_verdict": f"{sum((a > 0.5) == (b > 0.5) for a, b in pairs_of_isrel)} of {len(pairs_of_isrel)}",
        },
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("model", help="a checkpoint folder with reflection tokens")
    parser.add_argument("--questions", type=int, default=6)
    parser.add_argument("--passages", type=int, default=5)
    parser.add_argument("--write", type=int, default=40, help="tokens written from each passage")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = asyncio.run(compare(options.model, options))
    setting = {
        "command": f"python benchmarks/engine.py MODEL --questions {options.questions} --passages {options.passages} "
        f"--write {options.write} --threads {options.threads}",
        "machine": f"{platform.machine()}, {options.threads} of {os.cpu_count()} cores, other work running",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "data": "corpora/wikipedia, the first 150 words of a summary as a passage",
    }
    document = json.dumps(setting | found, indent=2)
    print(document)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
