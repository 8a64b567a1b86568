"""vLLM in process: every completion that is in flight shares its continuous batch and its prefix cache.

Uses vLLM's own interface, no server. Watched log-probabilities are exact, since requests name those ids
(``SamplingParams.logprob_token_ids``) and never use a top-k list. The model runs in a child process that ends with ``close`` or
with this process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping
from contextlib import aclosing
from typing import IO, Any

import psutil
import torch

# Read when vLLM is imported: results go to stdout, so logs must not; nothing is reported to anybody.
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_DO_NOT_TRACK", "1")

from vllm import AsyncEngineArgs, SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from selfrag.engines.completion_builder import CompletionBuilder
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.engines.vllm.output import cpu_environment, diverted_output, root_cause
from selfrag.engines.vllm.subprocesses import kill, start_shielded
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, OnToken, ReflectionKind, Request

_STOP_SECONDS = 30.0
_IN_FLIGHT = 2048
"""Requests that vLLM holds at once, at most."""


class VllmEngine:
    """``model`` is a checkpoint folder or a Hugging Face name; loading takes half a minute or longer.

    ``dtype`` is a vLLM dtype; None is float32 without CUDA and bfloat16 with it.

    Raises ModelError for a model that is missing, does not fit, or lacks reflection tokens, UsageError for a ``dtype`` that vLLM
    does not have.
    """

    name = "vllm"
    exact = True

    def __init__(self, model: str, *, dtype: str | None = None, reflection: ReflectionKind = "tokens") -> None:
        self.model = model
        self._tokenizer = PromptTokenizer.load(model, reflection)
        self._llm, self._processes = _start(model, engine_settings(dtype))
        self._window = int(self._llm.model_config.max_model_len)
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._numbers = itertools.count()

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        """Raises EngineError for a prompt that does not fit into the model's context window, or when vLLM's process died."""
        prompt = self._tokenizer.encode(request.prompt)
        builder = CompletionBuilder(self._tokenizer, request, prompt, on_token)
        if len(prompt) >= self._window:
            raise EngineError(
                f"the prompt has {len(prompt)} tokens, but {self.model} takes {self._window} with the answer",
                "ask with fewer or shorter passages (-k)",
            )
        async with self._slots:
            try:
                return await self._generate(prompt, _sampling(request, builder, on_token), builder)
            except EngineDeadError as error:
                raise EngineError("vLLM's process died", "start again; --debug shows its log") from error

    async def _generate(self, prompt: list[int], sampling: SamplingParams, builder: CompletionBuilder) -> Completion:
        cached = 0
        # Closing the stream early is what takes a cancelled request out of vLLM's batch.
        async with aclosing(self._llm.generate(tokens_input(prompt), sampling, str(next(self._numbers)))) as stream:
            async for output in stream:
                cached = output.num_cached_tokens or 0
                piece = output.outputs[0]
                for token_id, position in zip(piece.token_ids, piece.logprobs or (), strict=True):
                    if not builder.add(token_id, {i: told.logprob for i, told in position.items()}):
                        return builder.completion(len(prompt), cached)
        return builder.completion(len(prompt), cached)

    async def close(self) -> None:
        """Ends the model's processes and waits for them."""
        if self._llm.output_handler is not None:  # it would log the end of the process that it listens to as an error
            self._llm.output_handler.cancel()
        await asyncio.to_thread(self._llm.shutdown, _STOP_SECONDS)
        await asyncio.to_thread(kill, self._processes)
        del self._llm  # its finaliser fails when it runs after the modules that it needs are gone


def engine_settings(dtype: str | None) -> dict[str, Any]:
    """vLLM's settings for a reflection model, and further ones for the CPU build."""
    common = {
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # no sampling settings of the checkpoint's: everything is greedy
        "disable_log_stats": True,
    }
    if torch.cuda.is_available():
        return common | {"dtype": dtype or "bfloat16"}
    for name, value in cpu_environment().items():
        os.environ.setdefault(name, value)
    # A block is the unit of prefix reuse; 32 is the smallest that the CPU kernels take (their default is 128).
    return common | {"dtype": dtype or "float32", "enforce_eager": True, "block_size": 32}


def _start(model: str, settings: Mapping[str, Any]) -> tuple[AsyncLLM, list[psutil.Process]]:
    with diverted_output() as log:
        try:
            return start_shielded(lambda: AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **settings)))
        except (OSError, ValueError, RuntimeError) as error:
            raise _start_failure(model, error, log) from error
        except MemoryError as error:  # vLLM allocates what the header of a weight file asks for, and this one is damaged
            problem = f"vLLM cannot load {model}: error while deserializing header of a weight file"
            raise ModelError(problem, "fetch the model again: the file is damaged") from error


def _start_failure(model: str, error: Exception, log: IO[str]) -> ModelError:
    cause = root_cause(log) or str(error)
    if "memory" in cause.lower() or "kv cache" in cause.lower():
        hint = "free memory, choose a smaller model, or give the cache more (VLLM_CPU_KVCACHE_SPACE, in GiB, without a GPU)"
    else:
        hint = "selfrag models list"
    return ModelError(f"vLLM cannot load {model}: {cause}", hint)


def _sampling(request: Request, builder: CompletionBuilder, on_token: OnToken | None) -> SamplingParams:
    """Greedy, ids only: texts are decoded here, which distinguishes control tokens from words by their ids."""
    watched = builder.watched_ids
    return SamplingParams(
        temperature=0.0,
        max_tokens=request.max_tokens,
        stop_token_ids=builder.stop_ids,
        logprob_token_ids=watched or None,
        logprobs=None if watched else 0,
        detokenize=False,
        skip_special_tokens=False,
        output_kind=RequestOutputKind.DELTA if on_token else RequestOutputKind.FINAL_ONLY,
    )
