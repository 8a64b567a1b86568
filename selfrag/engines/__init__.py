"""How text is generated. ``open_engine`` is the only door; it imports an engine's libraries when that engine is opened."""

from __future__ import annotations

import importlib.util

from selfrag._util import is_url
from selfrag.errors import ModelError, UsageError
from selfrag.types import Engine, ReflectionKind

SPECS = ("auto", "transformers", "vllm")


def open_engine(
    spec: str,
    model: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    reflection: ReflectionKind = "tokens",
) -> Engine:
    """The engine that ``spec`` names, serving ``model`` (a checkpoint folder or a Hugging Face name).

    ``spec`` is "auto" (vLLM where CUDA and vLLM are there, else transformers), "transformers", "vllm", or the URL of an
    OpenAI-compatible server, several of them separated by commas. ``dtype`` is "float32", "bfloat16" or "int8" (CPU alone);
    None takes float32 on a CPU and bfloat16 on CUDA. With ``reflection="prompted"`` the model needs no reflection tokens.

    Raises UsageError for an unknown ``spec``, ModelError for a model that cannot be loaded or lacks reflection tokens.
    """
    urls = [url.strip() for url in spec.split(",") if url.strip()]
    if urls and all(map(is_url, urls)):
        from selfrag.engines.http.engine import ServerEngine

        return ServerEngine(urls, model, reflection=reflection)
    if spec not in SPECS:
        raise UsageError(f"unknown engine {spec!r}", f"pass --engine with one of {', '.join(SPECS)}, or a server's URL")
    if spec == "vllm" or (spec == "auto" and dtype != "int8" and device in (None, "cuda") and _vllm_on_cuda()):
        if importlib.util.find_spec("vllm") is None:
            raise ModelError("vLLM is not installed", "pip install 'selfrag[vllm]'")
        from selfrag.engines.vllm.engine import VllmEngine

        return VllmEngine(model, dtype=dtype, reflection=reflection)
    from selfrag.engines.local.engine import TransformersEngine

    return TransformersEngine(model, device=device, dtype=dtype, threads=threads, reflection=reflection)


def _vllm_on_cuda() -> bool:
    if importlib.util.find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()
