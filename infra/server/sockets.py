"""What the system keeps of an answer that its client has not taken."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress


def bound_system_buffer(transport: asyncio.Transport, size: int) -> None:
    """Ask the system to keep about so much for a client, at most; by itself it would keep megabytes.

    Args:
        transport: of the connection.
        size: in bytes.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # the client has gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the system has taken for this connection, and its other end has not; 0 where nobody tells.

    Source: https://man7.org/linux/man-pages/man7/tcp.7.html (SIOCOUTQ, which is the number of TIOCOUTQ)
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0
    try:
        told = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    (count,) = struct.unpack("i", told)
    return int(count)
