"""A port for a program that cannot be given port 0."""

import secrets
import socket

_FIRST, _COUNT = 20_000, 12_000
"""Below what Linux gives to those who ask for any port: nobody takes one of these by accident."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody has."""
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
