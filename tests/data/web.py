"""A web server on loopback that misbehaves as it is told."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Web:
    """Paths, what they hold, what they do first, and what was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    """What the next requests for a path get instead of the file, one each."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) in order."""
    headers: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}{path}"

    def put(self, path: str, content: bytes, *faults: Answer) -> str:
        self.files[path] = content
        self.faults[path] = list(faults)
        return self.url(path)


class Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.web.requests.append((self.path, asked))
        self.web.headers.append(dict(self.headers))
        faults = self.web.faults.get(self.path)
        if faults:
            faults.pop(0)(self)
        elif self.path in self.web.files:
            self.give(self.web.files[self.path])
        else:
            self.refuse(404)

    @property
    def start(self) -> int:
        asked = self.headers.get("Range", "")
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def give(self, content: bytes, stop: int | None = None) -> None:
        """The file from where it was asked, honestly; `stop`: hang up after so many bytes of it."""
        start = self.start
        if start >= len(content) and start:
            self.refuse(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.say(206 if start else 200, headers, content[start:stop])

    def refuse(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.say(code, {"Content-Length": "0", **(headers or {})}, b"")

    def say(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *words: object) -> None:  # a client that hangs up is no news
        pass


@contextmanager
def run_web() -> Iterator[Web]:
    web = Web()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"web": web}))
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.refuse(code, named)


def break_at(stop: int) -> Answer:
    return lambda handler: handler.give(handler.web.files[handler.path], stop)


def send(content: bytes, code: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.say(code, named, content)


def ignore_range(handler: Handler) -> None:
    content = handler.web.files[handler.path]
    handler.say(200, {"Content-Length": str(len(content))}, content)


def stall(seconds: float) -> Answer:
    def answer(handler: Handler) -> None:
        content = handler.web.files[handler.path]
        handler.say(200, {"Content-Length": str(len(content))}, content[:10])
        time.sleep(seconds)

    return answer


def pour(chunk: bytes, pause_s: float = 0.0) -> Answer:
    """Send `chunk` again and again, without a Content-Length, until the client hangs up."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.say(200, {"Connection": "close"}, b"")
        with suppress(OSError):
            while True:
                handler.wfile.write(chunk)
                time.sleep(pause_s)

    return answer


def go_to(url: str) -> Answer:
    return status(302, Location=url)
