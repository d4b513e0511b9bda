"""What settings of ONNX Runtime are worth, for one image of ready pixels."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import numpy as np
import onnxruntime as ort

ROUNDS = 60
LEVEL = ort.GraphOptimizationLevel


def measure(models: list[Path]) -> Iterator[str]:
    """Processor time of one thread, all settings in turn, so that a machine whose speed drifts slows all."""
    only = ort.RunOptions()
    only.only_execute_path_to_fetches = True
    for model in models:
        (pixels,) = _start(model).get_inputs()
        image = np.random.default_rng(0).integers(0, 256, (1, *pixels.shape[1:])).astype(np.uint8)
        ways: dict[str, tuple[Any, Any]] = {
            "as it is": (_start(model), None),
            "fusion, no layout of its own": (_start(model, graph_optimization_level=LEVEL.ORT_ENABLE_EXTENDED), None),
            "no fusion either": (_start(model, graph_optimization_level=LEVEL.ORT_ENABLE_BASIC), None),
            "no arena": (_start(model, enable_cpu_mem_arena=False), None),
            "no memory pattern": (_start(model, enable_mem_pattern=False), None),
            "weights not packed": (_start(model, entries={"session.disable_prepacking": "1"}), None),
            "denormals are zero": (_start(model, entries={"session.set_denormal_as_zero": "1"}), None),
            "batch fixed at 1": (_start(model, batch=pixels.shape[0]), None),
            "no heat map": (_start(model), only),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for attempt in range(ROUNDS + 5):
            for name, (session, options) in ways.items():
                start = thread_time()
                session.run(["logits", "checks"], {"pixels": image}, options)
                if attempt >= 5:
                    times[name].append(1000 * (thread_time() - start))
        plain = median(times["as it is"])
        for name, found in times.items():
            ms = median(found)
            yield f"{model.parent.name}/{model.name}, {name:<28} {ms:7.3f} ms   ratio {ms / plain:.3f}"


def _start(model: Path, entries: dict[str, str] | None = None, batch: str | None = None, **settings: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    for name, value in (entries or {}).items():
        options.add_session_config_entry(name, value)
    if batch:
        options.add_free_dimension_override_by_name(batch, 1)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
