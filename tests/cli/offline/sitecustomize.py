"""Put before everything else on the path of a process: it can reach no address, this machine's own included.

With LOOPBACK=1 in the environment, for the tests of services, it reaches this machine alone.
"""

from __future__ import annotations

import os
import socket
from typing import Any, NoReturn

_LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0") if os.environ.get("LOOPBACK") else ()


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError("the network is forbidden in this test")


_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _getaddrinfo_local(host: Any, *more: Any, **named: Any) -> Any:
    return _getaddrinfo(host, *more, **named) if host in _LOOPBACK else _refuse()


def _connect_local(self: socket.socket, address: Any) -> None:
    if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in _LOOPBACK:
        _refuse()
    _connect(self, address)


socket.getaddrinfo = _getaddrinfo_local
socket.socket.connect = _connect_local  # type: ignore[method-assign]
socket.socket.connect_ex = _refuse  # type: ignore[method-assign,assignment]
