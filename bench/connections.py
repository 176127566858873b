"""What connections at rest cost a server: those that ask nothing, and those that read nothing."""

from __future__ import annotations

import http.client
import time

from bench.servers import Server, Stream, body, read_all

IDLE, UNREAD = 200, 4  # connections
END = 2  # the end token of `bench.weights` and of the bundled model


def idle_connection(server: Server) -> float:
    """Bytes of one that has had an answer and is kept open."""

    def opened(count: int) -> list[http.client.HTTPConnection]:
        found = []
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", "/health")
            connection.getresponse().read()
            found.append(connection)
        return found

    for connection in opened(5):  # what the first ones leave behind is no connection's
        connection.close()
    time.sleep(1)
    before = server.memory
    several = opened(IDLE)
    time.sleep(0.5)
    grown = server.memory - before
    for connection in several:
        connection.close()
    return grown / IDLE


def unread(server: Server) -> float:
    """Bytes of one, its text's pages left out; what other clients leave behind comes before."""
    asked = body([1], 400, END)
    read_all([Stream(server.port, asked) for _ in range(UNREAD)])
    time.sleep(1)
    before = held(server)
    clients = [Stream(server.port, asked, receive_bytes=4096) for _ in range(UNREAD)]
    time.sleep(4)
    grown = held(server) - before
    for client in clients:
        client.socket.close()
    return grown / UNREAD


def held(server: Server) -> float:
    """Bytes of the process, less those of pages."""
    pages = next(
        line for line in server.get("/metrics")[1].splitlines() if line.startswith("edgeq_cache_bytes ")
    )
    return server.memory - float(pages.split()[1])
