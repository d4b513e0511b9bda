"""The workflows of .github: what they may do, whom they trust, and that all they name exists."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO

WORKFLOWS = sorted((REPO / ".github/workflows").glob("*.yml"))
# Whose code runs with our rights. Another publisher is a decision, not a line in a pull request.
PUBLISHERS = {"actions", "anchore", "google-github-actions"}
# The only jobs that may do more than read, and what.
WRITERS = {
    ("site.yml", "publish"): {"pages", "id-token"},
    ("release.yml", "attest"): {"attestations", "id-token"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "announce"): {"contents"},
    ("deploy.yml", "release"): {"id-token"},
}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(name: str) -> dict[Any, Any]:
    return yaml.safe_load((REPO / ".github/workflows" / name).read_text("utf-8"))


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    on = workflow[True]  # YAML 1.1 reads the key `on` as true
    return on if isinstance(on, dict) else dict.fromkeys([on] if isinstance(on, str) else on)


def steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def scripts(workflow: dict[Any, Any]) -> Iterator[str]:
    yield from (step["run"] for step in steps(workflow) if "run" in step)


def test_what_a_delivery_needs_has_its_workflow() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"ci", "site", "container", "nightly", "release", "deploy"}
    assert not list((REPO / ".github/workflows").glob("*.yaml")), "the tests read *.yml"


@each_workflow
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    uses = [line for line in path.read_text("utf-8").splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert uses
    for line in uses:
        found = re.fullmatch(r"\s*(?:- )?uses: ([\w.-]+)/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
        assert found, line
        assert found[1] in PUBLISHERS, line


def test_an_action_has_one_version_everywhere() -> None:
    text = "\n".join(path.read_text("utf-8") for path in WORKFLOWS)
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"uses: ([^@\s]+)@(.+)", text):
        versions.setdefault(name, set()).add(version)
    assert not {name: found for name, found in versions.items() if len(found) > 1}


@each_workflow
def test_a_job_may_read_and_only_the_listed_ones_may_do_more(path: Path) -> None:
    workflow = read(path.name)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        rights = job.get("permissions", {})
        assert set(rights.values()) <= {"read", "write"}, name
        assert {right for right, level in rights.items() if level == "write"} == WRITERS.get((path.name, name), set())


def test_the_list_of_writers_names_jobs_that_exist() -> None:
    assert all(job in read(name)["jobs"] for name, job in WRITERS)


@each_workflow
def test_no_stranger_starts_a_workflow_that_has_rights(path: Path) -> None:
    started = set(triggers(read(path.name)))
    assert started <= {"push", "pull_request", "schedule", "workflow_dispatch"}
    if "pull_request" in started:  # a fork's code runs: then nothing may write outside the default branch
        for name, job in read(path.name)["jobs"].items():
            assert (path.name, name) not in WRITERS or job["if"] == "github.ref == 'refs/heads/main'"


@each_workflow
def test_no_text_of_others_becomes_part_of_a_script(path: Path) -> None:
    for script in scripts(read(path.name)):
        assert "${{" not in script, script  # an expression is put in before the shell reads; variables are not


@each_workflow
def test_there_is_no_secret_to_steal(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "secrets." not in text
    assert "credentials_json" not in text
    assert "password" not in text


@each_workflow
def test_every_job_has_a_time_limit_and_an_old_run_gives_way(path: Path) -> None:
    workflow = read(path.name)
    assert {"group", "cancel-in-progress"} <= set(workflow["concurrency"])
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 150, name


@each_workflow
def test_no_checkout_leaves_the_token_behind(path: Path) -> None:
    checkouts = [step for step in steps(read(path.name)) if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_workflow
def test_a_script_stops_at_the_first_failure_and_is_one(path: Path) -> None:
    workflow = read(path.name)
    assert workflow["defaults"]["run"]["shell"] == "bash"  # GitHub then adds -e and pipefail
    bash = shutil.which("bash") if os.name == "posix" else None  # on Windows it may be the one of a Linux beside it
    for step in (step for step in steps(workflow) if "run" in step):
        if step.get("shell") == "python":
            compile(step["run"], path.name, "exec")
        elif bash:
            done = subprocess.run([bash, "-n"], input=step["run"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@each_workflow
def test_what_a_script_names_exists(path: Path) -> None:
    text = "\n".join(scripts(read(path.name)))
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPO / "Makefile").read_text("utf-8")))
    assert set(re.findall(r"\bmake (?:--\w+ )*([a-z-]+)", text)) <= targets
    for name in re.findall(r"(?<![\w./-])(?:deploy|requirements|scripts|tests|configs|\.ci)/[\w./-]+", text):
        assert (REPO / name).exists(), name


@each_workflow
def test_nothing_is_installed_without_its_hash(path: Path) -> None:
    for script in scripts(read(path.name)):
        assert not re.search(r"(curl|wget)\b[^\n]*\|\s*(sudo\s+)?\w*sh\b", script)
        for line in script.replace("\\\n", " ").splitlines():
            if re.search(r"\b(pip install|pip sync|uv build|uv tool|uvx|pipx|npm|go install)\b", line):
                assert "--require-hashes" in line or "--no-deps" in line, line


def test_the_tests_run_on_three_systems_and_on_both_pythons() -> None:
    matrix = read("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert matrix["python"] == promised == ["3.11", "3.12"]


def test_each_night_runs_what_takes_long() -> None:
    ran = " ".join(scripts(read("nightly.yml")))
    assert {"make soak", "make audit"} <= set(re.findall(r"make \w+", ran))
    assert "make --silent bench" in ran
    assert "schedule" in triggers(read("nightly.yml"))


def test_a_release_is_tested_built_attested_and_only_then_published() -> None:
    jobs = read("release.yml")["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None, "attest": "build", "publish": "attest", "announce": "publish",
    }  # fmt: skip
    assert "gh run list --workflow ci.yml --commit" in jobs["build"]["steps"][0]["run"]
    attested = [step["with"] for step in jobs["attest"]["steps"] if "actions/attest@" in step["uses"]]
    assert attested == [{"subject-path": "dist/*"}, {"subject-path": "dist/*.whl", "sbom-path": "lesion.cdx.json"}]


def test_a_deployment_asks_the_build_for_what_it_knows() -> None:
    workflow = read("deploy.yml")
    (build,) = [script for script in scripts(workflow) if "builds submit" in script]
    given = set(re.findall(r"[\"=,](_\w+)=", build))
    known = yaml.safe_load((REPO / "deploy/api.yaml").read_text("utf-8"))
    assert given == {"_VERSION", "_MODEL", "_ENVIRONMENT"} <= set(known["substitutions"])
    assert "deploy/release.py" in known["steps"][-1]["script"]
    for name in triggers(workflow)["workflow_dispatch"]["inputs"]["environment"]["options"]:
        assert (REPO / f"deploy/{name}.toml").is_file()
    assert not workflow["concurrency"]["cancel-in-progress"]  # it would leave traffic split


def test_updates_wait_for_a_week() -> None:
    updates = yaml.safe_load((REPO / ".github/dependabot.yml").read_text("utf-8"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions"}
    assert all(update["cooldown"]["default-days"] == 7 for update in updates)
