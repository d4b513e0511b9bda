"""The path from a file to a probability, and a folder of files, against PyTorch, plain ONNX Runtime and Ultralytics."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.pairs import Row, Run, compare, processor_time
from lesion.inference.threads import usable_cpus

Clock = Callable[[], float]
BIN = Path(sys.executable).parent
TIERS = ("baseline", "resnet", "efficientnet")
FEW = 40  # files of a round of one at a time
FOLDER = 300  # files of a folder; the natives are repeated
BATCH = 4


@dataclass(frozen=True)
class Subject:
    """A run with its files."""

    path: Path

    @property
    def name(self) -> str:
        from lesion.config.load import load_config

        model = load_config([self.path / "config.yaml"]).model
        return model.tier + (" lite" if model.lite else "")

    @property
    def fp32(self) -> Path:
        return self.path / "model.onnx"

    @property
    def best(self) -> Path:
        """The quantized file, where one was admissible."""
        quantized = self.path / "model.int8.onnx"
        return quantized if quantized.exists() else self.fp32


def measure(
    folder: Path, native: Path, runs: Sequence[Path], ham10000: Path | None, busy: bool = False
) -> Iterator[Row | str]:
    """All rows of a run each, then those that need one model only. Without runs, quick ones are trained.

    On a `busy` machine, processor time counts, everything having one thread: seconds of others are none of ours.
    """
    subjects = [Subject(path) for path in runs or _train(folder, ham10000)]
    files = sorted(native.glob("*.jpg"))
    assert files, f"{native} holds no .jpg"
    many = _repeat(files, folder / "many")
    race = Race(1, processor_time) if busy else Race(0, perf_counter)
    for subject in subjects:
        yield from _measure_one(subject, files[:FEW], many, race)
    yield from _measure_yolo(folder / "yolo", subjects[0], files, many, race)


@dataclass(frozen=True)
class Race:
    """How both sides are run and timed."""

    threads: int
    """Of each; 0: what each takes by itself."""
    clock: Clock

    def __call__(self, ours: str, mine: Run, theirs: str, other: Run, repeats: int, warm_ups: int, n: int) -> Row:
        return compare(ours, mine, theirs, other, repeats, warm_ups, n, n, self.clock)


def _measure_one(subject: Subject, files: list[Path], many: Path, race: Race) -> Iterator[Row | str]:
    import torch

    from lesion.engine.eager import Eager
    from lesion.run import Run as Folder

    if race.threads:
        torch.set_num_threads(race.threads)
    eager = Eager.load(Folder(subject.path))
    name, kind, n = subject.name, "fp32" if subject.best == subject.fp32 else "int8", len(files)
    theirs = _each(lambda path: eager.answer(path.read_bytes()), files)
    plain = _each(Plain(subject.fp32, race.threads), files)
    ours = _each(load_ours(subject.best, race.threads), files)
    yield race(f"{name}, {kind}, a file", ours, "torch eager", theirs, 7, 2, n)
    if kind != "fp32":
        ours = _each(load_ours(subject.fp32, race.threads), files)
        yield race(f"{name}, fp32, a file", ours, "torch eager", theirs, 7, 2, n)
    yield race(f"{name}, fp32, a file", ours, "plain onnxruntime", plain, 7, 2, n)
    yield from _measure_folder(subject, kind, many, race)
    yield _compare_sizes(f"{name}, {kind}, file", subject.best.stat().st_size, "fp32", subject.fp32.stat().st_size)
    peaks = [_peak("lesion.inference.benchmark", subject.best), _peak("lesion.engine.eager", subject.path)]
    yield _compare_sizes(f"{name}, {kind}, peak memory", peaks[0], "torch eager", peaks[1])


def _measure_folder(subject: Subject, kind: str, many: Path, race: Race) -> Iterator[Row]:
    from lesion.inference.bulk.pipeline import answer
    from lesion.inference.bulk.sources import find_items
    from lesion.inference.predictor import Predictor

    predictor, threads = Predictor.load(subject.best, threads=1), race.threads or usable_cpus()
    files = sorted(many.glob("*.jpg"))
    ready = np.stack([predictor.read(path) for path in files[:64]])

    def folder() -> None:
        for _ in answer(find_items([str(many)]), predictor, threads, BATCH):
            pass

    def limit() -> None:
        """The same batches and threads, of pixels that are there already."""
        batches = [ready[i % 64 : i % 64 + BATCH] for i in range(0, len(files), BATCH)]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(predictor.run, batches):
                pass

    n, name = len(files), f"{subject.name}, {kind}, of a folder"
    yield race(name, folder, "ready tensors", limit, 3, 1, n)
    yield race(name, folder, "plain loop, same file", _each(Plain(subject.best, race.threads), files), 3, 1, n)


def _measure_yolo(folder: Path, subject: Subject, files: list[Path], many: Path, race: Race) -> Iterator[Row | str]:
    """yolov8n-cls as ONNX, with random weights: 1.4 M parameters."""
    size = _read_size(subject.fp32)
    try:
        model = _make_yolo(folder, size)
    except ImportError:
        print("ultralytics is not installed (`make bench` installs it): skipped", file=sys.stderr)
        return

    def yolo(source: Path) -> Run:
        words = ["classify", "predict", f"model={model}", f"source={source}", f"imgsz={size}", "save=False"]
        return _call([BIN / "yolo", *words], folder)

    output = folder / "answers.jsonl"

    def predict_folder() -> None:
        output.unlink(missing_ok=True)
        _call([BIN / "lesion", "predict", many, "--model", subject.best, "--output", output], folder)()

    predict = _call([BIN / "lesion", "predict", files[0], "--model", subject.best], folder)
    yield race(f"lesion predict IMG, cold, {subject.name}", predict, "yolo classify predict", yolo(files[0]), 5, 1, 1)
    n = len(list(many.glob("*.jpg")))
    yield race(f"lesion predict FOLDER, {subject.name}", predict_folder, "yolo classify predict", yolo(many), 1, 0, n)
    ours, theirs = _cost(subject.best), _cost(model)
    yield f"one image of ready pixels, plain session: {subject.name} {ours:.2f} ms, yolov8n-cls {theirs:.2f} ms"


class Plain:
    """What a user writes after reading docs/artifact.md: Pillow, NumPy, a session with its defaults."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0 is the default
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        manifest = json.loads(self.session.get_modelmeta().custom_metadata_map["lesion.manifest"])
        self.size, self.temperature = manifest["preprocess"]["size"], manifest["temperature"]

    def __call__(self, path: Path) -> object:
        from PIL import Image

        image = Image.open(path).convert("RGB")
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        pixels = np.asarray(square.resize((self.size, self.size), Image.Resampling.BILINEAR))[None]
        (logits,) = self.session.run(["logits"], {"pixels": pixels})
        z = np.exp((logits - logits.max()) / self.temperature)
        return z / z.sum()


def load_ours(model: Path, threads: int) -> Callable[[Path], object]:
    """`lesion.load(model).predict`."""
    import lesion

    return lesion.load(model, threads=threads).predict


def _each(answer: Callable[[Path], object], files: Sequence[Path]) -> Run:
    def run() -> None:
        for path in files:
            answer(path)

    return run


def _compare_sizes(ours: str, mine: int, theirs: str, other: int) -> Row:
    return Row(ours, theirs, mine / 2**20, other / 2**20, mine / other, unit="MiB")


def _peak(module: str, path: Path) -> int:
    """Bytes at most in use of a new process that has loaded a model and answered once."""
    words = [sys.executable, "-m", module, "memory", str(path)]
    return int(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["memory"])


def _call(words: Sequence[object], folder: Path) -> Run:
    def run() -> None:
        subprocess.run([str(word) for word in words], check=True, capture_output=True, cwd=folder)

    return run


def _cost(model: Path) -> float:
    """Milliseconds of a session with its defaults for one image of zeros."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [each if isinstance(each, int) else 1 for each in given.shape]
    zeros = {given.name: np.zeros(shape, np.uint8 if "uint8" in given.type else np.float32)}
    times = []
    for _ in range(30):
        start = perf_counter()
        session.run(None, zeros)
        times.append(perf_counter() - start)
    return float(np.median(times) * 1000)


def _read_size(model: Path) -> int:
    from lesion.artifact import Artifact

    return Artifact.read(model).manifest.preprocess.size


def _make_yolo(folder: Path, size: int) -> Path:
    """Random weights and seven classes: what it answers does not matter for how long it takes."""
    from ultralytics import YOLO

    folder.mkdir(exist_ok=True)
    net = YOLO("yolov8n-cls.yaml")
    net.model.names = {i: f"class{i}" for i in range(len(net.names))}
    net.save(folder / "yolov8n-cls.pt")
    return Path(YOLO(folder / "yolov8n-cls.pt").export(format="onnx", imgsz=size, simplify=False, verbose=False))


def _repeat(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for i in range(FOLDER):
        shutil.copy(files[i % len(files)], folder / f"{i:05}.jpg")
    return folder


def _train(folder: Path, ham10000: Path | None) -> Iterator[Path]:
    """A quick run of each tier, with its quantized file where one is admissible."""
    from lesion.config.load import load_config, shipped
    from lesion.engine.quantization.search import quantize_run
    from lesion.engine.train import train
    from lesion.run import Run

    for tier in TIERS:
        words = [
            f"data.root={ham10000}", f"runs={folder / 'runs'}", "trainer.epochs=1", "data.subsample=0.1",
            "model.pretrained=false", f"model.lite={str(tier == 'efficientnet').lower()}", "preprocess.size=128",
            f"data.processed={folder / 'processed'}",
        ]  # fmt: skip
        run = Run(Path(train(load_config([shipped("tier", tier)], words)).run))
        quantize_run(run)
        yield run.path
