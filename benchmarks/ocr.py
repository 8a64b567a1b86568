"""Character error rate and time of text recognition, on pages drawn from known text: clean, 150 dpi with noise, turned by 3°.

    python benchmarks/ocr.py [--texts FOLDER --font FONT] [--lines 12] [--out FILE.json]

FOLDER holds texts, a file a language, drawn in FONT; without it, the English of corpora/mixed in the font that Pillow ships.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import harness
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest.formats import ocr

ROOT = Path(__file__).parent.parent
WIDE, TALL, POINTS = 8.27, 11.69, 11
KINDS = ("clean", "noisy", "turned")


def drawn(text: str, font: str | None, kind: str, seed: int = 0, most: int = 1000) -> tuple[NDArray[np.uint8], str]:
    """A page of A4, shape (height, width, 3), and the text that found room on it."""
    dots = 150 if kind == "noisy" else ocr.DOTS
    size = round(POINTS * dots / 72)
    face = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
    page = Image.new("RGB", (round(WIDE * dots), round(TALL * dots)), "white")
    pen, margin = ImageDraw.Draw(page), dots
    lines = _wrapped(text, pen, face, page.width - 2 * margin)
    lines = lines[: min(most, (page.height - 2 * margin) // round(1.5 * size))]
    for number, line in enumerate(lines):
        pen.text((margin, margin + number * round(1.5 * size)), line, "black", font=face)
    if kind == "turned":
        page = page.rotate(3, Image.Resampling.BICUBIC, fillcolor="white")
    pixels = np.asarray(page)
    if kind == "noisy":
        noise = np.random.default_rng(seed).normal(0, 25, pixels.shape)
        pixels = np.clip(pixels.astype(np.float64) + noise, 0, 255).astype(np.uint8)
    return pixels[:, :, ::-1], "\n".join(lines)


def _wrapped(text: str, pen: ImageDraw.ImageDraw, face: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Broken where it becomes too wide: at spaces, or anywhere in text that has none."""
    lines, line = [], ""
    units = text.split(" ") if text.count(" ") * 20 > len(text) else list(text)
    glue = " " if len(units) < len(text) else ""
    for unit in units:
        longer = f"{line}{glue}{unit}" if line else unit
        if pen.textlength(longer, font=face) > width:
            lines.append(line)
            line = unit
        else:
            line = longer
    return [*lines, line]


def errors(read: str, written: str) -> float:
    """Edit distance over the length of what was written; white space is not compared."""
    one, other = "".join(read.split()), "".join(written.split())
    above = np.arange(len(other) + 1)
    for at, letter in enumerate(one, 1):
        below = np.empty_like(above)
        below[0] = at
        best = np.minimum(above[1:] + 1, above[:-1] + np.fromiter((letter != each for each in other), int, len(other)))
        # what is to the left counts one more for each step: a running minimum once the steps are taken out
        steps = np.arange(1, len(other) + 1)
        below[1:] = np.minimum(np.minimum.accumulate(np.minimum(best - steps, at)) + steps, best)
        above = below
    return float(above[-1]) / max(1, len(other))


def _cpu() -> float:
    """Seconds of this process and its ended children: tesseract is one."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--font")
    parser.add_argument("--lines", type=int, default=1000, help="at most so many on a page")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.texts:
        texts = {path.stem: " ".join(path.read_text("utf-8").split()) for path in sorted(options.texts.glob("*.txt"))}
    else:
        texts = {"en": " ".join(ingest.read(ROOT / "corpora" / "mixed" / "planets.pdf").text.split())}
    ocr.page(drawn("The models are opened.", None, "clean", most=1)[0])
    report = {}
    for name, text in texts.items():
        for kind in KINDS:
            pixels, written = drawn(text, options.font, kind, most=options.lines)
            begun, used = time.perf_counter(), _cpu()
            try:
                rate = errors(ocr.page(pixels), written)
            except InputError as error:
                print(name, kind, error.message, flush=True)
                continue
            report[f"{name} {kind}"] = {
                "character_error_rate": round(rate, 4),
                "cpu_seconds": round(_cpu() - used, 1),
                "seconds": round(time.perf_counter() - begun, 1),
                "lines": written.count("\n") + 1,
                "characters": len(written),
            }
            print(name, kind, report[f"{name} {kind}"], flush=True)
    if options.out:
        harness.write_json(options.out, report)


if __name__ == "__main__":
    main()
