"""A syslog collector over TLS (RFC 5425) on a real socket."""

import socket
import ssl
import threading

from support.certificates import Authority


class Collector:
    """A syslog collector over TLS that asks for a certificate; keeps what came."""

    def __init__(self, authority: Authority) -> None:
        pair = authority.issue("collector")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        self.context.load_verify_locations(authority.ca)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.frames: list[bytes] = []
        self.thread = threading.Thread(target=self.take)
        self.thread.start()

    def take(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            with plain:
                try:
                    with self.context.wrap_socket(plain, server_side=True) as secured, secured.makefile("rb") as stream:
                        while length := read_length(stream):
                            self.frames.append(stream.read(length))
                except (ssl.SSLError, ConnectionError):
                    continue

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60)


def read_length(stream: object) -> int:
    digits = b""
    while (byte := stream.read(1)) not in (b" ", b""):  # type: ignore[attr-defined]
        digits += byte
    return int(digits or 0)
