"""The search for a faster twin: what may be shipped, what is refused, and that nothing is shipped unawares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lesion.artifact import Artifact
from lesion.engine.quantization import search
from lesion.engine.quantization.recipe import Recipe
from lesion.engine.quantization.search import explain, mark_front, quantize_run, rank
from lesion.errors import DataError
from lesion.exports import Candidate, Confirmation, Losses
from lesion.inference.predictor import Predictor
from lesion.machine import find_instructions
from lesion.records import Estimate
from lesion.run import Run

FP32 = Candidate("fp32", 4000, 10.0, 1.0, None, Estimate(0.0, 0.0, 0.0), {"sensitivity": 0.95}, 0.0, 0, False, None)
INT8 = replace(FP32, name="int8", bytes=1000, latency_ms=5.0, speedup=2.0)
PASSED = Confirmation(
    900, 120, Losses(Estimate(0.001, -0.001, 0.003), Estimate(0.004, -0.003, 0.011), Estimate(0.0, 0.0, 0.01)), True,
    None, None,
)  # fmt: skip


def test_of_those_nearly_as_fast_as_the_fastest_the_most_accurate_comes_first() -> None:
    def made(name: str, speedup: float, size: int, loss: float) -> Candidate:
        return replace(FP32, name=name, speedup=speedup, bytes=size, auroc_loss=Estimate(loss, None, None))

    fastest, exact, slow = made("a", 1.56, 4_000_000, 0.004), made("b", 1.43, 5_000_000, 0), made("c", 1.3, 10, 0)
    assert [each.name for each in rank([fastest, slow, exact])] == ["b", "a", "c"]
    smaller = made("d", 1.42, 4_000_000, 0.0002)  # less than a step of AUROC worse
    assert [each.name for each in rank([fastest, exact, smaller])] == ["d", "b", "a"]
    assert rank([]) == []


def test_the_reason_says_what_was_tested_and_what_could_not_be() -> None:
    text = explain(INT8, PASSED, [])
    assert text == (
        "int8, 2.00 times as fast as fp32; on 900 other validation images: AUROC lost 0.0010 (-0.0010 to 0.0030); "
        "specificity lost 0.0040 (-0.0030 to 0.0110); within the limits"
    )
    untested = explain(INT8, replace(PASSED, shown=False, doubt="7 malignant lesions are too few"), [])
    assert "Whether it answers as well as fp32 could not be tested: 7 malignant lesions are too few" in untested
    assert "within the limits" not in untested
    assert explain(None, None, [replace(INT8, refused="worse")]) == "fp32 is kept: worse"


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
        monkeypatch.setattr(search, "find_excess", lambda *_: None)
        monkeypatch.setattr(search, "rank", lambda admitted: [each for each in admitted if each.name == "int8"])
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
        assert report.confirmation is not None
        assert facts["shown"] is report.confirmation.shown is False  # of some twenty lesions
        assert "could not be tested" in report.reason
        assert "QuantizeLinear" in {node.op_type for node in onnx.load(run_copy.quantized).graph.node}
        assert [each["name"] for each in json.loads(run_copy.quantization.read_text())["candidates"]] == [
            "fp32", "int8", "int8 weights only",
        ]  # fmt: skip

    def test_fp32_is_kept_when_none_is_admissible(self, run_copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "find_excess", lambda *_: None)
        monkeypatch.setattr(search, "confirm", lambda *_: replace(PASSED, shown=False, refused="worse"))
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
        assert [str(each.refused).startswith("AUROC lower by ") for each in report.candidates[1:]] == [True, True]
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
