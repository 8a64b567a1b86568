"""The third phase of training of smollm2-135m-selfrag, as it was run.

    python benchmarks/train_phase3.py DATA BASE BEFORE OUT [--minutes 90]

DATA is the folder of published training data, BASE the checkpoint folder of smollm2-135m-instruct, BEFORE the run folder of the
second phase, which `benchmarks/train_phase2.py` made at commit 24790f3. The third goes on from its weights and optimizer state
on a new selection of rows, under a schedule of its own. `selfrag train run` alone cannot do that: it refuses a checkpoint of
other rows, so this script writes the new hash into it. A run that is killed goes on from OUT's own checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from selfrag.train.lora import AdapterConfig
from selfrag.train.prepare import PrepareConfig, prepare
from selfrag.train.run import WEIGHTS, RunConfig, file_hash, run


def carry_over(before: Path, rows: Path, out: Path) -> None:
    """The last phase's weights and optimizer as this one's step 0."""
    saved = torch.load(before / "checkpoint.pt", weights_only=True)
    torch.save(saved | {"rows": file_hash(rows), "state": {"step": 0, "seconds": 0.0, "tokens": 0}}, out / "checkpoint.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "base", "before", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=90)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = given.out / "rows.jsonl"
    if not rows.exists():
        prepare(PrepareConfig((given.data / "train",), rows, seed=3))
    if not (given.out / "checkpoint.pt").exists():
        carry_over(given.before, rows, given.out)
    run(
        RunConfig(
            base=str(given.base),
            rows=rows,
            out=given.out,
            minutes=given.minutes,
            warmup=15,
            seed=3,
            weights=dict(WEIGHTS) | {"text": 2.0, "Retrieve": 0.3, "ISUSE": 0.3},
            checkpoint_minutes=5,
            base_name="HuggingFaceTB/SmolLM2-135M-Instruct",
            adapter=AdapterConfig(first_block=10, rows_from_input=False),
        )
    )


if __name__ == "__main__":
    main()
