"""Runs every measurement and prints one line each: python -m bench [startup] [data] [training] [--ham10000 F] …

`python -m bench ablation --ham10000 F` prints the table behind the training defaults; that takes half an hour.
`python -m bench accelerator --ham10000 F` trains every tier on a GPU; that takes minutes.
`python -m bench serving --native F --model F --peers F` puts servers under load; that takes minutes.
`python -m bench inference --run F --run F --native F` measures answers against PyTorch, ONNX Runtime and Ultralytics.
`python -m bench decoding --native F` measures ways from a JPEG to pixels.
`python -m bench sessions --run F` measures settings of ONNX Runtime.
`python -m bench lesions --ham10000 F` prints how many pairs of images of one lesion the near-duplicate search finds.
`python -m bench evaluation --run F` evaluates a run's model; that takes minutes.
`python -m bench gate --ham10000 F --model M` prints what a model refuses to answer; with --native F, high-resolution
lesions, too. `python -m bench statistics` simulates what intervals, tests, calibration and the gates
promise; that takes minutes.
`python -m bench heat --ham10000 F --native F --model M` compares its heat maps with masks of lesions.
"""

import argparse
import platform
import tempfile
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from bench import (
    accelerator,
    data,
    decisions,
    decoding,
    evaluation,
    gate,
    heat,
    inference,
    lesions,
    serving,
    sessions,
    startup,
    statistics,
    training,
)
from bench.ablation import ablate
from lesion.inference.threads import usable_cpus


def main() -> None:
    """Measure what the words name, all by default."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "names",
        nargs="*",
        help="startup, data, training, inference; default: these; or ablation, evaluation, gate, heat, statistics, …",
    )
    parser.add_argument("--ham10000", type=Path, help="a dataset in HAM10000's layout; default: synthetic")
    parser.add_argument("--native", type=Path, help="a folder of 600×450 JPEGs; default: synthetic")
    parser.add_argument(
        "--run", type=Path, action="append", default=[], help="a run folder, or several; default: a quick training"
    )
    parser.add_argument("--busy", action="store_true", help="inference: processor time of one thread, not seconds")
    parser.add_argument("--model", type=Path, help="a model file to serve or to look at")
    parser.add_argument("--theirs", type=Path, help="the model file that the other servers serve; default: the same")
    parser.add_argument("--peers", type=Path, help="an environment with other servers; default: lesion alone")
    parser.add_argument("--before", type=Path, help="serving: another checkout, with its .venv, to compare with")
    parser.add_argument("--seconds", type=int, default=10, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of all servers in turn")
    parser.add_argument("--seeds", type=int, default=3, help="of each ablation")
    words = parser.parse_args()
    names = words.names or ["startup", "data", "training", "inference"]
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {usable_cpus()} cores, Python {platform.python_version()}, lesion {version('lesion')}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "startup" in names:
            print(*startup.measure(folder), sep="\n")
        needing = {"data", "training", "inference"} if words.run else {"data", "training", "inference", "evaluation"}
        drawn = data.draw_images(folder) if needing & {*names} and not words.native else (None, None)
        ham10000, native = words.ham10000 or drawn[0], words.native or drawn[1]
        if "data" in names:
            print(*data.measure(folder, ham10000, native), sep="\n")
        if "training" in names:
            print(*training.measure(folder, native), sep="\n")
        if "inference" in names:
            for line in inference.measure(folder, native, words.run, ham10000, words.busy):
                print(line, flush=True)
        if "evaluation" in names:
            print(*evaluation.measure(folder, ham10000, next(iter(words.run), None)), sep="\n")
        if "gate" in names:
            for line in gate.measure(words.ham10000, words.native, words.model, folder):
                print(line, flush=True)
    if "lesions" in names:
        print(*lesions.measure(words.ham10000), sep="\n")
    if "decoding" in names:
        print(*decoding.measure(words.native), sep="\n")
    if "sessions" in names:
        models = [path for run in words.run for path in sorted(run.glob("model*.onnx"))]
        for line in sessions.measure(models):
            print(line, flush=True)
    if "heat" in names:
        print(*heat.measure(words.ham10000, words.native, words.model), sep="\n")
    if "statistics" in names:
        for line in chain(statistics.measure(), [""], decisions.measure()):
            print(line, flush=True)
    if "serving" in names:
        commands = serving.find_servers(words.model, words.peers, words.before)
        for line in serving.measure(
            commands, words.native, words.model, words.seconds, words.rounds, words.theirs or words.model
        ):
            print(line, flush=True)
    if "accelerator" in names:
        for line in accelerator.measure(words.ham10000):
            print(line, flush=True)
    if "ablation" in names:
        for line in ablate(words.ham10000, words.seeds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
