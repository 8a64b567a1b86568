"""Changes in a folder, told apart and brought in."""

from __future__ import annotations

import asyncio
import os
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selfrag.errors import CollectionError, InputError, Interrupted, LockedError, TextsRefused
from selfrag.index import generations, maintenance
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import Hints
from selfrag.index.locks import only_writer
from selfrag.index.sync.pipeline import Options
from tests.index.conftest import CountingEmbedder, Place

LONG_AGO = (1_600_000_000, 1_600_000_000)


def catalog(place: Place) -> Catalog:
    generation = generations.current(place.collection.folder)
    assert generation is not None
    return Catalog.open(generations.catalog_in(generation))


def sources(place: Place) -> set[str]:
    return {os.path.relpath(path, place.docs) for path in catalog(place).sources()}


def keys(place: Place) -> set[str]:
    return {row[0] for row in catalog(place).db.execute("SELECT key FROM chunks")}


async def found(place: Place, query: str) -> set[str]:
    return {Path(passage.source).relative_to(place.docs).as_posix() for passage in await place.collection.search(query, 10)}


def test_new_files_are_indexed(place: Place) -> None:
    """The first run takes every file, the second finds nothing to do."""
    place.write("a.md", "# Otter\n\nOtters swim.")
    place.write("sub/b.txt", "Badgers dig.")
    assert place.counts() == {"new": 2}
    assert place.counts() == {"unchanged": 2}
    assert len(place.embedder().embedded) == 2


def test_an_edit_embeds_only_what_changed(place: Place) -> None:
    """Of a file of several chunks, the one that was edited is embedded again, and the keys of the others stay."""
    paragraphs = [f"{word} " * 150 for word in ("otter", "badger", "heron")]
    place.write("a.txt", "\n\n".join(paragraphs))
    place.sync()
    before, embedded = keys(place), len(place.embedder().embedded)
    place.write("a.txt", "\n\n".join([*paragraphs[:2], "stork " * 150]))
    assert place.counts() == {"updated": 1}
    assert len(place.embedder().embedded) == embedded + 1
    assert len(before & keys(place)) == len(before) - 1


def test_touched_but_equal_is_unchanged(place: Place) -> None:
    """A new time stamp on the same bytes changes nothing, and is not looked at again."""
    path = place.write("a.txt", "Otters swim.")
    place.sync()
    os.utime(path, LONG_AGO)
    assert place.counts() == {"unchanged": 1}
    assert catalog(place).sources()[str(path)].hints.mtime_ns == LONG_AGO[0] * 10**9


def test_an_edit_of_the_same_size_at_the_same_time_is_seen(place: Place) -> None:
    """Size and modification time can both be kept by an edit; the time of the change of the inode cannot."""
    path = place.write("a.txt", "Otters swim.")
    os.utime(path, LONG_AGO)
    place.sync()
    place.write("a.txt", "Badgers dig.")
    os.utime(path, LONG_AGO)
    assert place.counts() == {"updated": 1}


def test_a_file_that_was_just_written_is_not_trusted_by_its_time(place: Place) -> None:
    """A file as young as the granularity of time stamps is read again at the next run."""
    path = place.write("a.txt", "Otters swim.")
    place.sync()
    assert catalog(place).sources()[str(path)].hints.size == -1
    os.utime(path, LONG_AGO)
    place.sync()
    assert catalog(place).sources()[str(path)].hints.size == len("Otters swim.")


@pytest.mark.parametrize(
    ("old", "new"),
    [("a.txt", "b.txt"), ("a.txt", "sub/a.txt"), ("a.txt", "A.txt"), ("é.txt", unicodedata.normalize("NFD", "é.txt"))],
    ids=["renamed", "moved", "case only", "normalisation only"],
)
def test_a_moved_file_is_not_embedded_again(place: Place, old: str, new: str) -> None:
    """A move, a rename, one of case alone or of Unicode form alone: one move, no embedding, and the old name is gone."""
    path = place.write(old, "Otters swim.")
    place.sync()
    (place.docs / new).parent.mkdir(exist_ok=True)
    path.rename(place.docs / new)
    assert place.counts() == {"moved": 1}
    assert sources(place) == {new}
    assert len(place.embedder().embedded) == 1


def test_a_copy_is_not_embedded_again(place: Place) -> None:
    """A copy is a new source with the vectors of the first."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.write("b.txt", "Otters swim.")
    assert place.counts() == {"new": 1, "unchanged": 1}
    assert len(place.embedder().embedded) == 1


async def test_a_deleted_file_is_forgotten(place: Place) -> None:
    """What is deleted is not found any more, on either side of the search."""
    path = place.write("a.txt", "Otters swim.")
    place.write("b.txt", "Badgers dig.")
    place.sync()
    path.unlink()
    assert place.counts() == {"removed": 1, "unchanged": 1}
    assert await found(place, "otters swim") == {"b.txt"}


def test_a_file_replaced_by_a_folder(place: Place) -> None:
    """The file's chunks go, those of the files in the folder come; and back."""
    path = place.write("thing", "Otters swim.")
    place.sync()
    path.unlink()
    place.write("thing/a.txt", "Badgers dig.")
    assert place.counts() == {"new": 1, "removed": 1}
    assert sources(place) == {"thing/a.txt"}


def test_a_swap_of_two_names(place: Place) -> None:
    """Two files that exchange their names are two edits that embed nothing."""
    one, two = place.write("a.txt", "Otters swim."), place.write("b.txt", "Badgers dig.")
    place.sync()
    one.rename(place.docs / "c"), two.rename(one), (place.docs / "c").rename(two)
    assert place.counts() == {"updated": 2}
    assert len(place.embedder().embedded) == 2


def test_one_bad_file_stops_nothing(place: Place) -> None:
    """Files that cannot be read are listed with the reason, every time, and the others are indexed."""
    place.write("a.txt", "Otters swim.")
    place.write("empty.txt", "")
    (place.docs / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00")
    (place.docs / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    for counts in ({"new": 1, "skipped": 3}, {"unchanged": 1, "skipped": 3}):
        report = place.sync()
        assert {"new": report.new, "unchanged": report.unchanged, "skipped": len(report.skipped)}.items() >= counts.items()
        assert all(skipped.reason for skipped in report.skipped)


async def test_a_file_that_breaks_loses_its_chunks(place: Place) -> None:
    """A file whose new content is unreadable is not answered from any more: its chunks would not be what it says."""
    path = place.write("a.txt", "Otters swim.")
    place.sync()
    path.write_bytes(b"\x00\x01\x02\x03" * 100)
    assert place.counts() == {"skipped": 1}
    assert await found(place, "otters") == set()
    path.write_text("Otters swim again.")
    assert place.counts() == {"new": 1}


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_links_are_not_followed(place: Place, tmp_path: Path) -> None:
    """A loop ends, a link inside adds nothing, one that leads outside is named; none brings a text in twice."""
    place.write("a.txt", "Otters swim.")
    (tmp_path / "secret.txt").write_text("Nobody is to find this.")
    (place.docs / "loop").symlink_to(place.docs)
    (place.docs / "again.txt").symlink_to(place.docs / "a.txt")
    (place.docs / "out.txt").symlink_to(tmp_path / "secret.txt")
    (place.docs / "dead").symlink_to(tmp_path / "nothing")
    report = place.sync()
    assert (report.new, sources(place)) == (1, {"a.txt"})
    assert {(os.path.basename(each.path), each.reason) for each in report.skipped} == {
        ("out.txt", "a link that leads outside the folder"),
        ("dead", "a link to nothing"),
    }


def test_ignored_and_hidden_files_are_left_out(place: Place) -> None:
    """`.gitignore` and `.selfragignore` count in every folder, as in git; hidden files never come in."""
    place.write(".gitignore", "*.log\nbuild/\n!keep.log\n")
    place.write("sub/.selfragignore", "/private.txt\n")
    for name in ("a.txt", "x.log", "keep.log", "build/b.txt", "sub/private.txt", "sub/c.txt", ".hidden/d.txt", ".e.txt"):
        place.write(name, f"Otters swim in {name}.")
    place.sync()
    assert sources(place) == {"a.txt", "keep.log", "sub/c.txt"}


def test_a_new_ignore_rule_takes_files_out(place: Place) -> None:
    """What is ignored now is removed."""
    place.write("a.txt", "Otters swim.")
    place.write("b.log", "Badgers dig.")
    place.sync()
    place.write(".selfragignore", "*.log")
    assert place.counts() == {"unchanged": 1, "removed": 1}


def test_include_and_exclude_are_remembered(place: Place) -> None:
    """Patterns hold for the next runs, until others are given."""
    for name in ("a.md", "b.txt", "drafts/c.md"):
        place.write(name, f"Otters swim in {name}.")
    place.sync(include=("*.md",), exclude=("drafts/",))
    assert sources(place) == {"a.md"}
    assert place.counts() == {"unchanged": 1}
    assert place.counts(include=(), exclude=()) == {"unchanged": 1, "new": 2}


def test_a_second_folder_leaves_the_first_alone(place: Place, tmp_path: Path) -> None:
    """A run looks after the paths that it is given; a run without a path looks after all that were ever given."""
    place.write("c.txt", "Crows fly.")
    place.write("a.txt", "Otters swim.")
    place.sync()
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.txt").write_text("Badgers dig.")
    report = place.collection.sync([other])
    assert (report.new, report.removed, report.chunks) == (1, 0, 3)
    (place.docs / "a.txt").unlink()
    assert place.collection.sync([other]).removed == 0
    assert place.collection.sync().removed == 1


def test_a_missing_path_is_an_error_and_removes_nothing(place: Place) -> None:
    """A folder that is not there (a disk that is not mounted) is never taken for an empty one."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.docs.rename(place.docs.with_name("away"))
    with pytest.raises(InputError, match="No such file or folder"):
        place.sync()
    report = place.collection.sync()
    assert (report.removed, report.chunks) == (0, 1)
    assert "not there" in report.skipped[0].reason


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
async def test_a_file_without_permission_keeps_its_last_version(place: Place) -> None:
    """A file that cannot be opened may be there unchanged: its chunks stay, and it is listed."""
    path = place.write("a.txt", "Otters swim.")
    place.sync()
    path.chmod(0)
    assert "last readable version is kept" in place.sync().skipped[0].reason
    assert await found(place, "otters") == {"a.txt"}


def test_an_empty_folder(place: Place) -> None:
    """No files, no error, a collection that is empty and consistent."""
    assert place.counts() == {}
    assert maintenance.status(place.collection).consistent


def test_a_name_that_is_not_text(place: Place) -> None:
    """A file name that is not valid UTF-8 is listed, not fatal."""
    try:
        (Path(os.fsdecode(os.fsencode(place.docs) + b"/bad-\xff.txt"))).write_text("Otters.")
    except OSError:
        pytest.skip("this file system takes no such name")
    place.write("a.txt", "Badgers dig.")
    assert place.counts() == {"new": 1, "skipped": 1}


def test_a_dry_run_does_nothing(place: Place) -> None:
    """The plan is what the next run does, and there is no collection after it."""
    place.write("a.txt", "Otters swim.")
    report = place.sync(dry_run=True)
    assert (report.new, report.plan) == (1, [("new", str(place.docs / "a.txt"))])
    assert place.collection.is_new()
    place.sync()
    (place.docs / "a.txt").rename(place.docs / "b.txt")
    place.write("c.txt", "Badgers dig.")
    assert [kind for kind, _ in place.sync(dry_run=True).plan] == ["moved", "new"]
    assert sources(place) == {"a.txt"}


def test_equal_paragraphs_are_two_chunks(place: Place) -> None:
    """The same text twice in one file has two keys and one vector."""
    place.write("a.txt", "\n\n".join(["otter " * 150, "heron " * 150, "otter " * 150]))
    place.sync()
    assert len(keys(place)) == 3
    assert len(place.embedder().embedded) == 2


def test_a_stop_keeps_what_was_done(place: Place) -> None:
    """After Ctrl-C the stored files stay stored and searchable, and the next run goes on where it stopped."""
    place.collection.window = 1
    for number in range(6):
        place.write(f"{number}.txt", f"Otter {number} swims.")
    stop = threading.Event()
    place.embedder().before = lambda: stop.set() if len(place.embedder().embedded) == 2 else None
    with pytest.raises(Interrupted):
        place.collection.sync([place.docs], Options(embedder="fake-1"), stop=stop)
    done = len(sources(place))
    assert 0 < done < 6
    assert maintenance.status(place.collection).consistent
    place.embedder().before = lambda: None
    assert place.counts() == {"new": 6 - done, "unchanged": done}
    assert len(place.embedder().embedded) == 6


def test_a_second_writer_is_refused(place: Place) -> None:
    """Only one process writes; the other hears who does, and readers go on."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    with only_writer(place.collection.folder, "default"), pytest.raises(LockedError, match=f"by process {os.getpid()}"):
        place.sync()


async def test_a_search_during_writing_sees_whole_files(place: Place) -> None:
    """A reader beside a writer gets the state of some moment: it never waits for the writer to end, and never fails."""
    for number in range(40):
        place.write(f"{number}.txt", f"Otter {number} swims.")
    place.sync()
    for number in range(40):
        place.write(f"{number}.txt", f"Otter {number} dives.")
    reader, seen = place.open(), []
    writer = threading.Thread(target=place.sync)
    writer.start()
    while writer.is_alive():
        seen.append(len(await reader.search("otter", 5)))
        await asyncio.sleep(0.01)
    writer.join()
    assert set(seen) == {5}
    assert {passage.text.split()[-1] for passage in await reader.search("otter", 40)} == {"dives."}


def test_another_embedder_is_refused_until_a_rebuild(place: Place) -> None:
    """The error names both and the command; the rebuild switches, with the old vectors served until it is complete."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    with pytest.raises(CollectionError, match="'fake-1' then, 'fake-2' now") as caught:
        place.sync(embedder="fake-2")
    assert caught.value.hint == "selfrag index --rebuild"
    reader, during = place.open(), []
    place.embedder("fake-2").before = lambda: during.extend(reader.find_now([_question()])[0])
    place.sync(embedder="fake-2", rebuild=True)
    assert len(during) == 1
    assert maintenance.status(place.collection).fingerprint["revision"] == "fake-2"
    assert len(reader.find_now([_question()])[0]) == 1


def test_an_embedder_that_changed_under_its_name_is_refused(place: Place) -> None:
    """The fingerprint is compared, not only the name."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.embedder().fingerprint = {"revision": "other", "dimension": 64}
    with pytest.raises(CollectionError, match="revision: 'fake-1' then, 'other' now"):
        place.collection.find_now([_question()])


def test_a_rebuild_with_the_same_embedder_embeds_nothing(place: Place) -> None:
    """Vectors are known by the text that they were made from."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.sync(rebuild=True)
    assert len(place.embedder().embedded) == 1
    assert maintenance.status(place.collection).consistent


def _question():  # type: ignore[no-untyped-def]
    from selfrag.index.search.hybrid import Question

    return Question("otters", 5)


# --- one bad item, and nothing missing in silence ------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_be_listed_and_not_entered(place: Place) -> None:
    """Its files are named with the reason; the rest is indexed, and what was known of them is kept."""
    place.write("open/b.txt", "The open file speaks of magpies.")
    place.write("closed/c.txt", "listable")
    place.sync()
    (place.docs / "closed").chmod(0o644)
    try:
        place.write("open/d.txt", "Wrens.")
        report = place.sync()
    finally:
        (place.docs / "closed").chmod(0o755)
    assert (report.new, report.removed) == (1, 0)
    assert [(os.path.basename(each.path), each.reason) for each in report.skipped] == [
        ("c.txt", "cannot be opened: permission denied")
    ]


def test_a_file_that_cannot_be_looked_at_stops_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for whoever runs the tests: the system refuses to say anything of a file."""
    place.write("a.txt", "Otters swim.")
    place.write("b.txt", "Badgers dig at night.")
    of = Hints.of

    def refused(stat: os.stat_result) -> Hints:
        if stat.st_size == len("Badgers dig at night."):
            raise PermissionError(13, "Permission denied")
        return of(stat)

    monkeypatch.setattr(Hints, "of", refused)
    report = place.sync()
    assert (report.new, [each.reason for each in report.skipped]) == (1, ["cannot be opened: permission denied"])


def test_an_ignore_file_says_how_much_it_left_out(place: Place) -> None:
    """Files and folders are counted, each under the ignore file that left it out."""
    place.write(".gitignore", "*.log\nbuild/\n")
    place.write("a.txt", "Otters swim.")
    for name in ("x.log", "y.log", "build/z.txt"):
        place.write(name, "text")
    report = place.sync()
    assert report.new == 1
    assert [(os.path.basename(each.path), each.note) for each in report.notes] == [
        (".gitignore", "left out 2 files and 1 folder")
    ]


def test_a_folder_that_is_named_is_not_ignored(place: Place) -> None:
    """The repository's ignore file hides `build`, but not from someone who names it; those inside it still count."""
    place.write(".gitignore", "build/\n")
    (place.docs / ".git").mkdir()
    place.write("build/z.txt", "Otters swim.")
    place.write("build/.gitignore", "*.tmp\n")
    place.write("build/w.tmp", "scratch")
    report = place.collection.sync([place.docs / "build"], Options(embedder="fake-1"))
    assert (report.new, [each.note for each in report.notes]) == (1, ["left out 1 file"])


def test_links_to_what_is_hidden_are_named(place: Place) -> None:
    """A link inside the folder that leads to a hidden file is named; one to a file that is found is not."""
    place.write(".secret/a.txt", "Otters swim.")
    place.write("b.txt", "Badgers dig.")
    (place.docs / "hidden.txt").symlink_to(place.docs / ".secret" / "a.txt")
    (place.docs / "seen.txt").symlink_to(place.docs / "b.txt")
    report = place.sync()
    assert report.new == 1
    assert [(os.path.basename(each.path), each.reason.split(";")[0]) for each in report.skipped] == [
        ("hidden.txt", "a link to what is hidden, ignored or empty")
    ]


def test_files_of_git_annex_are_files(place: Place) -> None:
    """A link into .git/annex/objects is the file itself; without its content, and for pointers of Git LFS, that is said."""
    place.write(".git/annex/objects/aa/key/key", "Otters swim in the annex.")
    (place.docs / "here.txt").symlink_to(".git/annex/objects/aa/key/key")
    (place.docs / "gone.txt").symlink_to(".git/annex/objects/bb/none/none")
    place.write("lfs.md", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    place.write("pointer.md", "/annex/objects/SHA256E-s9--00.md\n")
    report = place.sync()
    assert report.new == 1
    assert {os.path.basename(each.path): each.reason.split(";")[0] for each in report.skipped} == {
        "gone.txt": "a git-annex file whose content is not here",
        "lfs.md": "a Git LFS pointer",
        "pointer.md": "a git-annex pointer",
    }


@pytest.mark.parametrize("names", [["a.txt"], ["a.txt", "b.txt"]])
def test_an_empty_folder_removes_nothing_unless_asked(place: Place, names: list[str]) -> None:
    """What is known of a folder that is empty now, be it one file, is kept: its disk may not be mounted."""
    paths = [place.write(name, f"{name} swims.") for name in names]
    place.sync()
    for path in paths:
        path.unlink()
    report = place.sync()
    assert (report.removed, report.chunks) == (0, len(names))
    assert "--allow-empty" in report.skipped[0].reason
    assert place.sync(allow_empty=True).removed == len(names)


def test_a_moved_folder_is_found_where_it_is(place: Place, tmp_path: Path) -> None:
    """A folder that was moved and is indexed there is cited there; the old one is forgotten."""
    place.write("n.txt", "The note says buy rye bread.")
    place.sync()
    moved = tmp_path / "notes2"
    place.docs.rename(moved)
    report = place.collection.sync([moved])
    assert (report.new, report.moved, report.chunks) == (0, 1, 1)
    with place.collection.opened(place.collection.generation()) as catalog:
        assert list(catalog.sources()) == [str(moved / "n.txt")]
        assert list(catalog.roots()) == [str(moved)]


def test_a_text_that_the_embedder_refuses_costs_its_file_alone(place: Place) -> None:
    """The file is skipped with the reason and tried again; a file that was there before keeps its last version."""

    class Choosy(CountingEmbedder):
        refuses = True

        def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
            vectors = super().documents(texts)
            refused = {at: "the server gave NaN for it" for at, text in enumerate(texts) if self.refuses and "bad" in text}
            if refused:
                raise TextsRefused(refused, vectors)
            return vectors

    choosy = place.embedders["fake-1"] = Choosy("fake-1")
    place.write("a.txt", "Otters swim.")
    place.write("b.txt", "bad text")
    old = place.write("c.txt", "good at first")
    report = place.sync()
    assert (report.new, [each.reason for each in report.skipped]) == (2, ["the server gave NaN for it"])
    old.write_text("bad at last")
    report = place.sync()
    assert (report.new, report.updated, report.chunks) == (0, 0, 2)
    assert {os.path.basename(each.path): each.reason for each in report.skipped} == {
        "b.txt": "the server gave NaN for it",
        "c.txt": "the server gave NaN for it; its last version is kept",
    }
    choosy.refuses = False
    report = place.sync()
    assert (report.chunks, report.skipped) == (3, [])


def test_lines_that_are_left_out_are_listed_every_time(place: Place) -> None:
    """A file that is read but for a line counts as read, and its line as skipped, also when nothing has changed."""
    place.write("a.jsonl", '{"a": "Otters swim."}\nnot json\n{"a": "Badgers dig."}\n')
    first, second = place.sync(), place.sync()
    assert (first.new, second.unchanged) == (1, 1)
    for report in (first, second):
        assert [each.reason for each in report.skipped] == ["line 2 is left out: not JSON: expecting value"]


def test_the_size_of_chunks_is_part_of_a_collection(place: Place) -> None:
    """It is remembered, and another one needs a rebuild."""
    place.write("a.txt", "\n\n".join(f"Otter {n} swims in the river all day." for n in range(20)))
    assert place.sync(chunk_words=20).chunks > 5
    assert place.sync().unchanged == 1
    with pytest.raises(CollectionError, match="chunk_words"):
        place.sync(chunk_words=100)
    assert place.sync(chunk_words=160, rebuild=True).chunks == 1
