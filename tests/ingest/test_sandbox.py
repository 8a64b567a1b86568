from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path, PurePath

import docx
import pypdf
import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import sandbox_worker
from selfrag.ingest.sandbox import Worker

pytestmark = pytest.mark.slow

MIXED = Path(__file__).parents[2] / "corpora" / "mixed"


def test_pdf_pages() -> None:
    """Text is cited by page, no chunk crosses one, and lines broken for width are joined."""
    document = ingest.read(MIXED / "planets.pdf")
    chunks = ingest.split(document)
    assert document.title == "The planets"
    assert len(document.pages) == 8
    assert [chunk.page for chunk in chunks] == list(range(1, 9))
    assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert "the smallest in the Solar System" in chunks[1].text
    assert chunks[1].lines[0] == 1


def test_pdf_with_a_password() -> None:
    """An encrypted file is refused as such; one without a user password is read."""
    for password, readable in (("", True), ("secret", False)):
        writer = pypdf.PdfWriter(clone_from=MIXED / "planets.pdf")
        writer.encrypt(password, "owner", algorithm="RC4-128")
        out = io.BytesIO()
        writer.write(out)
        if readable:
            assert ingest.parse(Path("a.pdf"), out.getvalue()).pages
        else:
            with pytest.raises(InputError, match="needs a password"):
                ingest.parse(Path("a.pdf"), out.getvalue())


def test_pdf_without_text() -> None:
    """A scan is told that it needs text recognition."""
    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(InputError, match="OCR"):
        ingest.parse(Path("a.pdf"), out.getvalue())


def test_docx_headings_tables_and_paragraph_numbers() -> None:
    """Headings, paragraphs and table rows come in order; a citation names the paragraphs, not lines."""
    document = ingest.read(MIXED / "drinks.docx")
    assert document.title == "Drinks of the world"
    assert "Beer | malted cereal grains" in document.text
    beer = next(chunk for chunk in ingest.split(document) if chunk.headings == ("Beer",))
    assert (beer.lines, beer.place) == (None, "¶9")
    assert document.text[beer.start : beer.end] == beer.text


def test_docx_bomb() -> None:
    """An archive that unpacks to gigabytes is refused before it is unpacked."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as part:
        for _ in range(300):
            part.write(bytes(2**20))
    assert len(out.getvalue()) < 2**20
    with pytest.raises(InputError, match="unpacks to 300 MiB"):
        ingest.parse(Path("a.docx"), out.getvalue())


def test_docx_entities_do_not_multiply() -> None:
    """Entities that expand to gigabytes (the billion laughs) are an error of the file."""
    out, source = io.BytesIO(), io.BytesIO()
    docx.Document().save(source)
    laughs = "".join(f"<!ENTITY e{n} '{ten}'>" for n in range(1, 12) for ten in [f"&e{n - 1};" * 10])
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                data = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{laughs}]><x>&e11;</x>'.encode()
            new.writestr(name, data)
    with pytest.raises(InputError):
        ingest.parse(Path("a.docx"), out.getvalue())


def test_html_lines_and_furniture() -> None:
    """Text is cited by its line in the page; navigation, scripts and footers are left out."""
    document = ingest.read(MIXED / "bridges.html")
    lines = (MIXED / "bridges.html").read_text().split("\n")
    assert "Home" not in document.text
    assert "CC BY-SA" not in document.text
    for offset, line in document.anchors:
        words = document.text[offset:].split("\n")[0]
        assert words[:20] in lines[line - 1]


def test_html_blocks() -> None:
    """Inline tags do not break words; items and rows keep together; entities are characters."""
    page = b"<p>One <b>two</b>th&eacute;<br>next</p><ul><li>a<li>b</ul><table><tr><td>x<td>y</table>tail"
    assert ingest.parse(Path("a.html"), page).text == "One twothé\n\nnext\na\nb\n\nx | y\n\ntail".replace("\n\nnext", "\nnext")


@pytest.mark.parametrize(
    "page",
    [b"<div>" * 100_000 + b"deep", b"<b>" * 50_000 + b"x", b"<table><tr><td>" * 5_000 + b"x", b"<p " + b"a=1 " * 100_000 + b">x"],
)
def test_pathological_html_ends(page: bytes) -> None:
    """Pages that nest without end are read or refused, soon."""
    with contextlib.suppress(InputError):
        ingest.split(ingest.parse(Path("a.html"), page))


def test_html_in_another_encoding() -> None:
    """The page's own declaration counts, and the bytes where it lies."""
    assert "Köln" in ingest.parse(Path("a.html"), '<meta charset="latin-1"><p>Köln'.encode("latin-1")).text
    assert "한글" in ingest.parse(Path("a.html"), '<meta charset="ascii"><p>한글'.encode()).text


def test_a_parser_that_dies_is_a_reason_and_is_replaced() -> None:
    """When the reading process dies, its file is refused and the next one is read by a new process."""
    worker = Worker()
    limits = ingest.Limits()
    data = (MIXED / "drinks.docx").read_bytes()
    assert worker.read("docx", PurePath("a.docx"), data, limits).text
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    assert worker.read("docx", PurePath("a.docx"), data, limits).text
    worker.close()


def test_a_parser_that_hangs_is_stopped() -> None:
    """A file whose time is up is refused, and the next one is read."""
    worker = Worker()
    data = (MIXED / "planets.pdf").read_bytes()
    with pytest.raises(InputError, match="took longer"):
        worker.read("pdf", PurePath("a.pdf"), data, _NoTime())
    assert worker.read("pdf", PurePath("a.pdf"), data, ingest.Limits()).pages
    worker.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of processor time there")
def test_the_limit_is_of_work_not_of_waiting() -> None:
    """A parser that works on and on is stopped by its own clock; a busy machine stops nobody."""
    worker = Worker()
    page = b"<p>" + b"<b>x</b> <i>y</i>" * 400_000
    with pytest.raises(InputError, match="took longer"):
        worker.read("html", PurePath("a.html"), page, ingest.Limits(seconds=0.1 - 4 * len(page) / 2**20))
    assert worker.read("html", PurePath("a.html"), b"<p>x", ingest.Limits()).text == "x"
    worker.close()


class _NoTime(ingest.Limits):
    def time(self, size: int) -> float:
        return 0.0


def test_the_reading_process_ends_with_its_parent() -> None:
    """However the program ends, no process is left behind."""
    code = (
        "import os, sys; from pathlib import Path; from selfrag import ingest; from selfrag.ingest import sandbox;"
        "ingest.parse(Path('a.html'), b'<p>x'); print(sandbox._WORKER._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    child = int(done.stdout)
    for _ in range(200):
        if not _alive(child):
            break
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_parser_in_rust_that_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its panic, which is no Exception, is the file's error; what ends a process still does."""

    class PanicException(BaseException):
        pass

    def panics(*_: object) -> ingest.Document:
        raise raised

    monkeypatch.setattr(sandbox_worker, "named", lambda name: panics)
    raised: BaseException = PanicException("no entry found for key")
    found = sandbox_worker._answer("x", "a.xlsb", b"x", ingest.Limits())
    assert found == "damaged, or of a kind that its parser does not know: no entry found for key"
    raised = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sandbox_worker._answer("x", "a.xlsb", b"x", ingest.Limits())
