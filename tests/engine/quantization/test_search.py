"""The search for a faster twin: what may be shipped, what is refused, and that nothing is shipped unawares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lesion.artifact import Artifact
from lesion.config.schema import ExportConfig
from lesion.engine.quantization import search
from lesion.engine.quantization.recipe import Recipe
from lesion.engine.quantization.search import choose, mark_front, quantize_run, refuse
from lesion.errors import DataError
from lesion.exports import Candidate
from lesion.inference.predictor import Predictor
from lesion.machine import find_instructions
from lesion.records import Estimate
from lesion.run import Run

LIMITS = ExportConfig()
NONE = Estimate(0.0, 0.0, 0.0)
FP32 = Candidate("fp32", 4000, 10.0, 1.0, None, NONE, {"sensitivity": 0.95}, 0.0, 0, False, None)
INT8 = replace(FP32, name="int8", bytes=1000, latency_ms=5.0, speedup=2.0)


def test_what_is_faster_and_as_good_may_be_shipped() -> None:
    assert refuse(INT8, FP32, LIMITS, 300) is None


@pytest.mark.parametrize(
    ("loss", "malignant", "refused"),
    [
        (Estimate(0.012, 0.004, 0.020), 50, True),
        (Estimate(0.012, -0.003, 0.030), 50, False),
        (Estimate(0.012, -0.003, 0.030), 300, True),
        (Estimate(0.004, 0.001, 0.020), 300, False),
        (Estimate(-0.1, -0.2, -0.05), 300, False),
        (Estimate(None, None, None), 0, False),
    ],
    ids=["proven", "chance among few", "too much among many", "within the limit", "a gain", "not known"],
)
def test_a_loss_of_auroc_refuses(loss: Estimate, malignant: int, refused: bool) -> None:
    reason = refuse(replace(INT8, auroc_loss=loss), FP32, LIMITS, malignant)
    assert (reason is not None) is refused
    assert reason is None or "AUROC lower by 0.0120, at most 0.005 allowed" in reason


def test_a_loss_of_sensitivity_refuses() -> None:
    reason = refuse(replace(INT8, validation={"sensitivity": 0.93}), FP32, LIMITS, 300)
    assert reason == "sensitivity lower by 0.020, at most 0.01 allowed"


@pytest.mark.parametrize("speedup", [1.0, 0.7])
def test_what_is_not_faster_is_refused(speedup: float) -> None:
    assert refuse(replace(INT8, speedup=speedup), FP32, LIMITS, 300) == "not faster on this machine"


def test_of_those_as_fast_as_the_fastest_the_smallest_is_chosen() -> None:
    def made(name: str, speedup: float, size: int, loss: float) -> Candidate:
        return replace(FP32, name=name, speedup=speedup, bytes=size, auroc_loss=Estimate(loss, None, None))

    fastest, smallest, slower = made("a", 2.0, 5_000_000, 0), made("b", 1.92, 4_000_000, 0.002), made("c", 1.8, 10, 0)
    better = made("d", 1.91, 4_000_300, 0.001)
    assert choose([fastest, smallest, slower]) is smallest
    assert choose([fastest, smallest, better]) is better
    assert choose([slower]) is slower
    assert choose([]) is None


def test_the_front_holds_what_nothing_beats() -> None:
    slower = replace(INT8, name="slower", speedup=1.5)
    better = replace(slower, name="better", auroc_loss=Estimate(-0.001, -0.002, 0.0))
    marked = {each.name: each.front for each in mark_front([FP32, INT8, slower, better])}
    assert marked == {"fp32": False, "int8": True, "slower": False, "better": True}


@pytest.mark.slow
class TestOnARun:
    @pytest.fixture(autouse=True)
    def _two_recipes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recipes = [
            Recipe("int8", ranges="Entropy"),
            Recipe("int8 weights only", weights_only=True, operators=("Conv", "Gemm")),
        ]
        monkeypatch.setattr(search, "choose_recipes", lambda _: recipes)
        monkeypatch.setattr(search, "race", lambda *_: (5.0, 2.0))

    def test_the_best_admissible_one_is_written(self, run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "refuse", lambda candidate, *_: None if candidate.name == "int8" else "no")
        before = run_copy.model.read_bytes()
        report = quantize_run(run_copy)
        assert report.chosen == "int8"
        assert report.exported is not None
        assert (report.candidates[1].memory is None) == (report.candidates[0].memory is None)
        assert run_copy.quantized.stat().st_size == report.exported.bytes < 0.35 * len(before)
        assert run_copy.model.read_bytes() == before
        facts = Predictor.load(run_copy.quantized).manifest.provenance["quantization"]
        assert facts["source"] == Artifact.read(run_copy.model).digest
        assert facts["recipe"] == "int8"
        assert facts["measured_on"]["instructions"] == find_instructions()
        assert facts["speedup"] == report.candidates[1].speedup
        assert "QuantizeLinear" in {node.op_type for node in onnx.load(run_copy.quantized).graph.node}
        assert [each["name"] for each in json.loads(run_copy.quantization.read_text())["candidates"]] == [
            "fp32", "int8", "int8 weights only",
        ]  # fmt: skip

    def test_fp32_is_kept_when_none_is_admissible(self, run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "refuse", lambda *_: "worse")
        run_copy.quantized.write_bytes(b"of an older model")
        report = quantize_run(run_copy)
        assert (report.chosen, report.reason, report.exported) == ("fp32", "fp32 is kept: worse", None)
        assert not run_copy.quantized.exists()

    def test_a_twin_that_answers_worse_is_refused_however_fast_it_is(
        self, run_copy: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_it(graph: bytes, *_: object) -> bytes:
            """The same network, but for the sign of what it says."""
            model = onnx.load_from_string(graph)
            (last,) = [node for node in model.graph.node if "logits" in node.output]
            last.output[list(last.output).index("logits")] = "opposite"
            model.graph.node.append(onnx.helper.make_node("Neg", ["opposite"], ["logits"]))
            return bytes(model.SerializeToString())

        honest = search.Validation.of

        def agree(*words: Any) -> search.Validation:
            """Validation images that the fp32 file is right about, all of them."""
            validation = honest(*words)
            malignant = Predictor.load(run_copy.model).malignant(validation.pixels)
            return replace(validation, malignant=malignant > np.median(malignant))

        monkeypatch.setattr(search.Validation, "of", agree)
        monkeypatch.setattr(search, "quantize_graph", break_it)
        report = quantize_run(run_copy)
        assert report.chosen == "fp32"
        assert [str(each.refused).startswith("AUROC lower by 0.") for each in report.candidates[1:]] == [True, True]
        assert not run_copy.quantized.exists()

    def test_a_recipe_that_cannot_be_built_spoils_no_other(
        self, run_copy: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipes = [Recipe("impossible", ranges="Guess"), *search.choose_recipes("any")[1:]]
        monkeypatch.setattr(search, "choose_recipes", lambda _: recipes)
        assert [each.name for each in quantize_run(run_copy).candidates] == ["fp32", "int8 weights only"]

    def test_what_is_clearly_slower_is_not_asked_for_answers(
        self, run_copy: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "race", lambda *_: (9.0, 0.5))
        report = quantize_run(run_copy)
        assert {each.refused for each in report.candidates[1:]} == {"not faster on this machine"}
        assert {each.flips for each in report.candidates[1:]} == {None}

    def test_nothing_but_the_result_is_printed(self, run_copy: Run, capfd: pytest.CaptureFixture[str]) -> None:
        quantize_run(run_copy)
        assert capfd.readouterr().out == ""

    def test_too_few_images_are_refused(self, run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "sample_training", lambda *_: [0] * 7)
        with pytest.raises(DataError, match="7 training images to measure ranges on, at least 8 expected"):
            quantize_run(run_copy)


def test_memory_of_a_process_is_measured(tiny: Path) -> None:
    from lesion.engine.quantization.memory import measure_memory

    used = measure_memory(Artifact.read(tiny))
    assert used is None or 2e7 < used < 2e9
