"""Text generation engines. ``open_engine`` is the only entry point; it imports an engine's libraries on opening."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from selfrag._util import is_url
from selfrag.engines.http.presets import PRESETS
from selfrag.errors import UsageError
from selfrag.types import Engine, ReflectionKind

SPECS = ("auto", "onnx", "transformers", *PRESETS)
"""Engine names besides a URL. "vllm" runs in process if vLLM is installed, otherwise it means a vLLM server."""


def open_engine(
    spec: str,
    model: str,
    *,
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    cache_bytes: int | None = None,
    reflection: ReflectionKind = "tokens",
) -> Engine:
    """The engine named ``spec`` for ``model`` (a checkpoint folder or a Hugging Face name).

    ``spec`` is "auto" (on a GPU vLLM if it is installed, else transformers; on a CPU onnx for a model that has a graph, else
    transformers), "onnx", "transformers", "vllm" (in this process if it is installed, else its server), another server's preset
    ("ollama", "lmstudio", "llamacpp", "openai"), or the URL of an OpenAI-compatible server, several of them separated by commas.
    ``dtype`` is "float32" or "bfloat16"; None takes float32 on a CPU and bfloat16 on CUDA. ``cache_bytes`` bounds the KV cache of
    an in-process engine. With ``reflection="prompted"`` the model needs no reflection tokens. ``name`` is the model's name in
    answers, if not ``model``.

    Raises UsageError for an unknown ``spec``, ModelError for a model that cannot be loaded or lacks reflection tokens.
    """
    check_spec(spec)
    server = is_server(spec)
    gpu = not server and device in (None, "cuda") and _has_gpu()
    on_cpu = device == "cpu" or (device is None and not gpu)
    engine: Engine
    if server:
        engine = _server(spec, model, reflection)
    elif spec == "vllm" or (spec == "auto" and gpu and importlib.util.find_spec("vllm")):
        from selfrag.engines.vllm.engine import VllmEngine

        engine = VllmEngine(model, dtype=dtype, reflection=reflection)
    elif spec == "onnx" or (spec == "auto" and on_cpu and dtype in (None, "float32") and has_graph(model)):
        from selfrag.engines.local.onnx import OnnxEngine

        engine = OnnxEngine(model, threads=threads, cache_bytes=cache_bytes, reflection=reflection)
    else:
        from selfrag.engines.local.transformers import TransformersEngine

        sizes = {"threads": threads, "cache_bytes": cache_bytes}
        engine = TransformersEngine(model, device=device, dtype=dtype, reflection=reflection, **sizes)
    engine.model = name or engine.model
    return engine


def _server(spec: str, model: str, reflection: ReflectionKind) -> Engine:
    from selfrag.engines.http.engine import ServerEngine
    from selfrag.engines.http.presets import endpoint_of

    if spec not in PRESETS:
        return ServerEngine(_parts(spec), model, reflection=reflection)
    preset = PRESETS[spec]
    return ServerEngine([endpoint_of(spec)], model, reflection=reflection, name=spec, prefill=preset.prefill, start=preset.start)


def is_server(spec: str) -> bool:
    """Whether ``spec`` is a model behind HTTP: one URL or several, or a preset. "vllm" counts unless vLLM is installed here."""
    if spec == "vllm":
        return importlib.util.find_spec("vllm") is None
    urls = _parts(spec)
    return spec in PRESETS or (bool(urls) and all(map(is_url, urls)))


def _parts(spec: str) -> list[str]:
    return [part.strip() for part in spec.split(",") if part.strip()]


def check_spec(spec: str) -> None:
    """Raises UsageError for an unknown engine, suggesting the URL that was probably meant."""
    if spec in SPECS or is_server(spec):
        return
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?|localhost(/.*)?|[\w-]+(\.[\w-]+)+(/.*)?", spec):
        raise UsageError(f"{spec!r} is not an engine; as a URL it needs http:// or https://", f"--engine http://{spec}")
    raise UsageError(f"unknown engine {spec!r}", f"pass --engine with one of {', '.join(SPECS)}, or a server's URL")


def has_graph(model: str) -> bool:
    """Whether ``model`` is a checkpoint folder with a graph for onnxruntime beside the weights."""
    return (Path(model) / "llama.onnx").is_file()


def _has_gpu() -> bool:
    """Whether torch can use an NVIDIA GPU; torch is imported only where a driver is installed."""
    if not (Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi")):
        return False
    import torch

    return torch.cuda.is_available()
