"""A server for benchmarks of clients: each request is answered after the same time, with what was prepared for its path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = {"error": {"message": "there is no such path"}}


class Answer(asyncio.Protocol):
    """Only as much of HTTP as clients of benchmarks need."""

    def __init__(self, replies: Mapping[str, bytes], latency: float) -> None:
        self._replies, self._latency = replies, latency
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            path = head.split(b" ", 2)[1].decode()
            reply = self._replies.get(path) or message("404 Not Found", MISSING)
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, reply)


def message(status: str, body: Any) -> bytes:
    """A reply as it is sent."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def run_server(bodies: Mapping[str, Any], latency: float, ports: Any) -> None:
    replies = {f"/v1{path}": message("200 OK", body) for path, body in bodies.items()}

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Answer(replies, latency), "127.0.0.1", 0, backlog=256
        )
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


@contextlib.contextmanager
def server_process(bodies: Mapping[str, Any], latency: float) -> Iterator[str]:
    """The server's address, in a process of its own.

    Parameters
    ----------
    bodies : mapping
        From a path after ``/v1`` to the JSON value of its replies; other paths are answered by 404.
    latency : float
        Seconds from a request to its reply.
    """
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=run_server, args=(bodies, latency, ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}/v1"
    finally:
        process.terminate()
        process.join()
