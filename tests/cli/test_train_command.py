"""`lesion train` on the command line: dry run, resume, and what is said at the end."""

import json
import shlex
from pathlib import Path

import pytest

from lesion.config.load import load_config, to_yaml
from lesion.errors import Terminated
from lesion.run import FINISHED, Run, find_unfinished, now
from tests.conftest import Cli

QUICK = ("preprocess.size=32", "trainer.epochs=2", "trainer.accelerator=cpu", "trainer.precision=32-true")


def make(root: Path, name: str, status: str = "interrupted") -> Run:
    run = Run(root / name)
    run.checkpoints.mkdir(parents=True)
    run.config.write_text(to_yaml(load_config()))
    run.write_state(status=status, created=now())
    return run


def test_the_newest_unfinished_run_is_found_or_one_by_name_or_folder(tmp_path: Path) -> None:
    make(tmp_path, "b")
    newest = make(tmp_path, "a", "running")
    done = make(tmp_path, "c", FINISHED)
    assert find_unfinished(None, tmp_path) == newest
    assert find_unfinished("b", tmp_path) == Run(tmp_path / "b")
    assert find_unfinished(str(tmp_path / "b"), tmp_path / "nowhere") == Run(tmp_path / "b")
    assert find_unfinished("c", tmp_path) == done  # whose state is judged later


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--resume"], 66, "no unfinished run in runs"),
        (["--resume", "absent"], 66, "is not a run folder"),
        (["--resume", "a", "b"], 2, "one run expected after --resume, got a, b"),
        (["--resume", "done"], 2, "done is finished, nothing is left to resume"),
        (["--resume", "open", "seed=5", "lr=3"], 2, "unknown key 'lr'; did you mean 'optim.lr'?"),
        (["--resume", "open", "--tier", "resnet"], 2, "model.tier: baseline in the run, resnet asked for"),
        (["open"], 2, "is not of the form key=value"),
        (["--resume", "open", f"model.tier={'t' * 300}"], 2, "model.tier: one of baseline"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_resume_is_one_clear_error(
    words: list[str], code: int, said: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "open" in words or "done" in words:
        make(tmp_path / "runs", "open")
        make(tmp_path / "runs", "done", FINISHED)
    outcome = cli("train", *words)
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_a_dry_run_prints_a_plan_and_writes_no_run(ham_root: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("train", "--dry-run", f"data.root={ham_root}", f"runs={tmp_path / 'runs'}", *QUICK)
    report = json.loads(cli(*words, "--json").out)
    table = cli(*words).out
    assert f"split {report['data']['fingerprint']}" in table
    assert f"{report['steps_per_epoch']} an epoch, 2 epochs, {report['steps']} in all" in table
    assert report["recipe"][0] in table
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_interrupted_training_is_resumed_as_its_own_hint_says_and_tells_what_is_next(
    ham_root: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lesion.engine.interruption import Interruption

    check, calls = Interruption.check, []

    def stop_in_the_second_epoch(self: Interruption, trainer: object = None, *rest: object) -> None:
        calls.append(trainer)
        if getattr(trainer, "current_epoch", 0) == 1:
            raise Terminated("training was terminated by the system (SIGTERM)")
        check(self)

    words = (f"data.root={ham_root}", f"runs={tmp_path / 'runs'}", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "on_train_batch_end", stop_in_the_second_epoch)
        outcome = cli("train", *words)
    assert calls
    assert outcome.code == 143
    hint = outcome.err.rpartition("hint: ")[2]
    assert hint.startswith("1 finished epochs are kept: `lesion train --resume ")
    done = cli(*shlex.split(hint.split("`")[1])[1:])
    assert done.code == 0, done.err
    assert "best epoch" in done.out
    run = next(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    for command in ("eval", "predict IMAGE", "serve"):
        assert f"lesion {command} --model {run}" in done.err
    assert cli("train", "--resume", run).code == 2
