"""Answer images on a Ray cluster: the same answers in the same order, however many workers are lost on the way."""

import logging
import os
import socket
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from lesion.artifact import Artifact
from lesion.errors import RemoteError, brief
from lesion.extras import need
from lesion.inference.bulk.items import Answer, Item
from lesion.inference.bulk.pipeline import answer_batch
from lesion.inference.predictor import Predictor

PART = 50_000  # items that the cluster is given at a time
BATCHES = 8  # of a block: what a worker is given at a time, and what another one does again when it is lost


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined, with the model in its store."""

    model: Any
    """A reference to the content of the model file."""
    workers: int
    batch: int
    tta: bool

    @classmethod
    def join(cls, address: str, model: bytes, workers: int = 0, batch: int = 4, tta: bool = False) -> "Cluster":
        """Join the cluster at `address` ("auto": find it; "local": start one here) and hand it a model file's content.

        At most `workers` (0: as many as it has processors) answer at once, with one thread each. They need lesion with
        its extra `scale`, and have to see the same files. Raises MissingExtra, or RemoteError if it cannot be used.
        """
        need("predict --cluster", "ray", "pyarrow", "pandas", extra="scale")
        import ray
        import ray.data

        logging.getLogger("ray").setLevel(logging.ERROR)
        words: dict[str, Any] = {"address": address}
        if address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
            words["include_dashboard"] = False
        try:
            _knock(address)
            ray.init(**words, log_to_driver=False, logging_level=logging.ERROR)
            reference = ray.put(model)
            processors = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        except Exception as error:  # ray raises any class, and Exception itself
            raise RemoteError(
                f"the Ray cluster {address} cannot be used: {brief(error)}", hint="is it running? `ray status` tells"
            ) from error
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        return cls(reference, workers or processors, batch, tta)

    def answer(self, items: Iterable[Item | None]) -> Generator[Answer, None, None]:
        """One answer for each item, in their order; at the end this process leaves the cluster.

        What a lost worker had to do is done by another one. Raises RemoteError when the cluster or the model fails.
        """
        import ray

        named = (item for item in items if item is not None)
        try:
            while part := list(islice(named, PART)):
                yield from self._answer_part(part)
        except ray.exceptions.RayError as error:
            *_, cause = str(error).strip().splitlines() or [type(error).__name__]
            raise RemoteError(f"the Ray cluster failed: {cause}", hint="the logs of Ray say more") from error
        finally:
            ray.shutdown()

    def _answer_part(self, part: list[Item]) -> Iterator[Answer]:
        import ray.data

        blocks = -(-len(part) // (BATCHES * self.batch))
        answers = ray.data.from_items([{"item": item} for item in part], override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=([self.model], self.tta),
            batch_size=self.batch,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(self.workers, blocks))),
            num_cpus=1,
        )
        for row in answers.iter_rows():
            yield row["answer"]


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at an address with a port; Ray itself would try for many minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


class Worker:
    """The model in a process of the cluster."""

    def __init__(self, model: list[Any], tta: bool) -> None:
        import ray

        # In a list it comes as a reference, so that the worker can be started anew.
        self._predictor = Predictor(Artifact.unpack(ray.get(model[0])), 1, tta)
        self._predictor.run_self_test()

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """{"item": (n,) objects} to {"answer": (n,) objects}."""
        answers = np.empty(len(rows["item"]), object)
        answers[:] = answer_batch(list(rows["item"]), self._predictor)
        return {"answer": answers}
