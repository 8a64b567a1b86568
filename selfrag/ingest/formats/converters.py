"""Any format that a command can turn into text: the converters of `[readers]` in the settings. Runs in the worker process.

The command gets a copy of the file in its own folder, no input and no shell. It has the worker's memory limit, a limit on its
output, and four times a reader's time limit in wall time, since it has to start.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft

_PATIENCE = 4
_BYTES = 4  # of a character, at most


def read_converted(command: str, path: PurePath, data: bytes, limits: Limits) -> Document:
    """The output of ``command``, in which ``{file}`` is the file's path, paragraph by paragraph: ``¶12``."""
    with tempfile.TemporaryDirectory(prefix="selfrag-") as folder:
        file = Path(folder) / f"document{path.suffix}"
        file.write_bytes(data)
        arguments = [part.replace("{file}", str(file)) for part in shlex.split(command)]
        text = decode(_printed(arguments, Path(folder), _PATIENCE * limits.time(len(data)), _BYTES * limits.characters))
    draft = Draft(limits)
    for number, paragraph in enumerate(filter(str.strip, readable(text).split("\n\n")), 1):
        draft.add(paragraph.strip("\n"), "¶", str(number))
    return draft.document(path, "converted")


def _printed(arguments: list[str], folder: Path, seconds: float, most: int) -> bytes:
    name = arguments[0]
    output, errors = folder / "output", folder / "errors"
    with output.open("wb") as out, errors.open("wb") as err, _writing_at_most(most + 1):
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, start_new_session=True
            )
        except OSError as error:
            raise InputError(
                f"{name} cannot be started: {(error.strerror or str(error)).lower()}", "see [readers] in the settings"
            ) from None
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise InputError(f"{name} took longer than {seconds:.0f} s") from None
    if output.stat().st_size > most:
        raise InputError(f"{name} printed more than {most / 2**20:.0f} MiB")
    if code:
        said = errors.read_bytes()[-2000:].decode("utf-8", "replace").strip().split("\n")[-1]
        raise InputError(f"{name} failed with exit status {code}{': ' if said else ''}{said[:200]}")
    if not output.stat().st_size:
        raise InputError(f"{name} printed no text")
    return output.read_bytes()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the command and its child processes."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _writing_at_most(size: int) -> Iterator[None]:
    """Limits files written by child processes to ``size`` bytes, if the system supports it."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
