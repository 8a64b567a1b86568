"""The one thing to run on a machine with a GPU and vLLM: `python benchmarks/gpu_smoke.py MODEL [--out FILE]`.

It says what is there and which engine `auto` takes; compares the watched log-probabilities of vLLM and transformers on the same
device, in float32 and in bfloat16; and runs throughput.py with enough questions in flight for a card, its results in FILE. MODEL
is a reflection checkpoint's folder. It has been run on a CPU, for want of a GPU. Without FlashInfer on the machine set
VLLM_USE_FLASHINFER_SAMPLER=0.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import harness
import torch
from throughput import given_passages, installed

from selfrag.algorithm.grammar import lead_in, prompt
from selfrag.algorithm.reflection import JUDGEMENTS
from selfrag.engines import open_engine
from selfrag.types import Prompt, Request

QUESTIONS, IN_FLIGHT, ROUNDS = 144, 256, 3


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--out", type=Path, default=Path("throughput-gpu.md"))
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", installed(), sep=", ", flush=True)
    asyncio.run(agreement(arguments.model))
    counts = ["--questions", str(arguments.questions), "--concurrency", str(IN_FLIGHT), "--rounds", str(ROUNDS)]
    script = Path(__file__).with_name("throughput.py")
    subprocess.run([sys.executable, script, arguments.model, *counts, "--out", arguments.out], check=True)


async def agreement(model: str) -> None:
    """Prints the largest difference between the two engines' watched log-probabilities, by dtype."""
    asked = [prompt(q, (), *lead_in(each, carry=False)) for q, found in given_passages(8).items() for each in found]
    for dtype in ("float32", "bfloat16") if torch.cuda.is_available() else ("float32",):
        plain, vllm = [await judged(name, model, dtype, asked) for name in ("transformers", "vllm")]
        worst = max(abs(mine[name] - theirs[name]) for mine, theirs in zip(vllm, plain, strict=True) for name in theirs)
        print(f"{dtype}: {len(asked)} passages judged, log-probabilities differ by {worst:.1e} at most", flush=True)
    if torch.cuda.is_available():
        print("auto takes", await name_of("auto", model), flush=True)


async def judged(name: str, model: str, dtype: str, asked: list[Prompt]) -> list[Mapping[str, float]]:
    """The watched log-probabilities at the first position after each prompt."""
    engine = open_engine(name, model, dtype=dtype)
    try:
        done = await asyncio.gather(*(engine.complete(Request(each, 1, watch=JUDGEMENTS)) for each in asked))
    finally:
        await engine.close()
    return [each.tokens[0].watched for each in done]


async def name_of(spec: str, model: str) -> str:
    engine = open_engine(spec, model)
    await engine.close()
    return engine.name


if __name__ == "__main__":
    main()
