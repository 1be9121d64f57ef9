"""A proxy on loopback that records what it is asked, and a certificate for a server of the tests.

with Proxy({"192.0.2.7:443": ("127.0.0.1", port)}) as proxy:
    ...  # proxy.url, proxy.heads, proxy.passed
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Self


class Listener(ABC):
    """Takes connections on loopback, each in a thread of its own, as long as the context lasts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def place(self) -> tuple[str, int]:
        return "127.0.0.1", self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @abstractmethod
    def _serve(self, connection: socket.socket) -> None:
        """What is done with a connection."""


class Proxy(Listener):
    """Connects (CONNECT) and forwards (``GET http://...``) to the places that stand for the hosts it is asked for.

    Parameters
    ----------
    places : dict
        From ``"host:port"`` to what is connected to instead; another is answered by 502.
    refusal : str, optional
        The status line with which all is refused.

    Attributes
    ----------
    heads : list of str
        Each request to the proxy itself, with its headers.
    passed : bytearray
        All that went through it towards servers.
    """

    def __init__(self, places: Mapping[str, tuple[str, int]] | None = None, *, refusal: str | None = None) -> None:
        super().__init__()
        self.places = dict(places or {})
        self.refusal = refusal
        self.heads: list[str] = []
        self.passed = bytearray()

    @property
    def url(self) -> str:
        host, port = self.place
        return f"http://{host}:{port}"

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                chunk = client.recv(65536)
                if not chunk:
                    return
                received += chunk
            head = received.partition(b"\r\n\r\n")[0].decode("latin-1")
            self.heads.append(head)
            method, target, _ = head.partition("\r\n")[0].split(" ")
            place = self.places.get(target if method == "CONNECT" else target.partition("://")[2].partition("/")[0])
            if self.refusal is not None or place is None:
                client.sendall(f"HTTP/1.1 {self.refusal or '502 Bad Gateway'}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            with socket.create_connection(place) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = "/" + target.partition("://")[2].partition("/")[2]
                    sent = received.replace(target.encode(), path.encode(), 1)
                    self.passed += sent
                    server.sendall(sent)
                self._tunnel(client, server)

    def _tunnel(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for ready in select.select([client, server], [], [], 10)[0] or [client]:
                chunk = ready.recv(65536)
                if not chunk:
                    return
                if ready is client:
                    self.passed += chunk
                (server if ready is client else client).sendall(chunk)


def certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for an address, as a file to trust, and the context of a server that has its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted = folder / "trusted.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return trusted, context


class Tls(Listener):
    """TLS in front of a server on loopback."""

    def __init__(self, context: ssl.SSLContext, place: tuple[str, int]) -> None:
        super().__init__()
        self._context, self._place = context, place

    def _serve(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(self._place) as server,
        ):
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            self._copy(client, server)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
