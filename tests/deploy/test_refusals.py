"""What a release refuses before anything is touched, and what it would do."""

import pytest

from tests.deploy.conftest import AMERICA, DIGESTS, Cloud, image_of


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        ('^tokens = .*', "", "the service can be reached by anyone, and no secret with tokens is named"),
        ('^tokens = .*', 'tokens = "other"', "the secret other cannot be seen"),
        ('^regions = .*', 'region = "x"', "regions: missing"),
        ('^service = .*', 'service = "a b"', "service: 'a b' is not of the form"),
        ('^seconds = .*', "seconds = -1", "times are above 0"),
        ('^project = .*', 'project = "lesion-other"', "Permission denied"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_before_anything_is_touched(
    bare_cloud: Cloud, pattern: str, replacement: str, said: str
) -> None:
    bare_cloud.configure(pattern, replacement)
    done = bare_cloud.release(image_of("new"))
    assert done.returncode == 2
    assert said in done.stderr
    assert_nothing_changed(bare_cloud)


def test_a_disabled_secret_is_refused(bare_cloud: Cloud) -> None:
    bare_cloud.change(secrets={"lesion-tokens": "DISABLED"})
    done = bare_cloud.release(image_of("new"))
    assert (done.returncode, "is disabled" in done.stderr) == (2, True)
    assert_nothing_changed(bare_cloud)


def test_a_release_without_a_token_of_its_own_is_refused(bare_cloud: Cloud) -> None:
    del bare_cloud.env["LESION_TOKEN"]
    done = bare_cloud.release(image_of("new"))
    assert (done.returncode, "LESION_TOKEN is not set" in done.stderr) == (2, True)


def test_an_image_that_is_not_named_by_its_digest_is_refused(bare_cloud: Cloud) -> None:
    done = bare_cloud.release("europe-docker.pkg.dev/lesion-test/lesion/serve:latest")
    assert (done.returncode, "name the image by its digest" in done.stderr) == (2, True)


def test_split_traffic_is_refused(bare_cloud: Cloud) -> None:
    targets = [{"revisionName": "lesion-0", "percent": 60}, {"revisionName": "lesion-1", "percent": 40}]
    bare_cloud.change(services={AMERICA: {"metadata": {"name": "lesion"}, "status": {"traffic": targets}}})
    done = bare_cloud.release(image_of("new"))
    assert (done.returncode, f"{AMERICA}: the traffic is split" in done.stderr) == (2, True)
    assert_nothing_changed(bare_cloud)


def test_a_dry_run_prints_what_it_would_run_and_runs_nothing(bare_cloud: Cloud) -> None:
    bare_cloud.env["PATH"] = "/nowhere"
    done = bare_cloud.release(image_of("new"), DIGESTS["tiny2"], "--dry-run")
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("gcloud ")]
    assert len(commands) == 1 + 2 + 2 * 4
    assert sum("services replace - " in command for command in commands) == 2
    assert bare_cloud.state["journal"] == []


def assert_nothing_changed(cloud: Cloud) -> None:
    assert {verb for verb, *_ in cloud.state["journal"]} <= {"list", "secret"}
