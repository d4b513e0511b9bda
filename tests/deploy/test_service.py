"""The service file of each region, against what the server really is."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from lesion.config.load import load_config, shipped
from lesion.config.schema import Config
from lesion.config.serving import ServeConfig
from lesion.serve.app import create_app
from lesion.serve.slot import Serving, Slot
from tests.conftest import GOLDEN, REPO
from tests.deploy.conftest import DEPLOY, image_of
from tests.deploy.sdk import unknown_fields

sys.path.insert(0, str(DEPLOY))
from settings import Settings  # deploy/ is a folder of programs, not a package

KILLED_AFTER_S, LARGEST_MIB = 10, 32  # of Cloud Run: after SIGTERM; a request over HTTP/1
CONFIGS = ("production", "staging")
each_config = pytest.mark.parametrize("name", CONFIGS)
IMAGE = image_of("new")


def read(name: str) -> Settings:
    return Settings.read(DEPLOY / f"{name}.toml")


def render(name: str) -> dict[str, Any]:
    text = read(name).render(IMAGE, "lesion-1", [{"revisionName": "lesion-1", "percent": 100}])
    return dict(yaml.safe_load(text))


def containers(name: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in render(name)["spec"]["template"]["spec"]["containers"]}


def serve_config(name: str) -> ServeConfig:
    """What the server is told by the container's arguments."""
    words = containers(name)["lesion"]["args"]
    environment = words[words.index("--env") + 1]
    config: Config = load_config([shipped("env", environment)], [word for word in words if "=" in word])
    return config.serve


@each_config
def test_cloud_run_sends_no_more_than_the_server_takes(name: str) -> None:
    spec, serve = render(name)["spec"]["template"]["spec"], serve_config(name)
    assert 1 <= spec["containerConcurrency"] <= serve.queue
    assert serve.max_upload_mb <= LARGEST_MIB


@each_config
def test_whoever_is_inside_has_less_time_than_whoever_waits_for_it(name: str) -> None:
    spec, serve = render(name)["spec"]["template"]["spec"], serve_config(name)
    assert serve.deadline_s < serve.drain_s < KILLED_AFTER_S
    assert serve.receive_s + serve.deadline_s < spec["timeoutSeconds"]
    assert read(name).watch.latency_s < serve.deadline_s


@each_config
def test_the_probes_ask_for_what_is_there(name: str) -> None:
    app = TestClient(create_app(Slot(Serving.load(GOLDEN / "tiny.onnx", ServeConfig())), ServeConfig()))
    lesion = containers(name)["lesion"]
    probes = {kind: lesion[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes.items()}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    asked = re.findall(r'_send\("\w+", "([^"]+)"', (DEPLOY / "probe.py").read_text("utf-8"))
    assert len(asked) == 4
    for path in (*paths.values(), *asked):
        assert app.get(path).status_code != 404, path
    for probe in probes.values():
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] <= 240


@each_config
def test_instances_wait_in_every_region(name: str) -> None:
    service, settings = render(name), read(name)
    least = int(service["metadata"]["annotations"]["run.googleapis.com/minScale"])
    most = int(service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"])
    assert 1 <= least <= most
    assert len(settings.regions) >= (2 if name == "production" else 1)


@each_config
def test_a_container_has_as_many_processors_as_the_runtime_has_threads(name: str) -> None:
    assert int(containers(name)["lesion"]["resources"]["limits"]["cpu"]) == serve_config(name).threads


@each_config
def test_what_anyone_can_reach_asks_for_tokens_from_secret_manager(name: str) -> None:
    service, settings = render(name), read(name)
    assert service["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"] == "true"
    volumes = {each["name"]: each["secret"] for each in service["spec"]["template"]["spec"]["volumes"]}
    (mount,) = containers(name)["lesion"]["volumeMounts"]
    file = f"{mount['mountPath']}/{volumes[mount['name']]['items'][0]['path']}"
    assert volumes[mount["name"]]["secretName"] == settings.tokens
    assert serve_config(name).tokens == file
    assert not serve_config(name).open


@each_config
def test_the_collector_finds_its_token_and_the_server(name: str) -> None:
    collector, lesion = containers(name)["collector"], containers(name)["lesion"]
    config = yaml.safe_load((DEPLOY / "collector.yaml").read_text("utf-8"))
    (job,) = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    folders = {mount["mountPath"] for mount in collector["volumeMounts"]}
    assert str(Path(job["authorization"]["credentials_file"]).parent) in folders
    assert job["static_configs"][0]["targets"] == [f"localhost:{lesion['ports'][0]['containerPort']}"]
    assert serve_config(name).port == lesion["ports"][0]["containerPort"]
    (pipeline,) = config["service"]["pipelines"].values()
    assert {kind: set(names) for kind, names in pipeline.items()} == {kind: set(config[kind]) for kind in pipeline}


@each_config
def test_the_environment_is_the_one_of_the_file(name: str) -> None:
    words = containers(name)["lesion"]["args"]
    assert read(name).environment == words[words.index("--env") + 1] == name


def test_no_file_of_a_deployment_holds_a_secret() -> None:
    ours = [*DEPLOY.rglob("*"), *(REPO / "configs/env").iterdir()]
    secret = re.compile(
        r"PRIVATE KEY|ya29\.|AIza[\w-]{30}|lesion_[\w-]{43}|gh[ps]_\w{30}|credentials_json|://[^\s/$@]+:[^\s/$@]+@"
    )
    for path in ours:
        if path.is_file() and path.suffix != ".pyc":
            assert not secret.search(path.read_text("utf-8")), path


@pytest.mark.slow
@each_config
def test_cloud_run_knows_every_field(name: str) -> None:
    assert unknown_fields(render(name), "run.v1.run_v1_messages", "Service") == []


def test_the_settings_of_an_environment_are_never_half_read(tmp_path: Path) -> None:
    from settings import Refusal

    path = tmp_path / "x.toml"
    text = (DEPLOY / "production.toml").read_text("utf-8")
    for old, new, said in (
        ("min_instances = 2", "min_instances = 0", "min_instances: 1 or more"),
        ("min_instances = 2", "min_instances = '2'", "min_instances: '2' is no int"),
        ("steps = [5, 50, 100]", "steps = [5, 50]", "watch.steps: rising"),
        ("bad = 0.02", "bad = nan", "bad is 0 or more"),
        ("bad = 0.02", "bat = 0.02", "bat: unknown"),
        ("[watch]", "[[watch]]", "watch: no table"),
        ('tokens = "lesion-tokens"', 'tokens = "a: b"', "tokens: 'a: b'"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")
        with pytest.raises(Refusal, match=re.escape(said)):
            Settings.read(path)
    with pytest.raises(Refusal):
        Settings.read(tmp_path / "missing.toml")
