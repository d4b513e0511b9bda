"""The audit: each kind of damage is found under its name, fixed or explained, and nothing else is said."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lesion.config.schema import DataConfig
from lesion.data.audit import KINDS, audit, choose_for_quarantine, examine, judge, require_clean
from lesion.data.index import METADATA, read_index
from lesion.data.quarantine import add_to_quarantine, read_quarantine
from lesion.data.split import open_dataset
from lesion.errors import CheckFailed, DataError, NotFoundError
from tests.conftest import Cli

Record = dict[str, str]
ANY = ("odd-size", "blurred", "dark", "bright")  # what damage to a file may bring along


def read_table(root: Path) -> list[Record]:
    with (root / METADATA).open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(root: Path, table: list[Record]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    (root / METADATA).write_text(text.getvalue())


def file_of(root: Path, record: Record) -> Path:
    return root / "HAM10000_images" / f"{record['image_id']}.jpg"


def pick(table: list[Record], dx: str, skip: Record | None = None) -> Record:
    """The first image of a lesion with this diagnosis, other than the lesion of `skip`."""
    return next(r for r in table if r["dx"] == dx and (skip is None or r["lesion_id"] != skip["lesion_id"]))


def edit(**changes: str) -> Callable[[Path], list[str]]:
    def damage(root: Path) -> list[str]:
        table = read_table(root)
        table[3].update(changes)
        write_table(root, table)
        return [table[3]["image_id"]]

    return damage


def replace_file(content: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    def damage(root: Path) -> list[str]:
        record = read_table(root)[5]
        path = file_of(root, record)
        path.write_bytes(content(path.read_bytes()))
        return [record["image_id"]]

    return damage


def to_png(content: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).save(out, "PNG")
    return out.getvalue()


def draw(size: tuple[int, int], colour: tuple[int, int, int]) -> Callable[[bytes], bytes]:
    def content(_: bytes) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", size, colour).save(out, "JPEG")
        return out.getvalue()

    return content


def remove_file(root: Path) -> list[str]:
    record = read_table(root)[5]
    file_of(root, record).unlink()
    return [record["image_id"]]


def make_folder(root: Path) -> list[str]:
    image = remove_file(root)
    (root / "HAM10000_images" / f"{image[0]}.jpg").mkdir()
    return image


def add_rival(root: Path) -> list[str]:
    path = file_of(root, read_table(root)[5])
    path.with_suffix(".png").write_bytes(to_png(path.read_bytes()))
    return [path.stem]


def repeat_row(root: Path) -> list[str]:
    table = read_table(root)
    write_table(root, [*table, table[0]])
    return [table[0]["image_id"]]


def give_two_diagnoses(root: Path) -> list[str]:
    table = read_table(root)
    lesion = next(r["lesion_id"] for r in table if sum(o["lesion_id"] == r["lesion_id"] for o in table) > 1)
    members = [r for r in table if r["lesion_id"] == lesion]
    members[-1]["dx"] = "mel" if members[0]["dx"] != "mel" else "nv"
    write_table(root, table)
    return [r["image_id"] for r in members]


def add_stranger(root: Path) -> list[str]:
    (root / "HAM10000_images" / "stranger.jpg").write_bytes(file_of(root, read_table(root)[0]).read_bytes())
    return ["stranger.jpg"]


def copy_to(dx: str | None, near: bool = False) -> Callable[[Path], list[str]]:
    """Replace an image of another lesion (of diagnosis `dx`), or of the same one, by a copy of the first nevus."""

    def damage(root: Path) -> list[str]:
        table = read_table(root)
        many = [r for r in table if r["dx"] == "nv" and sum(o["lesion_id"] == r["lesion_id"] for o in table) > 1]
        source = many[0]
        target = many[1] if dx is None else pick(table, dx, source)
        if near:
            image = Image.open(file_of(root, source))
            image = image.resize(image.size, Image.Resampling.BICUBIC, (2, 1, image.width - 2, image.height - 1))
            image.save(file_of(root, target), quality=85)
        else:
            file_of(root, target).write_bytes(file_of(root, source).read_bytes())
        return [r["image_id"] for r in table if r in (source, target)]

    return damage


CASES: dict[str, list[Callable[[Path], list[str]]]] = {
    "empty": [replace_file(lambda _: b"")],
    "not-an-image": [replace_file(lambda _: b"a" * 5000), replace_file(lambda _: b"GIF89a" + b"\0" * 99)],
    "damaged": [replace_file(lambda raw: raw[: len(raw) // 2]), replace_file(lambda raw: raw[:4]), make_folder],
    "unusable-size": [replace_file(draw((12, 300), (9, 9, 9))), replace_file(lambda raw: raw + b"\0" * 2**24)],
    "absent": [remove_file],
    "several-files": [add_rival],
    "bad-id": [edit(lesion_id=""), edit(image_id="../secret"), edit(image_id="")],
    "repeated-id": [repeat_row],
    "unknown-diagnosis": [edit(dx="melanoma", lesion_id="HAM_1"), edit(dx="", lesion_id="HAM_1")],
    "two-diagnoses": [give_two_diagnoses],
    "same-pixels-other-diagnosis": [copy_to("mel")],
    "near-duplicate-other-diagnosis": [copy_to("mel", near=True)],
    "same-pixels-other-lesion": [copy_to("nv")],
    "near-duplicate": [copy_to("nv", near=True)],
    "mostly-black": [replace_file(draw((120, 90), (0, 0, 0)))],
    "dark": [replace_file(draw((120, 90), (30, 30, 30)))],
    "bright": [replace_file(draw((120, 90), (255, 255, 255)))],
    "blurred": [replace_file(draw((120, 90), (120, 120, 120)))],
    "bad-age": [edit(age="forty"), edit(age="-5"), edit(age="nan"), edit(age="1e9")],
    "bad-sex": [edit(sex="x"), edit(sex="<script>")],
    "bad-localization": [edit(localization="moon")],
    "bad-dx_type": [edit(dx_type="guess")],
    "disguised": [replace_file(to_png)],
    "same-pixels": [copy_to(None)],
    "odd-size": [replace_file(draw((200, 90), (150, 120, 110)))],
    "unlisted": [add_stranger],
}
SPLITS = {"lesion-in-two-splits", "duplicate-in-two-splits"}


def test_every_kind_has_a_case() -> None:
    assert set(CASES) | SPLITS == set(KINDS)


def test_a_sound_dataset_has_no_findings(ham_root: Path, tmp_path: Path) -> None:
    report = audit(ham_root, tmp_path)
    assert [f for f in report.findings if f.kind not in ANY] == []
    assert report.images == len(read_table(ham_root))
    assert report.lesions == 70
    require_clean(report)


@pytest.mark.parametrize(("kind", "case"), [(kind, i) for kind, cases in CASES.items() for i in range(len(cases))])
def test_damage_is_found_and_only_that(kind: str, case: int, ham_copy: Path, tmp_path: Path) -> None:
    images = CASES[kind][case](ham_copy)
    seen = examine(ham_copy, tmp_path / "processed")
    report = judge(seen)
    found = [f for f in report.findings if f.kind == kind and set(images) & set(f.images)]
    assert len(found) == 1
    assert sorted(found[0].images) == sorted(images)
    assert found[0].message
    more = {"absent", "unlisted", "disguised"} if kind == "bad-id" else set()
    assert {f.kind for f in report.findings if set(images) & set(f.images)} - {*ANY, *more} <= {kind}
    if found[0].severity == "error":
        check_the_fix(seen, images, unfixable=images == [""])


def check_the_fix(seen: object, images: list[str], unfixable: bool) -> None:
    """An error stops training, and quarantine takes it and nothing else away."""
    report = judge(seen)  # type: ignore[arg-type]
    with pytest.raises(CheckFailed, match="must not be trained on") as caught:
        require_clean(report)
    assert caught.value.hint
    chosen = choose_for_quarantine(report)
    if unfixable:
        assert "" not in chosen
        return
    assert set(chosen) >= set(images)
    add_to_quarantine(Path(report.processed), chosen)
    after = judge(seen)  # type: ignore[arg-type]
    assert after.errors == []
    assert after.images == report.images - sum(r.image_id in chosen for r in seen.rows)  # type: ignore[attr-defined]


def test_what_is_fixed_can_be_split_and_is_left_out(ham_copy: Path) -> None:
    images = give_two_diagnoses(ham_copy)
    with pytest.raises(DataError, match="two diagnoses"):
        read_index(ham_copy)
    processed = ham_copy / "processed"
    add_to_quarantine(processed, choose_for_quarantine(audit(ham_copy, processed)))
    used = {row.image_id for rows in open_dataset(DataConfig(root=str(ham_copy))).members.values() for row in rows}
    assert not used & set(images)
    assert audit(ham_copy, processed).errors == []


def change_split(root: Path, image: str, other: str) -> None:
    """Write `image` into another split than `other`."""
    path = root / "processed" / "splits.csv"
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    split = next(r["split"] for r in table if r["image_id"] == other)
    for record in table:
        if record["image_id"] == image:
            record["split"] = "test" if split != "test" else "train"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    path.write_text(text.getvalue())


def test_leaks_across_splits_are_found_and_cannot_be_fixed_away(ham_copy: Path) -> None:
    one, other = copy_to("nv", near=True)(ham_copy)
    open_dataset(DataConfig(root=str(ham_copy)))
    assert audit(ham_copy, ham_copy / "processed").errors == []
    change_split(ham_copy, one, other)
    report = audit(ham_copy, ham_copy / "processed")
    assert {f.kind for f in report.errors} >= {"duplicate-in-two-splits"}
    (leak,) = (f for f in report.errors if f.kind == "duplicate-in-two-splits")
    assert set(leak.images) == {one, other}
    assert not set(choose_for_quarantine(report)) & {one, other}
    with pytest.raises(CheckFailed) as caught:
        require_clean(report)
    assert "draw the split anew" in caught.value.hint


def test_a_lesion_in_two_splits_is_found(ham_copy: Path) -> None:
    table = read_table(ham_copy)
    lesion = next(r["lesion_id"] for r in table if sum(o["lesion_id"] == r["lesion_id"] for o in table) > 1)
    members = [r["image_id"] for r in table if r["lesion_id"] == lesion]
    open_dataset(DataConfig(root=str(ham_copy)))
    change_split(ham_copy, members[0], members[1])
    (leak,) = audit(ham_copy, ham_copy / "processed").errors
    assert (leak.kind, set(leak.images)) == ("lesion-in-two-splits", set(members))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a,b\n1,2\n", b'image_id,split\n"x'])
def test_a_damaged_split_is_refused(content: bytes, ham_copy: Path) -> None:
    (ham_copy / "processed").mkdir()
    (ham_copy / "processed" / "splits.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"splits\.csv is not readable"):
        audit(ham_copy, ham_copy / "processed")


def test_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        audit(tmp_path / "none", tmp_path)


def test_a_dataset_without_one_usable_image_is_audited(ham_copy: Path, tmp_path: Path) -> None:
    for path in (ham_copy / "HAM10000_images").iterdir():
        path.write_bytes(b"")
    report = audit(ham_copy, tmp_path)
    assert report.counts == {"empty": report.images}


def test_the_command_reports_fixes_and_restores(ham_copy: Path, tmp_path: Path, cli: Cli) -> None:
    (image,) = replace_file(lambda raw: raw[:300])(ham_copy)
    words = ("data", "audit", f"data.root={ham_copy}")
    outcome = cli(*words)
    assert outcome.code == 1
    assert "damaged, truncated or unreadable" in outcome.out
    assert image in outcome.out
    assert "1 finding must not be trained on" in outcome.err
    assert "--fix" in outcome.err
    page = tmp_path / "new" / "audit.html"
    outcome = cli(*words, "--fix", "--html", page)
    assert outcome.code == 0
    assert "1 in quarantine" in outcome.out
    assert page.read_text().startswith("<!doctype html>")
    assert read_quarantine(ham_copy / "processed")[image].startswith("damaged")
    assert cli(*words).code == 0
    assert cli(*words, "--restore").code == 1
    assert read_quarantine(ham_copy / "processed") == {}


def test_the_command_prints_one_json_document(ham_copy: Path, cli: Cli) -> None:
    (image,) = replace_file(lambda _: b"")(ham_copy)
    outcome = cli("data", "audit", f"data.root={ham_copy}", "--json")
    document = json.loads(outcome.out)
    assert outcome.code == 1
    assert document["schema"] == 1
    assert document["counts"]["empty"] == 1
    (finding,) = (f for f in document["findings"] if f["severity"] == "error")
    assert finding["images"] == [image]
