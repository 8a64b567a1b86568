"""A seal over Chroma's index files as their writer left them: detects damage before Chroma reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

Seal = dict[str, tuple[int, int, str]]
"""Size, modification time (ns) and digest of each index file of a Chroma folder, by its path in there."""


def make_seal(folder: Path) -> Seal:
    """Taken over the index files that Chroma has completed. Below its sync threshold there are none: the vectors are in its
    SQLite file, which has its own checks and changes whenever it is opened."""
    complete = [path.parent for path in folder.glob("*/index_metadata.pickle")]
    files = sorted(path for segment in complete for path in segment.iterdir() if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns, digest(path)) for path in files}


def compare_seal(folder: Path, seal: Mapping[str, tuple[int, int, str]], thorough: bool) -> str | None:
    """The first difference, in words. Digests are taken where the time differs, or of every file if ``thorough``."""
    if not (folder / "chroma.sqlite3").exists():
        return "Chroma's store is missing"
    return changed_file(folder, seal, thorough, "Chroma's index")


def changed_file(folder: Path, seal: Mapping[str, Sequence[object]], thorough: bool, what: str) -> str | None:
    """The first file of ``what`` that is missing or differs from ``seal`` (size, modification time, digest), in words."""
    for name, (size, mtime_ns, wanted) in seal.items():
        path = folder / name
        if not path.is_file():
            return f"a file of {what} is missing: {name}"
        stat = path.stat()
        if stat.st_size != size or ((thorough or stat.st_mtime_ns != mtime_ns) and digest(path) != wanted):
            return f"a file of {what} was changed: {name}"
    return None


def digest(path: Path) -> str:
    """128 bits over the file, hexadecimal."""
    with path.open("rb") as file:
        state = blake2b(digest_size=16)
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()
