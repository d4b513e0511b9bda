"""Metrics: what was counted is told in Prometheus' own format, in a number of series that no client can grow."""

import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from lesion.records import Prediction
from lesion.serve.metrics import ROUTES, Metrics
from tests.serve.conftest import App

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(metrics: Metrics) -> Series:
    """What Prometheus would store."""
    content, kind = metrics.render()
    assert kind.startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(content.decode())
    samples = [sample for family in families for sample in family.samples]
    series = {(sample.name, frozenset(sample.labels.items())): float(sample.value) for sample in samples}
    assert len(series) == len(samples)
    return series


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


def predict(decision: str = "benign", flags: tuple[str, ...] = (), confidence: float = 0.93) -> Prediction:
    return Prediction("upload", "benign", confidence, decision, flags, {"benign": 0.93, "malignant": 0.07}, None, "m@1")


def test_what_was_counted_is_told() -> None:
    metrics = Metrics()
    for route in ("/predict", "/v1/predict", None):
        metrics.count_request(route, "POST", 200)
    metrics.time_stage("infer", 0.02)
    metrics.time_stage("infer", 0.2, role="canary")
    metrics.count_batch(4)
    metrics.show_queue(7)
    metrics.count_rejection("overloaded")
    metrics.count_prediction(predict())
    metrics.count_prediction(predict("refer", ("blurred", "uncertain")), "canary")
    metrics.count_prediction(predict("refer", ("blurred",)), "shadow")
    metrics.count_failure()
    metrics.count_reload("done")
    metrics.count_reload("refused")
    metrics.show_journal(5, 2)
    series = read(metrics)
    assert value(series, "lesion_requests_total", route="/predict", method="POST", status="2xx") == 2
    assert value(series, "lesion_requests_total", route="unmatched", method="POST", status="2xx") == 1
    assert value(series, "lesion_stage_seconds_bucket", stage="infer", role="live", le="0.025") == 1
    assert value(series, "lesion_stage_seconds_sum", stage="infer", role="canary") == 0.2
    assert value(series, "lesion_batch_images_bucket", le="2.0") == 0
    assert value(series, "lesion_batch_images_bucket", le="4.0") == 1
    assert value(series, "lesion_queue_images") == 7
    assert value(series, "lesion_rejections_total", reason="overloaded") == 1
    assert value(series, "lesion_predictions_total", prediction="benign", decision="refer", role="canary") == 1
    assert value(series, "lesion_flags_total", flag="blurred") == 1
    assert value(series, "lesion_confidence_count") == 2
    assert value(series, "lesion_model_failures_total", role="live") == 1
    assert value(series, "lesion_reloads_total", result="done") == 1
    assert value(series, "lesion_reloads_total", result="refused") == 1
    assert value(series, "lesion_journal_entries_total", result="written") == 5
    assert value(series, "lesion_journal_entries_total", result="dropped") == 2


def test_a_model_that_was_replaced_is_no_longer_told() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.show_models({"live": f"resnet@{number}", "canary": "new@1"})
    told = {labels for name, labels in read(metrics) if name == "lesion_model_info"}
    assert told == {
        frozenset({("role", "live"), ("model", "resnet@99")}),
        frozenset({("role", "canary"), ("model", "new@1")}),
    }


def test_drift_is_told_and_what_is_not_known_is_left_out() -> None:
    metrics = Metrics()
    metrics.show_drift(
        {
            "images": 300,
            "quantities": {
                "malignant": {"psi": 0.4, "status": "drifted"},
                "outlier": {"psi": 0.01, "status": "steady"},
                "sharpness": {"psi": None, "status": "too few"},
            },
        }
    )
    series = read(metrics)
    assert value(series, "lesion_drift_images") == 300
    assert value(series, "lesion_drift_psi", quantity="malignant") == 0.4
    assert value(series, "lesion_drifted", quantity="malignant") == 1
    assert value(series, "lesion_drifted", quantity="outlier") == 0
    assert value(series, "lesion_drift_psi", quantity="sharpness") is None


def live(metrics: Metrics) -> None:
    """All that an ordinary day counts."""
    for route in ROUTES:
        for method, status in (("GET", 200), ("POST", 200), ("POST", 400), ("GET", 404), ("PUT", 405), ("POST", 503)):
            metrics.count_request(route, method, status)
    for stage in ("receive", "queue", "decode", "infer", "total"):
        metrics.time_stage(stage, 0.01)
    for decision, flags in (("benign", ()), ("refer", ("uncertain", "blurred", "too_dark", "noisy", "too_bright"))):
        metrics.count_prediction(predict(decision, flags))
    for reason in ("unauthorized", "too_many", "overloaded", "deadline", "too_large", "not_an_image", "image"):
        metrics.count_rejection(reason)
    names = ("malignant", "outlier", "sharpness", "brightness", "contrast")
    metrics.show_drift({"images": 9, "quantities": {name: {"psi": 0.1, "status": "steady"} for name in names}})
    metrics.show_models({"live": "m@1"})


def test_ten_thousand_hostile_paths_and_methods_add_next_to_nothing() -> None:
    metrics, draw = Metrics(), random.Random(0)
    live(metrics)
    before = len(read(metrics))
    for number in range(10_000):
        path = "/" + "".join(map(chr, draw.choices(range(1, 0x250), k=draw.randrange(1, 60))))
        path = draw.choice(
            [path, f"/v1{path}", f"/predict/{number}", f"/static/{number}.js", "/v1/v1/predict", "\ud800"]
        )
        method = draw.choice(["GET", "POST", "PROPFIND", f"X{number}", "get", "", 'G"\n'])
        metrics.count_request(path, method, draw.choice([200, 404, 405, 431]))
        metrics.count_rejection(draw.choice(["not_found", "overloaded"]))
    after = len(read(metrics))
    assert after - before <= 7  # unmatched × three methods × two classes, and a reason
    assert after <= 200


def test_even_reasons_and_flags_are_bounded() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.count_rejection(f"reason{number}")
        metrics.count_prediction(predict("refer", (f"flag{number}",)))
    series = read(metrics)
    assert len([name for name, _ in series if name in ("lesion_rejections_total", "lesion_flags_total")]) == 42
    assert value(series, "lesion_rejections_total", reason="other") == 980


def test_counts_of_many_threads_add_up() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(500):
            metrics.count_request("/predict", "POST", 200)
            metrics.time_stage("total", 0.01)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        metrics.render()
    for thread in threads:
        thread.join()
    assert value(read(metrics), "lesion_requests_total", route="/predict", method="POST", status="2xx") == 2000


def test_two_servers_in_one_process_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.count_batch(1)
    assert value(read(other), "lesion_batch_images_count") == 0


@pytest.mark.skipif(os.name == "nt", reason="the library's shared files are not for Windows")
def test_the_counts_of_several_processes_are_told_together(tmp_path: Path) -> None:
    code = (
        "from lesion.serve.metrics import Metrics; import sys\n"
        "metrics = Metrics(); metrics.count_request('/predict', 'POST', 200); metrics.show_queue(3)\n"
        "metrics.time_stage('total', 0.02); metrics.show_models({'live': 'm@1'})\n"
        "sys.stdout.write(metrics.render()[0].decode())\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert 'lesion_requests_total{method="POST",route="/predict",status="2xx"} 2.0' in lines
    assert 'lesion_stage_seconds_count{role="live",stage="total"} 2.0' in lines
    assert "lesion_queue_images 6.0" in lines  # until the server says that the first is gone
    assert 'lesion_model_info{model="m@1",role="live"} 1.0' in lines
    assert len(lines) == len(set(lines))


def test_every_route_of_the_server_is_told_apart(make_app: App) -> None:
    client = TestClient(make_app())
    name = re.search(r'(page/[^"]+)"', client.get("/").text)
    assert name
    for route in ROUTES:
        path = f"/{name[1]}" if route == "/page/{name}" else route
        answer = client.post(path) if route.startswith("/predict") else client.get(path)
        assert answer.status_code != 404
    text = client.get("/metrics").text
    assert "unmatched" not in text
    assert {route for route in ROUTES if f'route="{route}"' in text} == set(ROUTES)
