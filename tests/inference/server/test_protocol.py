"""Connections that are slow, silent, broken or too many end, and are told why."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

from detnet.inference.server.refusals import HEADERS
from tests.inference.server.bright import BrightEngine
from tests.inference.server.conftest import Served, wait_for

Serve = Callable[..., Served]
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'


def refused(answer: bytes, status: int) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    told = json.loads(body)
    assert told["status"] == status
    for name in HEADERS:
        assert f"\r\n{name}: ".encode() in head
    return str(told["reason"])


NO_HTTP = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n", 400),
    (b"GET / HTTP/9\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 900_000 + b"\r\n\r\n", 400),
    (b"GET /" + b"a" * 900_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
]


def test_what_is_no_http_is_told_so(serve: Serve) -> None:
    served = serve(linger_s=0.2)
    for data, status in NO_HTTP:
        refused(served.raw(data), status)
    assert served.client.get("/health").status_code == 200


def test_a_header_that_does_not_end_is_not_waited_for(serve: Serve) -> None:
    served = serve(header_s=0.3)
    start = time.monotonic()
    reason = refused(served.raw(b"GET / HTTP/1.1\r\nHost: "), 408)
    assert "0.3 s" in reason and time.monotonic() - start < 5
    assert served.raw(b"") == b""  # one that says nothing is closed


def test_dribbling_does_not_help(serve: Serve) -> None:
    served = serve(header_s=0.4, linger_s=0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET / HTTP/1.1\r\nHost: " + b"a" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - start < 3


def test_a_body_that_does_not_arrive_is_not_waited_for(serve: Serve) -> None:
    served = serve(body_s=0.3)
    for length in (
        b"Content-Length: 900\r\n\r\n--b",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n--b",
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(HEAD + length)
            start = time.monotonic()
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - start < 5


def test_a_body_too_large_is_refused_before_it_is_read(serve: Serve) -> None:
    served = serve(max_body=1000)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(HEAD + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")  # and no 100


def chunks(size: int) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    yield b"%x\r\n%s\r\n" % (len(PART), PART)
    for _ in range(size // 500):
        yield b"1f4\r\n" + b"a" * 500 + b"\r\n"


def test_a_body_without_a_length_is_bounded_as_it_arrives(serve: Serve) -> None:
    served = serve(max_body=1000, linger_s=0.3)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        start, answer = time.monotonic(), b""
        connection.settimeout(0.05)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for data in chunks(10_000_000):
                connection.sendall(data)
                with contextlib.suppress(TimeoutError):
                    answer += connection.recv(4096)
        assert b"HTTP/1.1 413 " in answer
        assert time.monotonic() - start < 5  # the rest of it was not listened to for long


def test_connections_are_counted(serve: Serve) -> None:
    served = serve(connections=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        wait_for(lambda: len(served.server.server_state.connections) == 3)
        assert "too many connections" in refused(served.raw(b"GET / HTTP/1.1\r\n"), 503)
    wait_for(lambda: not served.server.server_state.connections)
    assert served.client.get("/health").status_code == 200


def test_a_client_that_does_not_read_is_let_go(serve: Serve, picture: bytes) -> None:
    served = serve(engine=BrightEngine(), write_s=0.3)
    request = b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with contextlib.suppress(OSError):
            connection.sendall(request * 2000)
        wait_for(lambda: not served.server.server_state.connections)


def test_connections_are_kept_for_the_next_request(serve: Serve, picture: bytes) -> None:
    served = serve()
    for _ in range(3):
        assert served.predict(picture).status_code == 200
        assert served.predict(b"text").status_code == 415
    assert len(served.server.server_state.connections) == 1
