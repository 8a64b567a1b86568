"""The engine for models of any kind and for CUDA: a transformers model run by torch."""

from __future__ import annotations

from selfrag.engines.local.engine import LocalEngine
from selfrag.engines.local.torch_model import TorchModel
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.types import ReflectionKind

CACHE_BYTES = 2 << 30


class TransformersEngine(LocalEngine):
    """Serves the checkpoint folder or Hugging Face name ``model``. ``threads`` are the CPU threads of the computation.

    Raises ModelError when the model cannot be loaded or lacks reflection tokens.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        cache_bytes: int | None = None,
        cache_tokens: int | None = None,
        step_tokens: int | None = None,
        reflection: ReflectionKind = "tokens",
    ) -> None:
        tokenizer = PromptTokenizer.load(model, reflection)
        super().__init__(
            "transformers",
            model,
            tokenizer,
            TorchModel(model, device, dtype, threads),
            cache_bytes=cache_bytes or CACHE_BYTES,
            cache_tokens=cache_tokens,
            step_tokens=step_tokens,
        )
