"""The second phase of training of smollm2-135m-selfrag, as it was run.

    python benchmarks/train_phase2.py DATA BASE PHASE1 OUT [--minutes 23]

DATA is the folder of published training data, BASE the checkpoint folder of smollm2-135m-instruct, PHASE1 the run folder of the
first phase (`selfrag train run`). The second phase goes on from the first one's weights and optimizer state on a new selection
of rows with more questions and answers, under other loss weights and a schedule of its own. `selfrag train run` alone cannot do
that: it refuses a checkpoint of other rows, so this script writes the new hash into it. It has no way to resume under a new
schedule either; a run that is killed goes on from OUT's own checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from selfrag.train.lora import AdapterConfig
from selfrag.train.prepare import PrepareConfig, prepare
from selfrag.train.run import WEIGHTS, RunConfig, file_hash, run

LIMITS = {
    "squad2": 1500, "squad2-explain": 80, "squad2-near": 300, "halueval_qa": 1200, "halueval_qa-near": 200,
    "fairytaleqa": 150, "fairytaleqa-near": 30, "vitaminc": 300, "wice": 50, "halueval_summarization": 20, "2wiki": 40,
    "nq_open": 60, "clapnq": 60, "efficientqa": 60, "selfinstruct": 60, "instructions": 200,
}  # fmt: skip


def carry_over(phase1: Path, rows: Path, out: Path) -> None:
    """The first phase's checkpoint as the second's step 0. The first kept the new tokens' rows at another place in its list."""
    saved = torch.load(phase1 / "checkpoint.pt", weights_only=True)
    masters = saved["optimizer"]["masters"]
    at = next(i for i, master in enumerate(masters) if master.shape[0] == 15)
    masters.append(masters.pop(at))
    saved |= {"rows": file_hash(rows), "state": {"step": 0, "seconds": 0.0, "tokens": 0}}
    torch.save(saved, out / "checkpoint.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "base", "phase1", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=23)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = given.out / "rows.jsonl"
    if not rows.exists():
        prepare(PrepareConfig((given.data / "train",), rows, 2, LIMITS))
    if not (given.out / "checkpoint.pt").exists():
        carry_over(given.phase1, rows, given.out)
    run(
        RunConfig(
            base=str(given.base),
            rows=rows,
            out=given.out,
            minutes=given.minutes,
            warmup=15,
            seed=2,
            weights=dict(WEIGHTS) | {"text": 2.0, "ISSUP": 1.0, "ISUSE": 0.3, "Retrieve": 0.3},
            checkpoint_minutes=3,
            base_name="HuggingFaceTB/SmolLM2-135M-Instruct",
            adapter=AdapterConfig(first_block=10, rows_from_input=False),
        )
    )


if __name__ == "__main__":
    main()
