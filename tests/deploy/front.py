"""What stands before the revisions: sends each request to one of them, as the traffic of its region is split."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SKIPPED = {"connection", "content-length", "transfer-encoding", "date", "server", "keep-alive"}


@dataclass(frozen=True)
class Visit:
    """One request that went through."""

    region: str
    to: str
    """"service", or the tag that was asked."""
    revision: str
    percent: int
    """The revision's share of the traffic then."""
    method: str
    status: int


class Front(ThreadingHTTPServer):
    """Listens at `url`; /REGION/service and /REGION/TAG are the addresses of the services in state.json."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}"
        self.visits: list[Visit] = []
        self.sent: Counter[str] = Counter()
        """Images that each revision was asked about, by region and name."""
        self.lock = threading.Lock()
        self._credit: dict[str, Counter[str]] = {}

    def choose(self, state: dict[str, Any], region: str, to: str) -> tuple[str, int]:
        """The revision for a request, and its share; exactly the shares, in a smooth order."""
        targets = state["services"][region]["status"]["traffic"]
        shares = {each["revisionName"]: each["percent"] for each in targets if each.get("percent")}
        if to != "service":
            name = next(each["revisionName"] for each in targets if each.get("tag") == to)
            return name, shares.get(name, 0)
        with self.lock:
            credit = self._credit.setdefault(f"{region} {sorted(shares.items())}", Counter())
            credit.update(shares)
            name = max(shares, key=lambda each: credit[each])
            credit[name] -= 100
        return name, shares[name]

    def is_ill(self, image: dict[str, Any], region: str, revision: str) -> bool:
        """Count an image of a client; whether the revision has its fault by now."""
        with self.lock:
            self.sent[f"{region} {revision}"] += 1
            sick = self.sent[f"{region} {revision}"] > image.get("after", 0)
        return sick and image.get("region", region) == region


class Handler(BaseHTTPRequestHandler):
    """Passes one request on."""

    server: Front
    protocol_version = "HTTP/1.1"
    timeout = 60

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        _, region, to, path = self.path.split("/", 3)
        state = json.loads((self.server.folder / "state.json").read_text("utf-8"))
        try:
            revision, percent = self.server.choose(state, region, to)
        except (KeyError, StopIteration):
            self.reply(404, b"", {})
            return
        found = state["revisions"][region][revision]
        image = state["images"][found["image"]]
        ill = bool(body) and self.server.is_ill(image, region, revision)
        status, content, headers = self.visit(found["url"], path, body, image if ill else {}, image.get("open"))
        if path == "metrics" and percent > image.get("strained_at", 100):
            content = content.replace(b'status="2xx"} ', b'status="5xx"} ')  # what others asked was answered badly
        with self.server.lock:
            self.server.visits.append(Visit(region, to, revision, percent, self.command, status))
        self.reply(status, content, headers)

    def visit(
        self, url: str, path: str, body: bytes, fault: dict[str, Any], token: str | None
    ) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(fault.get("delay_s", 0))
        if "status" in fault:
            return fault["status"], b"{}", {}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in SKIPPED | {"host"}}
        if token:  # a server that asks nobody for one
            headers["authorization"] = f"Bearer {token}"
        connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
        try:
            connection.request(self.command, f"/{path}", body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        except (OSError, HTTPException):
            return 503, b"", {}
        finally:
            connection.close()

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in SKIPPED:
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = pass_on  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass
