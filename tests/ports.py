"""Ports for the servers that tests start, reserved so that nobody else is given them meanwhile."""

from __future__ import annotations

import socket

_reserved: list[socket.socket] = []


def reserved_port() -> int:
    """A port of the loopback that nobody listens on, until somebody does who was told its number.

    A socket holds it for as long as this process lives, and never listens. So the kernel gives the number
    neither to a program that asks for any port nor to an outgoing connection, it refuses whoever connects,
    and it lets a server that was told the number listen there, again and again (SO_REUSEADDR, socket(7)).
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _reserved.append(holder)
    return int(holder.getsockname()[1])
