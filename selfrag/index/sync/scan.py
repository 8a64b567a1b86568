"""Which files a folder holds for us: hidden and ignored files are left out, links are not followed.

Ignore files are `.gitignore` and `.selfragignore`, in every folder below the root and in those above it up to the top of its
git repository; the rules are git's. A file that is named itself is always taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from selfrag.errors import InputError
from selfrag.index.catalog.rows import Hints

IGNORE_FILES = (".gitignore", ".selfragignore")
_Rules = tuple[tuple[str, GitIgnoreSpec], ...]
"""Pairs of a folder, with a slash at its end, and the patterns that hold below it; the innermost folder last."""


@dataclass(slots=True)
class Scan:
    """Paths found under one or more roots. ``closed`` are folders that could not be listed: what they hold is not known."""

    files: dict[str, Hints] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)


def scan(roots: Mapping[str, Mapping[str, Sequence[str]]], without: Path) -> Scan:
    """Every file under ``roots``: absolute paths, each with the git-style patterns of its ``include`` and ``exclude``. The folder
    ``without``, our own, is left out.

    Raises InputError for a root that is not there.
    """
    found = Scan()
    for root, options in roots.items():
        if os.path.isdir(root):
            _Walk(found, root, options, os.path.abspath(without)).folder(root, _outer_rules(root))
        elif os.path.lexists(root):
            _add_named(found, root)
        else:
            raise InputError(f"No such file or folder: {root}", f"if it is gone for good: selfrag rm {root}")
    return found


def _add_named(found: Scan, path: str) -> None:
    try:
        found.files[path] = Hints.of(os.stat(path))
    except OSError as error:
        found.skipped[path] = f"cannot be opened: {(error.strerror or str(error)).lower()}"


class _Walk:
    """One walk below one root."""

    def __init__(self, found: Scan, root: str, options: Mapping[str, Sequence[str]], without: str) -> None:
        self.found = found
        self.without = without
        self.inside = os.path.join(os.path.realpath(root), "")
        self.prefix = len(os.path.join(root, ""))
        self.include = _spec(options.get("include", ()))
        self.exclude = _spec(options.get("exclude", ()))

    def folder(self, top: str, rules: _Rules) -> None:
        waiting = [(top, rules)]
        while waiting:
            path, outer = waiting.pop()
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as error:
                self.found.closed.append(path)
                self.found.skipped[_shown(path)] = f"cannot be listed: {(error.strerror or str(error)).lower()}"
                continue
            inner = outer + _rules_in(path, entries)
            folders = [entry.path for entry in entries if self._entry(entry, inner)]
            waiting.extend((folder, inner) for folder in reversed(folders))

    def _entry(self, entry: os.DirEntry[str], rules: _Rules) -> bool:
        """Takes note of a file; True for a folder that is to be walked."""
        if entry.name.startswith(".") or entry.path == self.without:
            return False
        folder = entry.is_dir(follow_symlinks=False)
        if _ignored(entry.path, folder, rules) or self._excluded(entry.path, folder):
            return False
        if entry.is_symlink():
            self._link(entry)
            return False
        if not folder:
            self._file(entry)
        return folder

    def _file(self, entry: os.DirEntry[str]) -> None:
        if not entry.is_file(follow_symlinks=False):
            return  # sockets, pipes and devices hold no documents
        if not entry.path.isprintable() and _shown(entry.path) != entry.path:
            self.found.skipped[_shown(entry.path)] = "its name is not valid UTF-8"
            return
        try:
            self.found.files[entry.path] = Hints.of(entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            return  # gone between the listing and now

    def _link(self, entry: os.DirEntry[str]) -> None:
        """A link inside leads to what is found anyway; one that leads outside is named, not followed."""
        if not os.path.exists(entry.path):
            self.found.skipped[_shown(entry.path)] = "a link to nothing"
        elif not (os.path.realpath(entry.path) + os.sep).startswith(self.inside):
            self.found.skipped[_shown(entry.path)] = "a link that leads outside the folder"

    def _excluded(self, path: str, folder: bool) -> bool:
        relative = path[self.prefix :] + ("/" if folder else "")
        if self.exclude and self.exclude.match_file(relative):
            return True
        return bool(self.include and not folder and not self.include.match_file(relative))


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec | None:
    return GitIgnoreSpec.from_lines(patterns) if patterns else None


def _rules_in(folder: str, entries: Sequence[os.DirEntry[str]]) -> _Rules:
    lines = [line for entry in entries if entry.name in IGNORE_FILES for line in _lines(entry.path)]
    return ((os.path.join(folder, ""), GitIgnoreSpec.from_lines(lines)),) if lines else ()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _outer_rules(root: str) -> _Rules:
    """The rules of the folders above ``root``, if it lies in a git repository."""
    above = [Path(root), *Path(root).parents]
    top = next((n for n, folder in enumerate(above) if (folder / ".git").exists()), 0)
    return tuple(
        rule for folder in reversed(above[1 : top + 1]) for rule in _rules_in(str(folder), list(_ignore_entries(folder)))
    )


def _ignore_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        yield from (entry for entry in os.scandir(folder) if entry.name in IGNORE_FILES)
    except OSError:
        return


def _ignored(path: str, folder: bool, rules: _Rules) -> bool:
    """Git's rule: the innermost file with a matching pattern decides."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(path[len(prefix) :] + ("/" if folder else "")).include
        if verdict is not None:
            return verdict
    return False
