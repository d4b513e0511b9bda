"""Hints of the data commands, followed: what a hint says is done, and the command then succeeds."""

import csv
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesion.data.index import IMAGES, METADATA
from lesion.data.split import read_parts
from lesion.data.synth import SynthSpec, synthesize
from tests.conftest import Cli

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 28 lesions, in a folder whose name needs quotes in a shell."""
    root = tmp_path_factory.mktemp("hints") / "Study # 2"
    synthesize(root, SynthSpec(lesions=28, width=64, height=48))
    return root


@pytest.fixture
def dataset(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / small.name))


def change(edit: Callable[[list[dict[str, str]]], object]) -> Damage:
    """A damage of the metadata."""

    def damage(root: Path) -> None:
        with (root / METADATA).open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        edit(table)
        with (root / METADATA).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)

    return damage


def give_two_diagnoses(table: list[dict[str, str]]) -> None:
    frequent = [dx for dx, _ in Counter(row["dx"] for row in table).most_common(2)]
    first, second = (next(row for row in table if row["dx"] == dx) for dx in frequent)
    second["lesion_id"] = first["lesion_id"]


def remove_image(root: Path) -> None:
    next(iter((root / IMAGES).iterdir())).unlink()


def cut_image(root: Path) -> None:
    path = next(iter((root / IMAGES).iterdir()))
    path.write_bytes(path.read_bytes()[:500])


def add_mask(root: Path) -> None:
    path = next(iter((root / IMAGES).iterdir()))
    Image.new("L", (64, 48)).save(path.with_suffix(".png"))


def follow(hint: str) -> list[str]:
    """The words of the command in a hint, between backticks or behind a colon."""
    found = re.search(r"`lesion (.*?)`", hint) or re.search(r": lesion (.*)$", hint)
    assert found, hint
    return shlex.split(found[1])


def hint_of(err: str) -> str:
    return err.partition("\nhint: ")[2].splitlines()[0]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(change(lambda table: table[0].update(dx="scc", lesion_id="x")), id="unknown diagnosis"),
        pytest.param(change(lambda table: table.append({**table[0], "age": "1"})), id="listed twice"),
        pytest.param(change(give_two_diagnoses), id="two diagnoses"),
        pytest.param(change(lambda table: table[0].update(image_id="a b")), id="id"),
        pytest.param(remove_image, id="absent"),
        pytest.param(add_mask, id="several files"),
        pytest.param(cut_image, id="damaged"),
    ],
)
@pytest.mark.parametrize("place", [None, "own folder"])
def test_an_audit_as_the_hint_names_it_lets_the_dataset_be_used(
    damage: Damage, place: str | None, dataset: Path, tmp_path: Path, cli: Cli
) -> None:
    damage(dataset)
    words = [f"data.root={dataset}", f"data.near_duplicates={damage is cut_image}"]  # which looks into the images
    words += [f"data.processed={tmp_path / place}"] if place else []
    refused = cli("data", "prepare", *words)
    assert refused.code == 65
    fixed = cli(*follow(hint_of(refused.err)))
    assert fixed.code == 0, fixed.err
    prepared = cli("data", "prepare", *words)
    assert prepared.code == 0, prepared.err
    assert ((tmp_path / place if place else dataset / "processed") / "quarantine.csv").is_file()


def test_a_split_with_duplicates_apart_is_drawn_anew_as_the_audit_says(dataset: Path, cli: Cli) -> None:
    prepare = ("data", "prepare", f"data.root={dataset}")
    assert cli(*prepare).code == 0
    parts = read_parts(dataset / "processed")
    first, second = (next(image for image, part in parts.items() if part == name) for name in ("train", "test"))
    image = next((dataset / IMAGES).glob(f"{first}.*"))
    next((dataset / IMAGES).glob(f"{second}.*")).unlink()
    shutil.copy(image, image.with_name(f"{second}{image.suffix}"))
    change(lambda table: [row.update(dx="nv") for row in table if row["image_id"] in (first, second)])(dataset)
    change(lambda table: [row.update(lesion_id=row["image_id"]) for row in table])(dataset)
    refused = cli("data", "audit", f"data.root={dataset}", "--fix")
    assert "duplicates in two splits" in refused.out
    hint = hint_of(refused.err)
    deleted = re.match(r"delete (.*) and draw", hint)
    assert deleted is not None, hint
    Path(deleted[1]).unlink()
    assert cli(*follow(hint)).code == 0
    assert cli("data", "audit", f"data.root={dataset}").code == 0


def test_rows_of_a_diagnosis_with_too_few_lesions_can_be_removed(dataset: Path, cli: Cli) -> None:
    def keep_one(table: list[dict[str, str]]) -> None:
        lesions = sorted({row["lesion_id"] for row in table if row["dx"] == "df"})
        table[:] = [row for row in table if row["lesion_id"] not in lesions[1:]]

    change(keep_one)(dataset)
    refused = cli("data", "prepare", f"data.root={dataset}", "data.near_duplicates=false")
    assert "1 lesion with diagnosis df, at least 3 expected" in refused.err
    assert "remove its rows from the metadata" in hint_of(refused.err)
    change(lambda table: table.__setitem__(slice(None), [row for row in table if row["dx"] != "df"]))(dataset)
    assert cli("data", "prepare", f"data.root={dataset}", "data.near_duplicates=false").code == 0


# --- import -----------------------------------------------------------------------------------------------------------


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 40, 3), np.uint8)).save(path)
    return path


def write(path: Path, *rows: Sequence[str], encoding: str = "utf-8") -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding)
    return path


COLUMNS = ("--image-column", "image", "--label-column", "label")


def test_the_inner_folder_that_the_hint_names_is_imported(tmp_path: Path, cli: Cli) -> None:
    for place in ("train/nevus/a.png", "train/melanoma/b.png", "test/nevus/c.png"):
        draw(tmp_path / "my photos" / "skin cancer dataset" / place)
    refused = cli("data", "import", tmp_path / "my photos", tmp_path / "made")
    assert "all 3 images are in one folder, 'skin cancer dataset'" in refused.err
    followed = cli(*follow(hint_of(refused.err)))
    assert followed.code == 0, followed.err
    assert f"{tmp_path / 'made'}: 3 images" in followed.out


def test_the_options_of_the_hint_map_all_labels(tmp_path: Path, cli: Cli) -> None:
    draw(tmp_path / "in" / "clark's mole" / "a.png")
    draw(tmp_path / "in" / "SCC" / "b.png")
    refused = cli("data", "import", tmp_path / "in", tmp_path / "made")
    options = hint_of(refused.err).removeprefix("add ").partition(" with a diagnosis")[0]
    words = shlex.split(options.replace("DIAGNOSIS", "nv", 1).replace("DIAGNOSIS", "skip"))
    assert cli("data", "import", tmp_path / "in", tmp_path / "made", *words).code == 0


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_the_encoding_of_the_hint_reads_the_table(encoding: str, tmp_path: Path, cli: Cli) -> None:
    draw(tmp_path / "in" / "a.png")
    table = write(tmp_path / "t.csv", ("image", "label", "Größe"), ("a", "Nævus", "1"), encoding=encoding)
    words = ("data", "import", tmp_path / "in", tmp_path / "made", "--csv", table, *COLUMNS)
    refused = cli(*words)
    assert refused.code == 65
    option = re.match(r"add (--encoding \S+) ", hint_of(refused.err))
    assert option is not None, refused.err
    assert cli(*words, *option[1].split()).code == 0


@pytest.mark.parametrize("options", [(), ("--encoding", "cp1252")])
def test_no_encoding_is_named_for_what_is_no_text(options: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    draw(tmp_path / "in" / "a.png")
    for content, said in (
        (b"PK\x03\x04" + bytes(range(256)), "is an Excel workbook or another ZIP archive, not a CSV file"),
        (bytes(range(128, 256)), "not "),
    ):
        (tmp_path / "t.csv").write_bytes(content)
        words = ("data", "import", tmp_path / "in", tmp_path / "made", "--csv", tmp_path / "t.csv", *COLUMNS)
        refused = cli(*words, *options)
        assert refused.code == 65
        assert said in refused.err
        assert hint_of(refused.err) == "open it in the program that made it, and save it as CSV in UTF-8"


def test_a_table_without_a_header_is_read_with_the_one_of_the_hint(tmp_path: Path, cli: Cli) -> None:
    for name in ("ISIC_0000000", "ISIC_0000001"):
        draw(tmp_path / "in" / f"{name}.png")
    table = write(tmp_path / "t.csv", ("ISIC_0000000", "melanoma"), ("ISIC_0000001", "nevus"))
    words = ("data", "import", tmp_path / "in", tmp_path / "made", "--csv", table)
    refused = cli(*words)
    assert "t.csv has no header: its first line names the image ISIC_0000000" in refused.err
    header = hint_of(refused.err).rpartition("for example: ")[2]
    table.write_text(f"{header}\n{table.read_text('utf-8')}", "utf-8")
    followed = cli(*words, *COLUMNS)
    assert followed.code == 0, followed.err
    assert f"{tmp_path / 'made'}: 2 images" in followed.out


def test_lesions_with_two_diagnoses_are_left_out_with_the_option_of_the_hint(tmp_path: Path, cli: Cli) -> None:
    rows = [("a", "nv", "1"), ("b", "mel", "1"), ("c", "mel", "2"), ("d", "nv", "")]
    for name, *_ in rows:
        draw(tmp_path / "in" / f"{name}.png")
    table = write(tmp_path / "t.csv", ("image", "label", "patient"), *rows)
    words = ("data", "import", tmp_path / "in", tmp_path / "made", "--csv", table, *COLUMNS)
    refused = cli(*words, "--lesion-column", "patient")
    assert "1 lesion with two diagnoses: 1 (mel and nv)" in refused.err
    assert "--skip-unusable" in hint_of(refused.err)
    followed = cli(*words, "--lesion-column", "patient", "--skip-unusable")
    assert followed.code == 0, followed.err
    assert "left out, of a lesion with two diagnoses: 2 (a.png, b.png)" in followed.out
    shutil.rmtree(tmp_path / "made")
    assert cli(*words).code == 0  # "leave the column of patients out"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("nv/1.png", "mel/1.png"), "rename them, or add --prefix to make ids from paths"),
        (("nv/1.png", "nv/1.jpg"), "rename one of each; or move it out of the source, if it is a mask or a copy"),
    ],
)
def test_files_of_one_name_are_imported_as_the_hint_says(
    files: tuple[str, ...], said: str, tmp_path: Path, cli: Cli
) -> None:
    for seed, name in enumerate(files):
        draw(tmp_path / "in" / name, seed)
    refused = cli("data", "import", tmp_path / "in", tmp_path / "made")
    assert hint_of(refused.err) == said
    if "--prefix" not in said:
        (tmp_path / "in" / files[1]).unlink()
    words = ["--prefix"] if "--prefix" in said else []
    assert cli("data", "import", tmp_path / "in", tmp_path / "made", *words).code == 0


def test_copies_of_one_file_are_no_question_and_other_files_are_named_by_path(tmp_path: Path, cli: Cli) -> None:
    draw(tmp_path / "in" / "part_1" / "a.png")
    shutil.copytree(tmp_path / "in" / "part_1", tmp_path / "in" / "copy")
    draw(tmp_path / "in" / "part_1" / "b.png")
    draw(tmp_path / "in" / "masks" / "b.png", 1)
    table = write(tmp_path / "t.csv", ("image", "label"), ("a", "nv"), ("b", "nv"))
    words = ("data", "import", tmp_path / "in", tmp_path / "made", "--csv", table, *COLUMNS)
    refused = cli(*words)
    assert "1 image with several files: b (masks/b.png, part_1/b.png)" in refused.err
    assert "write their paths relative to SOURCE into the table" in hint_of(refused.err)
    write(table, ("image", "label"), ("a", "nv"), ("part_1/b.png", "nv"))
    followed = cli(*words)
    assert followed.code == 0, followed.err
    assert "left out, a copy of another file: 1 (part_1/a.png)" in followed.out
