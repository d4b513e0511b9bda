"""What a release asks, answered by servers that are not what they should be."""

import io
import json
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from lesion.serve.metrics import Metrics
from tests.deploy.conftest import DEPLOY, DIGESTS

sys.path.insert(0, str(DEPLOY))
from probe import Site, check_answer, draw_image  # deploy/ is a folder of programs, not a package

DIGEST = DIGESTS["tiny"]
SHARES = {"benign": 0.75, "malignant": 0.25}
GOOD = {"prediction": "benign", "confidence": 0.75, "class_probabilities": SHARES, "model": f"m@{DIGEST[:12]}"}


@contextmanager
def serving(status: int, body: bytes, **headers: str) -> Iterator[tuple[Site, list[str]]]:
    """A site that answers everything alike, and what it was asked with."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('authorization')}")
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_port}", "secret", DIGEST, 10), asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_good_answer_has_nothing_wrong() -> None:
    with serving(200, json.dumps(GOOD).encode()) as (site, asked):
        assert site.ask() == ""
    assert asked == ["POST /v1/predict Bearer secret"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": "refer"}, "prediction: 'refer'"),
        ({"confidence": None}, "probabilities outside 0 to 1"),
        ({"confidence": math.nan}, "probabilities outside 0 to 1"),
        ({"class_probabilities": {"benign": 0.75, "malignant": 0.75}}, "do not add up"),
        ({"class_probabilities": {"benign": 1}}, "class_probabilities: {'benign': 1}"),
        ({"class_probabilities": {"benign": "1", "malignant": 0}}, "probabilities outside 0 to 1"),
        ({"model": "m@000000000000"}, "answered by m@000000000000"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(change: dict[str, Any], said: str) -> None:
    assert said in check_answer({**GOOD, **change}, DIGEST)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b"null"])
def test_what_is_no_json_object_is_wrong(body: bytes) -> None:
    with serving(200, body) as (site, _):
        assert site.ask()
        assert site.check_model()


def test_the_token_follows_no_redirect() -> None:
    with serving(200, b"{}") as (other, elsewhere), serving(302, b"", location=other.url) as (site, _):
        assert site.check_model() == "HTTP 302"
    assert elsewhere == []


def test_a_stranger_sends_no_token_and_must_get_401() -> None:
    with serving(401, b"{}") as (site, asked):
        assert site.check_strangers() == ""
    assert asked == ["POST /v1/predict None"]
    with serving(200, b"{}") as (site, _):
        assert "answers 200, expected 401" in site.check_strangers()


def test_whoever_does_not_answer_is_said_to() -> None:
    with serving(200, b"{}") as (site, _):
        pass
    assert site.ask().startswith("no answer ConnectionRefusedError")
    assert not site.reached


def test_the_metrics_of_the_server_are_understood() -> None:
    metrics = Metrics()
    for route, status, times in (
        ("/v1/predict", 200, 5),
        ("/predict/batch", 503, 2),
        ("/readyz", 503, 9),
        ("/model", 500, 1),
    ):
        for _ in range(times):
            metrics.count_request(route, "POST", status)
    with serving(200, metrics.render()[0]) as (site, _):
        assert site.read_metrics() == ""
    assert (site.served, site.failed) == (7, 2)


def test_the_drawn_image_is_one() -> None:
    image = Image.open(io.BytesIO(draw_image()))
    image.load()
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (96, 96))
