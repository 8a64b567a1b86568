"""Text recognition (OCR) of pages and pictures: rapidocr, whose models are in its wheel, or tesseract where that is installed.

Comes with `selfrag[ocr]`. Runs in the worker process, which asks for more time for each page: a page takes seconds.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.sandbox import ask_for_time

if TYPE_CHECKING:
    from PIL import Image

DOTS = 200
"""Dots per inch at which pages are drawn: fewer lose small letters, more take longer."""

_SECONDS = 180.0  # of work, for one page: twenty are usual, a page of a newspaper has four times the lines
_SURE = 0.5
_WELL = 0.8  # the mean confidence of a page that reads well
_LITTLE = 60  # characters
_THREADS = 4
_MOST_PIXELS = 2**27
_UNKNOWN = (
    "its letters are none that rapidocr knows (Latin, Chinese, Japanese); install tesseract with its language, such as"
    " tesseract-ocr-kor"
)


def read_picture(path: PurePath, data: bytes, limits: Limits) -> Document:
    """The text in a picture, line by line; if it has several pages, such as a fax, page by page. Raises InputError if it cannot
    be opened or its script is not supported."""
    draft = Draft(limits)
    if not find_spec("rapidocr"):
        ask_for_time(_SECONDS)
        draft.add(_tesseract(data), "picture", "")
        return draft.document(path, "ocr")
    with _opened(data) as picture:
        count = getattr(picture, "n_frames", 1)
        for number in range(count):
            draft.section()
            draft.add(page(_pixels(picture, number)), "p." if count > 1 else "picture", str(number + 1) if count > 1 else "")
    return draft.document(path, "ocr")


def page(pixels: NDArray[np.uint8]) -> str:
    """The text of a page drawn as ``pixels``, shape (height, width, 3), blue first. Raises InputError if there are lines, and
    most of them cannot be read."""
    ask_for_time(_SECONDS)
    pixels = np.ascontiguousarray(pixels)
    if not find_spec("rapidocr"):
        return _tesseract(_portable(pixels))
    found = _recognised(pixels)
    sure = [(box, text) for box, text, score in found if score >= _SURE and any(map(str.isalnum, text))]
    # Lines without any letter that it knows do not come back: where little does, it is asked how many there are.
    lines = len(found) if sum(len(text) for _, text in sure) > _LITTLE else max(len(found), _lines_on(pixels))
    if 2 * len(sure) >= lines:
        return _lines(sure)
    if shutil.which("tesseract") and len(_languages()) > 1:
        # English beside the others costs letters: it is what rapidocr would have read.
        return _tesseract(_portable(pixels), [name for name in _languages() if name != "eng"])
    raise InputError(_UNKNOWN)


def _opened(data: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # it refuses twice as many
    try:
        return Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"damaged, or not a picture: {_without_address(error)}") from None


def _pixels(picture: Image.Image, number: int) -> NDArray[np.uint8]:
    """A page of a picture as displayed: rotated by the camera's orientation, transparent parts white; blue first."""
    from PIL import Image, ImageOps

    try:
        picture.seek(number)
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise InputError(f"damaged picture: {_without_address(error)}") from None
    white = Image.new("RGBA", upright.size, "white")
    white.alpha_composite(upright)
    return np.asarray(white.convert("RGB"))[:, :, ::-1]


def _without_address(error: Exception) -> str:
    return re.sub(r" ?<.*? at 0x\w+>", "", str(error))[:150]


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    threads = min(_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        }
    )


Recognised = list[tuple[NDArray[np.float32], str, float]]
"""Box, shape (4, 2), text and confidence of each line found."""


def _recognised(picture: NDArray[np.uint8]) -> Recognised:
    """The lines of a page. If its confidence is low, the page is also read upside down, and the surer reading counts. The engine
    can turn single lines, but it turns some upright ones, and keeps the order of the page as it lies."""
    found = _read(picture)
    if not found or _sureness(found) >= _WELL:
        return found
    return max(found, _read(np.ascontiguousarray(picture[::-1, ::-1])), key=_sureness)


def _read(picture: NDArray[np.uint8]) -> Recognised:
    try:
        # It keeps what it was last called with: a count of lines before this must not switch recognition off.
        found = _engine()(picture, use_det=True, use_cls=False, use_rec=True)
    except Exception as error:  # rapidocr's own errors have no common class but this
        raise InputError(f"text recognition failed: {str(error)[:150]}") from None
    if found.boxes is None or getattr(found, "txts", None) is None:  # it has none where no line says anything
        return []
    return list(zip(found.boxes, found.txts, found.scores, strict=True))


def _sureness(found: Recognised) -> float:
    return sum(score for _, _, score in found) / max(1, len(found))


def _lines(found: Sequence[tuple[NDArray[np.float32], str]]) -> str:
    """Pieces at one height are one line, from left to right; a wide gap between lines ends a paragraph."""
    rows: list[list[tuple[float, float, float, str]]] = []
    for box, text in sorted(found, key=lambda each: float(each[0][:, 1].mean())):
        # The height of the letters, not of the box: a long line on a page that is turned a little falls by more than a line.
        height = float(np.linalg.norm(box[3] - box[0]) + np.linalg.norm(box[2] - box[1])) / 2
        middle, left = float(box[:, 1].mean()), float(box[:, 0].min())
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


def _lines_on(picture: NDArray[np.uint8]) -> int:
    """The number of lines detected, without recognising them."""
    found = _engine()(picture, use_det=True, use_cls=False, use_rec=False)
    return 0 if found.boxes is None else len(found.boxes)


def _portable(pixels: NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels[:, :, ::-1].tobytes()


def _tesseract(picture: bytes, languages: Sequence[str] = ()) -> str:
    """Tesseract's layout analysis finds nothing on a page of one line, which is then read as one block."""
    for layout in ("3", "6"):
        try:
            done = subprocess.run(
                ["tesseract", "stdin", "stdout", "--psm", layout, "-l", "+".join(languages or _languages())],
                input=picture,
                capture_output=True,
                timeout=2 * _SECONDS,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise InputError(f"text recognition failed: {str(error)[:150]}") from None
        if text := readable(done.stdout.decode("utf-8", "replace")).strip():
            return text
    return ""


@cache
def _languages() -> list[str]:
    """Those that are installed, English first."""
    try:
        done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return ["eng"]
    found = [line.strip() for line in done.stdout.decode("utf-8", "replace").split("\n")[1:] if line.strip() not in ("", "osd")]
    return sorted(found, key=lambda name: name != "eng")[:6] or ["eng"]
