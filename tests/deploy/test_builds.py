"""The builds of Cloud Build: their scripts, their order, and the job that they start."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY, fake_gcloud
from tests.deploy.sdk import complaints, unknown_fields

BUILDS = ("api", "train")
each_build = pytest.mark.parametrize("name", BUILDS)
GIVEN = {"PROJECT_ID"}  # by Cloud Build itself


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / f"{name}.yaml").read_text("utf-8")))


def steps(name: str) -> dict[str, dict[str, Any]]:
    return {step["id"]: step for step in read(name)["steps"]}


def gcloud_lines(script: str) -> list[str]:
    """The gcloud commands of a script, each as one line, without what is around them."""
    joined = script.replace("\\\n", " ")
    return [re.split(r" > | \|\| |\)$", found)[0] for found in re.findall(r"gcloud [^\n]*", joined)]


@each_build
def test_every_script_is_a_shell_script_that_stops_at_the_first_error(name: str) -> None:
    for step in steps(name).values():
        if "script" in step:
            assert step["script"].startswith("#!/bin/sh\n")
            assert "set -eu" in step["script"] or len(step["script"].splitlines()) == 2
            done = subprocess.run(["sh", "-n"], input=step["script"], text=True, capture_output=True)
            assert done.returncode == 0, done.stderr


@each_build
def test_every_substitution_is_declared_and_used(name: str) -> None:
    build, text = read(name), (DEPLOY / f"{name}.yaml").read_text("utf-8")
    used = set(re.findall(r"\$\{?(_[A-Z_]+|PROJECT_ID)", "\n".join(map(json.dumps, build["steps"]))))
    assert used - GIVEN == set(build["substitutions"])
    assert build["options"]["automapSubstitutions"] is True  # scripts get them as variables
    for example in re.findall(r"--substitutions (\S+)", text):
        assert {pair.split("=")[0] for pair in re.split(r",(?=_)", example)} <= used


@each_build
def test_every_image_of_a_step_has_a_version(name: str) -> None:
    build = read(name)
    for step in build["steps"]:
        image = build["substitutions"].get(step["name"].removeprefix("$"), step["name"])
        assert re.search(r":v?\d+\.\d+", image) or image == "lesion-train", image  # built by the step before


@each_build
def test_the_files_that_a_build_names_are_there(name: str) -> None:
    named = set(re.findall(r"deploy/[\w.-]+\.\w+", (DEPLOY / f"{name}.yaml").read_text("utf-8")))
    assert len(named) >= 2
    for path in named:
        assert (REPO / path).is_file(), path


def test_nothing_is_released_that_was_not_checked_scanned_and_signed() -> None:
    order = list(steps("api"))
    assert order == ["check", "test", "model", "build", "scan", "push", "sign", "verify", "release"]
    waiting = {name: step["waitFor"] for name, step in steps("api").items() if "waitFor" in step}
    assert waiting == {"model": ["-"]}  # all others wait for all before them
    key = next(word for word in steps("api")["sign"]["args"] if word.startswith("--key="))
    assert key in steps("api")["verify"]["args"]


@pytest.mark.skipif(sys.platform == "win32", reason="builds run on Linux")
@pytest.mark.parametrize(("content", "code"), [("hello", 0), ("another", 1)])
def test_a_model_is_built_in_only_if_it_is_the_one_that_was_asked_for(tmp_path: Path, content: str, code: int) -> None:
    path = fake_gcloud(tmp_path, f'#!/bin/sh\nprintf {content} > "$4"\n', "mkdir", "sha256sum")  # storage cp FROM TO
    env = {"PATH": path, "PROJECT_ID": "p-1", "_MODEL": hashlib.sha256(b"hello").hexdigest()}
    done = subprocess.run(["/bin/sh"], input=steps("api")["model"]["script"], text=True, cwd=tmp_path, env=env)
    assert done.returncode == code


@pytest.mark.skipif(sys.platform == "win32", reason="builds run on Linux")
@pytest.mark.parametrize(("state", "code"), [("JOB_STATE_SUCCEEDED", 0), ("JOB_STATE_FAILED", 1)])
def test_the_job_is_what_was_asked_for_and_its_failure_the_builds(tmp_path: Path, state: str, code: int) -> None:
    build = read("train")
    fake = f'#!/bin/sh\ncase "$3" in create) echo job-1 ;; describe) echo {state} ;; esac\n'
    env = {**build["substitutions"], "PROJECT_ID": "p-1", "_NAME": "one", "PATH": fake_gcloud(tmp_path, fake, "cat")}
    script = steps("train")["train"]["script"]
    done = subprocess.run(["/bin/sh"], input=script, text=True, cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == code, done.stderr
    job = json.loads((tmp_path / "job.json").read_text("utf-8"))
    (worker,) = job["workerPoolSpecs"]
    folders = ["/gcs/p-1-data/dvc", "/gcs/p-1-models", "one"]
    assert worker["containerSpec"]["args"] == [*folders, "--env", "production", "--tier", "efficientnet"]
    assert worker["machineSpec"]["acceleratorCount"] == 1


@pytest.mark.slow
@each_build
def test_the_sdk_knows_every_field_and_every_flag(name: str) -> None:
    build = read(name)
    assert unknown_fields(build, "cloudbuild.v1.cloudbuild_v1_messages", "Build") == []
    commands = [line for step in build["steps"] for line in gcloud_lines(step.get("script", ""))]
    assert len(commands) >= 5
    assert [said for command in commands for said in complaints(command)] == []


@pytest.mark.slow
def test_the_sdk_knows_every_field_of_the_job(tmp_path: Path) -> None:
    test_the_job_is_what_was_asked_for_and_its_failure_the_builds(tmp_path, "JOB_STATE_SUCCEEDED", 0)
    job = json.loads((tmp_path / "job.json").read_text("utf-8"))
    module = "aiplatform.v1.aiplatform_v1_messages"
    assert unknown_fields(job, module, "GoogleCloudAiplatformV1CustomJobSpec") == []
