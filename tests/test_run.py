"""Run folders: made without collisions, found by when they finished, robust against damage."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lesion.errors import ConfigError, NotFoundError, OutputError
from lesion.run import FINISHED, Run, find_model, find_run, find_unfinished, newest_run, now, run_of


def make(root: Path, name: str, finished: str | None, status: str = FINISHED, model: bool = True) -> Run:
    run = Run(root / name)
    run.checkpoints.mkdir(parents=True)
    run.config.write_text("seed: 0\n")
    run.write_state(status=status, created=now(), **({"finished": finished} if finished else {}))
    if model:
        run.model.write_bytes(b"model")
    return run


def test_a_new_run_has_its_folders_and_says_that_it_runs(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "made" / "runs", "baseline")
    assert re.fullmatch(r"\d{8}-\d{6}-baseline", run.path.name)
    assert run.checkpoints.is_dir()
    assert not run.model.exists()
    state = run.read_state()
    assert state["status"] == "running"
    assert datetime.fromisoformat(state["created"]).tzinfo == UTC


def test_all_files_of_a_run_lie_in_its_folder(tmp_path: Path) -> None:
    run = Run(tmp_path)
    paths = [run.config, run.checkpoints, run.model, run.quantized, run.card]
    paths += [make(split) for split in ("val", "test") for make in (run.report, run.answers, run.page)]
    assert len(set(paths)) == len(paths)
    assert {path.parent for path in paths} == {tmp_path}


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr("lesion.run.datetime", Frozen)


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(monkeypatch)
    names = [Run.create(tmp_path, "resnet").path.name for _ in range(3)]
    assert names == ["20260102-030405-resnet", "20260102-030405-resnet-1", "20260102-030405-resnet-2"]


def test_a_hundred_runs_in_one_second_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(monkeypatch)
    for i in range(100):
        (tmp_path / (f"20260102-030405-x-{i}" if i else "20260102-030405-x")).mkdir()
    with pytest.raises(OutputError, match="cannot make a run folder 20260102-030405-x") as caught:
        Run.create(tmp_path, "x")
    assert caught.value.exit_code == 74


@pytest.mark.parametrize("below", ["runs", "runs/deeper"])
def test_a_run_below_a_file_cannot_be_made(below: str, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OutputError) as caught:
        Run.create(tmp_path / below, "baseline")
    assert str(tmp_path / below) in caught.value.message
    assert (caught.value.exit_code, bool(caught.value.hint)) == (74, True)


def test_the_state_is_merged(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "x")
    created = run.read_state()["created"]
    run.write_state(status="failed", epochs=3)
    assert run.read_state() == {"status": "failed", "created": created, "epochs": 3}


def test_a_state_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "x")
    before = run.read_state()
    with pytest.raises(ValueError, match="JSON"):
        run.write_state(loss=float("nan"))
    assert run.read_state() == before


def test_times_sort_as_text() -> None:
    times = [now() for _ in range(50)]
    assert times == sorted(times)
    assert {len(time) for time in times} == {len("2026-01-02T03:04:05.000000+00:00")}


def test_the_newest_run_is_the_one_that_finished_last_whatever_its_name(tmp_path: Path) -> None:
    make(tmp_path, "20260103-000000-b", "2026-01-03T01:00:00.000000+00:00")
    long = make(tmp_path, "20260101-000000-a", "2026-01-05T00:00:00.000000+00:00")
    make(tmp_path, "20260104-000000-c", "2026-01-04T23:59:59.999999+00:00")
    assert newest_run(tmp_path) == long
    assert find_run(None, tmp_path) == long
    assert find_model(None, tmp_path) == long.model


@pytest.mark.parametrize("status", ["running", "failed", "interrupted", ""])
def test_runs_that_did_not_finish_are_passed_over(status: str, tmp_path: Path) -> None:
    done = make(tmp_path, "a", "2026-01-01T00:00:00.000000+00:00")
    make(tmp_path, "b", "2026-01-02T00:00:00.000000+00:00", status=status)
    assert newest_run(tmp_path) == done


def test_a_finished_run_without_its_model_is_passed_over(tmp_path: Path) -> None:
    done = make(tmp_path, "a", "2026-01-01T00:00:00.000000+00:00")
    make(tmp_path, "b", "2026-01-02T00:00:00.000000+00:00", model=False)
    assert newest_run(tmp_path) == done


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"finished"', b'{"status": ["finished"]}'],
    ids=["empty", "cut off", "binary", "list", "null", "text", "odd status"],
)  # fmt: skip
def test_a_damaged_state_is_passed_over(content: bytes, tmp_path: Path) -> None:
    done = make(tmp_path, "a", "2026-01-01T00:00:00.000000+00:00")
    damaged = make(tmp_path, "b", "2026-01-02T00:00:00.000000+00:00")
    (damaged.path / "run.json").write_bytes(content)
    assert newest_run(tmp_path) == done


@pytest.mark.parametrize("finished", [None, ""])
def test_a_run_that_does_not_say_when_it_finished_is_older_than_one_that_does(finished: object, tmp_path: Path) -> None:
    done = make(tmp_path, "a", "2026-01-01T00:00:00.000000+00:00")
    odd = make(tmp_path, "b", None)
    odd.write_state(finished=finished)
    assert newest_run(tmp_path) == done


def test_other_files_and_folders_are_no_runs(tmp_path: Path) -> None:
    done = make(tmp_path, "a", "2026-01-01T00:00:00.000000+00:00")
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "run.json").mkdir(parents=True)
    assert newest_run(tmp_path) == done


@pytest.mark.parametrize("make_it", ["absent", "empty", "file", "only running"])
def test_without_a_finished_run_the_hint_says_how_to_get_one(make_it: str, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    if make_it == "file":
        root.touch()
    elif make_it == "empty":
        root.mkdir()
    elif make_it == "only running":
        make(root, "a", None, status="running")
    for find in (newest_run, lambda root: find_model(None, root), lambda root: find_run(None, root)):
        with pytest.raises(NotFoundError) as caught:
            find(root)
        assert caught.value.message == f"no finished run in {root}"
        assert "lesion train" in caught.value.hint
        assert "--model" in caught.value.hint
        assert caught.value.exit_code == 66


def test_a_model_is_found_by_file_by_folder_or_as_the_newest(tiny_run: Path, tmp_path: Path) -> None:
    run = newest_run(tiny_run)
    assert find_model(None, tiny_run) == run.model
    assert find_model(run.path, tmp_path / "nowhere") == run.model
    assert find_model(run.quantized, tmp_path / "nowhere") == run.quantized


def test_a_run_is_found_by_its_folder_even_when_it_did_not_finish(tmp_path: Path) -> None:
    run = make(tmp_path, "a", None, status="interrupted")
    assert find_run(run.path, tmp_path / "nowhere") == run


@pytest.mark.parametrize("name", ["absent", "empty", "file"])
def test_a_folder_without_a_configuration_is_no_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError) as caught:
        find_run(tmp_path / name, tmp_path)
    assert caught.value.message == f"{tmp_path / name} is not a run folder: it has no config.yaml"
    elsewhere = f"a model file is checked by: lesion export --verify {tmp_path / name}"
    assert caught.value.hint == (elsewhere if name == "file" else f"name a folder below {tmp_path}/")


def test_a_model_knows_its_run_only_inside_one(tiny_run: Path, tiny: Path) -> None:
    run = newest_run(tiny_run)
    assert run_of(run.model) == run
    assert run_of(tiny) is None


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "x")
    assert json.loads((run.path / "run.json").read_text("utf-8")) == run.read_state()


def test_a_name_that_no_folder_can_have_is_not_found(tmp_path: Path) -> None:
    name = "x" * 300
    with pytest.raises(NotFoundError, match="not a run folder"):
        find_run(tmp_path / name, tmp_path)
    with pytest.raises(NotFoundError, match="not a run folder"):
        find_unfinished(name, tmp_path)
    assert find_model(tmp_path / name, tmp_path) == tmp_path / name
    assert run_of(tmp_path / name / "model.onnx") is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/abs", "a\\b", "a\0b", "-x", ".x", "a\n", "x" * 129])
def test_a_name_that_is_more_than_a_name_is_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    with pytest.raises(ConfigError, match=r"^name: a name of 1 to 128 bytes"):
        Run.create(root, "x", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "config.yaml", "checkpoints/mine.ckpt"])
def test_files_that_are_no_run_are_never_written_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(OutputError, match=f"is no run and holds {path.name}"):
        Run.create(tmp_path, "x", "a")
    assert path.read_text() == "precious"
    assert not (tmp_path / "a" / "run.json").exists()


def test_other_files_in_the_folder_of_a_run_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("precious")  # or pictures, which `dvc repro` leaves there
    Run.create(tmp_path, "x", "a")
    assert (tmp_path / "a" / "notes.txt").read_text() == "precious"


def test_an_empty_folder_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)  # what a start that was killed leaves behind
    assert Run.create(tmp_path, "x", "a").read_state()["status"] == "running"
