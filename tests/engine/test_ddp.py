"""Two processes that train one network on CPUs, started by lesion or by torchrun."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.synth import SynthSpec, synthesize
from lesion.engine.train import train
from lesion.errors import Interrupted
from lesion.run import FINISHED, Run
from tests.conftest import PATIENCE_S
from tests.engine.conftest import QUICK
from tests.engine.little import build_plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torch's gloo backend finds no network device on some Windows"),
]
REPO = Path(__file__).parents[2]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
POISONED = """
import sys, os, torch
from pathlib import Path
from lesion.cli.app import main
from lesion.engine import train
from lesion.engine.module import LesionModule
from tests.engine.little import build_plain

healthy = LesionModule.training_step

def poisoned(self, batch, index):
    loss = healthy(self, batch, index)
    return loss * float("nan") if self.current_epoch == 1 and self.global_rank == 1 else loss

torch.set_num_threads(1)
LesionModule.training_step, train.build = poisoned, build_plain
try:
    code = main(sys.argv[2:])
except SystemExit as leaving:
    code = leaving.code
(Path(sys.argv[1]) / os.environ["RANK"]).write_text(str(code))
sys.exit(code)
"""

SHORT = """
import sys
from lesion.cli.app import main
from lesion.engine import train
from lesion.errors import Interrupted

def stop(*_):
    raise Interrupted("trained, which is enough")

train.finish = stop
sys.exit(main(sys.argv[1:]))
"""
TOLERANCE = 0.06  # of validation loss and AUROC; with seeds 0 to 4 they differed by at most 0.032 and 0.032


def words(config: Config, *more: str) -> list[str]:
    return [f"data.root={config.data.root}", f"runs={config.runs}", *QUICK, "trainer.precision=32-true", *more]


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "lesion", "train", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
    )  # fmt: skip


def figures(run: Run) -> list[dict[str, float]]:
    """The validation figures of each epoch."""
    with (run.path / "metrics" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"]]
    return [{name: float(row[name]) for name in row if name.startswith(("val_", "train_loss")) and row[name]}
            for row in rows]  # fmt: skip


def stop(*_: object) -> None:
    raise Interrupted("trained, which is enough")


def the_run(config: Config) -> Run:
    (run,) = (Run(path) for path in Path(config.runs).iterdir() if path.is_dir())
    return run


def hit(process: "subprocess.Popen[str]", number: int, child: bool) -> str:
    """Send a signal to the training or to the process that it started, after an epoch; what was said then."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    (other,) = psutil.Process(process.pid).children()
    (other if child else process).send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    other.wait(PATIENCE_S)  # raises when it is still there
    return said


@pytest.mark.soak  # minutes; torchrun and resuming each have a test that runs with all
def test_two_processes_are_one_run_through_a_kill_a_signal_and_two_resumes(quick: Config) -> None:
    mine = words(quick, "trainer.devices=2", "trainer.batch_size=8", "trainer.epochs=999", "trainer.patience=999")
    process = start(*mine)
    said = hit(process, signal.SIGKILL, child=True)
    assert process.returncode == 69, said
    assert "error: in process 2 of 2: it was ended by signal 9" in said
    run = the_run(quick)
    assert run.read_state()["status"] == "failed"
    process = start("--resume", str(run.path), *mine[1:2])
    said = hit(process, signal.SIGTERM, child=False)
    assert process.returncode == 143, said
    assert "error: training was terminated" in said
    assert "Traceback" not in said
    assert run.read_state()["status"] == "interrupted"
    done = int(run.read_state()["epochs"])
    process = start("--resume", str(run.path), *mine[1:2], "trainer.max_minutes=0.02", "--json")
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    report = json.loads(out)  # one document: the other process says nothing
    assert report["run"] == str(run.path)
    assert report["epochs"] >= done
    assert said.count("goes on after") == 1
    assert the_run(quick) == run
    state = run.read_state()
    assert (state["status"], state["processes"]) == (FINISHED, 2)
    assert run.model.is_file()
    with sqlite3.connect(Path(quick.runs) / "runs.db") as store:
        assert store.execute("SELECT count(*), max(status) FROM runs").fetchone() == (1, FINISHED)


def test_under_torchrun_two_processes_train_as_one_and_end_together_at_nan(quick: Config, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(POISONED)
    codes = tmp_path / "codes"
    codes.mkdir()
    even = "data.subsample=0.95"  # 74 images: of an odd number two processes leave one out
    two = replace(quick, runs=str(tmp_path / "two"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
               str(tmp_path / "train.py"), str(codes), "train", *words(two, even, "trainer.batch_size=8")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1, done.stderr  # torchrun's own
    assert {path.name: path.read_text() for path in codes.iterdir()} == {"0": "70", "1": "70"}, done.stderr
    run = the_run(two)
    state = run.read_state()
    assert state["status"] == "failed"
    assert state["reason"].startswith("in process 2 of 2: the loss is nan")
    assert state["non_finite"]["epoch"] == 2
    assert len(state["non_finite"]["images"]) == 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesion.engine.train.build", build_plain)
        patch.setattr("lesion.engine.train.finish", stop)
        with pytest.raises(Interrupted):
            train(load_config(overrides=words(quick, even)))
    alone = figures(the_run(quick))[0]
    # No normalisation, no dropout: only the order of additions in float32 differs, once a step.
    assert figures(run)[0] == pytest.approx(alone, rel=1e-5)


@pytest.mark.soak
def test_two_processes_that_normalise_their_own_halves_reach_what_one_does(tmp_path: Path) -> None:
    synthesize(tmp_path / "data", SynthSpec(lesions=300, width=120, height=90))
    shared = (f"data.root={tmp_path / 'data'}", "data.val=0.4", "data.test=0.05", *QUICK, "preprocess.size=64",
              "trainer.epochs=8", "trainer.patience=99", "trainer.precision=32-true", "optim.lr=0.001")  # fmt: skip
    both = (*shared, f"runs={tmp_path / 'both'}", "trainer.devices=2")
    done = subprocess.run(
        [sys.executable, "-c", SHORT, "train", *both],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    alone = load_config(overrides=[*shared, f"runs={tmp_path / 'alone'}", "trainer.batch_size=32"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lesion.engine.train.finish", stop)
        with pytest.raises(Interrupted):
            train(alone)
    found, wanted = (figures(the_run(replace(alone, runs=str(tmp_path / name))))[-1] for name in ("both", "alone"))
    for name in ("val_loss", "val_auroc"):
        assert found[name] == pytest.approx(wanted[name], abs=TOLERANCE)
    assert wanted["val_auroc"] > 0.75  # it has learned something
