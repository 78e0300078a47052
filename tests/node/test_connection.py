"""A stranger's connection: the head of a request is bounded in size and in time, before anybody is asked who is there."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from support.pages import serving
from support.results import prepare

from radnode.settings import Settings, Web
from radnode.web import app, connection
from radnode.web.connection import MOST, Bounded

MB = 1 << 20


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(connection, "LONGEST_S", 600.0)
    settings = Settings(data=tmp_path)
    prepare(settings).close()
    with serving(settings) as made:
        yield made


def opened(client: httpx.Client) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", client.base_url.port or 0), 60)
    made.settimeout(60)
    return made


def test_the_page_is_served_so() -> None:
    assert app.configuration(Settings(web=Web(port=0))).http_protocol_class is Bounded


def test_a_header_without_end_is_cut_off_and_not_kept(client: httpx.Client) -> None:
    with opened(client) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        sent, answer = 0, b""
        try:
            while sent < 64 * MB:
                caller.sendall(b"a" * MB)
                sent += MB
            answer = caller.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert sent < 64 * MB
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("head", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: slow"])
def test_a_request_that_is_not_headed_in_time_is_not_waited_for(
    client: httpx.Client, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LONGEST_S", 0.5)
    with opened(client) as caller, suppress(ConnectionResetError, BrokenPipeError):  # a slow caller: it had hung up
        caller.sendall(head)
        assert caller.recv(100) == b"", "the node hangs up"


def test_requests_one_after_another_and_long_bodies_are_served_as_ever(client: httpx.Client) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * (MOST // 2) + b"\r\n\r\n"
    with opened(client) as caller:
        for _ in range(4):  # each of them is shorter than the limit, all together longer
            caller.sendall(ask)
            answer = b""
            while b"ok\n" not in answer:
                piece = caller.recv(1000)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
    for _ in range(2):
        assert client.post("/upload", content=b"x" * 8 * MB).status_code == 200
