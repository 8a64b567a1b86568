from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from selfrag.errors import InputError
from selfrag.ingest import Limits
from selfrag.ingest.given import read_given
from selfrag.ingest.kinds import suffix_of

CASES = Path(__file__).parent / "cases"
PAGE = "<html><nav>Home</nav><main><h1>Tides</h1><p>High water is at six. {}</p></main></html>".format("More of it. " * 30)


class Server(BaseHTTPRequestHandler):
    """Pages by path: type and content."""

    pages: ClassVar = {
        "/tides": ("text/html; charset=utf-8", PAGE.encode()),
        "/old.txt": ("text/plain; charset=iso-8859-2", "Řeka".encode("iso8859-2")),
        "/lease.docx": ("application/octet-stream", (CASES / "02-docx-tracked/tracked.docx").read_bytes()),
        "/large": ("text/plain", b"word " * 100_000),
        "/notes.md": ("text/plain", b"# Notes\n\nOne note."),
    }

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/tides")
            self.end_headers()
            return
        kind, content = self.pages.get(self.path, ("text/plain", b""))
        self.send_response(200 if self.path in self.pages else 404)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_pages_are_read_by_their_type_or_their_name(site: str) -> None:
    """Of a page the main content, of another file what its reader gives; redirects are followed."""
    for path in ("/tides", "/moved"):
        page = read_given(site + path)
        assert (page.title, page.reader) == ("Tides", "html")
        assert "Home" not in page.text
    assert "seven weeks" in read_given(f"{site}/lease.docx").text
    assert read_given(f"{site}/old.txt").text == "Řeka"
    assert read_given(f"{site}/notes.md").reader == "markdown"


def test_pages_that_cannot_be_read_say_why(site: str) -> None:
    """The answer of the server, the size, and an address where nobody answers, each with the address."""
    with pytest.raises(InputError, match=r"/none cannot be read: the server answers 404"):
        read_given(f"{site}/none")
    with pytest.raises(InputError, match="more than 0 MiB"):
        read_given(f"{site}/large", limits=Limits(bytes=1000))
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/x cannot be read: .*refused"):
        read_given("http://127.0.0.1:9/x")


def test_stdin_is_read_by_its_content() -> None:
    """A document in a pipe has no name: its first bytes say what it is, text otherwise."""
    for name, suffix in (
        ("02-docx-tracked/tracked.docx", ".docx"),
        ("28-office-formats/slides.pptx", ".pptx"),
        ("28-office-formats/tariffs.xlsx", ".xlsx"),
        ("28-office-formats/minutes.odt", ".odt"),
        ("07-pdf-form/form.pdf", ".pdf"),
        ("27-rtf-vcf-tex-xml/letter.rtf", ".rtf"),
    ):
        data = (CASES / name).read_bytes()
        assert suffix_of(data) == suffix
        assert read_given("-", io.BytesIO(data)).text.strip()
    assert read_given("-", io.BytesIO(b"disk sda failed\n")).text == "disk sda failed\n"
    with pytest.raises(InputError, match="stdin cannot be read: empty"):
        read_given("-", io.BytesIO())


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    """A file that is not there, and a folder, which is to be indexed."""
    with pytest.raises(InputError, match="there is no such file"):
        read_given(str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="it is a folder") as refused:
        read_given(str(tmp_path))
    assert refused.value.hint == f"selfrag index {tmp_path}"
