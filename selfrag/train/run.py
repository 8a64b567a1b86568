"""`selfrag train run`: trains an adapter, writes checkpoints, and resumes from the last one after a kill.

The run folder holds `config.json` (settings, hash of the rows), `curve.jsonl` (one line every few steps), `checkpoint.pt` (all
that resuming needs; a folder `checkpoint` where DeepSpeed shards the weights) and `adapter/` (what peft loads). The order of
batches depends on the seed alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, set_seed

from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.errors import InputError, Interrupted, UsageError
from selfrag.models.build import sha256
from selfrag.train import checkpoint, sharded
from selfrag.train import rows as training_rows
from selfrag.train.adapters import adapt_from
from selfrag.train.lora import AdapterConfig, MasterAdamW, Objective, adapt, by_group, compile_blocks, load, peaks
from selfrag.train.tensors import Batch, Encoded, batches, collate, encode

WEIGHTS: Mapping[str, float] = {
    "text": 1.0, "end": 0.3, "Retrieve": 0.5, "ISREL": 2.0, "ISSUP": 1.5, "ISUSE": 0.4, "markup": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How to train ``base``, a folder or a Hugging Face name, which the adapter calls ``base_name``.

    ``start`` is the folder of an adapter to begin with, weights and token rows, of the shape ``adapter`` or without its lowest
    blocks; the optimizer is new.
    ``minutes`` (0: no limit) ends the schedule early: the learning rate falls to 0 by then, or by the last step, whichever comes
    first. ``batch_tokens`` is per process. ``dtype`` is the precision of weights and matrix products; None takes float32
    on a CPU and bfloat16 on CUDA. ``compiled``: torch
    compiles the blocks in the first steps; it changes nothing but the time.
    """

    base: str
    rows: Path
    out: Path
    base_name: str = ""
    start: Path | None = None
    epochs: int = 1
    minutes: float = 0.0
    batch_tokens: int = 1600
    max_tokens: int = 640
    lr: float = 6e-4
    rows_lr: float = 2e-3
    warmup: int = 40
    clip: float = 1.0
    seed: int = 1
    dtype: str | None = None
    compiled: bool = False
    checkpoint_minutes: float = 5.0
    log_every: int = 5
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))


@dataclass(slots=True)
class State:
    """The progress of a run: steps done, seconds and tokens spent."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0


def weights_of(given: Iterable[str]) -> dict[str, float]:
    """WEIGHTS with the ``GROUP=W`` texts of ``given`` over them. Raises UsageError for an unknown group or an invalid weight."""
    weights = dict(WEIGHTS)
    for item in given:
        name, _, number = item.partition("=")
        if name not in weights or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise UsageError(f"cannot read the weight {item!r}", f"GROUP=W, where GROUP is one of: {', '.join(weights)}")
        weights[name] = float(number)
    return weights


def file_hash(path: Path) -> str:
    """Raises InputError if the file does not exist."""
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"cannot read the rows {path}: {error.strerror}", "make rows with: selfrag train prepare") from error


def run(config: RunConfig, say: Callable[[str], None] | None = None, stop: threading.Event | None = None) -> State:
    """Trains to the end of the schedule, going on from ``config.out/checkpoint.pt`` if there is one. Raises Interrupted after
    ``stop`` was set and the step in hand is done and saved."""
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    return Trainer(config, say, stop or threading.Event()).train()


class Meter:
    """Losses by group and tokens since ``since`` seconds."""

    def __init__(self, since: float) -> None:
        self.since, self.tokens = since, 0
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, batch: Batch, losses: torch.Tensor) -> None:
        self.tokens += batch.ids.numel()
        for name, total, count in by_group(batch, losses):
            self.sums[name][0] += total
            self.sums[name][1] += count

    def losses(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}


class Trainer:
    """One run: data, model, optimizer and state."""

    def __init__(self, config: RunConfig, say: Callable[[str], None], stop: threading.Event) -> None:
        if config.dtype not in (None, "bfloat16", "float32"):
            raise UsageError(f"--dtype is {config.dtype!r}", "bfloat16 or float32")
        self.rows_hash = file_hash(config.rows)
        self.config, self.accelerator, self.state = config, sharded.start(), State()
        self.stop, self.stopping = stop, False
        self.say = say if self.accelerator.is_main_process else lambda _line: None
        self.sharded = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        set_seed(config.seed)
        checkpoint.folder(config.out)
        if self.sharded:
            sharded.load_whole()
        # many CPUs have no instructions for bfloat16, and take an hour for what float32 does in a minute
        dtype = config.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")
        model, self.tokenizer = load(config.base, getattr(torch, dtype))
        if config.start:
            self.peft = adapt_from(model, self.tokenizer, config.adapter, config.start)
        else:
            self.peft = adapt(model, self.tokenizer, config.adapter)
        self.peft.peft_config["default"].base_model_name_or_path = config.base_name or config.base
        if config.compiled:
            compile_blocks(self.peft)
        self.data = self._encode()
        self.plan = self._plan()
        self.objective, self.optimizer = self._prepare()
        self._resume()
        self._write_config()

    def _encode(self) -> list[Encoded]:
        prompt_tokenizer = PromptTokenizer(self.tokenizer)
        found = [
            encode(row, prompt_tokenizer, self.config.weights, self.config.max_tokens)
            for row in training_rows.read(self.config.rows)
        ]
        kept = [row for row in found if row is not None]
        self.say(f"{len(kept)} rows, {sum(map(len, kept)):,} tokens; {len(found) - len(kept)} left out (too long or unlabelled)")
        if not kept:
            raise InputError(f"{self.config.rows} holds no usable training row", "make rows with: selfrag train prepare")
        return kept

    def _plan(self) -> list[list[int]]:
        """Every epoch's batches for this process, in order."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        plan: list[list[int]] = []
        for epoch in range(self.config.epochs):
            made = batches(self.data, self.config.batch_tokens, self.config.seed + 1000 * epoch)
            plan.extend(made[rank : len(made) // world * world : world] if world > 1 else made)
        if not plan:
            raise InputError(f"the rows fill {len(made)} batches, too few for {world} processes", "lower --batch-tokens")
        return plan

    def _prepare(self) -> tuple[Any, Any]:
        objective, c = Objective(self.peft), self.config
        if self.sharded:
            return sharded.shard(self.accelerator, objective, c.lr, c.rows_lr, c.clip)
        wrapped = self.accelerator.prepare(objective)
        return wrapped, MasterAdamW(peaks(wrapped, c.lr, c.rows_lr), c.clip)

    def train(self) -> State:
        self.began, saved = self.clock() - self.state.seconds, self.clock()
        meter = Meter(self.clock())
        while (progress := self.progress()) < 1.0 and not self.stopping:
            meter.add(*self._step(progress))
            now = self.clock()
            self.state.seconds = now - self.began
            if self.state.step % self.config.log_every == 0:
                self._log(meter.losses(), meter.tokens / (now - meter.since))
                meter = Meter(now)
            if now - saved > self.config.checkpoint_minutes * 60:
                self.save()
                saved = self.clock()
        self.save()
        where = f"step {self.state.step} of {len(self.plan)}, checkpoint in {self.config.out}"
        if self.progress() < 1.0:
            raise Interrupted(f"stopped after {where}", "the same command resumes from there")
        self.say(f"done after {where}")
        return self.state

    def clock(self) -> float:
        """Seconds, equal in every process, so that all save at the same step; also updates whether any process is to stop."""
        here = torch.tensor([time.monotonic(), self.stop.is_set()], dtype=torch.float64, device=self.accelerator.device)
        now, asked = (self.accelerator.reduce(here, "mean") if self.accelerator.num_processes > 1 else here).tolist()
        self.stopping = asked > 0
        return float(now)

    def _step(self, progress: float) -> tuple[Batch, torch.Tensor]:
        batch = self._batch(self.plan[self.state.step])
        self.optimizer.at(self.rate(progress))
        loss, losses = self.objective(batch)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.state.step, self.state.tokens = self.state.step + 1, self.state.tokens + batch.ids.numel()
        return batch, losses

    def progress(self) -> float:
        """How much of the schedule is done, 0 to 1."""
        timed = self.state.seconds / (self.config.minutes * 60) if self.config.minutes else 0.0
        return max(self.state.step / len(self.plan), timed)

    def rate(self, progress: float) -> float:
        """Share of the peak learning rate: a linear warm-up, then a linear fall."""
        return min(1.0, (self.state.step + 1) / self.config.warmup) * (1.0 - progress)

    def _batch(self, indices: list[int]) -> Batch:
        made = collate([self.data[i] for i in indices], self.tokenizer.pad_token_id or 0)
        device = self.accelerator.device
        return Batch(*(getattr(made, name).to(device) for name in Batch.__slots__))

    def _log(self, losses: dict[str, float], speed: float) -> None:
        progress = self.progress()
        left = self.state.seconds / progress * (1 - progress) / 60 if progress else 0.0
        line = {"step": self.state.step, "progress": round(progress, 4), "seconds": round(self.state.seconds, 1),
                "tokens_per_second": round(speed), "loss": {n: round(v, 4) for n, v in losses.items()}}  # fmt: skip
        if self.accelerator.is_main_process:
            with checkpoint.writing(self.config.out), (self.config.out / "curve.jsonl").open("a", encoding="utf-8") as curve:
                curve.write(json.dumps(line) + "\n")
        shown = " ".join(f"{n} {v:.3f}" for n, v in losses.items())
        self.say(f"step {self.state.step}/{len(self.plan)} {progress:.1%}, {left:.0f} min left, {speed:.0f} tokens/s | {shown}")

    def save(self) -> None:
        """Writes the checkpoint, under a temporary name first, and the adapter. Every process calls it at the same step."""
        known, weights = self._known() | {"state": asdict(self.state)}, None
        if self.sharded:
            sharded.save(self.accelerator, self.config.out / "checkpoint", known)
            weights = sharded.adapter_weights(self.accelerator, self.objective)
        elif self.accelerator.is_main_process:
            partial = self.config.out / "checkpoint.partial"
            with checkpoint.writing(self.config.out):
                torch.save(known | {"optimizer": self.optimizer.state_dict()}, partial)
                os.replace(partial, self.config.out / "checkpoint.pt")
        if self.accelerator.is_main_process:
            with checkpoint.writing(self.config.out):
                self.peft.save_pretrained(str(self.config.out / "adapter"), state_dict=weights, save_embedding_layers=False)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        folder, file = self.config.out / "checkpoint", self.config.out / "checkpoint.pt"
        if self.sharded and folder.exists():
            saved = sharded.load(self.accelerator, folder)
        elif not self.sharded and file.exists():
            saved = torch.load(file, map_location="cpu", weights_only=True)
        else:
            return
        checkpoint.check(self.config.out, saved, self._known())
        if not self.sharded:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.state = State(**saved["state"])
        self.say(f"going on from step {self.state.step}")

    def _known(self) -> dict[str, Any]:
        """What a checkpoint depends on: the rows, the order of batches, the shape of the weights."""
        c = self.config
        settings = {"batch_tokens": c.batch_tokens, "max_tokens": c.max_tokens, "seed": c.seed, "rank": c.adapter.rank,
                    "first_block": c.adapter.first_block, "processes": self.accelerator.num_processes}  # fmt: skip
        return {"rows": self.rows_hash, "settings": settings}

    def _write_config(self) -> None:
        if self.accelerator.is_main_process:
            value = asdict(self.config) | {"rows_sha256": self.rows_hash, "steps": len(self.plan)}
            with checkpoint.writing(self.config.out):
                (self.config.out / "config.json").write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
