"""How processes of one training find their place, and what they tell each other."""

import sys
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from lesion import errors
from lesion.config.load import load_config, to_yaml
from lesion.config.schema import Config, TrainerConfig
from lesion.engine.custody import Custody
from lesion.engine.launch import Others, find_place, worker_command
from lesion.engine.ranks import Followed, Ranks, _pack, _unpack, gather, is_first
from lesion.engine.resume import require_resumable
from lesion.engine.trainer import make_trainer
from lesion.errors import ConfigError, LesionError, NonFiniteError, RemoteError
from lesion.run import Run
from tests.engine.conftest import Trained


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Started by nobody but the user."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def set_all(patch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        patch.setenv(name, str(value))


def elastic(patch: pytest.MonkeyPatch, world: int, here: int) -> None:
    set_all(patch, TORCHELASTIC_RUN_ID="x", WORLD_SIZE=world, LOCAL_WORLD_SIZE=here, LOCAL_RANK=0, RANK=0, GROUP_RANK=0)


def test_without_a_launcher_the_configuration_decides() -> None:
    assert find_place("auto") == {"devices": "auto", "num_nodes": 1, "plugins": []}
    assert find_place([0, 1])["devices"] == [0, 1]


def test_under_torchrun_devices_and_machines_follow_it(nowhere: pytest.MonkeyPatch) -> None:
    elastic(nowhere, world=6, here=3)
    assert find_place("auto") == {"devices": 3, "num_nodes": 2, "plugins": []}
    assert find_place(2)["devices"] == 2


def test_under_slurm_devices_and_machines_follow_it(nowhere: pytest.MonkeyPatch) -> None:
    set_all(nowhere, SLURM_NTASKS=8, SLURM_NTASKS_PER_NODE=4, SLURM_NNODES=2, SLURM_JOB_NAME="train")
    place = find_place("auto")
    (environment,) = place["plugins"]
    assert (place["devices"], place["num_nodes"]) == (4, 2)
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def strategy_of(tmp_path: Path, **knobs: str) -> object:
    config = Config(trainer=TrainerConfig(accelerator="cpu", **knobs))
    return make_trainer(config, tmp_path, [], [], enable_checkpointing=False).strategy


def test_another_number_of_devices_than_of_processes_is_refused(tmp_path: Path, nowhere: pytest.MonkeyPatch) -> None:
    elastic(nowhere, world=2, here=2)
    with pytest.raises(ConfigError, match=r"trainer\.devices: 3 a machine"):
        gather(strategy_of(tmp_path, devices="3"), list)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_strategy_that_forks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.strategy"):
        gather(strategy_of(tmp_path, devices="2", strategy="ddp_fork"), list)  # type: ignore[arg-type]


def test_one_process_is_the_first_and_agrees_with_itself(tmp_path: Path) -> None:
    ranks = gather(strategy_of(tmp_path, devices="1"), lambda: pytest.fail("started"))  # type: ignore[arg-type]
    assert (type(ranks), ranks.first, ranks.world, is_first()) == (Ranks, True, 1, True)
    error = ValueError("x")
    assert ranks.settle(error) is error
    with ranks.in_turn():
        assert ranks.broadcast("same") == "same"


@pytest.mark.parametrize(
    "name", [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
)
def test_an_error_keeps_its_class_and_code_on_the_way_to_another_process(name: str) -> None:
    kind = getattr(errors, name)
    heard, facts = _unpack(_pack(kind("it broke", hint="mend it"), 1, {"step": 3}), 2)
    assert (type(heard), heard.message, heard.hint) == (kind, "in process 2 of 2: it broke", "mend it")
    assert facts == {"step": 3}


def test_a_bug_of_another_process_is_told_in_brief_and_silence_is_told_too() -> None:
    heard, _ = _unpack(_pack(ZeroDivisionError("division by zero\nmore"), 0, {}), 2)
    assert (type(heard), heard.message) == (LesionError, "in process 1 of 2: division by zero")
    silent, _ = _unpack(None, 2)
    assert isinstance(silent, RemoteError)


def test_what_a_follower_would_write_goes_to_the_writer(tmp_path: Path) -> None:
    ranks = Ranks(rank=1, world=2)
    followed = Followed(tmp_path / "run", ranks.facts)
    followed.write_state(non_finite={"images": ["a"]})
    assert ranks.facts == {"non_finite": {"images": ["a"]}}
    assert not followed.path.exists()
    run = Run.create(tmp_path, "x")
    custody = Custody(Config())
    custody.ranks.facts.update(ranks.facts)

    def fail() -> None:
        with custody:
            custody.begin(run)
            raise NonFiniteError("in process 2 of 2: the loss is nan")

    with pytest.raises(NonFiniteError):
        fail()
    assert run.read_state()["non_finite"] == {"images": ["a"]}


def test_the_others_train_with_the_same_configuration() -> None:
    config = load_config(overrides=["trainer.devices=2", "name=a b", "data.malignant=[mel]"])
    with worker_command(to_yaml(config), "--dry-run") as command:
        assert command[:5] == [sys.executable, "-m", "lesion", "train", "--dry-run"]
        assert load_config([Path(command[-1])]) == config
    assert not Path(command[-1]).exists()


def test_a_dead_process_is_found_and_a_stubborn_one_ended(nowhere: pytest.MonkeyPatch) -> None:
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    script = "import os, time; print(os.environ['WORLD_SIZE']) if os.environ['LOCAL_RANK'] == '2' else exit(7)"
    others = Others()
    assert others.any_alive()
    others.start(LightningEnvironment(), 3, [sys.executable, "-c", f"{script}; time.sleep(600)"])
    while not others.find_dead():
        pass
    assert others.find_dead() == [(1, "ended with exit code 7")]
    assert others.any_alive()
    others.end(0.0)
    assert not others.any_alive()
    import os

    assert "LOCAL_RANK" not in os.environ


def test_a_run_is_resumed_by_as_many_processes(trained: Trained, run_copy: Run) -> None:
    run_copy.write_state(status="interrupted")
    require_resumable(run_copy, trained.config, 1)
    with pytest.raises(ConfigError, match="was trained by 1 processes, one a device, now there are 2"):
        require_resumable(run_copy, trained.config, 2)
