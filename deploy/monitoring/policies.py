"""Make policies.json: the alerts of rules.yaml as policies of Cloud Monitoring.

    python deploy/monitoring/policies.py

Needs PyYAML. One more policy watches what Cloud Run says of itself, because the rules see nothing without a collector.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CLOUD_RUN = {
    "alert": "LesionFailsAtCloudRun",
    "expr": 'sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",'
    'service_name="lesion",response_code_class="5xx"}[5m])) / sum(rate(run_googleapis_com:request_count{'
    'monitored_resource="cloud_run_revision",service_name="lesion"}[5m])) > 14.4 * 0.005',
    "for": "5m",
    "labels": {"severity": "critical"},
    "annotations": {"description": "Requests fail, whether or not the server knows of it."},
}
UNITS = {"s": 1, "m": 60, "h": 3600}


def make_policies() -> list[dict[str, Any]]:
    """The policies, as the API of Cloud Monitoring takes them."""
    (group,) = yaml.safe_load((HERE / "rules.yaml").read_text("utf-8"))["groups"]
    return [make_policy(rule, group) for rule in [*group["rules"], CLOUD_RUN]]


def make_policy(rule: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    """One policy with one condition."""
    query = {
        "query": rule["expr"],
        "duration": _seconds(rule.get("for", "0s")),
        "evaluationInterval": _seconds(group["interval"]),
        "alertRule": rule["alert"],
        "ruleGroup": group["name"],
        "disableMetricValidation": True,  # a policy may be there before the first failure makes its series
    }
    # Prometheus writes {{ $labels.x }}, Cloud Monitoring ${metric.label.x}.
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"${metric.label.\1}", rule["annotations"]["description"])
    return {
        "displayName": rule["alert"],
        "severity": rule["labels"]["severity"].upper(),
        "combiner": "OR",
        "conditions": [{"displayName": rule["alert"], "conditionPrometheusQueryLanguage": query}],
        "documentation": {"content": f"{text} See docs/monitoring.md.", "mimeType": "text/markdown"},
    }


def _seconds(text: str) -> str:
    return f"{int(text[:-1]) * UNITS[text[-1]]}s"


def render() -> str:
    """The text of policies.json."""
    return json.dumps(make_policies(), indent=2) + "\n"


if __name__ == "__main__":
    (HERE / "policies.json").write_text(render(), "utf-8")
