"""What Prometheus is told. No label takes a value that a client chooses, so the number of series is bounded."""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from lesion.records import Prediction

ROUTES = (
    "/", "/predict", "/predict/batch", "/model", "/drift", "/livez", "/readyz", "/metrics", "/openapi.json",
    "/page/{name}",
)  # fmt: skip
"""The routes that are told apart; with /v1 before them they are the same."""
METHODS = ("GET", "POST")
MOST = 20  # values of a label that comes from the code or the model: reasons, flags
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics(Collector):
    """The figures of one server; every method is thread-safe and takes microseconds.

    A role is "live", "canary" or "shadow". Where the environment names a folder PROMETHEUS_MULTIPROC_DIR, all processes
    with that folder are counted together; models, drift and journal are then those of the process that is asked.
    """

    def __init__(self, routes: Collection[str] = ROUTES) -> None:
        """Args: routes, the templates that are told apart."""
        # The time at which each series began would be a second series for each.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._routes = frozenset(routes)
        self._seen: dict[str, set[str]] = {"reason": set(), "flag": set()}
        self._models: dict[str, str] = {}
        self._drift: Mapping[str, Any] = {}
        self._journal = (0, 0)
        # A metric's series by its labels: to look it up takes the library longer than to count.
        self._of = cache(lambda metric, *values: metric.labels(*values))
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "lesion_requests_total", "Requests that were answered", ("route", "method", "status"), registry=registry
        )
        self._stages = Histogram(
            "lesion_stage_seconds",
            "Time of a stage of a request",
            ("stage", "role"),
            buckets=SECONDS,
            registry=registry,
        )
        self._batches = Histogram("lesion_batch_images", "Images per inference", buckets=IMAGES, registry=registry)
        self._queue = Gauge(
            "lesion_queue_images", "Images that wait or are worked on", multiprocess_mode="livesum", registry=registry
        )
        self._rejections = Counter("lesion_rejections_total", "Requests refused", ("reason",), registry=registry)
        self._predictions = Counter(
            "lesion_predictions_total", "Images answered", ("prediction", "decision", "role"), registry=registry
        )
        self._flags = Counter("lesion_flags_total", "Reasons to refer an image", ("flag",), registry=registry)
        self._confidence = Histogram(
            "lesion_confidence", "Probability of the predicted class", buckets=SHARES, registry=registry
        )
        self._failures = Counter(
            "lesion_model_failures_total", "Images a model had no answer for", ("role",), registry=registry
        )
        self._reloads = Counter("lesion_reloads_total", "Changes of the model", ("result",), registry=registry)
        self._overruns = Counter(
            "lesion_overruns_total", "Threads that were given up because they hang", ("stage",), registry=registry
        )

    def count_request(self, route: str | None, method: str, status: int) -> None:
        """A request was answered. `route` is the template that matched, None when none did."""
        name = (route or "").removeprefix("/v1") or route
        self._of(
            self._requests,
            name if name in self._routes else "unmatched",
            method if method in METHODS else "other",
            f"{status // 100}xx",
        ).inc()

    def time_stage(self, stage: str, seconds: float, role: str = "live") -> None:
        """A stage took so long: "receive", "queue", "decode", "infer", or "total" of a request for predictions."""
        self._of(self._stages, stage, role).observe(seconds)

    def count_batch(self, images: int) -> None:
        """One inference took so many images."""
        self._batches.observe(images)

    def show_queue(self, images: int) -> None:
        """So many images wait or are worked on."""
        self._queue.set(images)

    def count_rejection(self, reason: str) -> None:
        """A request was refused, for a reason that the code names."""
        self._of(self._rejections, self._bound("reason", reason)).inc()

    def count_prediction(self, prediction: Prediction, role: str = "live") -> None:
        """An image was classified; of a shadow, which answers nobody, flags and confidence do not count."""
        self._of(self._predictions, prediction.prediction, prediction.decision, role).inc()
        if role != "shadow":
            self._confidence.observe(prediction.confidence)
            for flag in prediction.flags:
                self._of(self._flags, self._bound("flag", flag)).inc()

    def count_failure(self, role: str = "live", images: int = 1) -> None:
        """Count images that a model had no answer for."""
        self._failures.labels(role).inc(images)

    def count_reload(self, result: str) -> None:
        """Count a change of the model: "done", "refused" for what it is, or "failed" because of a passing error."""
        self._reloads.labels(result).inc()

    def count_overrun(self, stage: str) -> None:
        """Count a thread that was given up, in the stage "decode", "infer", "shadow" or "reload"."""
        self._overruns.labels(stage).inc()

    def show_models(self, models: Mapping[str, str]) -> None:
        """Which model, as name@sha, has which role."""
        self._models = dict(models)

    def show_drift(self, report: Mapping[str, Any]) -> None:
        """What `Drift.report` said last."""
        self._drift = report

    def show_journal(self, written: int, dropped: int) -> None:
        """Entries of the journal so far."""
        self._journal = (written, dropped)

    def render(self) -> tuple[bytes, str]:
        """The exposition for Prometheus, and its content type."""
        registry = CollectorRegistry()
        registry.register(self)
        if values.ValueClass._multiprocess:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self._registry)
            ProcessCollector(registry=registry)
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """The gauges that hold what was shown last, for Prometheus' library."""
        info = GaugeMetricFamily("lesion_model_info", "The models, each 1", labels=("role", "model"))
        for role, model in self._models.items():
            info.add_metric((role, model), 1)
        psi = GaugeMetricFamily("lesion_drift_psi", "Population stability index", labels=("quantity",))
        drifted = GaugeMetricFamily("lesion_drifted", "Whether it is beyond the alert and chance", labels=("quantity",))
        for name, each in self._drift.get("quantities", {}).items():
            if each["psi"] is not None:
                psi.add_metric((name,), each["psi"])
                drifted.add_metric((name,), each["status"] == "drifted")
        images = GaugeMetricFamily("lesion_drift_images", "Images in the window", value=self._drift.get("images", 0))
        journal = CounterMetricFamily("lesion_journal_entries", "Entries of the journal", labels=("result",))
        for result, count in zip(("written", "dropped"), self._journal, strict=True):
            journal.add_metric((result,), count)
        yield from (info, psi, drifted, images, journal)

    def _bound(self, label: str, value: str) -> str:
        seen = self._seen[label]
        if value not in seen and len(seen) >= MOST:
            return "other"
        seen.add(value)
        return value
