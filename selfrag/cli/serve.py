"""`selfrag serve`: vLLM's server with the flags that a reflection model needs."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated

import typer

from selfrag.cli import terminal
from selfrag.errors import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selfrag.engines.vllm.server import Serving


def serve(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Registry name, Hugging Face name or folder.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    tensor_parallel: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs that share each layer.")] = 1,
    pipeline_parallel: Annotated[int, typer.Option(min=1, metavar="N", help="Groups of layers, each on its own GPUs.")] = 1,
    data_parallel: Annotated[int, typer.Option(min=1, metavar="N", help="Copies of the model.")] = 1,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Context window.  [default: the model's]")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="vLLM dtype.  [default: float32 without CUDA, else the model's]")] = None,
    vllm: Annotated[
        list[str] | None, typer.Option(metavar="FLAG", help="A further flag of `vllm serve`; may be repeated.")
    ] = None,
    print_command: Annotated[bool, typer.Option("--print-command", help="Show the command and do not run it.")] = False,
) -> None:
    """Serve a reflection model with vLLM, for `--engine URL`.

    Reports when the server is ready, and runs until interrupted. With SELFRAG_API_KEY in the environment the server requires
    that key. --debug shows the server's own log.

    \b
    Examples:
      selfrag serve
      selfrag serve selfrag/selfrag_llama2_7b --tensor-parallel 2 --vllm=--gpu-memory-utilization=0.8
      selfrag serve --print-command
      selfrag ask "Who founded the institute?" --engine http://127.0.0.1:8000
    """
    from selfrag import models
    from selfrag.config import settings
    from selfrag.engines.vllm.server import Serving

    now = settings.load(model=model)
    found = models.resolve(now.model, now.paths.cache)
    names = tuple(dict.fromkeys((found.name, found.path)))
    sizes = (tensor_parallel, pipeline_parallel, data_parallel)
    serving = Serving(found.path, names, host, port, *sizes, max_model_len, dtype, tuple(vllm or ()))
    if print_command:
        from selfrag.engines.vllm import server

        terminal.put(shlex.join(server.command(serving, cpu=not _has_cuda(), program=server.shown_program())))
        return
    run(serving, log_to_stderr=logging.getLogger("selfrag").isEnabledFor(logging.DEBUG))


def run(serving: Serving, log_to_stderr: bool) -> None:
    """Starts the server and keeps it running until this process gets SIGINT or SIGTERM."""
    from selfrag.engines.vllm import server

    cpu = not _has_cuda()
    program = server.installed_program()
    server.check_port(serving)
    words = server.command(serving, cpu=cpu, program=program)
    # SIGTERM ends the work as Ctrl-C does; SIGINT too, even where a shell started this process in the background.
    ended = terminal.handling(signal.default_int_handler, signal.SIGTERM, signal.SIGINT)
    with _log(log_to_stderr) as log, ended:
        process = server.ServerProcess(words, server.environment(cpu=cpu), log)
        try:
            terminal.say(f"starting vLLM with {serving.names[0]}; a minute or so")
            with terminal.waiting(f"loading {serving.names[0]}", quiet=log_to_stderr):
                process.wait_until_healthy(serving.url)
            terminal.put(f"--engine {serving.url}")
            terminal.say("ready; Ctrl-C ends it")
            process.wait()
        except KeyboardInterrupt:
            terminal.say("ending the server")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            process.stop()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _log(to_stderr: bool) -> Iterator[IO[str]]:
    if to_stderr:
        yield sys.stderr
        return
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        yield file
