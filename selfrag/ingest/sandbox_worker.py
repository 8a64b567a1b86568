"""The process of ``isolated``: reads requests on standard input, answers with a Document or an error."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath

from selfrag.errors import InputError
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.readers import use_ocr
from selfrag.ingest.sandbox import alarm, enter, named, receive, send


def serve(memory: int) -> None:
    """Answers requests until standard input ends. ``memory`` bounds the address space, in bytes, if the system supports it."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not look like an answer
    _bound(memory)
    enter(output)
    while True:
        try:
            request = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(output, "ready" if request is None else _answer(*request))  # type: ignore[misc]


def _answer(reader: str, path: str, data: bytes, limits: Limits) -> Document | str:
    alarm(limits.time(len(data)))
    use_ocr(limits.ocr)  # what is attached or embedded has a reader of its own, chosen here
    try:
        return named(reader)(PurePath(path), data, limits)
    except InputError as error:
        return error.message
    except MemoryError:
        return "needs too much memory to read"
    except RecursionError:
        return "nested too deeply"
    except Exception as error:
        # Parsers raise arbitrary exceptions on damaged files; any of them is reported as the file's error.
        return f"damaged: {type(error).__name__}: {str(error)[:200]}"
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        # A parser in Rust gave up; its process can go on.
        return f"damaged, or of a kind that its parser does not know: {str(error)[:100]}"
    finally:
        alarm(0)


def _bound(memory: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
