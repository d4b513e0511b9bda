"""Releases against a fake gcloud whose revisions are real servers, while a client asks all the time."""

import json
import signal
import subprocess

import pytest

from tests.deploy.conftest import AMERICA, DIGESTS, EUROPE, REGIONS, Cloud, image_of, stop, wait_for

OLD, NEW = DIGESTS["tiny"][:12], DIGESTS["tiny2"][:12]
pytestmark = [pytest.mark.slow, pytest.mark.soak]


def assert_untouched(cloud: Cloud, *regions: str) -> None:
    """The old revision has all traffic of these regions, and none was ever moved."""
    for region in regions or REGIONS:
        assert cloud.shares(region) == {"lesion-0": 100}
        assert {visit.revision for visit in cloud.seen(region)} <= {"lesion-0"}


def test_a_good_release_gets_all_traffic_region_by_region(cloud: Cloud) -> None:
    with cloud.client(EUROPE) as europe, cloud.client(AMERICA) as america:
        done = cloud.release(image_of("new"))
    assert done.returncode == 0, done.stderr
    (revision,) = cloud.shares(EUROPE)
    assert done.stdout == f"{revision} has all traffic in {EUROPE}, {AMERICA}\n"
    assert cloud.shares(EUROPE) == cloud.shares(AMERICA) == {revision: 100}
    splits = [f"lesion-0=95,{revision}=5", f"lesion-0=50,{revision}=50", f"{revision}=100"]
    moved = [(where, split) for verb, where, split in cloud.state["journal"] if verb == "update-traffic"]
    assert moved == [(region, split) for region in REGIONS for split in splits]
    for client in (europe, america):
        assert set(client.statuses) == {200}
        assert {model.partition("@")[2] for model in client.models} == {OLD, NEW}


def test_the_first_release_has_nothing_to_share_the_traffic_with(bare_cloud: Cloud) -> None:
    failed = {"metadata": {"name": "lesion"}, "status": {}}  # an earlier first release that did not start
    bare_cloud.change(services={EUROPE: failed})
    done = bare_cloud.release(image_of("new"))
    assert done.returncode == 0, done.stderr
    assert [list(bare_cloud.shares(region).values()) for region in REGIONS] == [[100], [100]]


def test_a_first_release_that_fails_says_that_there_is_no_way_back(bare_cloud: Cloud) -> None:
    done = bare_cloud.release(image_of("new"), DIGESTS["tiny"])
    assert (done.returncode, "there is no earlier revision to go back to" in done.stderr) == (1, True)
    assert AMERICA not in bare_cloud.state["services"]


def test_a_wrong_model_is_seen_before_anyone_is_sent_to_it(cloud: Cloud) -> None:
    with cloud.client() as client:
        done = cloud.release(image_of("new"), DIGESTS["tiny"])
    assert done.returncode == 1
    assert f"it has the model {DIGESTS['tiny2']}, expected {DIGESTS['tiny']}" in done.stderr
    assert_untouched(cloud)
    assert cloud.tags(EUROPE) == []
    assert set(client.statuses) == {200}


def test_an_image_that_does_not_start_is_not_released(cloud: Cloud) -> None:
    with cloud.client() as client:
        done = cloud.release(cloud.add_image("broken", "/nowhere.onnx"))
    assert done.returncode == 1
    assert "failed to start" in done.stderr
    assert_untouched(cloud)
    assert set(client.statuses) == {200}


def test_a_server_that_lets_strangers_in_is_not_released(cloud: Cloud) -> None:
    done = cloud.release(cloud.add_image("new", "tiny2", open="lesion_test"))
    assert done.returncode == 1
    assert "without a token it answers 200, expected 401" in done.stderr
    assert_untouched(cloud)


def test_one_that_fails_under_traffic_goes_back_and_only_its_share_saw_it(cloud: Cloud) -> None:
    cloud.configure(r"^seconds = .*", "seconds = 3.0")
    with cloud.client() as client:
        done = cloud.release(cloud.add_image("new", "tiny2", status=500, after=8))
    assert done.returncode == 1
    assert "images were answered badly: HTTP 500" in done.stderr
    assert_untouched(cloud, AMERICA)
    assert cloud.shares(EUROPE) == {"lesion-0": 100}
    assert cloud.tags(EUROPE) == []
    failed = [visit for visit in cloud.seen(EUROPE) if visit.status >= 500]
    assert client.statuses.count(500) == len(failed)
    assert {visit.percent for visit in failed} <= {5}
    canary = [visit for visit in cloud.seen(EUROPE) if visit.percent in (5, 95)]
    assert len(failed) <= len(canary) * 0.05 + 1
    last = max((index for index, status in enumerate(client.statuses) if status != 200), default=-1)
    assert set(client.statuses[last + 1 :]) <= {200}


def test_a_slow_one_goes_back(cloud: Cloud) -> None:
    cloud.configure(r"^latency_s = .*", "latency_s = 2.0")
    cloud.configure(r"^bad = .*", "bad = 0.0")
    with cloud.client() as client:
        done = cloud.release(cloud.add_image("new", "tiny2", delay_s=2.5, after=6))
    assert done.returncode == 1
    assert "at most 2 s expected" in done.stderr
    assert cloud.shares(EUROPE) == cloud.shares(AMERICA) == {"lesion-0": 100}
    assert set(client.statuses) == {200}


def test_what_others_are_answered_counts_too(cloud: Cloud) -> None:
    done = cloud.release(cloud.add_image("new", "tiny2", strained_at=5))
    assert done.returncode == 1
    assert "requests to an instance were answered 5xx" in done.stderr
    assert cloud.shares(EUROPE) == cloud.shares(AMERICA) == {"lesion-0": 100}


def test_one_that_is_killed_goes_back(cloud: Cloud) -> None:
    cloud.configure(r"^seconds = .*", "seconds = 60.0")
    cloud.add_image("killed", "tiny2")
    with cloud.client() as client, cloud.start(image_of("killed")) as release:
        wait_for(lambda: len(cloud.shares(EUROPE)) == 2)
        note = cloud.pool / f"{image_of('killed')[-64:]}.json"
        stop(json.loads(note.read_text("utf-8"))["pid"], signal.SIGKILL)
        note.unlink()
        assert release.wait(120) == 1
        said = release.stderr.read() if release.stderr else ""
    assert "images were answered badly: HTTP 503" in said
    assert cloud.shares(EUROPE) == {"lesion-0": 100}
    assert client.statuses.count(503) <= len(cloud.seen(EUROPE)) * 0.05 + 1


def test_all_regions_go_back_when_the_second_fails(cloud: Cloud) -> None:
    with cloud.client() as client:
        done = cloud.release(cloud.add_image("new", "tiny2", status=500, after=8, region=AMERICA))
    assert done.returncode == 1
    assert f"{AMERICA}: " in done.stderr
    assert cloud.shares(EUROPE) == cloud.shares(AMERICA) == {"lesion-0": 100}
    assert set(client.statuses) == {200}
    assert {model.partition("@")[2] for model in client.models} == {OLD, NEW}  # the first region had stood


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_release_gives_the_traffic_back(cloud: Cloud, sent: signal.Signals, code: int) -> None:
    cloud.configure(r"^seconds = .*", "seconds = 60.0")
    with cloud.client() as client, cloud.start(image_of("new")) as release:
        wait_for(lambda: len(cloud.shares(EUROPE)) == 2)
        release.send_signal(sent)
        assert release.wait(120) == code
        said = release.stderr.read() if release.stderr else ""
    assert f"interrupted by {sent.name}" in said
    assert cloud.shares(EUROPE) == {"lesion-0": 100}
    assert_untouched(cloud, AMERICA)
    assert set(client.statuses) == {200}


def test_a_command_that_fails_once_does_not_leave_the_traffic_behind(cloud: Cloud) -> None:
    cloud.change(broken={"update-traffic": 2})  # the first shift, and the first try to give back
    done = cloud.release(image_of("new"))
    assert done.returncode == 1
    assert cloud.shares(EUROPE) == {"lesion-0": 100}


def test_an_answer_that_nobody_expected_does_not_leave_the_traffic_behind(cloud: Cloud) -> None:
    cloud.change(garbled_list=5)  # after the first shift
    done = cloud.release(image_of("new"))
    assert (done.returncode, "JSONDecodeError" in done.stderr) == (1, True)
    assert [split for verb, _, split in cloud.state["journal"] if verb == "update-traffic"][-1] == "lesion-0=100"
    assert cloud.shares(EUROPE) == {"lesion-0": 100}


def test_what_cannot_be_given_back_is_said_with_the_command(cloud: Cloud) -> None:
    cloud.change(broken={"update-traffic": 99})
    done = cloud.release(image_of("new"))
    assert done.returncode == 3
    command = "gcloud run services update-traffic lesion --to-revisions=lesion-0=100 --remove-tags=candidate"
    assert f"by hand: {command} --region={EUROPE} --project=lesion-test" in done.stderr


def test_whoever_moves_the_traffic_meanwhile_is_not_overruled(cloud: Cloud) -> None:
    cloud.configure(r"^seconds = .*", "seconds = 4.0")
    with cloud.start(image_of("new")) as release:
        wait_for(lambda: len(cloud.shares(EUROPE)) == 2)
        words = ["run", "services", "update-traffic", "lesion", "--to-revisions=lesion-0=100", f"--region={EUROPE}"]
        command = [str(cloud.bin / "gcloud"), *words, "--project=lesion-test", "--quiet"]
        subprocess.run(command, env=cloud.env, check=True)
        assert release.wait(120) == 1
        said = release.stderr.read() if release.stderr else ""
    assert "stopped, nothing is undone" in said
    assert cloud.state["journal"][-2:] == [["update-traffic", EUROPE, "lesion-0=100"], ["list", EUROPE, ""]]
