"""Put before everything else on the path of a process: it can reach no address, this machine's own included."""

from __future__ import annotations

import socket
from typing import Any, NoReturn


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError("the network is forbidden in this test")


socket.getaddrinfo = _refuse
_connect = socket.socket.connect


def _connect_local(self: socket.socket, address: Any) -> None:
    if self.family != getattr(socket, "AF_UNIX", None):
        _refuse()
    _connect(self, address)


socket.socket.connect = _connect_local  # type: ignore[method-assign]
socket.socket.connect_ex = _refuse  # type: ignore[method-assign,assignment]
