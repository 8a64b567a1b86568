"""Text recognition (OCR) of pages and pictures: rapidocr, whose models are in its wheel, or tesseract where that is installed.

Comes with `selfrag[ocr]`. Runs in the worker process, which asks for more time for each page: a page takes seconds.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.sandbox import ask_for_time

DOTS = 200
"""Dots per inch at which pages are drawn: fewer lose small letters, more take longer."""

_SECONDS = 60.0  # of work, for one page
_SURE = 0.5


def read_picture(path: PurePath, data: bytes, limits: Limits) -> Document:
    """The text in a picture, line by line. Raises InputError for a picture without text."""
    ask_for_time(_SECONDS)
    draft = Draft(limits)
    draft.add(_lines(_recognised(data)) if find_spec("rapidocr") else _tesseract(data), "picture", "")
    return draft.document(path, "ocr")


def page(pixels: NDArray[np.uint8]) -> str:
    """The text of a page drawn as ``pixels``, shape (height, width, 3), blue first."""
    ask_for_time(_SECONDS)
    if find_spec("rapidocr"):
        return _lines(_recognised(np.ascontiguousarray(pixels)))
    height, width, _ = pixels.shape
    return _tesseract(b"P6 %d %d 255\n" % (width, height) + pixels[:, :, ::-1].tobytes())


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "critical", "EngineConfig.onnxruntime.intra_op_num_threads": 2})


def _recognised(picture: bytes | NDArray[np.uint8]) -> list[tuple[NDArray[np.float32], str]]:
    """Box, shape (4, 2), and text of each line recognised with enough confidence."""
    try:
        found = _engine()(picture)
    except Exception as error:  # rapidocr's own errors have no common class but this
        raise InputError(f"text recognition failed: {str(error)[:150]}") from None
    if found.boxes is None or found.txts is None:
        return []
    return [(box, text) for box, text, sure in zip(found.boxes, found.txts, found.scores, strict=True) if sure >= _SURE]


def _lines(found: Sequence[tuple[NDArray[np.float32], str]]) -> str:
    """Pieces at one height are one line, from left to right; a wide gap between lines is a paragraph's end."""
    rows: list[list[tuple[float, float, float, str]]] = []
    for box, text in sorted(found, key=lambda each: float(each[0][:, 1].mean())):
        middle, height, left = float(box[:, 1].mean()), float(np.ptp(box[:, 1])), float(box[:, 0].min())
        if rows and middle - np.mean([each[0] for each in rows[-1]]) < 0.5 * min(height, rows[-1][0][1]):
            rows[-1].append((middle, height, left, text))
        else:
            rows.append([(middle, height, left, text)])
    pieces: list[str] = []
    for at, row in enumerate(rows):
        if at:
            gap = row[0][0] - rows[at - 1][0][0]
            pieces.append("\n\n" if gap > 2.2 * max(row[0][1], rows[at - 1][0][1]) else "\n")
        pieces.append(" ".join(text for _, _, _, text in sorted(row, key=lambda each: each[2])))
    return readable("".join(pieces))


def _tesseract(picture: bytes) -> str:
    try:
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", "-l", "+".join(_languages())],
            input=picture,
            capture_output=True,
            timeout=4 * _SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise InputError(f"text recognition failed: {str(error)[:150]}") from None
    return readable(done.stdout.decode("utf-8", "replace"))


@cache
def _languages() -> list[str]:
    """Those that are installed, English first."""
    try:
        done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return ["eng"]
    found = [line.strip() for line in done.stdout.decode("utf-8", "replace").split("\n")[1:] if line.strip() not in ("", "osd")]
    return sorted(found, key=lambda name: name != "eng")[:6] or ["eng"]
