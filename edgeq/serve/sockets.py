"""Where a server listens: an address, a file, or a socket that somebody else opened."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass

from edgeq.errors import UsageError

UNIX = "unix:"
UNIX_MODE = 0o660
FIRST_FD = 3  # of those that systemd hands over


@dataclass
class Listener:
    """A bound socket. host: as `is_local` takes it; url: what to ask it under. handed: whether another
    process keeps it, and requests wait in it while this one starts anew."""

    socket: socket.socket
    host: str
    url: str
    unix: str | None = None
    handed: bool = False

    def close(self) -> None:
        self.socket.close()
        if self.unix is not None and not self.handed:
            with suppress(OSError):
                os.unlink(self.unix)


def is_local(host: str) -> bool:
    """Whether nobody but this machine reaches a host."""
    if host.startswith(UNIX) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def handed_over() -> int | None:
    """The file descriptor that systemd opened for this process, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    if count != "1":
        raise UsageError(f"{count or 'no'} sockets were handed over by systemd, but one is expected")
    return FIRST_FD


def listener(host: str, port: int, fd: int | None = None) -> Listener:
    """A socket that listens. UsageError where it cannot be had."""
    if fd is not None:
        return _handed(fd)
    if host.startswith(UNIX):
        return _unix(host.removeprefix(UNIX))
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host} is no address: {error}") from None
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise UsageError(
            f"port {port} of {host} cannot be had: {error.strerror}; --port takes another"
        ) from None
    opened.setblocking(False)
    bound = opened.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    return Listener(opened, host, f"http://{name}:{bound}")


def _unix(path: str) -> Listener:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):  # of a server that was killed; nothing else is removed
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                    try:
                        other.connect(path)
                    except OSError:
                        os.unlink(path)
        mask = os.umask(0o777 & ~UNIX_MODE)
        try:
            opened.bind(path)
        finally:
            os.umask(mask)
    except OSError as error:
        opened.close()
        raise UsageError(f"the socket {path} cannot be had: {error.strerror or error}") from None
    opened.setblocking(False)
    return Listener(opened, f"{UNIX}{path}", f"{UNIX}{path}", unix=path)


def _handed(fd: int) -> Listener:
    try:
        opened = socket.socket(fileno=os.dup(fd))
        name = opened.getsockname()
    except OSError as error:
        raise UsageError(f"--fd {fd} is no socket that listens: {error.strerror or error}") from None
    if opened.type != socket.SOCK_STREAM or opened.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        opened.close()
        raise UsageError(f"--fd {fd} is no TCP or Unix socket that listens")
    opened.setblocking(False)
    if opened.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return Listener(opened, f"{UNIX}{path}", f"{UNIX}{path}", unix=path, handed=True)
    host, port = name[:2]
    return Listener(opened, host, f"http://{f'[{host}]' if ':' in host else host}:{port}", handed=True)
