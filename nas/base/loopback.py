"""Serve a page on this machine alone, to read."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import WSGIServer
from wsgiref.simple_server import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

HOST = "127.0.0.1"
READS = ("GET", "HEAD")


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each connection in a thread: a browser opens some that it does not use yet."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Leaves no line on the terminal for each file of a page."""

    def log_message(self, format: str, *_args: object) -> None:
        """Say nothing."""


def serve(page: WSGIApplication, port: int, started: Callable[[str], None]) -> None:
    """Serve a page until Ctrl-C.

    Args:
        page: The application; what it is asked is read only (`reading`).
        port: Where to listen; 0 for any that is free.
        started: Is told the address when it answers.

    Raises:
        ValueError: If the port cannot be taken.
    """
    try:
        server = make_server(HOST, port, page, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise ValueError(f"cannot serve on {HOST}:{port}: {error.strerror}; --port takes another one") from None
    with server:
        server.set_app(reading(page, server.server_port))
        started(f"http://{HOST}:{server.server_port}/")
        server.serve_forever()


def reading(page: WSGIApplication, port: int) -> WSGIApplication:
    """Let a page be read, by whoever asks for this machine by its own name, and by no other way.

    A page on the web may give its own name the address 127.0.0.1 and then ask as if it were at home here (DNS
    rebinding): the name that the browser asked for gives it away.

    Args:
        page: The application.
        port: Where it is served.
    """
    names = (f"{HOST}:{port}", f"localhost:{port}")

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in names:
            return _refused(start_response, "403 Forbidden", f"expected a request to {names[0]}")
        if environ["REQUEST_METHOD"] not in READS:
            return _refused(
                start_response, "405 Method Not Allowed", "this page is to read: nothing in it can be changed"
            )
        return page(environ, start_response)

    return guarded


def _refused(start_response: StartResponse, status: str, reason: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reason}\n".encode()]
