"""`index`, `status`, `search`, `collections`, `rm`, `repair`, `export`, `import`, as scripts see them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from selfrag.cli import run
from tests.cli.process import COMMAND, environment, selfrag

INDEX_KEYS = {"collection", "new", "updated", "moved", "unchanged", "removed", "skipped", "chunks", "seconds"}
PASSAGE_KEYS = ["title", "source", "lines", "page", "place", "chunk", "text", "headers", "score", "dense", "bm25"]


@pytest.fixture
def docs(home: Path, folder: Path) -> Path:
    """A folder of documents, and an embedder without a model."""
    (folder / "otter.md").write_text("---\ntopic: animals\n---\n# Otter\n\nThe otter swims in the river.\n")
    (folder / "badger.txt").write_text("The badger digs in the wood.")
    (folder / "empty.txt").write_text("")
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    status, out, err = call(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_index_json(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One document with exactly the keys of the contract, on stdout, and nothing on stderr."""
    document = call_json(capsys, "index", docs)
    assert document.keys() == INDEX_KEYS
    assert (document["collection"], document["new"], document["chunks"]) == ("default", 2, 2)
    assert document["skipped"] == [{"path": str(docs / "empty.txt"), "reason": "empty"}]


def test_the_graph_finds_the_second_passage_until_its_file_is_gone(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A question that names a film and asks for its director's birth finds the director's page with --graph alone, and no longer
    once the page is removed; what is left is found as before. --explain says that names led there."""
    (docs / "film.md").write_text("# Copper Bridge\n\nCopper Bridge is a film whose director is [Ada Winter](ada.md).\n")
    (docs / "ada.md").write_text("# Ada Winter\n\nLife began in Lyon on 3 May 1931.\n")
    for number in range(120):
        text = f"# Person{number}\n\nThe director was born on {number % 28 + 1} June {number + 1820}.\n"
        (docs / f"person{number}.md").write_text(text)
    call(capsys, "index", docs)

    asked = "When was the director of Copper Bridge born?"

    def titles(graph: str) -> set[str]:
        return {passage["title"] for passage in call_json(capsys, "search", asked, "-k", "4", "--graph", graph)["passages"]}

    assert "Copper Bridge" in titles("off")
    assert "Ada Winter" not in titles("off")
    assert titles("on") >= {"Copper Bridge", "Ada Winter"}
    assert "through names" in call(capsys, "search", asked, "-k", "4", "--graph", "auto", "--explain")[1]
    (docs / "ada.md").unlink()
    call(capsys, "index", docs)
    assert "Copper Bridge" in titles("on")
    assert "Ada Winter" not in titles("on")


def test_search_and_status_json(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The contract of both; the best passage first."""
    call(capsys, "index", docs, "-c", "zoo")
    document = call_json(capsys, "search", "otter swims", "-c", "zoo", "-k", "1")
    assert list(document) == ["query", "passages"]
    (passage,) = document["passages"]
    assert list(passage) == PASSAGE_KEYS
    assert (passage["title"], passage["source"], passage["lines"]) == ("Otter", str(docs / "otter.md"), [6, 6])
    explained = call_json(capsys, "search", "otter", "-c", "zoo", "--explain", "--where", "topic=animals")["passages"]
    assert [(each["title"], each["dense_rank"], each["bm25_rank"]) for each in explained] == [("Otter", 1, 1)]
    document = call_json(capsys, "status", "-c", "zoo")
    assert {"collection", "sources", "chunks", "vectors", "consistent", "fingerprint", "problems"} <= document.keys()
    assert (document["sources"], document["vectors"], document["consistent"], document["problems"]) == (2, 2, True, [])


def test_what_people_read(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line about the run, the reasons of what was skipped, and passages with path and line; no escapes."""
    status, out, _ = call(capsys, "index", docs)
    assert status == 0
    assert out.startswith("default: 2 new, 1 skipped; 2 chunks;")
    assert f"skipped  {docs / 'empty.txt'}: empty" in out
    _, out, _ = call(capsys, "search", "otter", "-k", "1", "--explain")
    assert f"1. Otter  {docs / 'otter.md'}:6" in out
    assert "rank 1" in out
    assert "\x1b" not in out
    assert "consistent" in call(capsys, "status")[1]
    assert "2 sources" in call(capsys, "collections")[1]
    assert "no source fits --source" in call(capsys, "search", "otter", "--source", "*.pdf")[2]


def test_dry_run_prints_the_plan(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be done, and no collection after it."""
    status, out, _ = call(capsys, "index", docs, "--dry-run")
    assert (status, f"new  {docs / 'badger.txt'}" in out, "would be: default: 3 new" in out) == (0, True, True)
    assert call_json(capsys, "collections") == {"collections": []}


def test_remove_and_repair(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A source, then the vectors, then all of it, which asks first."""
    call(capsys, "index", docs)
    assert call_json(capsys, "rm", docs / "badger.txt")["removed"] == [str(docs / "badger.txt")]
    assert call_json(capsys, "repair")["vectors"] == 1
    status, _, err = call(capsys, "rm")
    assert (status, "selfrag rm -c default --yes" in err) == (2, True)
    assert call_json(capsys, "rm", "--yes")["deleted"] is True
    status, _, err = call(capsys, "search", "otter")
    assert (status, "There is no collection 'default'" in err, "selfrag index PATH" in err) == (1, True, True)


def test_export_and_import(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file, and a collection of another name from it."""
    call(capsys, "index", docs)
    assert call_json(capsys, "export", tmp_path / "zoo.selfrag")["bytes"] > 0
    assert call_json(capsys, "import", tmp_path / "zoo.selfrag", "-c", "copy") == {"collection": "copy", "chunks": 2}
    assert call_json(capsys, "search", "otter", "-c", "copy", "-k", "1")["passages"][0]["title"] == "Otter"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["index", "/no/such/folder"], 1, "No such file or folder: /no/such/folder"),
        (["index"], 1, "There is no collection"),
        (["search", " "], 2, "empty"),
        (["search", "x", "-c", "../x"], 2, "cannot be the name"),
        (["search", "x", "--where", "topic"], 2, "key=value"),
        (["index", "--context", "llm", "."], 2, "instruct model"),
        (["status", "-c", "nothing"], 1, "There is no collection 'nothing'"),
    ],
)
def test_errors_say_what_and_how(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, says: str
) -> None:
    """What happened on stderr, nothing on stdout, the exit status of its kind, no traceback."""
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (status, "")
    assert says in err
    assert "Traceback" not in err


def test_another_embedder_names_the_command(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fingerprint that does not fit is refused with the command that mends it."""
    call(capsys, "index", docs)
    status, _, err = call(capsys, "index", docs, "--embedder", "hashing?dimension=32")
    assert (status, "selfrag index --rebuild" in err) == (1, True)
    assert call(capsys, "index", docs, "--embedder", "hashing?dimension=32", "--rebuild")[0] == 0
    assert call_json(capsys, "status")["fingerprint"]["dimension"] == 32


def test_unchanged_imports_nothing_heavy(docs: Path, home: Path) -> None:
    """A run that finds nothing to do, with the default embedder and without network, loads neither Chroma nor an embedder."""
    assert selfrag(home, "index", docs, SELFRAG_EMBEDDER="all-MiniLM-L6-v2").returncode == 0
    script = (
        "import sys; from selfrag.cli import run; run(['index', '--quiet'])\n"
        "heavy = {'chromadb', 'torch', 'onnxruntime', 'sentence_transformers', 'transformers'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([COMMAND[0], "-c", script], capture_output=True, text=True, env=environment(home), check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_watch_follows_changes_and_ends_on_ctrl_c(docs: Path, home: Path) -> None:
    """A line of JSON for the first run and for every burst of changes, which searches find then; Ctrl-C ends it cleanly."""
    process = subprocess.Popen(
        [*COMMAND, "index", str(docs), "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, SELFRAG_EMBEDDER="hashing", OMP_NUM_THREADS="1"),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    kill = threading.Timer(300, process.kill)
    kill.start()
    try:
        assert json.loads(process.stdout.readline())["new"] == 2
        assert "watching" in process.stderr.readline()
        for number in range(20):
            (docs / f"{number}.txt").write_text(f"Heron {number}.")
        runs = [json.loads(process.stdout.readline())]
        while sum(done["new"] for done in runs) < 20:
            runs.append(json.loads(process.stdout.readline()))
        assert len(runs) < 20
        (docs / "7.txt").write_text("The pelican glides.")
        while not (changed := json.loads(process.stdout.readline()))["updated"]:
            continue
        assert changed["chunks"] == 22
        found = json.loads(selfrag(home, "search", "pelican glides", "-k", "1", "--json", SELFRAG_EMBEDDER="hashing").stdout)
        assert found["passages"][0]["source"] == str(docs / "7.txt")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) in (0, 130)
    finally:
        kill.cancel()
        process.kill()
    assert json.loads(selfrag(home, "status", "--json").stdout)["consistent"] is True


# --- what a person types ------------------------------------------------------------------------------------------------------


def test_an_empty_path_is_refused(docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable of a script never means the current folder."""
    monkeypatch.chdir(docs)
    for command in ("index", "rm"):
        status, out, err = call(capsys, command, "")
        assert (status, out) == (2, "")
        assert "a path is empty" in err


def test_an_argument_that_is_no_text_is_refused(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8 are a usage error, in words, for every command."""
    for arguments in (("search", "caf\udce9"), ("index", "latin1-\udce9.txt"), ("ask", "caf\udce9")):
        status, _, err = call(capsys, *arguments)
        assert status == 2
        assert "not valid UTF-8" in err
        assert "internal" not in err


def test_a_closed_output_is_an_error(docs: Path) -> None:
    """A result that nobody can read is not silently lost."""
    command = f"{COMMAND[0]} " + " ".join(COMMAND[1:]) + " search x >&-"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment(docs.parent))
    assert ended.returncode == 1
    assert "standard output is closed" in ended.stderr


@pytest.mark.parametrize("command", [["search", "otter"], ["status"], ["collections"], ["config", "show"]])
def test_a_reader_that_has_enough_is_no_error(docs: Path, home: Path, command: list[str]) -> None:
    """`| head` ends a command with 0 and without a word."""
    assert selfrag(home, "index", docs).returncode == 0
    with subprocess.Popen(
        [*COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(home)
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_words_that_begin_with_a_dash_are_a_question(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A negative number, and several words, are no option; an unknown option still is an error."""
    (docs / "cold.txt").write_text("At -5 degrees the pond freezes.")
    call(capsys, "index", docs)
    for query in ("-5 degrees", "-5", "--5 degrees of frost"):
        document = call_json(capsys, "search", query, "-k", "1")
        assert (document["query"], len(document["passages"])) == (query, 1)
    assert call(capsys, "search", "--frost")[0] == 2


def test_a_source_is_named_as_it_is_printed(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path of a result, with the line behind it, names that source, whatever characters are in it."""
    odd = docs / "a[1] b*.txt"
    odd.write_text("The otter swims in the lake.")
    call(capsys, "index", docs)
    for source in (str(odd), f"{odd}:1"):
        document = call_json(capsys, "search", "otter", "--source", source)
        assert [passage["source"] for passage in document["passages"]] == [str(odd)]


def test_names_stand_on_one_line(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newline in a name is written as such, a tab stays, and no escape reaches the terminal."""
    (docs / "new\nline.txt").write_text("The stork Anton nests on the church.")
    (docs / "tab\tname.txt").write_text("The crane Ulla dances in spring.")
    (docs / "esc\x1b[31mred.txt").write_text("The wren Zoe sings in the hedge.")
    call(capsys, "index", docs)
    out = "".join(call(capsys, "search", query)[1] for query in ("stork Anton", "crane Ulla", "wren Zoe"))
    assert "new\\nline.txt:1" in out
    assert "tab\tname.txt:1" in out
    assert "\x1b" not in out


def test_duplicates_say_what_they_stand_for(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A passage names the sources that say nearly the same, in text and in JSON."""
    (docs / "again.txt").write_text("The badger digs in the wood.")
    call(capsys, "index", docs)
    passage = call_json(capsys, "search", "badger digs")["passages"][0]
    (twin,) = passage["duplicates"]
    assert {passage["source"], twin["source"]} == {str(docs / "again.txt"), str(docs / "badger.txt")}
    assert f"nearly the same: {twin['source']}:1" in call(capsys, "search", "badger digs")[1]


def test_what_was_guessed_is_noted(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in another encoding is read, and that it was a guess is said."""
    (docs / "old.txt").write_bytes("Der Preis beträgt 40 £ für Müller.".encode("cp1252"))
    (docs / ".gitignore").write_text("*.log\n")
    (docs / "x.log").write_text("text")
    out = call(capsys, "index", docs)[1]
    assert f"note  {docs / 'old.txt'}: not UTF-8, read as cp1252" in out
    assert f"note  {docs / '.gitignore'}: left out 1 file" in out
