"""One model file answering: the same answer however the picture arrives, and no answer when something is wrong."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lesion
from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed, ImageError, NotAnImage, NotFoundError
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.manifest import SelfTest
from lesion.preprocess import PreprocessSpec
from tests.conftest import GOLDEN, PATIENCE_S

TINY = Artifact.read(GOLDEN / "tiny.onnx")
WEIGHTS = np.random.default_rng(0).normal(0, 0.02, (3, 7)).astype(np.float32).tobytes()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(GOLDEN / "tiny.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Twenty pictures of different colours and sizes."""
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{number:02}.png" for number in range(20)]
    for number, path in enumerate(paths):
        colour = rng.integers(0, 256, 3)
        scene = np.clip(colour + rng.integers(-20, 20, (30 + number, 50, 3)), 0, 255)
        Image.fromarray(scene.astype(np.uint8)).save(path)
    return paths


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, artifact: Artifact) -> Path:
    path.write_bytes(Artifact.pack(artifact.graph, artifact.manifest)[1])
    return path


def test_the_golden_model_answers_as_recorded(predictor: Predictor) -> None:
    answer = predictor.predict(draw_test_image())
    assert answer.diagnosis_probabilities is not None
    assert list(answer.diagnosis_probabilities) == list(TINY.manifest.taxonomy.labels)
    assert list(answer.diagnosis_probabilities.values()) == pytest.approx(TINY.manifest.self_test.probabilities)
    assert answer.class_probabilities["malignant"] == pytest.approx(
        sum(answer.diagnosis_probabilities[dx] for dx in ("akiec", "bcc", "mel"))
    )


def test_a_model_of_two_classes_answers_too() -> None:
    answer = lesion.load(GOLDEN / "tiny2.onnx").predict(draw_test_image())
    assert answer.diagnosis_probabilities is None
    assert sum(answer.class_probabilities.values()) == pytest.approx(1)


def test_a_path_bytes_a_picture_and_an_array_get_the_same_answer(predictor: Predictor, tmp_path: Path) -> None:
    path, image = tmp_path / "lesion.png", draw_test_image()
    image.save(path)
    with Image.open(path) as lazy:
        sources = [path, str(path), path.read_bytes(), image, lazy, np.asarray(image)]
        answers = [predictor.predict(source, "same") for source in sources]
    assert answers == [answers[0]] * len(sources)


def draw_veil() -> Image.Image:
    """A dark picture behind every degree of transparency."""
    alpha = (np.arange(1200) % 256).astype(np.uint8).reshape(30, 40, 1)
    return Image.fromarray(np.concatenate([np.full((30, 40, 3), 9, np.uint8), alpha], axis=2))


@pytest.mark.parametrize(
    "image",
    [
        draw_test_image().convert("L"),
        draw_test_image().convert("P"),
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50),
        draw_veil(),
    ],
    ids=["gray", "palette", "16 bit", "transparent"],
)
def test_a_picture_of_any_mode_is_read_like_its_file(predictor: Predictor, image: Image.Image) -> None:
    assert np.array_equal(predictor.read(image), predictor.read(encode(image)))


def test_an_opened_file_is_turned_upright_like_its_bytes(predictor: Predictor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(draw_test_image(), exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        sideways = predictor.read(image)
    assert np.array_equal(sideways, predictor.read(content))
    assert not np.array_equal(sideways, predictor.read(draw_test_image()))


def test_a_picture_that_is_given_stays_as_it_is(predictor: Predictor) -> None:
    image = draw_test_image().convert("RGBA")
    before = image.copy()
    predictor.predict(image)
    assert image == before


def test_the_source_is_the_name_the_path_or_a_word(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "lesion.png"
    draw_test_image().save(path)
    assert predictor.predict(path).source == predictor.predict(str(path)).source == str(path)
    assert predictor.predict(path.read_bytes()).source == "image"
    assert predictor.predict(path, "patient 7").source == "patient 7"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 1), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((3, 40, 40), np.uint8),
        np.zeros((1, 40, 40, 3), np.uint8),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((40, 40, 3), np.int64),
        np.zeros((40, 40, 3), bool),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_of_another_shape_or_type_is_refused(predictor: Predictor, array: Any) -> None:
    with pytest.raises(ValueError, match="an RGB uint8 array") as caught:
        predictor.predict(array)
    assert str(caught.value).endswith(f"got {array.dtype} {array.shape}")


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 40, 3), (1, 1, 3), (15, 40, 3)], ids=str)
@pytest.mark.parametrize("wrap", [np.asarray, Image.fromarray], ids=["array", "picture"])
def test_hardly_any_pixels_get_no_answer(
    predictor: Predictor, shape: tuple[int, ...], wrap: Callable[[Any], Any]
) -> None:
    with pytest.raises(ImageError, match="every side must have at least 16 pixels"):
        predictor.predict(wrap(np.zeros(shape, np.uint8)))


def test_a_picture_whose_file_is_cut_off_is_refused(predictor: Predictor) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    with Image.open(io.BytesIO(encode(noise)[:2000])) as lazy, pytest.raises(ImageError, match="truncated"):
        predictor.predict(lazy)


def test_bad_files_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(NotAnImage, match=r"text\.jpg is not a JPEG or PNG"):
        predictor.predict(tmp_path / "text.jpg")
    with pytest.raises(NotAnImage, match="the image is not a JPEG or PNG"):
        predictor.predict(b"text")
    with pytest.raises(NotFoundError, match="no such image"):
        predictor.predict(str(tmp_path / "none.jpg"))


@pytest.mark.parametrize("batch", [1, 3, 8, 20, 100])
def test_many_are_answered_in_order_and_to_the_bit_like_one(
    predictor: Predictor, pictures: list[Path], batch: int
) -> None:
    expected = [predictor.predict(path) for path in pictures]
    assert len({answer.confidence for answer in expected}) == len(pictures)
    assert list(predictor.predict_many(pictures, batch)) == expected


def test_none_are_answered_with_nothing(predictor: Predictor) -> None:
    assert list(predictor.predict_many([])) == []


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_none_is_refused(predictor: Predictor, pictures: list[Path], batch: int) -> None:
    with pytest.raises(ValueError, match="a batch of at least 1 expected"):
        list(predictor.predict_many(pictures, batch))


@pytest.mark.parametrize(("batch", "before"), [(1, 10), (3, 9), (8, 8)])
def test_a_bad_file_among_many_surfaces_after_the_batches_before_it(
    predictor: Predictor, pictures: list[Path], batch: int, before: int
) -> None:
    expected = [predictor.predict(path) for path in pictures[:before]]
    pictures[10].write_text("text")
    answers = predictor.predict_many(pictures, batch)
    assert [next(answers) for _ in range(before)] == expected
    with pytest.raises(NotAnImage, match=r"10\.png is not a JPEG or PNG"):
        next(answers)


def test_of_many_only_two_batches_are_decoded_ahead(
    predictor: Predictor, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def count(source: Any) -> Any:
        read.append(source)
        return Predictor.read(predictor, source)

    monkeypatch.setattr(predictor, "read", count)
    answers = predictor.predict_many(pictures, 3)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert sorted(read) == pictures[:6]


def test_threads_get_the_same_answers(predictor: Predictor, pictures: list[Path]) -> None:
    expected = [predictor.predict(path) for path in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(predictor.predict, pictures * 10)) == expected * 10


def test_the_identity_is_name_and_digest(predictor: Predictor) -> None:
    assert predictor.identity == f"tiny@{TINY.digest[:12]}" == predictor.predict(draw_test_image()).model


def test_a_model_that_answers_otherwise_than_at_export_is_refused(tmp_path: Path) -> None:
    first, *rest = TINY.manifest.self_test.probabilities
    test = SelfTest((first + 0.01, *rest), 1e-3)
    path = write(tmp_path / "other.onnx", replace(TINY, manifest=replace(TINY.manifest, self_test=test)))
    with pytest.raises(CheckFailed) as caught:
        Predictor.load(path)
    assert "failed its self-test: a probability differs by 0.01" in caught.value.message
    assert "at most 0.001 expected" in caught.value.message
    assert caught.value.hint == "export the model again on this machine, or use the fp32 file"
    assert caught.value.exit_code == 1
    assert Predictor.load(path, self_test=False).predict(draw_test_image()).source == "image"


def test_a_difference_within_the_tolerance_passes(tmp_path: Path) -> None:
    first, *rest = TINY.manifest.self_test.probabilities
    test = SelfTest((first + 5e-4, *rest), 1e-3)
    Predictor.load(write(tmp_path / "near.onnx", replace(TINY, manifest=replace(TINY.manifest, self_test=test))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_network_of_nan_fails_its_self_test_and_never_answers(tmp_path: Path, value: float) -> None:
    assert TINY.graph.count(WEIGHTS) == 1
    graph = TINY.graph.replace(WEIGHTS, np.full(21, value, np.float32).tobytes())
    path = write(tmp_path / "nan.onnx", replace(TINY, graph=graph))
    with pytest.raises(CheckFailed, match="failed its self-test: a probability differs by nan"):
        Predictor.load(path)
    broken = Predictor.load(path, self_test=False)
    told = f"{broken.identity} has no answer: a probability is not a number"
    with pytest.raises(CheckFailed, match=f"^image: {told}$"):
        broken.predict(draw_test_image())
    with pytest.raises(CheckFailed, match=f"^{told}$"):  # a server logs it, and a client's name may be a patient's
        broken.decide(broken.run(NOISE), ["Jane Doe.jpg"] * 3)


def test_an_image_of_many_without_an_answer_is_named(predictor: Predictor) -> None:
    answers = predictor.run(NOISE)
    answers.logits[1, 2] = np.nan
    with pytest.raises(CheckFailed, match=r"^b\.png: tiny@.* has no answer"):
        predictor.decide_named(answers, ["a.png", "b.png", "c.png"])


@pytest.mark.parametrize("graph", [b"", b"\x0a\x03abc", b"\x08\x08", TINY.graph[:-40]], ids=["none", "a", "b", "cut"])
def test_a_sealed_graph_that_is_none_is_refused(tmp_path: Path, graph: bytes) -> None:
    path = write(tmp_path / "garbage.onnx", replace(TINY, graph=graph))
    with pytest.raises(ArtifactError) as caught:
        Predictor.load(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 65


def test_a_graph_and_a_manifest_of_two_models_do_not_fit() -> None:
    other = Artifact.read(GOLDEN / "tiny2.onnx")
    with pytest.raises(ArtifactError, match="the graph does not fit its manifest") as caught:
        Predictor(replace(TINY, graph=other.graph))
    assert caught.value.hint == "export the model again"


def test_a_graph_of_another_size_does_not_fit() -> None:
    spec = PreprocessSpec(64, "bilinear")
    with pytest.raises(ArtifactError, match=r"32, 32, 3\].*64, 64, 3\]"):
        Predictor(replace(TINY, manifest=replace(TINY.manifest, preprocess=spec)))


@pytest.mark.parametrize("kind", ["no input", "floats in"])
def test_a_graph_without_our_input_does_not_fit(kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    info = helper.make_tensor_value_info
    inputs = [] if kind == "no input" else [info("x", onnx.TensorProto.FLOAT, ["n", 7])]
    zeros = [numpy_helper.from_array(np.zeros((1, 7), np.float32), "x")] if kind == "no input" else []
    output = info("logits", onnx.TensorProto.FLOAT, ["n", 7])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["logits"])], "g", inputs, [output], zeros)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ArtifactError, match="the graph does not fit its manifest"):
        Predictor(replace(TINY, graph=model.SerializeToString()))


@pytest.mark.parametrize("name", ["logits", "checks", "maps"])
def test_a_graph_without_one_of_our_outputs_does_not_fit(name: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(TINY.graph)
    kept = [output for output in model.graph.output if output.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    with pytest.raises(ArtifactError, match="the graph does not fit its manifest"):
        Predictor(replace(TINY, graph=model.SerializeToString()))


def test_a_graph_with_other_checks_than_its_manifest_does_not_fit() -> None:
    manifest = replace(TINY.manifest, checks=(*TINY.manifest.checks, replace(TINY.manifest.checks[0], name="other")))
    with pytest.raises(ArtifactError, match="the graph does not fit its manifest"):
        Predictor(replace(TINY, manifest=manifest))


# --- everything about an image ----------------------------------------------------------------------------------------


NOISE = np.random.default_rng(7).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_maps_are_computed_for_whoever_asks_and_change_nothing(predictor: Predictor) -> None:
    plain, full = predictor.run(NOISE), predictor.run(NOISE, maps=True)
    assert plain.maps is None
    assert full.maps is not None
    assert full.maps.shape == (3, 7, 32, 32)
    assert plain.checks == pytest.approx(NOISE.mean((1, 2, 3))[:, None] / 255, abs=1e-5)
    assert np.array_equal(plain.logits, full.logits)
    assert np.array_equal(plain.checks, full.checks)
    assert np.array_equal(plain.logits, predictor.logits(NOISE))


@pytest.mark.parametrize(("grey", "flags"), [(0, ("too_dark",)), (128, ()), (255, ("too_bright",))])
def test_an_unusual_picture_is_referred(predictor: Predictor, grey: int, flags: tuple[str, ...]) -> None:
    answer = predictor.predict(Image.new("RGB", (40, 40), (grey, grey, grey)))
    assert tuple(flag for flag in answer.flags if flag != "uncertain") == flags
    assert answer.decision == ("refer" if answer.flags else answer.prediction)


# A model whose answer depends on where things are: the tiny one sees the mean colour alone.
@pytest.fixture
def leaning() -> Artifact:
    """The first seven rows' mean grey are the logits, each row's own pixels the maps."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    info, float_ = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    constants = {"start": [0], "end": [7], "axis": [1], "shape": [0, 7, 1, 32]}
    initializers = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.float32(32), "width"))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=float_),
        helper.make_node("ReduceMean", ["x"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Slice", ["grey", "start", "end", "axis"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["logits"], axes=[2], keepdims=0),
        helper.make_node("Div", ["rows", "width"], ["parts"]),
        helper.make_node("Reshape", ["parts", "shape"], ["maps"]),
        helper.make_node("ReduceMean", ["logits"], ["checks"], axes=[1], keepdims=1),
    ]
    pixels = info("pixels", onnx.TensorProto.UINT8, ["n", 32, 32, 3])
    outputs = [info(*each) for each in (("logits", float_, ["n", 7]), ("checks", float_, ["n", 1]))]
    outputs.append(info("maps", float_, ["n", 7, 1, 32]))
    graph = helper.make_graph(nodes, "leaning", [pixels], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return replace(TINY, graph=model.SerializeToString())


def test_eight_views_are_averaged(leaning: Artifact) -> None:
    turned = [np.rot90(flipped, turns, (1, 2)) for flipped in (NOISE, NOISE[:, :, ::-1]) for turns in range(4)]
    rows = [view.mean(3)[:, :7].mean(2) for view in turned]
    assert len({row.tobytes() for row in rows}) == 8
    averaged = Predictor(leaning, tta=True)
    assert averaged.logits(NOISE) == pytest.approx(np.mean(rows, axis=0), rel=1e-5)
    assert averaged.run(NOISE).logits == pytest.approx(averaged.logits(NOISE))
    assert averaged.run(NOISE).checks == pytest.approx(np.mean(rows, axis=(0, 2))[:, None], rel=1e-5)


def test_an_answer_of_eight_views_is_the_same_for_each_of_them(leaning: Artifact) -> None:
    averaged = Predictor(leaning, tta=True)
    for view in (NOISE[:, ::-1], NOISE[:, :, ::-1], np.rot90(NOISE, 1, (1, 2)), NOISE.swapaxes(1, 2)):
        assert averaged.logits(np.ascontiguousarray(view)) == pytest.approx(averaged.logits(NOISE), rel=1e-5)


def test_maps_of_eight_views_are_turned_back(predictor: Predictor) -> None:
    # Every position counts the same in the tiny model: its maps turn with the picture.
    averaged = Predictor(TINY, tta=True).run(NOISE, maps=True).maps
    assert averaged is not None
    assert averaged == pytest.approx(np.asarray(predictor.run(NOISE, maps=True).maps), abs=1e-6)


def test_the_self_test_is_of_one_view(leaning: Artifact) -> None:
    pixels = TINY.manifest.preprocess.apply(draw_test_image())[None]
    once = Predictor(leaning)
    test = SelfTest(tuple(once.probabilities(pixels)[0].tolist()), 1e-6)
    assert not np.allclose(Predictor(leaning, tta=True).probabilities(pixels), once.probabilities(pixels))
    Predictor(replace(leaning, manifest=replace(leaning.manifest, self_test=test)), tta=True).run_self_test()


def test_a_missing_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model file"):
        lesion.load(tmp_path / "none.onnx")


def test_the_number_of_threads_does_not_change_the_answer(predictor: Predictor) -> None:
    one = lesion.load(str(GOLDEN / "tiny.onnx"), threads=1)
    assert one.predict(draw_test_image()) == predictor.predict(draw_test_image())


def test_predicting_and_serving_load_nothing_of_training() -> None:
    program = """
import json, sys
from pathlib import Path
import lesion
early = sorted(name for name in ("onnxruntime", "numpy", "PIL") if name in sys.modules)
import lesion.serve.app
from lesion.inference.predictor import draw_test_image
predictor = lesion.load(sys.argv[1])
from lesion.config.serving import ServeConfig
from lesion.serve.slot import Serving, Slot
lesion.serve.app.create_app(Slot(Serving.load(Path(sys.argv[1]), ServeConfig())), ServeConfig())
answer = predictor.predict(draw_test_image()).prediction
heavy = ("torch", "torchvision", "torchmetrics", "lightning", "wandb", "onnx", "dvc", "matplotlib", "pandas")
print(json.dumps([answer, early, [name for name in heavy if name in sys.modules]]))
"""
    words = [sys.executable, "-c", program, str(GOLDEN / "tiny.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["benign", [], []]
