"""Refusals from the head of a request: what the application would say, for less, and the connection goes on."""

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lesion.config.serving import ServeConfig
from lesion.serve.app import open_service
from lesion.serve.door import SAID, Door
from lesion.serve.service import Service
from lesion.serve.slot import Serving, Slot
from tests.serve.conftest import PICTURE
from tests.serve.test_connection import LIVEZ, POST, answer, read_all, running

SCOPE = {"headers": [(b"x-request-id", b"mine")], "client": ("203.0.113.9", 50_000)}
FULL = 1000
REQUEST = POST % len(PICTURE) + PICTURE


@dataclass
class Crowd:
    """A server that has no room as long as `load` says so."""

    address: tuple[str, int]
    service: Service

    def __post_init__(self) -> None:
        self.service.pipeline.load = FULL


@pytest.fixture(scope="module")
def server(tiny_serving: Serving) -> Iterator[tuple[tuple[str, int], Service]]:
    """A server in a thread."""
    with running(tiny_serving, ServeConfig(keep_alive_s=1)) as found:
        yield found


@pytest.fixture
def crowd(server: tuple[tuple[str, int], Service]) -> Iterator[Crowd]:
    yield Crowd(*server)
    server[1].pipeline.load = 0


def test_the_refusal_says_what_the_applications_says(crowd: Crowd) -> None:
    with socket.create_connection(crowd.address) as client:
        client.sendall(REQUEST.replace(b"Host: x", b"Host: x\r\nX-Request-Id: mine"))
        head, _, body = answer(client).partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    headers.pop("date", None)
    assert lines[0] == "http/1.1 503 service unavailable"
    assert headers == {
        "retry-after": headers["retry-after"],
        "content-length": str(len(body)),
        "content-type": "application/problem+json",
        "content-security-policy": headers["content-security-policy"],
        "x-content-type-options": "nosniff",
        "x-frame-options": "deny",
        "referrer-policy": "no-referrer",
        "x-request-id": "mine",
        "cache-control": "no-store",
    }
    assert body.startswith(
        b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "overloaded"'
    )
    assert body.endswith(b'"request_id": "mine"}')


def test_a_connection_outlives_a_refusal_whose_body_comes_later(crowd: Crowd) -> None:
    with socket.create_connection(crowd.address) as client:
        for _ in range(3):
            client.sendall(REQUEST[:-1000])
            assert answer(client).startswith(b"HTTP/1.1 503")
            client.sendall(REQUEST[-1000:-500])
            client.sendall(REQUEST[-500:])
        client.sendall(LIVEZ)
        assert answer(client).startswith(b"HTTP/1.1 200")
        crowd.service.pipeline.load = 0
        client.sendall(REQUEST)
        assert answer(client).startswith(b"HTTP/1.1 200")
        crowd.service.pipeline.load = FULL
        client.sendall(REQUEST)
        assert answer(client).startswith(b"HTTP/1.1 503")


def test_requests_in_one_piece_are_answered_in_turn(crowd: Crowd) -> None:
    with socket.create_connection(crowd.address) as client:
        client.sendall(REQUEST + LIVEZ + REQUEST * 2 + LIVEZ.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        said, _ = read_all(client)
    assert [piece[:3] for piece in said.split(b"HTTP/1.1 ")[1:]] == [b"503", b"200", b"503", b"503", b"200"]


@pytest.mark.parametrize(
    "request_",
    [REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close")],
)
def test_a_client_that_asks_for_the_end_gets_it(crowd: Crowd, request_: bytes) -> None:
    with socket.create_connection(crowd.address) as client:
        client.sendall(request_)
        said, _ = read_all(client)
    assert said.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in said.lower()


def test_an_idle_connection_is_closed_after_a_refusal(crowd: Crowd) -> None:
    with socket.create_connection(crowd.address) as client:
        client.sendall(REQUEST)
        said, seconds = read_all(client)
    assert said.startswith(b"HTTP/1.1 503")
    assert seconds < 10


@pytest.fixture
def service(tiny_serving: Serving) -> Iterator[Service]:
    service = open_service(Slot(tiny_serving), ServeConfig(), None)
    service.pipeline.load = FULL
    yield service
    service.pipeline.close()


@pytest.mark.parametrize("target", ["/predict", "/v1/predict", "/predict/batch", "/v1/predict/batch?explain=1"])
def test_predictions_are_refused(service: Service, target: str) -> None:
    door = Door(service)
    assert (door.refuse(b"POST", target.encode(), SCOPE) or b"").startswith(b"HTTP/1.1 503 ")
    service.pipeline.load = 0
    assert door.refuse(b"POST", target.encode(), SCOPE) is None


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"GET", b"/predict"), (b"GET", b"/livez"), (b"POST", b"/nowhere"), (b"POST", b"/predict\xff"), (b"POST", b"")],
)
def test_all_else_is_for_the_application(service: Service, method: bytes, target: bytes) -> None:
    assert Door(service).refuse(method, target, SCOPE) is None


def test_the_application_answers_at_the_end_and_to_pages_of_other_sites(service: Service) -> None:
    door = Door(service)
    service.gate.draining = True
    assert door.refuse(b"POST", b"/predict", SCOPE) is None
    service.gate.draining, service.settings.origins = False, ["https://example.org"]
    assert door.refuse(b"POST", b"/predict", SCOPE) is None


def test_each_answer_has_an_id_of_its_own(service: Service) -> None:
    door = Door(service)
    answers = {door.refuse(b"POST", b"/predict", {"headers": [], "client": None}) for _ in range(20)}
    assert len(answers) == 20
    assert all(answer and b"~" not in answer for answer in answers)


def test_refusals_are_counted_and_the_first_ones_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    door = Door(service)
    with caplog.at_level(logging.INFO, "lesion.access"):
        for _ in range(SAID + 15):
            door.refuse(b"POST", b"/v1/predict", SCOPE)
        door.say()
        door.say()
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert len(fields) == SAID + 1
    assert (fields[0]["request"], fields[0]["code"], fields[0]["client"]) == ("mine", "overloaded", "203.0.113.9")
    assert fields[-1] == {"requests": 15}
    text = service.metrics.render()[0].decode()
    assert f'lesion_rejections_total{{reason="overloaded"}} {SAID + 15:.1f}' in text
    assert f'lesion_requests_total{{method="POST",route="/predict",status="5xx"}} {SAID + 15:.1f}' in text
