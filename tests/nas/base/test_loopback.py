"""A page that this machine alone can read."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from wsgiref.util import setup_testing_defaults

import pytest

from nas.base import loopback


def page(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def asked(host, method="GET"):
    """The status that a page on port 8000 gives, and its text."""
    environ, seen = {"HTTP_HOST": host, "REQUEST_METHOD": method}, []
    setup_testing_defaults(environ)
    text = b"".join(loopback.reading(page, 8000)(environ, lambda status, _headers: seen.append(status)))
    return seen[0].split()[0], text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000"])
def test_it_is_read_by_this_machine_s_own_names(host):
    assert asked(host) == ("200", b"hello")
    assert asked(host, "HEAD")[0] == "200"


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1:9000", "127.0.0.1", "127.0.0.1:8000.evil.example", ""]
)
def test_other_names_are_refused(host):
    status, text = asked(host)
    assert (status, b"hello" in text) == ("403", False)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_is_changed_by_it(method):
    status, text = asked("127.0.0.1:8000", method)
    assert (status, b"hello" in text) == ("405", False)


def test_it_is_served_on_loopback_and_says_where(monkeypatch):
    answers, bound = [], []

    def answer_two(server):
        bound.append(server.socket.getsockname()[0])
        for _ in range(2):
            server.handle_request()

    def read(address):
        for request in (address, urllib.request.Request(address, headers={"Host": "evil.example"})):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answers.append((answer.status, answer.read()))
            except urllib.error.HTTPError as error:
                with error:
                    answers.append((error.code, b""))

    clients = []

    def started(address):
        clients.append(threading.Thread(target=read, args=(address,)))
        clients[0].start()

    monkeypatch.setattr(loopback._Server, "serve_forever", answer_two)
    monkeypatch.setattr(loopback._Server, "daemon_threads", False)  # so that the test ends after its answers
    loopback.serve(page, 0, started)
    clients[0].join()
    assert (bound, answers) == (["127.0.0.1"], [(200, b"hello"), (403, b"")])


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind((loopback.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"^cannot serve on 127\.0\.0\.1:{port}: .*; --port takes another one$"):
            loopback.serve(page, port, print)
