"""The engine for the packaged model on a CPU: onnxruntime and tokenizers, neither torch nor transformers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from selfrag.engines.local.engine import LocalEngine
from selfrag.engines.local.onnx_model import OnnxModel
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.types import ReflectionKind

CACHE_BYTES = 256 << 20


class OnnxEngine(LocalEngine):
    """Serves the checkpoint folder ``model``, which holds a graph beside the weights. ``threads`` are the CPU threads of a pass.

    Raises ModelError when the model cannot be opened or lacks reflection tokens.
    """

    def __init__(
        self,
        model: str,
        *,
        threads: int | None = None,
        cache_bytes: int | None = None,
        cache_tokens: int | None = None,
        step_tokens: int | None = None,
        reflection: ReflectionKind = "tokens",
    ) -> None:
        with ThreadPoolExecutor(1) as pool:  # each takes a good part of a second, most of it outside Python
            language_model = pool.submit(OnnxModel, Path(model), threads)
            tokenizer = PromptTokenizer.load(model, reflection)
        super().__init__(
            "onnx",
            model,
            tokenizer,
            language_model.result(),
            cache_bytes=cache_bytes or CACHE_BYTES,
            cache_tokens=cache_tokens,
            step_tokens=step_tokens,
        )
