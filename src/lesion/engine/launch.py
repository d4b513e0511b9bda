"""Starting the processes of a training on several devices, or finding out how somebody else has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lesion.files import temporary_folder

KILL_S = 20.0  # between SIGTERM and SIGKILL


def find_place(devices: Any) -> dict[str, Any]:
    """The Trainer's devices, machines and plugins as torchrun or SLURM has laid them out, else `devices` as it is.

    Each takes as many devices per machine as processes were started there, unless `devices` says otherwise.
    """
    plugins: list[ClusterEnvironment] = []
    if TorchElasticEnvironment.detect():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // here
    elif SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        here = int(os.environ["SLURM_NTASKS"]) // nodes
        # Lightning's own way to requeue a job knows nothing of `lesion train --resume`.
        plugins = [SLURMEnvironment(auto_requeue=False)]
    else:
        return {"devices": devices, "num_nodes": 1, "plugins": plugins}
    return {"devices": here if devices == "auto" else devices, "num_nodes": nodes, "plugins": plugins}


@contextmanager
def worker_command(config: str, *options: str) -> Iterator[list[str]]:
    """The command line of the other processes of a training with this configuration, YAML."""
    with temporary_folder() as folder:
        path = folder / "config.yaml"
        path.write_text(config, encoding="utf-8")
        yield [sys.executable, "-m", "lesion", "train", *options, "--config", str(path)]


class Others:
    """The processes that this one has started; none where a launcher did.

    Lightning's own launcher kills this process, too, when another one fails, before a word is said or written.
    """

    def __init__(self) -> None:
        self._environ: dict[str, str | None] = {}
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, environment: ClusterEnvironment, world: int, command: list[str]) -> None:
        """Start all but the first of `world` processes of this machine with `command`.

        LOCAL_RANK tells Lightning that somebody else starts the processes.
        """
        place = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": "0",
        }
        self._environ = {name: os.environ.get(name) for name in place}
        os.environ.update(place)
        for rank in range(1, world):
            own = {**os.environ, "LOCAL_RANK": str(rank)}
            self._children.append(
                subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            )

    def find_dead(self) -> list[tuple[int, str]]:
        """The rank of each one that failed, and how it ended."""
        codes = [child.poll() for child in self._children]
        return [
            (rank, f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
            for rank, code in enumerate(codes, 1)
            if code
        ]

    def any_alive(self) -> bool:
        """Whether one is still running, or nobody here can know."""
        return not self._children or any(child.poll() is None for child in self._children)

    def end(self, seconds: float) -> None:
        """Wait so long for each, then end it."""
        for child in self._children:
            for end, patience in ((child.terminate, seconds), (child.kill, KILL_S)):
                try:
                    child.wait(patience)
                except subprocess.TimeoutExpired:
                    end()
            child.wait()
        for name, value in self._environ.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
