"""Rules, policies and dashboard, against what the server really tells."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lesion.config.load import load_config, shipped
from lesion.errors import LesionError
from lesion.records import Prediction
from lesion.serve.admission import Draining, TooLate
from lesion.serve.metrics import SECONDS, Metrics
from lesion.serve.problems import code_of
from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY
from tests.deploy.sdk import unknown_fields

HERE = DEPLOY / "monitoring"
PAGE = (REPO / "docs/monitoring.md").read_text("utf-8")
RULES: list[dict[str, Any]] = yaml.safe_load((HERE / "rules.yaml").read_text("utf-8"))["groups"][0]["rules"]
POLICIES: list[dict[str, Any]] = json.loads((HERE / "policies.json").read_text("utf-8"))
DASHBOARD: dict[str, Any] = json.loads((HERE / "dashboard.json").read_text("utf-8"))
OF_OTHERS = {"up", "run_googleapis_com:request_count"}  # Prometheus and Cloud Run themselves
WORDS = {"sum", "by", "rate", "increase", "max", "min", "count", "absent", "vector", "histogram_quantile", "and", "or",
         "unless", "offset", "ignoring", "group_left"}  # fmt: skip


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    yield from (policy["conditions"][0]["conditionPrometheusQueryLanguage"]["query"] for policy in POLICIES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])


def metrics_of(expression: str) -> set[str]:
    """The names of metrics in an expression."""
    bare = re.sub(r"\b(by|ignoring|group_left) \([^)]*\)|\{[^}]*\}|\[[^]]*\]|offset \w+", " ", expression)
    return set(re.findall(r"(?<![\w.$])[a-zA-Z_][\w:]*", bare)) - WORDS


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The names of all series of a server that has seen everything, and their labels."""
    metrics = Metrics()
    metrics.count_request("/predict", "POST", 200)
    metrics.time_stage("total", 0.1)
    metrics.count_batch(1)
    metrics.count_rejection("overloaded")
    metrics.count_prediction(
        Prediction("x", "benign", 0.9, "refer", ("uncertain",), {"benign": 0.9, "malignant": 0.1}, None, "m@1")
    )
    metrics.count_failure()
    metrics.count_overrun("decode")
    metrics.count_reload("done")
    metrics.show_models({"live": "m@1"})
    metrics.show_drift({"images": 9, "quantities": {"malignant": {"psi": 0.1, "status": "steady"}}})
    text = metrics.render()[0].decode()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the library tells of the process on Linux only")
def test_every_metric_is_one_that_the_server_tells(exported: dict[str, set[str]]) -> None:
    found = set().union(*map(metrics_of, expressions()))
    assert len(found) >= 15
    assert found - OF_OTHERS <= exported.keys()
    families = {name for name in exported if name.startswith("lesion_") and not name.endswith(("_bucket", "_sum"))}
    assert {name.removesuffix("_count") for name in families} <= {
        re.sub("_(bucket|count|sum)$", "", name) for name in found
    }


def test_every_label_is_one_of_its_metric(exported: dict[str, set[str]]) -> None:
    for expression in expressions():
        for name, labels in re.findall(r"(lesion_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)\s*[=!]", labels)) <= exported[name], expression


def test_every_value_of_a_label_can_occur() -> None:
    text = "\n".join(expressions())
    kinds = [LesionError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {code_of(kind("x")) for kind in (*kinds, Draining, TooLate) if kind.__name__ != "Refused"}
    asked = {code for found in re.findall(r'reason=~"([^"]+)"', text) for code in found.split("|")}
    assert asked
    assert asked <= codes
    assert set(re.findall(r'stage!?="(\w+)"', text)) == {"total"}
    assert set(re.findall(r'\bdecision="(\w+)"', text)) == {"refer"}
    buckets = {float(value) for value in re.findall(r'\ble="([^"]+)"', text)}
    assert buckets <= set(SECONDS)


def test_limits_are_those_of_the_service() -> None:
    queue = next(rule["expr"] for rule in RULES if rule["alert"] == "LesionQueueLong")
    assert float(queue.split()[-1]) == 0.75 * load_config([shipped("env", "production")]).serve.queue
    memory = next(rule["expr"] for rule in RULES if rule["alert"] == "LesionMemoryLow")
    assert "0.8 * 2 * 2^30" in memory
    assert "memory: 2Gi" in (DEPLOY / "service.yaml").read_text("utf-8")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool, on Debian from the package prometheus")
    return found


@pytest.mark.slow
def test_the_rules_do_on_recorded_series_what_they_promise(promtool: str) -> None:
    done = subprocess.run([promtool, "test", "rules", str(HERE / "rules_test.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_seen_to_fire_and_to_be_quiet() -> None:
    tests = yaml.safe_load((HERE / "rules_test.yaml").read_text("utf-8"))["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    fired = {check["alertname"] for check in checks if check.get("exp_alerts")}
    quiet = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    assert fired == quiet == {rule["alert"] for rule in RULES}


def test_every_expression_is_promql(promtool: str, tmp_path: Path) -> None:
    texts = [text.replace("$__rate_interval", "5m") for text in expressions()]
    rules = [{"record": f"x{index}", "expr": text} for index, text in enumerate(texts)]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}), "utf-8")
    done = subprocess.run([promtool, "check", "rules", str(tmp_path / "all.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_policies_are_those_of_the_rules() -> None:
    made = runpy.run_path(str(HERE / "policies.py"))["render"]()
    assert (HERE / "policies.json").read_text("utf-8") == made, "run python deploy/monitoring/policies.py"
    assert [policy["displayName"] for policy in POLICIES[:-1]] == [rule["alert"] for rule in RULES]
    for policy in POLICIES:
        query = policy["conditions"][0]["conditionPrometheusQueryLanguage"]
        assert int(query["evaluationInterval"][:-1]) % 30 == 0  # what Cloud Monitoring accepts


@pytest.mark.slow
def test_cloud_monitoring_knows_every_field() -> None:
    for policy in POLICIES[:2]:
        assert unknown_fields(policy, "monitoring.v3.monitoring_v3_messages", "AlertPolicy") == []


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["datasource"]["uid"] == "${source}" for panel in panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)


def test_the_page_says_what_to_do_about_each_alert() -> None:
    rows = re.findall(r"^\| `(Lesion\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert rows == [(policy["displayName"], policy["severity"].lower()) for policy in POLICIES]
