"""kill -9 at any moment: the last whole checkpoint loads, and a resumed run ends as an uninterrupted one."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lesion.config.schema import Config
from lesion.run import Run
from tests.conftest import PATIENCE_S
from tests.engine.test_resume import EPOCHS, break_off, fit, outcome, steps_of, the_run
from tests.engine.test_resume import config as config
from tests.engine.test_resume import elsewhere as elsewhere
from tests.engine.test_resume import whole as whole

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL, limits with rlimit")]
KILLS = 50
SAVING = """
import json, os, random, signal, sys, time
from pathlib import Path
from types import SimpleNamespace as Bag
import torch
from lesion.engine.checkpoint import epoch_of, find_last, list_checkpoints, read_checkpoint, write_checkpoint
from lesion.engine.keeper import Keeper
from lesion.run import Run

class Trainer:
    is_global_zero = True
    fit_loop = Bag(epoch_loop=Bag(batch_progress=Bag(is_last_batch=True)))
    def save_checkpoint(self, path):
        weights = {"w": torch.full((100_000,), float(self.current_epoch))}
        content = {"state_dict": weights, "keeper": keeper.state_dict()}
        keeper.on_save_checkpoint(self, None, content)
        write_checkpoint(path, content)

torch.set_num_threads(1)
run, chance = Run.create(Path(sys.argv[1]), "x"), random.Random(0)
weights, remains, last = {"w": torch.empty(100_000)}, 0, -1
for kill in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        keeper, trainer = Keeper(run), Trainer()
        if found := find_last(run, weights):
            keeper.load_state_dict(read_checkpoint(found)["keeper"])
        for trainer.current_epoch in range(last + 1, 1_000_000):
            trainer.callback_metrics = {"val_loss": chance.random()}
            keeper.on_train_epoch_end(trainer, None)
    time.sleep(0.01 + chance.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    remains += any(path.name.startswith(".") for path in run.checkpoints.iterdir())
    for path in list_checkpoints(run):  # not only the last: every file that has its name is whole
        assert bool((read_checkpoint(path)["state_dict"]["w"] == epoch_of(path)).all())
    found = find_last(run, weights)
    now = -1 if found is None else epoch_of(found)
    assert now >= last, (now, last)
    assert run.read_state()["created"]
    last = now
print(json.dumps({"epochs": last + 1, "remains": remains, "files": len(list_checkpoints(run))}))
"""


def test_fifty_kills_while_saving_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVING, str(tmp_path), str(KILLS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["epochs"] > KILLS / 5
    assert said["remains"] > 0, "no kill met a write: the test proves nothing"
    assert said["files"] <= 6


def start(words: list[str], limit: int | None = None) -> "subprocess.Popen[str]":
    code = "import sys; from lesion.cli.app import main; sys.exit(main(sys.argv[1:]))"
    if limit is not None:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_killed_training_resumes_to_the_same_bits(elsewhere: Config, whole: Run) -> None:
    process = start(["--config", str(whole.config), f"runs={elsewhere.runs}"])
    assert process.stderr is not None
    for line in process.stderr:
        if re.match(r"epoch 2", line):  # so the first has been written
            break
    time.sleep(random.random() * 0.1)
    process.kill()
    process.communicate()
    run = the_run(elsewhere)
    assert run.read_state()["status"] == "running"
    process = start(["--resume", f"runs={elsewhere.runs}", "--json"])
    said, talk = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, talk
    report = json.loads(said)
    assert (report["epochs"], report["run"]) == (EPOCHS, str(run.path))
    assert "goes on after epoch=" in talk
    assert outcome(run) == outcome(whole)


def test_a_full_disk_keeps_the_finished_epochs_and_a_resumed_run_ends_the_same(elsewhere: Config, whole: Run) -> None:
    run = break_off(elsewhere, 2 * steps_of(whole) + 1)
    kept = {path.name: path.read_bytes() for path in run.checkpoints.iterdir()}
    assert len(kept) == 2
    process = start(["--resume", str(run.path)], limit=min(map(len, kept.values())) // 2)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 74, said
    assert "error: cannot write" in said
    assert "2 finished epochs are kept" in said
    assert f"lesion train --resume {run.path}" in said
    assert {path.name: path.read_bytes() for path in run.checkpoints.iterdir()} == kept
    assert run.read_state()["status"] == "failed"
    fit(elsewhere, resume=run)
    assert outcome(run) == outcome(whole)
