"""The same on a Chroma server, started with `chroma run`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from selfrag.errors import CollectionError
from selfrag.index import maintenance
from tests.index.conftest import Place

CHROMA = shutil.which("chroma", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


class Server:
    """A `chroma run` on a free port; it can be stopped and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{self.port}", folder
        self.start()

    def start(self) -> None:
        command = [str(CHROMA), "run", "--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/api/v2/heartbeat").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError("the Chroma server does not answer")

    def collections(self) -> int:
        return len(httpx.get(f"{self.url}/api/v2/tenants/default_tenant/databases/default_database/collections").json())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if CHROMA is None:
        pytest.skip("the command `chroma` is not installed")
    running = Server(tmp_path_factory.mktemp("chroma"))
    yield running
    running.stop()


@pytest.fixture
def remote(place: Place, server: Server) -> Place:
    place.collection.chroma_url = server.url
    for name, text in {"a": "Otters swim.", "b": "Badgers dig.", "c": "Herons stand."}.items():
        place.write(f"{name}.txt", text)
    place.sync()
    return place


async def first(place: Place, query: str) -> str:
    return (await place.collection.search(query, 1))[0].title


async def test_vectors_live_on_the_server(remote: Place) -> None:
    """Indexed, searched and checked there; nothing of Chroma in the folder; the address is remembered."""
    assert await first(remote, "badgers dig") == "b"
    found = maintenance.status(remote.collection)
    assert (found.consistent, found.vectors, found.chroma) == (True, 3, remote.collection.chroma_url)
    assert not list(remote.collection.folder.rglob("chroma.sqlite3"))
    remote.collection = remote.open()
    assert await first(remote, "badgers dig") == "b"
    assert remote.collection.warnings == ()
    assert maintenance.status(remote.collection).chroma == found.chroma


async def test_edits_deletions_repair_and_removal(remote: Place, server: Server) -> None:
    """What changes in the folder changes on the server; a collection that is removed is gone there, too."""
    remote.write("a.txt", "Storks fly.")
    (remote.docs / "b.txt").unlink()
    assert remote.counts() == {"updated": 1, "removed": 1, "unchanged": 1}
    assert await first(remote, "storks fly") == "a"
    assert maintenance.repair(remote.collection) == 2
    assert maintenance.status(remote.collection).consistent
    assert await first(remote, "storks fly") == "a"
    before = server.collections()
    maintenance.delete(remote.collection)
    assert server.collections() == before - 1


async def test_a_server_that_is_down(remote: Place, server: Server) -> None:
    """Searches go on without it and say so, `status` names it, writing is refused and made up for when it is back; what mends it
    is a server that is started."""
    start = f"start the Chroma server {server.url}"
    server.stop()
    try:
        remote.collection.close()
        assert await first(remote, "badgers dig") == "b"
        assert "without Chroma" in remote.collection.warnings[0]
        assert remote.collection.warnings[0].endswith(f"no Chroma server answers at {server.url} → {start}")
        found = maintenance.status(remote.collection)
        assert (found.consistent, found.problems, found.mend) == (False, (f"no Chroma server answers at {server.url}",), start)
        remote.write("d.txt", "Storks fly.")
        with pytest.raises(CollectionError, match="vectors could not be written") as refused:
            remote.sync()
        assert refused.value.hint == start
        assert await first(remote, "storks fly") == "d"
    finally:
        server.start()
    remote.sync()
    assert maintenance.status(remote.collection).consistent


async def test_vectors_move_to_a_server_without_embedding(place: Place, server: Server) -> None:
    """A collection that was embedded in its folder is copied to the server by the next run."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.collection.chroma_url = server.url
    place.sync()
    assert maintenance.status(place.collection).consistent
    assert await first(place, "otters") == "a"
    assert len(place.embedder().embedded) == 1


def test_a_collection_whose_server_is_gone_can_be_removed(remote: Place, server: Server) -> None:
    """It is removed here, and what stays on the server is told."""
    server.stop()
    try:
        assert "stays there: The vectors could not be deleted: no Chroma server answers" in str(
            maintenance.delete(remote.collection)
        )
    finally:
        server.start()
    assert remote.collection.is_new()
