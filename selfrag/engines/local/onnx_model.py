"""A Llama model run by onnxruntime on the CPU: no torch, float32, weights mapped from a file.

One pass computes several sequences, packed without padding, each in a lane of the graph (tools/export_llama.py). Keys and values
are numpy arrays that the graph writes in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Values
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import OrtValue

from selfrag._util import cores
from selfrag.engines.local.sequence import Next, Sequence
from selfrag.errors import EngineError, ModelError

GRAPH, DESCRIPTION, WEIGHTS = "llama.onnx", "llama.json", "llama.weights"
_PASS = 1024
"""Most tokens in a pass, to bound its temporary memory."""
_CHUNK = 512
"""Tokens of one sequence in a pass at most: attention over a long prompt at once needs memory for its square."""

KeysAndValues = NDArray[np.float32]


@dataclass(slots=True)
class _Reading:
    """A sequence in a step: tokens up to ``done`` have keys and values, those up to ``stop`` get them in this step."""

    sequence: Sequence
    done: int
    stop: int
    found: list[NDArray[np.float32]] = field(default_factory=list)
    """Log-probabilities, a row for each place whose follower is wanted."""

    @property
    def left(self) -> int:
        return self.stop - self.done

    def wanted(self, n: int) -> int:
        """How many of the next ``n`` tokens, the last ones, need their next token computed."""
        return max(0, min(n, self.done + n - (self.stop - 1 - self.sequence.guessed)))


class _Rows:
    """Single rows of a matrix in a file, read and not mapped: the system would map sixteen pages around each."""

    def __init__(self, file: Path, place: Mapping[str, Any]) -> None:
        self._file = file.open("rb", buffering=0)
        self._offset, self._width = int(place["offset"]), int(place["shape"][1])

    def read(self, numbers: Values[int]) -> NDArray[np.float32]:
        rows = np.empty((len(numbers), self._width), np.float32)
        for row, number in zip(rows, numbers, strict=True):
            self._file.seek(self._offset + number * row.nbytes)
            if self._file.readinto(row.data) != row.nbytes:
                raise EngineError(f"{self._file.name} is cut short", "selfrag models pull NAME")
        return rows


class OnnxModel:
    """The graph in the checkpoint folder ``folder``. ``threads`` are the CPU threads of a pass, by default
    as many as there are cores.

    Raises ModelError when it cannot be opened.
    """

    step_tokens = 1024

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        if not (folder / GRAPH).is_file():
            raise ModelError(f"{folder} has no graph for onnxruntime", "--engine transformers")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are not ours alone
        try:
            said = json.loads((folder / DESCRIPTION).read_text("utf-8"))
            self._embeddings = _Rows(folder / WEIGHTS, said["weights"]["embeddings"])
            self._session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base
            raise ModelError(f"the model in {folder} cannot be opened: {error}", "selfrag models pull NAME") from error
        self._lanes, self._layers, self._heads, self._size = (int(said[key]) for key in ("lanes", "layers", "kv_heads", "head"))
        self.embeddings, self.context = int(said["vocabulary"]), int(said["context"])
        self._binding = self._session.io_binding()
        self._none = np.zeros((self._layers, 2, self._heads, 1, self._size), np.float32)
        self._bound: list[KeysAndValues | None] = [None] * self._lanes

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        return self._layers * 2 * self._heads * self._size * 4

    def allocate(self, capacity: int) -> KeysAndValues:
        """Memory of its own, outside the allocator: what no token has reached takes no room, what is dropped is free at once."""
        room = mmap(-1, capacity * self.kv_bytes)
        return np.frombuffer(room, np.float32).reshape(self._layers, 2, self._heads, capacity, self._size)

    def running(self) -> AbstractContextManager[object]:
        return nullcontext()

    def forward(self, sequences: Values[Sequence], watched: Values[Values[int]]) -> list[list[Next]]:
        if any(not 0 <= token < self.embeddings for sequence in sequences for token in sequence.tokens[sequence.start :]):
            raise EngineError("a prompt holds a token id that the model does not have")
        readings = [_Reading(sequence, sequence.start, len(sequence.tokens)) for sequence in sequences]
        for together in self._passes(readings):
            self._run(together)
        for sequence in sequences:
            sequence.computed, sequence.shared = len(sequence.tokens), None
        return [_followers(reading, ids) for reading, ids in zip(readings, watched, strict=True)]

    # --- what goes into which pass ---------------------------------------------------------------------------------------------

    def _passes(self, readings: list[_Reading]) -> Iterator[list[tuple[_Reading, int]]]:
        """Sequences and how many tokens of each to prefill: first shared prefixes, then long prompts in pieces, then the rest, in
        passes of about equal size.
        """
        yield from self._shared_first(readings)
        for reading in readings:
            _copy_shared(reading)
            while reading.left > _CHUNK:
                yield [(reading, _CHUNK)]
        yield from self._dealt([reading for reading in readings if reading.left])

    def _shared_first(self, readings: list[_Reading]) -> Iterator[list[tuple[_Reading, int]]]:
        """Prefills the prefix that a sequence shares with another one of the same step."""
        owners = {id(reading.sequence.kv): reading for reading in readings}
        wanted: dict[int, int] = {}
        for reading in readings:
            if reading.sequence.shared and (owner := owners.get(id(reading.sequence.shared[0]))):
                at = id(owner.sequence.kv)
                wanted[at] = max(wanted.get(at, 0), reading.sequence.shared[1])
        for reading in readings:  # a sequence shares with earlier ones only
            length = wanted.get(id(reading.sequence.kv), 0)
            _copy_shared(reading)
            while reading.done < length:
                yield [(reading, min(_CHUNK, length - reading.done))]

    def _dealt(self, readings: list[_Reading]) -> Iterator[list[tuple[_Reading, int]]]:
        if not readings:
            return
        tokens = sum(reading.left for reading in readings)
        hands: list[list[_Reading]] = [[] for _ in range(max(-(-len(readings) // self._lanes), -(-tokens // _PASS)))]
        for reading in sorted(readings, key=lambda r: -r.left):
            open_hands = [hand for hand in hands if len(hand) < self._lanes]
            min(open_hands, key=lambda hand: sum(r.left for r in hand)).append(reading)
        for hand in hands:
            if hand:
                yield [(reading, reading.left) for reading in hand]

    # --- one pass --------------------------------------------------------------------------------------------------------------

    def _run(self, together: list[tuple[_Reading, int]]) -> None:
        ids = [token for reading, n in together for token in reading.sequence.tokens[reading.done : reading.done + n]]
        unused = self._lanes - len(together)
        counts = [n for _, n in together]
        binding = self._binding
        binding.bind_cpu_input("embedded", self._embeddings.read(ids)[None])
        wanted = [reading.wanted(n) for reading, n in together]
        lasts = [place for end, n in zip(accumulate(counts), wanted, strict=True) for place in range(end - n, end)]
        binding.bind_cpu_input("lasts", np.asarray(lasts or [0], np.int64))
        binding.bind_cpu_input("counts", np.asarray([*counts, *[1] * unused, len(together)], np.int64))
        for lane in range(self._lanes):
            reading, n = together[lane] if lane < len(together) else (None, 1)
            total = reading.done + n if reading else 1
            self._bind(lane, reading.sequence.kv if reading else self._none)
            binding.bind_cpu_input(f"last.{lane}", np.asarray([total - 1], np.int32))
            binding.bind_cpu_input(f"total.{lane}", np.asarray(total, np.int32))
        logprobs = np.empty((len(lasts) or 1, self.embeddings), np.float32)
        binding.bind_ortvalue_output("logprobs", OrtValue.ortvalue_from_numpy(logprobs))
        self._session.run_with_iobinding(binding)
        for (reading, n), end, rows in zip(together, accumulate(wanted), wanted, strict=True):
            reading.done += n
            reading.found.append(logprobs[end - rows : end])

    def _bind(self, lane: int, kv: KeysAndValues) -> None:
        """Binds keys and values for reading and writing in place; a lane that continues with the same ones stays bound."""
        if self._bound[lane] is kv:
            return
        for layer in range(self._layers):
            for kind, values in zip(("key", "value"), kv[layer], strict=True):
                place = OrtValue.ortvalue_from_numpy(values[None])
                self._binding.bind_ortvalue_input(f"past.{lane}.{layer}.{kind}", place)
                self._binding.bind_ortvalue_output(f"present.{lane}.{layer}.{kind}", place)
        self._bound[lane] = kv


def _copy_shared(reading: _Reading) -> None:
    if reading.sequence.shared:
        source, length = reading.sequence.shared
        reading.sequence.kv[..., :length, :] = source[..., :length, :]
        reading.sequence.shared = None


def _followers(reading: _Reading, ids: Values[int]) -> list[Next]:
    rows = [row for piece in reading.found for row in piece]
    if not rows:
        raise EngineError("a sequence without new tokens cannot be computed")
    best = [int(row.argmax()) for row in rows]
    return [Next(token, float(row[token]), row[list(ids)].tolist()) for token, row in zip(best, rows, strict=True)]
