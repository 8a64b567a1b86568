"""Balanced accuracy of ISSUP on claims that people judged, beside word overlap.

    python benchmarks/grounding.py DATA/dev/grounding.jsonl.gz [--model MODEL] [--limit N] [--out benchmarks/results/grounding.md]

A claim counts as supported only where it is fully supported.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import claims
import harness
import numpy as np
from corpus import read_rows

from selfrag.agent import open_agent
from selfrag.config.library_env import silence_libraries
from selfrag.evaluation.tables import markdown_table
from selfrag.types import Passage, Reflector


async def judged(reflector: Reflector, row: Mapping[str, Any], limit: asyncio.Semaphore) -> float:
    """ISSUP of the claim against its passage, in [0, 1]."""
    question = row.get("question") or f"Is it true that {row['claim']}"
    async with limit:
        return (await reflector.judge(question, Passage(row["id"], "", row["passage"], "claims"), row["claim"])).issup


def table(rows: list[dict[str, Any]], score: list[float]) -> str:
    supported = np.array([row["label"] == "supported" for row in rows], dtype=np.float64)
    names = [row["set"] for row in rows]
    overlap = [claims.word_overlap(row["claim"], row["passage"]) for row in rows]
    model = claims.by_set(names, np.array(score), supported)
    words = claims.by_set(names, np.array(overlap), supported)
    lines = [[name, str(found[0]), *map(cell, found[1:]), *map(cell, words[name][2:])] for name, found in model.items()]
    both = [[found[i] for found in model.values()] for i in (1, 2, 3)] + [[found[i] for found in words.values()] for i in (2, 3)]
    lines.append(
        ["mean over sets", str(len(rows)), *(cell(float(np.mean([v for v in column if v is not None]))) for column in both)]
    )
    head = ["set", "claims", "ISSUP ≥ .5", "best threshold", "AUROC", "word overlap, best threshold", "AUROC"]
    return markdown_table(head, lines)


def cell(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


async def main(given: argparse.Namespace) -> None:
    rows = list(read_rows(given.claims))
    if given.limit:
        rows = random.Random(0).sample(rows, given.limit)
    limit = asyncio.Semaphore(16)
    async with open_agent(mode="never", model=given.model) as agent:
        score = await asyncio.gather(*(judged(agent.reflector, row, limit) for row in rows))
        found, model = table(rows, list(score)), agent.reflector.engine.model
    print(found)
    if given.out:
        head = harness.provenance(f"{model}, {len(rows)} of {given.claims.name}")
        harness.write(given.out, "Support of judged claims", found, NOTE, head=head)


NOTE = """Balanced accuracy in per cent; the best threshold is chosen on these very claims, for both columns. A claim counts as
supported only where it is fully supported. Published, on other sets: HHEM-2.1 (0.1B) 71.8 and MiniCheck (0.4B) 73 mean balanced
accuracy on LLM-AggreFact; TinyLettuce (17M) 68.5 example F1 on RAGTruth."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path)
    silence_libraries()
    asyncio.run(main(parser.parse_args()))
