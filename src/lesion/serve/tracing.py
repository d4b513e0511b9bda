"""OpenTelemetry traces, when an endpoint is named and the packages are there; otherwise nothing, at next to no cost."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from time import perf_counter_ns, time_ns
from typing import Any

from lesion import __version__

log = logging.getLogger(__name__)
CLOSE_S = 2.0  # to send the last spans at the end


def open_tracing(endpoint: str | None) -> "Tracing":
    """Traces to the OTLP/HTTP collector at `endpoint`, as http://HOST:4318; without one, or without packages, none.

    The packages read more from OTEL_* variables of the environment: headers, sampler, the name of the service.
    """
    if not endpoint:
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:  # no failure: whoever runs a machine may name a collector to all that runs there
        log.warning('no traces are sent: %s (pip install "lesion[otel]")', error)
        return Tracing()
    resource = Resource.create().merge(Resource({SERVICE_VERSION: __version__}))
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "lesion"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


class Tracing:
    """Where the spans of requests go: to a provider of OpenTelemetry's SDK, or nowhere."""

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider and provider.get_tracer("lesion", __version__)

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator["Span"]:
        """A span around a request; it goes on the trace that the client's `traceparent` header names, if any."""
        if self._tracer is None:
            yield NOTHING
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(headers)
        inner = self._tracer.start_span("request", context, SpanKind.SERVER)
        try:
            yield Span(self._tracer, inner)
        except BaseException as error:
            inner.set_status(StatusCode.ERROR, type(error).__name__)  # its message may hold what a client sent
            raise
        finally:
            inner.end()

    def close(self) -> None:
        """Send what is left, for CLOSE_S at most: the SDK alone would wait half a minute for a collector."""
        if self._provider is not None:
            last = Thread(target=self._provider.shutdown, daemon=True)
            last.start()
            last.join(CLOSE_S)


class Span:
    """The span of one request; of none when nothing is traced."""

    __slots__ = ("_inner", "_tracer")

    def __init__(self, tracer: Any = None, inner: Any = None) -> None:
        self._tracer, self._inner = tracer, inner

    @property
    def trace(self) -> str | None:
        """The trace's id, 32 hexadecimal digits, for the request's line in the log."""
        return self._inner and f"{self._inner.get_span_context().trace_id:032x}"

    def describe(self, method: str, route: str | None, status: int, **attributes: str | int | float) -> None:
        """Say what the request was: `method` of a known one, `route` the template that matched; and what else."""
        if self._inner is None:
            return
        from opentelemetry.trace import StatusCode

        self._inner.update_name(f"{method} {route or 'unmatched'}")
        known = {"http.request.method": method, "http.response.status_code": status, "http.route": route or "unmatched"}
        self._inner.set_attributes({**known, **attributes})
        if status >= 500:
            self._inner.set_status(StatusCode.ERROR)

    def stage(self, name: str, start: float, end: float) -> None:
        """A part of the request that is over, from and to a time of `perf_counter`, in any thread."""
        if self._inner is None:
            return
        from opentelemetry.trace import set_span_in_context

        epoch = time_ns() - perf_counter_ns()
        span = self._tracer.start_span(name, set_span_in_context(self._inner), start_time=epoch + int(start * 1e9))
        span.end(epoch + int(end * 1e9))


NOTHING = Span()
