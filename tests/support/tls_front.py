"""TLS before a program on this machine that speaks plainly, as a hospital's reverse proxy stands before Orthanc."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer

from support.certificates import Pair


def carry(source: socket.socket, to: socket.socket) -> None:
    """Everything that comes, until either side ends."""
    with suppress(OSError):
        while piece := source.recv(65536):
            to.sendall(piece)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_front(pair: Pair, target: int) -> Iterator[int]:
    """The port of 127.0.0.1 that shows `pair` and passes on to the port `target`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    class Front(BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as secured,
                socket.create_connection(("127.0.0.1", target)) as behind,
            ):
                back = threading.Thread(target=carry, args=(behind, secured))
                back.start()
                carry(secured, behind)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Front) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
