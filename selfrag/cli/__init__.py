"""The `selfrag` command: which commands there are, and how every one of them ends.

Commands are loaded one at a time, when they are called, so that `--help` stays as quick as typer itself.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import re
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from selfrag import environment
from selfrag.cli import terminal
from selfrag.config.library_env import silence_libraries
from selfrag.errors import FAILED, INTERRUPTED, SelfragError, UsageError


class Entry(NamedTuple):
    """A command: its section of the help, the module of selfrag.cli that has it under its own name, and what it does."""

    section: str
    module: str
    summary: str


COMMANDS = {
    "demo": Entry("Get started", "demo", "Index example documents, ask them, show the answer."),
    "doctor": Entry("Get started", "doctor", "Check the installation, the models and the collections."),
    "config": Entry("Get started", "config", "Show and change the settings."),
    "ask": Entry("Ask", "ask", "Ask; every sentence of the answer is cited and critiqued."),
    "chat": Entry("Ask", "chat", "Ask one question after another."),
    "search": Entry("Ask", "search", "Find passages, without a model."),
    "trace": Entry("Ask", "trace", "Show, verify or rescore a stored search."),
    "history": Entry("Ask", "history", "List earlier questions, and show their answers again."),
    "feedback": Entry("Ask", "history", "Rate an answer."),
    "index": Entry("Documents", "index", "Bring a collection up to date with files and folders."),
    "status": Entry("Documents", "collections", "Show what a collection contains, and check it."),
    "collections": Entry("Documents", "collections", "List the collections."),
    "rm": Entry("Documents", "collections", "Remove sources, or a whole collection."),
    "repair": Entry("Documents", "collections", "Rebuild the vectors of a collection from its catalog."),
    "export": Entry("Documents", "collections", "Write a collection to one file."),
    "import": Entry("Documents", "collections", "Read a collection from an exported file."),
    "batch": Entry("Measure", "batch", "Answer a file of questions; resumes where it stopped."),
    "eval": Entry("Measure", "evaluate", "Answer and score a file of questions with known answers."),
    "compare": Entry("Measure", "compare", "Compare two runs over the same questions."),
    "calibrate": Entry("Measure", "calibrate", "Fit the thresholds on questions with known answers."),
    "models": Entry("Models", "models", "List, fetch and show models."),
    "api": Entry("Serve", "api", "Serve the agent over HTTP, for chat front ends too."),
    "mcp": Entry("Serve", "mcp", "Serve the agent to MCP clients."),
    "serve": Entry("Models", "serve", "Serve a model with vLLM."),
    "train": Entry("Models", "train", "Train a reflection model."),
}
"""Every command, in the order in which `selfrag --help` lists them."""


def _load(name: str) -> Any:
    part = typer.Typer(rich_markup_mode=None)
    part.callback()(lambda: None)
    module = vars(importlib.import_module(f"selfrag.cli.{COMMANDS[name].module}"))
    found = module.get(f"{name}_") or module[name]  # eval and import are taken
    if isinstance(found, typer.Typer):
        part.add_typer(found, name=name)
    else:
        part.command(name)(found)
    command = typer.main.get_group(part).commands[name]
    parse = command.parse_args
    command.parse_args = lambda ctx, args: parse(ctx, _texts_last(command, args))  # type: ignore[method-assign]
    invoke = command.invoke
    command.invoke = lambda ctx: _until_unread(lambda: invoke(ctx))  # type: ignore[method-assign]
    return command


def _until_unread(work: Callable[[], Any]) -> Any:
    """Runs ``work``; ends with 0 once nobody reads its output any more (`| head`)."""
    try:
        return work()
    except BrokenPipeError:
        ends = select.poll()
        ends.register(sys.stdout, 0)
        if any(event & select.POLLERR for _, event in ends.poll(0)):
            raise SystemExit(0) from None
        raise


def _texts_last(command: Any, arguments: list[str]) -> list[str]:
    """``arguments``, with texts that look like options (a negative number, several words after a dash) moved behind ``--``."""
    if "--" in arguments:
        return arguments
    taking = {name: not each.is_flag for each in command.params if each.param_type_name == "option" for name in each.opts}
    kept: list[str] = []
    texts: list[str] = []
    value = False
    for argument in arguments:
        begins = argument.split("=")[0] in taking or (not argument.startswith("--") and argument[:2] in taking)
        text = not value and not begins and re.match(r"-(?:[\d.,]|.*\s)", argument, re.DOTALL)
        (texts if text else kept).append(argument)
        value = not value and taking.get(argument, False)
    return [*kept, "--", *texts] if texts else arguments


class Commands(TyperGroup):
    """The commands by name, each imported when it is called."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            return _load(cmd_name)
        if ctx.resilient_parsing:  # a shell completes a command line that is not right yet
            return None
        close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
        raise UsageError(
            f"unknown command {cmd_name!r}" + (f", did you mean {close[0]!r}?" if close else ""),
            "`selfrag --help` lists the commands",
        )

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        width = max(map(len, COMMANDS))
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(n.ljust(width), e.summary) for n, e in COMMANDS.items() if e.section == section])


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # help texts name tokens such as [Relevant]
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"selfrag {version('selfrag')}")
        raise typer.Exit


def _choose_config(file: str | None) -> None:
    if file is not None:
        os.environ[environment.CONFIG.name] = file


@app.callback(epilog="Run `selfrag COMMAND --help` for the options and examples of a command.")
def selfrag(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            callback=_choose_config,
            help="Use this configuration file instead of yours and the project's.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log; may come anywhere.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours, like NO_COLOR=1; may come anywhere.")] = False,
) -> None:
    """Ask your own documents, and see for every sentence how relevant and how well supported it is.

    \b
    Examples:
      selfrag demo
      selfrag index ~/Documents/papers
      selfrag ask "What does the contract say about notice periods?"
    """


# --- how it ends ---------------------------------------------------------------------------------------------------------------


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _end)
    _open_streams()
    silence_libraries()
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)  # input and file names need not be valid text
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """Replaces closed standard streams, which are None in Python, by the null device."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        terminal.complain(SelfragError("standard output is closed, the result has nowhere to go", "> FILE keeps it"))
        sys.exit(FAILED)


def _end(_number: int, _frame: Any) -> None:
    """SIGTERM raises, so that everything started is cleaned up: an engine's processes, temporary files."""
    raise SystemExit(INTERRUPTED)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit status; reports every error as a message on stderr."""
    arguments, debug = _take_global(arguments)
    if debug:
        _log_to_stderr()
    else:
        warnings.simplefilter("ignore")  # warnings of libraries are for programmers
    try:
        _check_text(arguments)
        return _invoke(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SelfragError as error:
        _report(error, debug)
        return error.exit_code
    except OSError as error:
        _report(_of_the_system(error), debug)
        return FAILED
    except Exception as error:
        _report(_of_ours(error), debug)
        return FAILED
    finally:
        _flush()


def _check_text(arguments: list[str]) -> None:
    """Raises UsageError for an argument that cannot be decoded."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = argument.encode("utf-8", "backslashreplace").decode()
            raise UsageError(
                f"the argument {shown!r} is not valid UTF-8 at character {error.start + 1}",
                "type it in UTF-8; a file with such a name can be renamed, or its folder be indexed without it",
            ) from None


def _log_to_stderr() -> None:
    """What selfrag logs, from DEBUG on, goes to stderr with its time and its module."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("selfrag")
    logger.setLevel(logging.DEBUG)
    logger.handlers = [handler]


def _take_global(arguments: list[str]) -> tuple[list[str], bool]:
    """Removes the options that may come anywhere before a ``--`` (--debug and --no-color); returns whether --debug is set."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = arguments[:end]
    if "--no-color" in head:
        os.environ[environment.NO_COLOR.name] = "1"
    return [a for a in head if a not in ("--debug", "--no-color")] + arguments[end:], "--debug" in head


def _invoke(arguments: list[str]) -> int:
    try:
        app(arguments, prog_name="selfrag")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else FAILED
    return 0


_ROOM = "free some space, then run the same command again"
_ELSEWHERE = "SELFRAG_HOME=FOLDER keeps collections, models and settings elsewhere"
_MENDS = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _ELSEWHERE, errno.EACCES: _ELSEWHERE, errno.EPERM: _ELSEWHERE}


def _of_the_system(error: OSError) -> SelfragError:
    """A file system error, with the file and the reason; it is not a bug."""
    if error.filename is None and error.errno not in _MENDS:
        return _of_ours(error)
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return SelfragError(f"{place}{error.strerror}", _MENDS.get(error.errno or 0))


def _of_ours(error: Exception) -> SelfragError:
    return SelfragError(f"internal error: {type(error).__name__}: {error}", "run the same command with --debug to see where")


def _report(error: SelfragError, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    terminal.complain(error)


def _flush() -> None:
    """Flushes the output; a closed pipe (`| head`) is not an error and is not reported at exit either."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
