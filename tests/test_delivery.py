"""What is delivered besides the package: container images, lock files."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).parents[1]
LOCKS = sorted((REPO / "requirements").glob("*.txt"))

each_lock = pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)


def test_nothing_is_downloaded_straight_into_a_shell() -> None:
    assert not re.search(r"(curl|wget)\b[^\n]*\|\s*(sudo\s+)?\w*sh\b", (REPO / "Dockerfile").read_text("utf-8"))


@pytest.mark.parametrize("name", [".pre-commit-config.yaml", "CONTRIBUTING.md", "README.md", ".ci/run"])
def test_every_make_target_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"(?m)(?:^|`|: |\|\| |&& )make ([a-z]+)", (REPO / name).read_text("utf-8")))
    assert named
    assert named <= set(re.findall(r"(?m)^([a-z]+):", (REPO / "Makefile").read_text("utf-8")))


def test_hooks_before_a_commit_and_a_push_run_what_make_check_runs() -> None:
    config = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text("utf-8"))
    (source,) = config["repos"]
    assert source["repo"] == "local", "nothing is fetched to run a hook"
    hooks = {hook["stages"][0]: hook["entry"] for hook in source["hooks"]}
    assert hooks == {"pre-commit": "make lint", "pre-push": "make check"}
    assert set(hooks) == set(config["default_install_hook_types"])
    assert re.search(r"(?m)^check: lint\b", (REPO / "Makefile").read_text("utf-8"))


def read_stages() -> dict[str, list[tuple[str, str]]]:
    """The stages of the Dockerfile by name: their instructions, FROM first, each with its arguments."""
    stages: dict[str, list[tuple[str, str]]] = {}
    lines = [line for line in (REPO / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = [("FROM", base)]
        elif word and stages:
            stages[name].append((word, " ".join(rest.split())))
    return stages


def only(stage: list[tuple[str, str]], word: str) -> str:
    """The arguments of the one instruction `word` of a stage."""
    (found,) = [rest for name, rest in stage if name == word]
    return found


def test_the_images_are_serve_by_default_and_train_by_name() -> None:
    stages = read_stages()
    assert "train" in stages
    assert list(stages)[-1] == "serve"


@pytest.mark.parametrize("name", ["serve", "train"])
def test_an_image_runs_as_a_number_that_is_not_root(name: str) -> None:
    stage = read_stages()[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only(stage, "USER"))
    assert isinstance(json.loads(only(stage, "ENTRYPOINT")), list)
    assert isinstance(json.loads(only(stage, "CMD")), list)
    assert not [rest for word, rest in stage if word == "RUN"]  # what builds stays in the builder


def test_the_server_says_whether_it_lives() -> None:
    check = only(read_stages()["serve"], "HEALTHCHECK")
    options, _, command = check.partition(" CMD ")
    assert "--interval=" in options
    assert "/livez" in json.loads(command)[-1]
    compile(json.loads(command)[-1], "HEALTHCHECK", "exec")


def test_the_image_that_serves_has_nothing_of_training() -> None:
    stages, todo, seen = read_stages(), ["serve"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        text = " ".join(f"{word} {rest}" for word, rest in stages[name])
        assert not re.search(r"\btrain\b", text), name
        todo += [other for other in re.findall(r"(?:FROM |--from=)([\w-]+)", text) if other in stages]
    assert seen == {"serve", "serve-venv", "wheel", "builder"}


def test_every_base_image_and_package_has_a_version() -> None:
    text = (REPO / "Dockerfile").read_text("utf-8")
    assert re.findall(r"(?m)^ARG PYTHON=(\S+)", text) == ["python:3.12-slim"]
    assert "latest" not in text
    stages = read_stages()
    assert {only(stage, "FROM") for stage in stages.values()} <= {"${PYTHON}", *stages}
    for command in (rest for stage in stages.values() for word, rest in stage if word == "RUN"):
        for install in re.findall(r"(?:pip install|pip sync|uv build)[^&]*", command):
            assert "--require-hashes" in install or "--no-deps --offline" in install, install


def test_a_build_sees_what_the_dockerfile_copies_and_nothing_else() -> None:
    rules = [line for line in (REPO / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    seen = {rule[1:] for rule in rules if rule[0] == "!"}
    copies = [rest.split() for stage in read_stages().values() for word, rest in stage if word == "COPY"]
    copied = {source.split("/")[0] for words in copies if "--from" not in words[0] for source in words[:-1]}
    assert seen == copied
    assert not seen & {"data", "runs", "processed", "demo", "tests", ".git", ".venv", "."}


def read_lock(name: str) -> dict[str, set[str]]:
    """The versions that a lock file allows for each package: more than one where they depend on the platform."""
    versions: dict[str, set[str]] = {}
    for line in (REPO / "requirements" / name).read_text("utf-8").splitlines():
        if pin := re.match(r"([\w.-]+)==([\w.+!-]+)", line):
            versions.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    return versions


@each_lock
def test_every_locked_package_has_its_hashes_and_no_address(path: Path) -> None:
    # A pin is a name, a version, perhaps a marker, and hashes: no room for an address.
    for pin in path.read_text("utf-8").replace("\\\n", "").splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; [^;#@]+?)?( +--hash=sha256:[0-9a-f]{64})+", pin), pin[:80]


@pytest.mark.parametrize(
    ("lock", "parts"),
    [
        ("serve.txt", ["base"]),
        ("shared.txt", ["base", "postgres", "redis", "otel", "store"]),
        ("train.txt", ["base", "train"]),
        ("dev.txt", ["base", "train", "dev"]),
        ("soak.txt", ["base", "train", "store", "dev", "soak"]),
        ("bench.txt", ["base", "train", "dev", "bench"]),
        ("docs.txt", ["docs"]),
        ("audit.txt", ["audit"]),
    ],
)
def test_a_lock_holds_every_dependency_in_a_version_that_fits(lock: str, parts: list[str]) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))
    groups = {
        "base": project["project"]["dependencies"],
        **project["project"]["optional-dependencies"],
        **project["dependency-groups"],
    }
    locked = read_lock(lock)
    for part in parts:
        for wanted in map(Requirement, groups[part]):
            versions = locked.get(canonicalize_name(wanted.name), set())
            assert versions, f"{wanted} is not in {lock}"
            assert all(version in wanted.specifier for version in versions), f"{wanted}: {lock} has {versions}"


def test_what_is_tested_is_what_is_served() -> None:
    trained, tested = read_lock("train.txt"), read_lock("dev.txt")
    for name, versions in read_lock("serve.txt").items():
        assert read_lock("shared.txt")[name] == versions, name
        assert trained[name] == tested[name] == versions, name
    assert not read_lock("serve.txt").keys() & {"torch", "torchvision", "lightning", "onnx", "dvc", "wandb"}


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths that git tracks."""
    if not (REPO / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and a clone: an unpacked archive does not say what is tracked")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True, text=True)
    return [path for path in listing.stdout.split("\0") if path and (REPO / path).is_file()]


def test_no_tracked_file_names_a_package_registry(tracked: list[str]) -> None:
    names = [  # in pieces, because this file is tracked, too
        "py" + "pi.org",
        "python" + "hosted.org",
        "download.py" + "torch.org/whl",
        "conda.ana" + "conda.org",
        "/sim" + "ple/",
        "index" + "-url",
        "PIP" + "_INDEX",
        "UV" + "_INDEX",
        "UV_DEFAULT" + "_INDEX",
    ]
    leave_out = "--no-emit-index" + "-url"  # of scripts/lock
    for path in tracked:
        text = (REPO / path).read_text("utf-8", errors="ignore").replace(leave_out, "")
        assert not [name for name in names if name in text], path


def test_no_image_of_a_patient_is_tracked(tracked: list[str]) -> None:
    assert not [path for path in tracked if re.search(r"ISIC_\d+[^/]*\.(jpe?g|png)$", path, re.IGNORECASE)]
