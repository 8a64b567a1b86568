"""Finds a folder's files to index: skips hidden and ignored files, does not follow links.

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
"""Pairs of an ignore file and its patterns, which hold below its folder; the innermost folder last."""


@dataclass(slots=True)
class Scan:
    """Paths found under one or more roots. ``closed`` are folders that could not be listed and files whose `stat` failed, so that
    their state is unknown. ``ignored`` says how much each ignore file left out."""

    files: dict[str, Hints] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    ignored: dict[str, Left] = field(default_factory=dict)


@dataclass(slots=True)
class Left:
    """How many files an ignore file excluded, and how many folders, which were not searched."""

    files: int = 0
    folders: int = 0

    def __str__(self) -> str:
        parts = [(self.files, "file"), (self.folders, "folder")]
        return " and ".join(f"{count:,} {name}{'s' * (count > 1)}" for count, name in parts if count)


def scan(roots: Mapping[str, Mapping[str, Sequence[str]]], without: Path) -> Scan:
    """Every file under ``roots``: absolute paths, each with the git-style patterns of its ``include`` and ``exclude``. The folder
    ``without``, our own, is left out.

    Raises InputError for a root that is not there.
    """
    found = Scan()
    for root, options in roots.items():
        if os.path.isdir(root):
            walk = _Walk(found, root, options, os.path.abspath(without))
            walk.folder(root, _outer_rules(root))
            walk.check_links()
        elif os.path.lexists(root):
            _add_named(found, root)
        else:
            raise InputError(f"No such file or folder: {root}", f"if it is gone for good: selfrag rm {root}")
    return found


def is_empty(folder: str) -> bool:
    """Whether a folder is empty, like an unmounted disk's mount point; hidden files do not count."""
    try:
        return not any(not name.startswith(".") and name != "lost+found" for name in os.listdir(folder))
    except OSError:
        return False


def _add_named(found: Scan, path: str) -> None:
    try:
        found.files[path] = Hints.of(os.stat(path))
    except OSError as error:
        found.skipped[path] = f"cannot be opened: {(error.strerror or str(error)).lower()}"


class _Walk:
    """One walk below one root."""

    def __init__(self, found: Scan, root: str, options: Mapping[str, Sequence[str]], without: str) -> None:
        self.found = found
        self.root = root
        self.without = without
        self.inside = os.path.join(os.path.realpath(root), "")
        self.prefix = len(os.path.join(root, ""))
        self.include = _spec(options.get("include", ()))
        self.exclude = _spec(options.get("exclude", ()))
        self.links: list[tuple[str, str]] = []

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
            inner = outer + _rules_in(entries)
            folders = [entry.path for entry in entries if self._entry(entry, inner)]
            waiting.extend((folder, inner) for folder in reversed(folders))

    def _entry(self, entry: os.DirEntry[str], rules: _Rules) -> bool:
        """Records a file; True for a folder to walk."""
        if entry.name.startswith(".") or entry.path == self.without:
            return False
        try:
            folder = entry.is_dir(follow_symlinks=False)
            return self._taken(entry, folder, rules)
        except OSError as error:  # a folder that may be listed and not entered
            self.found.closed.append(entry.path)
            self.found.skipped[_shown(entry.path)] = f"cannot be opened: {(error.strerror or str(error)).lower()}"
            return False

    def _taken(self, entry: os.DirEntry[str], folder: bool, rules: _Rules) -> bool:
        if by := _ignored_by(entry.path, folder, rules):
            left = self.found.ignored.setdefault(by, Left())
            left.folders += folder
            left.files += not folder
            return False
        if self._excluded(entry.path, folder):
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
        """The target of a link inside is found anyway, see `check_links`; a link that leads outside is reported, not followed.
        Links of git-annex count as files."""
        target = os.path.realpath(entry.path)
        annexed = f"{os.sep}annex{os.sep}objects{os.sep}" in os.readlink(entry.path)
        if not os.path.exists(entry.path):
            missing = "a git-annex file whose content is not here; `git annex get` fetches it" if annexed else "a link to nothing"
            self.found.skipped[_shown(entry.path)] = missing
        elif annexed and os.path.isfile(target):
            self.found.files[entry.path] = Hints.of(os.stat(entry.path))
        elif not (target + os.sep).startswith(self.inside):
            self.found.skipped[_shown(entry.path)] = "a link that leads outside the folder"
        else:
            self.links.append((entry.path, os.path.join(self.root, target[len(self.inside) :])))

    def check_links(self) -> None:
        """Reports links to files that are inside but not found: hidden or ignored."""
        for link, target in self.links:
            inside = os.path.join(target, "")
            if target not in self.found.files and not any(path.startswith(inside) for path in self.found.files):
                self.found.skipped[_shown(link)] = "a link to what is hidden, ignored or empty; name its target to index it"

    def _excluded(self, path: str, folder: bool) -> bool:
        relative = path[self.prefix :] + ("/" if folder else "")
        if self.exclude and self.exclude.match_file(relative):
            return True
        return bool(self.include and not folder and not self.include.match_file(relative))


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec | None:
    return GitIgnoreSpec.from_lines(patterns) if patterns else None


def _rules_in(entries: Sequence[os.DirEntry[str]]) -> _Rules:
    files = sorted(entry.path for entry in entries if entry.name in IGNORE_FILES)
    return tuple((path, GitIgnoreSpec.from_lines(lines)) for path in files if (lines := _lines(path)))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _outer_rules(root: str) -> _Rules:
    """The rules of the folders above ``root``, if it lies in a git repository. They do not count if they ignore ``root`` itself:
    what is named is taken."""
    above = [Path(root), *Path(root).parents]
    top = next((n for n, folder in enumerate(above) if (folder / ".git").exists()), 0)
    rules = tuple(rule for folder in reversed(above[1 : top + 1]) for rule in _rules_in(list(_ignore_entries(folder))))
    return () if any(_ignored_by(str(folder), True, rules) for folder in above[:top]) else rules


def _ignore_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        yield from (entry for entry in os.scandir(folder) if entry.name in IGNORE_FILES)
    except OSError:
        return


def _ignored_by(path: str, folder: bool, rules: _Rules) -> str | None:
    """The ignore file that excludes ``path``. Git's rule: the innermost file with a matching pattern decides."""
    for file, spec in reversed(rules):
        prefix = os.path.join(os.path.dirname(file), "")
        if not path.startswith(prefix):
            continue
        verdict = spec.check_file(path[len(prefix) :] + ("/" if folder else "")).include
        if verdict is not None:
            return file if verdict else None
    return None
