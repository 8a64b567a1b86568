"""A causal language model that reads several token sequences in one forward pass, packed end to end without padding.

Every sequence has its own keys and values; attention runs for one sequence after another, everything else for all tokens at once.
So sequences of any lengths, in prefill or decoding, share a pass at no cost, and the results do not depend on each other. Works
with any transformers model that lets its attention function be chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Values
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AutoModelForCausalLM

from selfrag.engines.local.sequence import Next, Sequence
from selfrag.errors import EngineError, ModelError, UsageError

_ATTENTION = "selfrag_packed"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_STEP_TOKENS = {"cpu": 512, "cuda": 8192}


@dataclass(slots=True)
class _Span:
    """A sequence's new tokens in a pass: ``begin:end`` of the packed ones, ``start:stop`` of its own."""

    sequence: Sequence
    begin: int
    end: int
    start: int
    stop: int
    mask: torch.Tensor | None = field(default=None)

    @property
    def wanted(self) -> range:
        """The packed tokens whose next tokens are needed."""
        return range(self.end - 1 - self.sequence.guessed, self.end)


class TorchModel:
    """Raises ModelError when the checkpoint cannot be loaded, UsageError for an invalid ``dtype`` or ``device``."""

    def __init__(self, model: str, device: str | None = None, dtype: str | None = None, threads: int | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype or ("float32" if self.device.type == "cpu" else "bfloat16")
        if self.dtype not in _DTYPES:
            raise UsageError(f"dtype {self.dtype!r} on {self.device.type}", "take float32 or bfloat16")
        self._model = _load(model, _DTYPES[self.dtype]).to(self.device).eval()
        config = self._model.config.get_text_config()
        self.context = min(config.max_position_embeddings, getattr(config, "sliding_window", None) or 1 << 30)
        self.embeddings = int(self._model.get_input_embeddings().num_embeddings)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._kv_shape = (config.num_hidden_layers, 2, heads, size)
        self.step_tokens = _STEP_TOKENS.get(self.device.type, 2048)
        self._threads = threads

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        layers, two, heads, size = self._kv_shape
        return int(layers * two * heads * size * _DTYPES[self.dtype].itemsize)

    def allocate(self, capacity: int) -> torch.Tensor:
        layers, two, heads, size = self._kv_shape
        return torch.empty((layers, two, heads, capacity, size), dtype=_DTYPES[self.dtype], device=self.device)

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            yield

    def forward(self, sequences: Values[Sequence], watched: Values[Values[int]]) -> list[list[Next]]:
        counts = [sequence.guessed + 1 for sequence in sequences]
        found = []
        for logprobs, ids in zip(torch.split(self._logprobs(sequences), counts), watched, strict=True):
            values, tokens = (column.tolist() for column in logprobs.max(dim=-1))
            found.append([Next(*each) for each in zip(tokens, values, logprobs[:, list(ids)].tolist(), strict=True)])
        return found

    def _logprobs(self, sequences: Values[Sequence]) -> torch.Tensor:
        """Computes the new tokens; the log-probabilities after each sequence's guesses and the token before them, float32
        (places, vocabulary)."""
        spans = self._spans(sequences)
        ids = [token for span in spans for token in span.sequence.tokens[span.start : span.stop]]
        positions = [position for span in spans for position in range(span.start, span.stop)]
        output = self._model(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            logits_to_keep=torch.tensor([place for span in spans for place in span.wanted], device=self.device),
            spans=spans,
        )
        for sequence in sequences:
            sequence.computed, sequence.shared = len(sequence.tokens), None
        logits: torch.Tensor = output.logits[0]
        return logits.float().log_softmax(dim=-1)

    def _spans(self, sequences: Values[Sequence]) -> list[_Span]:
        spans: list[_Span] = []
        begin = 0
        for sequence in sequences:
            start, stop = sequence.start, len(sequence.tokens)
            mask = None
            if start and stop - start > 1:  # new tokens see what was there before, and each other causally
                mask = torch.ones((stop - start, stop), dtype=torch.bool, device=self.device).tril(start)
            spans.append(_Span(sequence, begin, begin + stop - start, start, stop, mask))
            begin += stop - start
        return spans


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 -- transformers passes it; the spans say what sees what
    *,
    spans: Values[_Span],
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function of packed models: ``query`` is (1, heads, tokens, size), the result (1, tokens, heads, size)."""
    if options.get("softcap") or options.get("s_aux") is not None:
        raise EngineError("the model's attention has a soft cap or sinks, which this engine does not compute", "--engine vllm")
    layer: int = module.layer_idx  # type: ignore[assignment]
    new = torch.stack((key[0], value[0]))
    out = torch.empty_like(query)
    for span in spans:
        kv = span.sequence.kv[layer]
        if span.sequence.shared:
            source, length = span.sequence.shared
            kv[:, :, :length].copy_(source[layer, :, :, :length])
        kv[:, :, span.start : span.stop].copy_(new[:, :, span.begin : span.end])
        out[:, :, span.begin : span.end] = F.scaled_dot_product_attention(
            query[:, :, span.begin : span.end],
            kv[None, 0, :, : span.stop],
            kv[None, 1, :, : span.stop],
            attn_mask=span.mask,
            is_causal=span.start == 0 and span.stop > 1,
            scale=scaling,
            enable_gqa=True,
        )
    return out.transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _attend)


def _load(model: str, dtype: torch.dtype) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation=_ATTENTION)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load the model {model}: {error}", "selfrag models list") from error
