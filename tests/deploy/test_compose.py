"""compose.yaml: what it names is there, what it sets exists, and nothing is more open than it must be."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lesion.config.load import load_config, shipped
from lesion.serve.settings import check_settings
from lesion.serve.tokens import Tokens
from tests.conftest import REPO
from tests.test_delivery import read_stages

COMPOSE: dict[str, Any] = yaml.safe_load((REPO / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HERE = REPO / "deploy/compose"
each_service = pytest.mark.parametrize("name", SERVICES)


def test_the_five_are_there() -> None:
    assert set(SERVICES) == {"server", "redis", "postgres", "prometheus", "grafana"}


@each_service
def test_an_image_has_a_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+(-\w+)?|postgres:17-bookworm", SERVICES[name]["image"])


@each_service
def test_a_service_may_do_little_and_take_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "env_file"} & service.keys()
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    user = service.get("user") or dict(read_stages()["serve"])["USER"]
    assert not user.startswith(("0", "root"))


def test_only_the_server_is_published_and_to_this_machine_alone() -> None:
    assert {name: service.get("ports") for name, service in SERVICES.items() if "ports" in service} == {
        "server": ["127.0.0.1:8080:8080"]
    }
    inside = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert [name for name, service in SERVICES.items() if set(service["networks"]) - inside] == ["server"]


@pytest.mark.parametrize(
    ("network", "members"),
    [
        ("limits", {"server", "redis"}),
        ("journal", {"server", "postgres"}),
        ("metrics", {"server", "prometheus"}),
        ("boards", {"prometheus", "grafana"}),
    ],
)
def test_a_network_holds_those_who_have_to_talk(network: str, members: set[str]) -> None:
    assert {name for name, service in SERVICES.items() if network in service["networks"]} == members


@each_service
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        here, _, there = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).partition(":")
        assert there.startswith("/")
        if here.startswith("."):
            assert there.endswith(":ro")
            assert here == "./model" or (REPO / here).exists(), here
        else:
            assert here in COMPOSE["volumes"]


def test_every_secret_is_a_file_that_is_made_and_used(secrets: Path) -> None:
    named = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert {Path(file).name for file in named.values()} == {path.name for path in secrets.iterdir()}
    assert {name for service in SERVICES.values() for name in service["secrets"]} == named.keys()
    mentioned = re.findall(r"/run/secrets/(\w+)", json.dumps(SERVICES) + (HERE / "prometheus.yml").read_text("utf-8"))
    assert set(mentioned) == named.keys()
    assert (secrets.stat().st_mode & 0o777, {path.stat().st_mode & 0o777 for path in secrets.iterdir()}) == (
        0o700, {0o644},
    )  # fmt: skip
    assert "/secrets/" in (REPO / ".gitignore").read_text("utf-8").splitlines()


def test_the_secrets_fit_each_other_and_no_two_are_alike(secrets: Path) -> None:
    redis, postgres = (secrets / "redis.conf").read_text().split()[1], (secrets / "postgres").read_text()
    settings = yaml.safe_load((secrets / "server.yaml").read_text())["serve"]
    assert settings == {
        "redis": f"redis://:{redis}@redis:6379/0",
        "journal": f"postgresql://lesion:{postgres}@postgres:5432/lesion",
    }
    grafana, token = (secrets / "grafana").read_text(), (secrets / "operator").read_text()
    assert len({redis, postgres, grafana}) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in (redis, postgres, grafana))
    assert Tokens.read(secrets / "tokens").check(f"Bearer {token}") == "operator"


def test_the_server_starts_with_these_words(secrets: Path) -> None:
    words = [str(word) for word in SERVICES["server"]["command"]]
    assert words[:6] == ["--env", "production", "--config", "/run/secrets/server", "--model", "/model/model.onnx"]
    settings = load_config([shipped("env", "production"), secrets / "server.yaml"], words[6:]).serve
    check_settings(settings)
    assert settings.tokens == "/run/secrets/tokens"
    assert settings.rate > 0
    assert settings.port == int(SERVICES["server"]["environment"]["PORT"]) == 8080
    assert SERVICES["server"]["stop_grace_period"] == "10s"
    assert settings.drain_s < 10
    compile(SERVICES["server"]["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_the_image_has_what_the_settings_need() -> None:
    build = SERVICES["server"]["build"]
    stages = read_stages()
    assert build["target"] in stages
    assert [rest for word, rest in stages["serve-venv"] if word == "ARG"] == ["LOCK=serve.txt"]
    lock = (REPO / "requirements" / build["args"]["LOCK"]).read_text("utf-8")
    assert all(re.search(rf"(?m)^{name}==", lock) for name in ("redis", "psycopg", "s3fs", "gcsfs"))
    version = re.search(r'__version__ = "(.*)"', (REPO / "src/lesion/__init__.py").read_text("utf-8"))
    assert version
    assert SERVICES["server"]["image"] == f"lesion:{version[1]}"


def test_prometheus_reads_the_server_and_looks_after_the_rules() -> None:
    config = yaml.safe_load((HERE / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "lesion"  # the rules' label
    assert job["static_configs"] == [{"targets": ["server:8080"]}]
    places = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= places
    flags = dict(word.split("=", 1) for word in SERVICES["prometheus"]["command"])
    assert {flags["--config.file"], flags["--storage.tsdb.path"]} <= places


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    (source,) = yaml.safe_load((HERE / "grafana/datasources/prometheus.yaml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((HERE / "grafana/dashboards/lesion.yaml").read_text("utf-8"))["providers"]
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted
    assert Path(home).parent.as_posix() == provider["options"]["path"]


def test_the_page_tells_of_every_service() -> None:
    page = (REPO / "docs/containers.md").read_text("utf-8")
    for name, service in SERVICES.items():
        assert f"`{name}`" in page
        assert service["image"] in page
    assert tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"].keys() >= {
        "redis", "postgres", "otel", "store",
    }  # fmt: skip
