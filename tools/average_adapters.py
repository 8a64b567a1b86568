"""The mean of adapters of the same shape, number by number: what several phases of one training agree on.

    python tools/average_adapters.py ADAPTER ADAPTER... -o FOLDER

An ADAPTER is a folder such as `adapter/` of a run. The mean is taken in float32 and written in bfloat16, with the first one's
configuration. The shipped model is one; its model card says of which, and benchmarks/results/training.md what that gained.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def mean(folders: list[Path], out: Path) -> None:
    """Raises SystemExit where two adapters differ in the names or shapes of their weights."""
    found = [load_file(folder / WEIGHTS) for folder in folders]
    shapes = [{name: weight.shape for name, weight in each.items()} for each in found]
    for folder, other in zip(folders, shapes, strict=True):
        if other != shapes[0]:
            raise SystemExit(f"{folder} has other weights than {folders[0]}")
    out.mkdir(parents=True, exist_ok=True)
    averaged = {name: torch.stack([each[name].float() for each in found]).mean(0).to(torch.bfloat16) for name in found[0]}
    save_file(averaged, out / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(folders[0] / CONFIG, out / CONFIG)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    mean(given.adapters, given.out)
