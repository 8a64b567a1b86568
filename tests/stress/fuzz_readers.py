"""Reads and splits thousands of damaged files of all kinds: no crash, no hang, bounded memory.

    python -m tests.stress.fuzz_readers --files 6000 --out benchmarks/results/fuzz_readers.json [--seeds FOLDER ...]

Seeds are corpora/mixed, a slice of corpora/wikipedia, tests/ingest/cases and real files of the kinds named below from further
folders. Each is damaged by a seeded random mutation and given to ``ingest.parse`` and ``ingest.split``; what comes back must be
chunks or an InputError.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import platform
import random
import resource
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import psutil
import pypdf

from selfrag import ingest
from selfrag.errors import InputError

ROOT = Path(__file__).parents[2]
KINDS = (".txt", ".md", ".rst", ".html", ".pdf", ".docx", ".csv", ".json", ".jsonl", ".py")
KINDS += (".pptx", ".xlsx", ".ods", ".odt", ".odp", ".xls", ".epub", ".eml", ".mbox", ".mhtml", ".msg", ".ipynb", ".rtf", ".tex")
KINDS += (".org", ".adoc", ".srt", ".vtt", ".ics", ".vcf", ".xml", ".svg", ".docm")
PACKED = (".pdf", ".docx", ".docm", ".pptx", ".xlsx", ".ods", ".odt", ".odp", ".epub")
TEXTS = ("document.xml", "content.xml", "slide1.xml", "sheet1.xml", "sharedStrings.xml", ".xhtml", "numbering.xml", "styles.xml")
"""Ends of the names of the parts that hold what is read."""
CASES = ROOT / "tests" / "ingest" / "cases"
LARGEST = 300_000
TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"<",
    b"[" * 300,
    b"{" * 300,
    b'"',
    b"\\",
    b"&#x110000;",
    b"<![CDATA[",
    b"%PDF-",
    b"endobj",
    b"stream\n",
)
TOKENS += (
    b"9" * 400,
    b"-1",
    b"/Length 999999999",
    b"xref\n",
    b"---\n",
    b"\xed\xa0\x80",
    b"\r",
    b"\n\n\n",
    b"> " * 200,
    b"*" * 500,
)
ENCODINGS = ("utf-16", "utf-16-be", "utf-32", "latin-1", "cp949", "shift_jis", "gb18030", "cp1251", "utf-7")

Mutation = Callable[[random.Random, bytes, list[bytes]], bytes]


def flip(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    mutable = bytearray(data)
    for _number in range(rng.choice((1, 8, 64, 512))):
        mutable[rng.randrange(len(mutable))] = rng.randrange(256)
    return bytes(mutable)


def cut(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def drop(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 2000) :]


def repeat(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randrange(1, 2000)]
    return data[:start] + piece * rng.choice((2, 10, 100)) + data[start:]


def insert(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    for _number in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(TOKENS) * rng.choice((1, 1, 3)) + data[at:]
    return data


def splice(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def recode(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")


def noise(rng: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: rng.randrange(64)] + rng.randbytes(rng.randrange(1, 4000))


def inside(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Damages what is packed: a part of a .docx, a compressed stream of a .pdf."""
    try:
        return _inside_zip(rng, data, others) if data.startswith(b"PK") else _inside_pdf(rng, data, others)
    except (zipfile.BadZipFile, zlib.error, ValueError):
        return flip(rng, data, others)


def _inside_zip(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        names = source.namelist()
        chosen = rng.choice([*names, *[name for name in names if name.endswith(TEXTS)] * 5])
        for name in names:
            part = source.read(name)
            target.writestr(name, rng.choice(PLAIN)(rng, part, others) if name == chosen and part else part)
    return out.getvalue()


def _inside_pdf(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    starts = [at for at in range(len(data)) if data.startswith(b"stream\n", at) and not data.startswith(b"end", at - 3)]
    start = rng.choice(starts or [0]) + 7
    end = data.index(b"endstream", start)
    broken = rng.choice(PLAIN)(rng, zlib.decompress(data[start:end]), others)
    return data[:start] + zlib.compress(broken) + b"\n" + data[end:]


PLAIN: tuple[Mutation, ...] = (flip, cut, drop, repeat, insert, splice)
MUTATIONS: tuple[Mutation, ...] = (*PLAIN, recode, noise, inside, inside, inside)


@dataclass
class Tally:
    """What became of the files; ``bad`` must stay empty."""

    files: int = 0
    outcomes: dict[str, collections.Counter[str]] = field(default_factory=lambda: collections.defaultdict(collections.Counter))
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    bad: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    worker_bytes: int = 0


def seeds(folders: list[Path]) -> dict[str, list[bytes]]:
    """Real files by kind, at most 40 of each."""
    found: dict[str, list[bytes]] = {kind: [] for kind in KINDS}
    wikipedia = sorted((ROOT / "corpora" / "wikipedia").rglob("*.*"))
    own = (path for path in sorted(CASES.rglob("*")) if path.is_file())
    for path in [*sorted((ROOT / "corpora" / "mixed").iterdir()), *wikipedia[::10], *own, *_files(folders)]:
        kind = path.suffix.lower()
        if kind in found and len(found[kind]) < 40 and path.is_file() and 0 < path.stat().st_size < LARGEST:
            found[kind].append(path.read_bytes())
    found[".pdf"] += [variant for data in tuple(found[".pdf"]) for variant in _variants(data)]
    return {kind: files for kind, files in found.items() if files}


def _variants(data: bytes) -> list[bytes]:
    try:
        return [_unpacked(data), _encrypted(data, ""), _encrypted(data, "x")]
    except (pypdf.errors.PyPdfError, ValueError, KeyError, AttributeError):
        return []  # a seed may be damaged itself, or encrypted


def _unpacked(data: bytes) -> bytes:
    """The same PDF with its page contents in the open, where plain mutations reach them."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    for page in writer.pages:
        contents = page.get_contents()
        assert contents is not None
        plain = pypdf.generic.DecodedStreamObject()
        plain.set_data(contents.get_data())
        page[pypdf.generic.NameObject("/Contents")] = writer._add_object(plain)
    return _written(writer)


def _encrypted(data: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, algorithm="RC4-128")
    return _written(writer)


def _written(writer: pypdf.PdfWriter) -> bytes:
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for kind in KINDS:
            yield from sorted(folder.rglob(f"*{kind}"))[:40]


def cases(real: dict[str, list[bytes]], number: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """File names and contents: the kinds in turn, one in twenty under the name of another kind."""
    rng = random.Random(seed)
    everything = [data for files in real.values() for data in files]
    kinds = sorted(real)
    for index in range(number):
        kind = kinds[index % len(kinds)]
        data = rng.choice(real[kind])
        mutation = rng.choice(MUTATIONS if kind in PACKED else MUTATIONS[:-3])
        name = rng.choice(kinds) if rng.random() < 0.05 else kind
        yield f"{index}-{mutation.__name__}{name}", mutation(rng, data, everything)


def try_one(name: str, data: bytes, tally: Tally) -> None:
    begun = time.perf_counter()
    kind = PurePath(name).suffix
    try:
        document = ingest.parse(PurePath(name), data)
        chunks = ingest.split(document)
        wrong = [chunk for chunk in chunks if document.text[chunk.start : chunk.end] != chunk.text or not chunk.text.strip()]
        json.dumps([chunk.text for chunk in chunks], ensure_ascii=False).encode("utf-8")
        tally.outcomes[kind]["read"] += 1
        if wrong:
            tally.bad.append(f"{name}: wrong offsets")
    except InputError as error:
        tally.outcomes[kind]["refused"] += 1
        tally.reasons[error.message.split(":")[0].split("(")[0][:60]] += 1
    except Exception as error:
        tally.bad.append(f"{name}: {type(error).__name__}: {error}")
    taken = time.perf_counter() - begun
    tally.files += 1
    tally.slowest = max(tally.slowest, (round(taken, 2), name))
    if taken > 10:
        tally.bad.append(f"{name}: {taken:.1f} s")
    if tally.files % 50 == 0:
        tally.worker_bytes = max(tally.worker_bytes, *(child.memory_info().rss for child in psutil.Process().children()), 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ingest.use_ocr("never")  # a page that is recognised takes seconds by right
    real = seeds(options.seeds)
    tally = Tally()
    begun = time.perf_counter()
    for name, data in cases(real, options.files, options.seed):
        try_one(name, data, tally)
    report = {
        "files": tally.files,
        "seeds": {kind: len(files) for kind, files in real.items()},
        "seconds": round(time.perf_counter() - begun, 1),
        "outcomes": {kind: dict(counts) for kind, counts in sorted(tally.outcomes.items())},
        "reasons": dict(tally.reasons.most_common(40)),
        "slowest_seconds": tally.slowest,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "reader_process_peak_mib": round(tally.worker_bytes / 2**20),
        "bad": tally.bad,
        "python": platform.python_version(),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
