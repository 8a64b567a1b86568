"""`selfrag train run` in two processes: to its end, and killed in the middle and started again.

    python -m tests.stress.launched WORK [--kinds data zero3] [--out results/launched.json]

`data` is plain data parallelism under torch's launcher, `zero3` DeepSpeed's ZeRO-3 under accelerate's (needs `pip install
deepspeed` and a C++ compiler: it builds an operator at its first start). Both run on the CPU, over gloo, in float32, with a Llama
of three small layers made from nothing in WORK. Every kind is run twice: whole, and killed (SIGKILL to the launcher and all that
it started, after a checkpoint was written) and started again with the same command. Both kinds see the same batches, so their
adapters should agree but for rounding.

Prints, and writes as JSON: steps, where it was killed and went on from, the largest difference between the weights of the killed
run's adapter and the whole one's, and between `zero3`'s and `data`'s, beside the largest LoRA weight that began at 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from tests.train.conftest import build
from tests.train.test_run import write_rows

KINDS = {
    "data": ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"],
    "zero3": ["accelerate.commands.launch", "--num_processes", "2", "--use_deepspeed", "--zero_stage", "3", "--zero3_init_flag",
              "false", "--zero3_save_16bit_model", "true", "--mixed_precision", "no"],
}  # fmt: skip
ON_CPU = {"data": {"ACCELERATE_USE_CPU": "true"}, "zero3": {"DS_ACCELERATOR": "cpu"}}
SETTINGS = {"dtype": "float32", "rank": 2, "first-block": 1, "epochs": 8, "batch-tokens": 300, "lr": 0.01, "rows-lr": 0.01,
            "checkpoint-minutes": 0}  # fmt: skip


def command(kind: str, work: Path, out: Path) -> list[str]:
    options = [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]
    train = ["-m", "selfrag", "train", "run", str(work / "rows.jsonl"), "--base", str(work / "base")]
    return [sys.executable, "-m", *KINDS[kind], *train, *options, "-o", str(out)]


def environment(kind: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"} | ON_CPU[kind]


def whole(kind: str, work: Path, out: Path) -> str:
    """Runs to the end; returns what it said."""
    done = subprocess.run(command(kind, work, out), env=environment(kind), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kind} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done.stderr


def killed(kind: str, work: Path, out: Path) -> int:
    """Starts a run and kills every process of it once a checkpoint is there; returns the steps in its curve."""
    process = subprocess.Popen(
        command(kind, work, out), env=environment(kind), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    curve, saved = out / "curve.jsonl", out / ("checkpoint" if kind == "zero3" else "checkpoint.pt")
    while process.poll() is None and not (saved.exists() and curve.exists()):
        time.sleep(0.005)
    if process.poll() is not None:
        sys.exit(f"{kind} ended by itself before it could be killed: {process.returncode}")
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.kill()
    process.wait()
    return len(curve.read_text("utf-8").splitlines())


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


def apart(a: Path, b: Path) -> float:
    """The largest difference of any two weights of the adapters of two runs, which must have the same names and shapes."""
    one, other = adapter(a), adapter(b)
    if {n: v.shape for n, v in one.items()} != {n: v.shape for n, v in other.items()}:
        sys.exit(f"{a} and {b} hold other weights: {sorted(one.keys() ^ other.keys())[:3]}")
    return max(float((one[n].float() - other[n].float()).abs().max()) for n in one)


def measure(kind: str, work: Path) -> dict[str, object]:
    ends = work / f"{kind}-whole", work / f"{kind}-killed"
    for out in ends:
        shutil.rmtree(out, ignore_errors=True)
    whole(kind, work, ends[0])
    reached = killed(kind, work, ends[1])
    said = [line for line in whole(kind, work, ends[1]).splitlines() if "going on from step" in line]
    if not said:
        sys.exit(f"{kind}: the killed run began anew")
    steps = json.loads((ends[0] / "config.json").read_text("utf-8"))["steps"]
    moved = max(float(v.float().abs().max()) for n, v in adapter(ends[0]).items() if "lora_B" in n)  # they begin at 0
    return {"kind": kind, "steps": steps, "killed_after_logged_steps": reached, "said": said[-1].strip(),
            "killed_apart_from_whole": apart(*ends), "largest_lora_B": moved}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    build(given.work / "base")
    write_rows(given.work / "rows.jsonl")
    results = []
    for kind in given.kinds:
        result = measure(kind, given.work)
        if kind == "zero3" and (given.work / "data-whole" / "adapter").exists():
            result["apart_from_data"] = apart(given.work / "data-whole", given.work / "zero3-whole")
        print(json.dumps(result), flush=True)
        results.append(result)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
