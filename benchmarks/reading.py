"""How fast each format is read and cut into chunks, on real files, in seconds of processor.

    python benchmarks/reading.py FOLDER [--most 60] [--out FILE.json]

Takes at most so many files of each extension below FOLDER, evenly spread over their sizes. The readers run in this process,
without OCR; what they refuse is counted, and its time too. Embedding, which takes most of the time of indexing, is left out.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from pathlib import Path

import harness

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import readers, sandbox


def sample(folder: Path, most: int) -> dict[str, list[Path]]:
    """Files by extension, from the smallest to the largest."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in readers.READERS:
            found[path.suffix.lower()].append(path)
    spread = {}
    for suffix, paths in found.items():
        ordered = sorted(paths, key=lambda path: path.stat().st_size)
        spread[suffix] = [ordered[at * len(ordered) // most] for at in range(most)] if len(ordered) > most else ordered
    return spread


def measured(paths: list[Path]) -> dict[str, float]:
    refused = size = chunks = 0
    used = time.process_time()
    for path in paths:
        data = path.read_bytes()
        size += len(data)
        try:
            chunks += len(ingest.split(ingest.parse(path, data)))
        except InputError:
            refused += 1
        except BaseException as error:  # in the program the reading process answers for what parsers raise
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"{path}: {type(error).__name__}", flush=True)
            refused += 1
        finally:
            sandbox.alarm(0)
    used = time.process_time() - used
    return {
        "files": len(paths),
        "refused": refused,
        "megabytes": round(size / 1e6, 2),
        "chunks": chunks,
        "seconds": round(used, 2),
        "files_per_second": round(len(paths) / used, 1),
        "megabytes_per_second": round(size / 1e6 / used, 2),
        "chunks_per_second": round(chunks / used),
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sandbox.enter(io.BytesIO())  # readers are called directly
    ingest.use_ocr("never")
    report = {}
    for suffix, paths in sorted(sample(options.folder, options.most).items()):
        ingest_once(paths[0])
        report[suffix] = measured(paths)
        print(suffix, report[suffix], flush=True)
    if options.out:
        harness.write_json(options.out, report)


def ingest_once(path: Path) -> None:
    """Imports the reader's libraries."""
    try:
        ingest.read(path)
    except (InputError, ValueError, KeyError) as error:
        print(f"{path}: {type(error).__name__}", flush=True)


if __name__ == "__main__":
    main()
