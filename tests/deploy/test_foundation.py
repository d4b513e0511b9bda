"""What deploy/foundation.py makes: against the SDK's own table of commands, and against a fake that remembers."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, fake_gcloud
from tests.deploy.sdk import complaints, unknown_fields

PARTS = ("base", "edge", "alerts")
FAKE = r"""#!/bin/sh
book=${0%/*}/book kind=
while [ $# -gt 1 ]; do
    case $1 in *[!a-z-]* | create* | describe | list | add-* | import | enable | update) break ;; esac
    kind="$kind $1"
    shift
done
verb=$1 name=${2%%@*}
case $name in
    --filter=*) name=${name#*\"} name=${name%%\"*} ;;
    --policy=*) name=${name#*displayName\": \"} name=${name%%\"*} ;;
esac
case $verb in
    describe)
        [ "$kind" != " projects" ] || { echo 123456; exit; }
        grep -qxF "made$kind $name" "$book" || exit 1
        grep "^group $name " "$book"
        exit 0 ;;
    list) ! grep -qxF "made$kind $name" "$book" || echo "$name"; exit 0 ;;
    create*) echo "made$kind $name" >> "$book" ;;
    add-backend) echo "group $name networkEndpointGroups/${4#*=}" >> "$book" ;;
esac
echo "ran $verb$kind $name" >> "$book"
"""


def run(part: str, *more: str, path: str = "/nowhere") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, str(DEPLOY / "foundation.py"), part, "--config", str(DEPLOY / "production.toml"), *more]
    return subprocess.run(words, env={"PATH": path}, capture_output=True, text=True)


def commands(part: str) -> list[str]:
    """What a dry run prints."""
    done = run(part, "--dry-run")
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("gcloud ")]


def test_only_static_files_are_cached() -> None:
    out = run("edge", "--dry-run").stdout
    cached = [line for line in out.splitlines() if "--enable-cdn" in line]
    assert len(cached) == 1
    assert "backend-services create lesion-static " in cached[0]
    assert "--cache-mode=USE_ORIGIN_HEADERS" in cached[0]
    first, second = (json.loads(found) for found in re.findall(r"<<'JSON'\n(.*?)\nJSON", out, re.DOTALL))
    (matcher,) = first["pathMatchers"]
    assert matcher["defaultService"].endswith("/lesion-api")
    assert [(rule["paths"], rule["service"].rpartition("/")[2]) for rule in matcher["pathRules"]] == [
        (["/static/*"], "lesion-static")
    ]
    assert second["defaultUrlRedirect"]["httpsRedirect"] is True


def test_both_backends_reach_all_regions() -> None:
    added = [shlex.split(line) for line in commands("edge") if "add-backend" in line]
    pairs = {(words[4], words[-2].partition("=")[2]) for words in added}
    assert pairs == {
        (name, region) for name in ("lesion-api", "lesion-static") for region in ("europe-west1", "us-central1")
    }


def test_github_needs_no_key_and_only_one_branch_of_one_repository_is_trusted() -> None:
    lines = commands("base")
    (provider,) = [shlex.split(line) for line in lines if "create-oidc" in line]
    condition = next(word for word in provider if word.startswith("--attribute-condition="))
    assert "assertion.repository=='OWNER/REPOSITORY'" in condition
    assert "assertion.ref=='refs/heads/main'" in condition
    (member,) = [word for line in lines for word in shlex.split(line) if "principalSet" in word]
    assert member.endswith("/attribute.repository/OWNER/REPOSITORY")
    assert not [line for line in lines if " keys create" in line and " kms " not in line]


def test_buckets_are_private_and_nobody_is_everyone() -> None:
    lines = commands("base")
    made = [line for line in lines if "storage buckets create" in line]
    assert len(made) == 3
    assert all("--public-access-prevention" in line for line in made)
    assert not [line for line in lines if re.search("allUsers|allAuthenticatedUsers|roles/(owner|editor)", line)]


@pytest.mark.skipif(sys.platform == "win32", reason="runs on Linux and macOS")
@pytest.mark.parametrize(
    ("part", "again"),
    [("base", {"enable", "update", "add-iam-policy-binding"}), ("edge", {"import"}), ("alerts", set())],
)
def test_what_is_there_is_left_as_it_is(tmp_path: Path, part: str, again: set[str]) -> None:
    path = fake_gcloud(tmp_path, FAKE, "grep")
    book = Path(path) / "book"
    book.touch()
    for _ in range(2):
        before = len(book.read_text("utf-8").splitlines())
        done = run(part, path=path)
        assert done.returncode == 0, done.stderr
    lines = book.read_text("utf-8").splitlines()
    assert any(line.startswith("ran create") for line in lines[:before])
    assert {line.split()[1] for line in lines[before:]} == again


def test_what_fails_is_said() -> None:
    done = run("base")
    assert (done.returncode, "gcloud is not on PATH" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_sdk_knows_every_command_and_flag(part: str) -> None:
    lines = commands(part)
    assert len(lines) >= 10
    assert [said for line in lines for said in complaints(line)] == []


@pytest.mark.slow
def test_the_sdk_knows_every_field_of_the_url_maps() -> None:
    for body in re.findall(r"<<'JSON'\n(.*?)\nJSON", run("edge", "--dry-run").stdout, re.DOTALL):
        assert unknown_fields(json.loads(body), "compute.v1.compute_v1_messages", "UrlMap") == []
