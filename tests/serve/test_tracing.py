"""Traces: spans of real requests through the real SDK, and nothing at all without it."""

import http.server
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lesion.serve import tracing
from lesion.serve.tracing import Tracing, open_tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)


@pytest.fixture
def traced() -> Iterator[tuple[Tracing, Any]]:
    """Traces, and where they are kept."""
    pytest.importorskip("opentelemetry.sdk", reason="needs the 'otel' extra")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = Tracing(provider)
    yield traces, kept
    traces.close()


def test_without_an_endpoint_nothing_happens() -> None:
    traces = open_tracing(None)
    with traces.request({"traceparent": PARENT}) as span:
        span.stage("decode", 1.0, 2.0)
        span.describe("POST", "/predict", 500, model="m@1")
        assert span.trace is None
    traces.close()


def test_without_the_packages_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    traces = open_tracing("http://collector:4318")
    with traces.request({}) as span:
        assert span.trace is None
    (line,) = caplog.messages
    assert line.startswith("no traces are sent: ")
    assert 'pip install "lesion[otel]"' in line


def test_a_request_and_its_stages_are_spans_of_the_clients_trace(traced: tuple[Tracing, Any]) -> None:
    traces, kept = traced
    began = time.time_ns()
    with traces.request({"traceparent": PARENT, "baggage": "patient=mueller"}) as span:
        start = time.monotonic()
        time.sleep(0.01)
        span.stage("decode", start, time.monotonic())
        thread = threading.Thread(target=span.stage, args=("infer", start, start + 0.02))
        thread.start()
        thread.join()
        span.describe("POST", "/predict", 200, model="m@1", batch=4)
        assert span.trace == "0af7651916cd43dd8448eb211c80319c"
    decode, infer, request = kept.get_finished_spans()
    assert (decode.name, infer.name, request.name) == ("decode", "infer", "POST /predict")
    assert request.parent.span_id == 0xB7AD6B7169203331
    assert decode.parent.span_id == infer.parent.span_id == request.context.span_id
    assert decode.end_time - decode.start_time >= 10**7
    assert infer.end_time - infer.start_time == pytest.approx(2 * 10**7, abs=1000)
    assert began - 10**8 <= decode.start_time <= time.time_ns()
    assert dict(request.attributes) == {
        "http.request.method": "POST", "http.response.status_code": 200, "http.route": "/predict", "model": "m@1",
        "batch": 4,
    }  # fmt: skip
    assert not any("mueller" in span.to_json() for span in (decode, infer, request))


@pytest.mark.parametrize("header", ["", "00-0-0-0", "x" * 100_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\ud800"])
def test_a_broken_parent_begins_a_new_trace(traced: tuple[Tracing, Any], header: str) -> None:
    traces, kept = traced
    with traces.request({"traceparent": header}) as span:
        assert len(span.trace or "") == 32
    assert kept.get_finished_spans()[0].parent is None


def test_a_failure_is_marked_without_its_message(traced: tuple[Tracing, Any]) -> None:
    traces, kept = traced
    with pytest.raises(ValueError, match="mueller"), traces.request({}):
        raise ValueError("mueller.jpg")
    with traces.request({}) as span:
        span.describe("POST", None, 503)
    raised, refused = kept.get_finished_spans()
    assert raised.status.status_code.name == refused.status.status_code.name == "ERROR"
    assert raised.status.description == "ValueError"
    assert "mueller" not in raised.to_json()
    assert refused.name == "POST unmatched"


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the 'otel' extra")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(tracing, "CLOSE_S", 30.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        traces = open_tracing(f"http://127.0.0.1:{server.server_address[1]}/")
        with traces.request({}) as span:
            span.describe("GET", "/model", 200)
        traces.close()
        server.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert about["service.name"] == "lesion"
    assert resource.scope_spans[0].spans[0].name == "GET /model"


def test_a_collector_that_is_silent_delays_neither_answers_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the 'otel' extra")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    monkeypatch.setattr(tracing, "CLOSE_S", 0.2)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traces = open_tracing(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(1000):  # more than the SDK's queue holds
            with traces.request({}) as span:
                span.describe("GET", "/model", 200)
        traces.close()
        for thread in set(threading.enumerate()) - before:  # so that what it says in the end reaches no other test
            thread.join(30)
