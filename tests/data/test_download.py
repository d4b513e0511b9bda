"""A whole dataset from a server on loopback: every host, mirror, resume, licence, subset, and no network at all."""

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lesion.data.download import Wish, download, plan
from lesion.data.fetch import Patience
from lesion.data.index import IMAGES, METADATA, read_index
from lesion.data.kaggle import read_token
from lesion.data.layout import LOCK
from lesion.data.publishers import CC_BY_NC, SOURCES, Licence, Offer, RemoteFile, Source
from lesion.errors import ConfigError, DataError, Interrupted, NotFoundError, OutputError, RemoteError
from lesion.files import hold_lock
from lesion.records import DownloadReport
from tests.conftest import Cli
from tests.data.web import Web, break_at, run_web, send, status

QUICK = Patience(rounds=3, first_wait_s=0.01, longest_wait_s=0.05, timeout_s=1)
DIAGNOSES = ["nv"] * 6 + ["mel", "bkl", "bcc", "akiec", "vasc", "df"] * 4
ONE_HOT = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def draw(image: str) -> bytes:
    return b"\xff\xd8\xff\xe0" + image.encode() * 500


def pack(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return raw.getvalue()


def tabulate(*rows: tuple[Any, ...]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


class World(NamedTuple):
    web: Web
    source: Source
    names: list[str]
    metadata: bytes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Thirty images at three hosts."""
    monkeypatch.setenv("no_proxy", "*")
    names = [f"ISIC_{i:07d}" for i in range(len(DIAGNOSES))]
    images = {f"part/{name}.jpg": draw(name) for name in names}
    halves = [dict(list(images.items())[:15]), dict(list(images.items())[15:])]
    head = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")
    ham = [(f"L{i}", name, DIAGNOSES[i], "histo", "40.0", "male", "back", "rosendahl") for i, name in enumerate(names)]
    metadata = tabulate(head, *ham)
    hot = [(name, *(int(word == DIAGNOSES[i].upper()) for word in ONE_HOT)) for i, name in enumerate(names)]
    groups = [(name, f"L{i}", "histopathology") for i, name in enumerate(names)]
    truth = tabulate(("image", *ONE_HOT), *hot)
    doubled = {name.replace("part/", "PART/"): content for name, content in images.items()}

    with run_web() as web:

        def offer(name: str, content: bytes, place: str, known: bool = True, **facts: Any) -> RemoteFile:
            url = web.put(f"/{name}", content)
            if known:
                facts |= {"bytes": len(content), "md5": md5(content).hexdigest()}
            return RemoteFile(name, (web.url(f"/gone/{name}"), url), place, about=len(content), **facts)

        for name in names:
            web.put(f"/images/{name}.jpg", draw(name))
        offers = (
            Offer(
                "dataverse",
                (
                    offer(METADATA, metadata, METADATA),
                    offer("one.zip", pack({**halves[0], "LICENSE.txt": b"CC"}), IMAGES),
                    offer("two.zip", pack(halves[1]), IMAGES),
                ),
            ),
            Offer(
                "isic",
                (
                    offer(
                        "groups.csv",
                        tabulate(("image", "lesion_id", "diagnosis_confirm_type"), *groups),
                        METADATA,
                        known=False,
                    ),
                    offer("truth.zip", pack({"x/truth.csv": truth}), METADATA, known=False, tables=("truth.csv",)),
                    offer("all.zip", pack(images), IMAGES, known=False),
                ),
            ),
            Offer(
                "kaggle",
                (
                    offer(
                        "kaggle.zip",
                        pack({**images, **doubled, METADATA: metadata, "hmnist.csv": b"1"}),
                        IMAGES,
                        tables=(METADATA,),
                    ),
                ),
                needs_token=True,
            ),
        )
        source = Source("small", "Small", CC_BY_NC, offers, (web.url("/images/{image}.jpg"),))
        yield World(web, source, names, metadata)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "small"


def run(world: World, root: Path, host: str = "auto", accept: bool = True, **more: Any) -> DownloadReport:
    return download(world.source, root, Wish(host, **more), lambda licence: accept, QUICK)


def check(world: World, root: Path) -> None:
    """The dataset is whole and our reader takes it."""
    assert [row.image_id for row in read_index(root)] == world.names
    assert all((root / IMAGES / f"{name}.jpg").read_bytes() == draw(name) for name in world.names)
    assert not list(root.rglob("*.part"))


def test_everything_comes_from_the_first_host(world: World, root: Path) -> None:
    report = run(world, root)
    check(world, root)
    assert (report.source, report.finished, report.images) == ("dataverse", True, 30)
    assert (root / METADATA).read_bytes() == world.metadata
    assert (root / "downloads" / "one.LICENSE.txt").read_bytes() == b"CC"
    assert report.received == sum(file.size for file in world.source.offers[0].files)
    assert not list((root / "downloads").glob("*.zip"))
    kept = json.loads((root / "downloads.json").read_text())
    assert kept["licence"]["name"] == "CC BY-NC 4.0"
    assert kept["licence"]["accepted"].startswith("20")
    assert kept["files"]["one.zip"]["md5"] == world.source.offers[0].files[1].md5


def test_the_second_run_asks_for_nothing(world: World, root: Path) -> None:
    run(world, root)
    world.web.requests.clear()
    report = download(world.source, root, None, lambda licence: pytest.fail("asked again"), QUICK)
    assert world.web.requests == []
    assert (report.finished, report.received, report.images) == (True, 0, 30)


def test_only_what_was_lost_is_fetched_again(world: World, root: Path) -> None:
    run(world, root)
    (root / IMAGES / f"{world.names[20]}.jpg").unlink()
    world.web.requests.clear()
    run(world, root)
    check(world, root)
    assert {path for path, _ in world.web.requests} == {"/gone/two.zip", "/two.zip"}


def test_another_host_is_tried_when_the_first_fails(world: World, root: Path) -> None:
    del world.web.files["/two.zip"]
    world.web.faults.pop("/two.zip")
    report = run(world, root)
    check(world, root)
    assert report.source == "isic"
    assert read_index(root)[0].dx_type == "histo"
    world.web.requests.clear()
    assert run(world, root).finished
    assert world.web.requests == []


def test_another_host_is_tried_when_the_first_has_other_bytes(world: World, root: Path) -> None:
    world.web.files["/one.zip"] = pack({"ISIC_1.jpg": draw("evil")})
    assert run(world, root).source == "isic"
    check(world, root)


def test_what_was_given_up_on_is_not_missed(world: World, root: Path) -> None:
    world.web.files["/all.zip"] = pack({f"{name}.jpg": draw(name) + b"other" for name in world.names})
    world.web.faults["/two.zip"] = [break_at(1000), *[status(503)] * 9]
    assert run(world, root).source == "isic"
    assert not list(root.rglob("*.part"))
    world.web.requests.clear()
    assert run(world, root).finished
    assert world.web.requests == []


def test_kaggle_wants_a_token_and_has_everything_twice(world: World, root: Path, tmp_path: Path) -> None:
    token = tmp_path / "kaggle.json"
    with pytest.raises(NotFoundError, match="no Kaggle token"):
        run(world, root, "kaggle", token=token)
    token.write_text('{"username": "me", "key": "secret"}')
    run(world, root, "kaggle", token=token)
    check(world, root)
    assert world.web.headers[-1]["Authorization"] == "Basic bWU6c2VjcmV0"
    assert not (root / "downloads" / "hmnist.csv").exists()
    assert "secret" not in (root / "downloads.json").read_text()


@pytest.mark.parametrize(
    ("text", "header"),
    [("KGAT_abc\n", "Bearer KGAT_abc"), ('{"username": 1}', ""), ("{", ""), ("", ""), ("a\nHost: b", "")],
)
def test_tokens_of_both_kinds_are_read(text: str, header: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    if header:
        assert read_token(tmp_path / "token") == header
    else:
        with pytest.raises(DataError, match="is no Kaggle token"):
            read_token(tmp_path / "token")


def test_archives_are_kept_on_request(world: World, root: Path) -> None:
    run(world, root, keep_archives=True)
    assert {path.name for path in (root / "downloads").iterdir()} == {METADATA, "one.zip", "two.zip", "one.LICENSE.txt"}


def test_an_archive_that_is_damaged_is_not_taken_for_good(world: World, root: Path) -> None:
    whole = world.web.files["/all.zip"]
    world.web.files["/all.zip"] = whole[:5000] + b"x" + whole[5001:]
    with pytest.raises(DataError, match="no intact ZIP archive"):
        run(world, root, "isic")
    assert not (root / METADATA).exists()
    world.web.files["/all.zip"] = whole
    run(world, root, "isic")
    check(world, root)


def test_a_download_that_broke_goes_on(world: World, root: Path) -> None:
    size = world.source.offers[0].files[2].size
    world.web.faults["/two.zip"] = [break_at(size // 2), *[status(503)] * 2]
    with pytest.raises(RemoteError, match=r"two.zip could not be fetched"):
        run(world, root, "dataverse")
    assert (root / "downloads" / "two.zip.part").stat().st_size == size // 2
    assert not (root / METADATA).exists()
    world.web.requests.clear()
    report = run(world, root, "dataverse", accept=False)  # the licence was accepted the first time
    check(world, root)
    assert world.web.requests[-1] == ("/two.zip", f"bytes={size // 2}-")
    assert report.received == size - size // 2


def test_ctrl_c_is_told_and_keeps_what_came(world: World, root: Path) -> None:
    class Impatient:
        label = ""

        def begin(self, label: str, total: int, unit: str = "") -> None:
            self.label = label

        def advance(self, steps: int = 1, **figures: float) -> None:
            if steps > 0 and self.label == "two.zip":
                raise KeyboardInterrupt

        def end(self) -> None:
            pass

    with pytest.raises(Interrupted, match="what has arrived is kept"):
        download(world.source, root, None, lambda licence: True, QUICK, Impatient())
    assert (root / "downloads" / "two.zip.part").stat().st_size > 0
    assert len(list((root / IMAGES).iterdir())) == 15
    world.web.requests.clear()
    run(world, root)
    check(world, root)
    assert "/one.zip" not in {path for path, _ in world.web.requests}


def test_nothing_happens_without_the_licence(world: World, root: Path) -> None:
    shown: list[Licence] = []
    with pytest.raises(ConfigError, match=r"CC BY-NC 4\.0, which was not accepted") as caught:
        download(world.source, root, None, lambda licence: bool(shown.append(licence)), QUICK)
    assert "--accept-licence" in caught.value.hint
    assert shown == [CC_BY_NC]
    assert not root.exists()
    assert world.web.requests == []


def test_another_licence_is_asked_for_again(world: World, root: Path) -> None:
    world.web.faults["/two.zip"] = [status(404)]
    with pytest.raises(RemoteError):
        run(world, root, "dataverse")
    other = world._replace(source=replace(world.source, licence=replace(CC_BY_NC, name="Other")))
    with pytest.raises(ConfigError, match="Other, which was not accepted"):
        run(other, root, accept=False)


def test_too_little_space_is_said_first(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 10))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"needs 0.00 GB in .*, 0.00 GB are free"):
        run(world, root)
    assert not root.exists()
    assert world.web.requests == []


def test_the_space_counts_archives_and_what_comes_out(root: Path) -> None:
    ham = SOURCES["ham10000"]
    one, two = 1_366_522_108, 1_403_566_547
    assert plan(ham, root).needed == pytest.approx((one + two + two) * 1.02, rel=1e-3)
    assert plan(ham, root, Wish(keep_archives=True)).needed == pytest.approx((one + two) * 2 * 1.02, rel=1e-3)
    assert plan(ham, root, Wish(subset=100)).needed < 40e6


def test_a_plan_asks_nobody_and_writes_nothing(world: World, root: Path) -> None:
    report = plan(world.source, root)
    assert [file.name for file in report.files] == [METADATA, "one.zip", "two.zip"]
    assert (report.finished, report.images, report.received) == (False, 0, 0)
    assert report.free > 0
    assert world.web.requests == []
    assert not root.parent.exists()


def test_a_subset_needs_no_archive(world: World, root: Path) -> None:
    report = run(world, root, subset=25)
    rows = read_index(root)
    assert len(rows) == len(list((root / IMAGES).iterdir())) == report.images == 25
    assert {row.dx for row in rows} == set(DIAGNOSES)
    assert not [path for path, _ in world.web.requests if path.endswith(".zip")]
    world.web.requests.clear()
    assert run(world, root, subset=25).finished
    assert world.web.requests == []


def test_a_subset_from_isic_is_the_same(world: World, root: Path) -> None:
    run(world, root, subset=25)
    run(world, root.with_name("other"), "isic", subset=25)
    assert [row.image_id for row in read_index(root)] == [row.image_id for row in read_index(root.with_name("other"))]


def test_a_subset_that_broke_fetches_only_the_rest(world: World, root: Path) -> None:
    missing = f"/images/{world.names[29]}.jpg"
    world.web.faults[missing] = [status(404)] * 2
    with pytest.raises(RemoteError, match=world.names[29]):
        run(world, root, subset=30)
    world.web.requests.clear()
    run(world, root, subset=30)
    check(world, root)
    assert 1 <= len(world.web.requests) < 10


def test_an_image_that_is_a_page_is_refused(world: World, root: Path) -> None:
    world.web.faults[f"/images/{world.names[3]}.jpg"] = [send(b"<html>")] * 2
    with pytest.raises(DataError, match=r"ISIC_0000003.jpg .* is no JPEG"):
        run(world, root, "isic", subset=30)
    assert not (root / IMAGES / f"{world.names[3]}.jpg").exists()
    assert not (root / METADATA).exists()


def test_kaggle_gives_no_subset(world: World, root: Path) -> None:
    with pytest.raises(ConfigError, match="kaggle gives no single images"):
        run(world, root, "kaggle", subset=25)


def test_datasets_are_not_mixed(world: World, root: Path, ham_copy: Path) -> None:
    run(world, root, subset=25)
    with pytest.raises(OutputError, match="holds 25 images of small, not small"):
        run(world, root)
    with pytest.raises(OutputError, match="was not downloaded by this command"):
        run(world, ham_copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dataset": "small", "files": {"x": {}}}', '{"dataset": 1, "a": 2}'])
def test_a_record_that_cannot_be_read_is_an_error(text: str, world: World, root: Path) -> None:
    root.mkdir(parents=True)
    (root / "downloads.json").write_text(text)
    with pytest.raises(DataError, match=r"downloads.json is not readable"):
        run(world, root)


def test_the_command_downloads_and_says_what_next(
    world: World, root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "ham10000", world.source)
    refused = cli("data", "download", root)
    assert refused.code == 2
    assert "CC BY-NC 4.0" in refused.err
    assert "Tschandl" in refused.err
    assert "--accept-licence" in refused.err
    assert not root.exists()
    done = cli("data", "download", root, "--accept-licence")
    assert (done.code, done.out) == (0, f"{root}: 30 images of small from dataverse\n")
    assert f"lesion data prepare data.root={root}" in done.err
    again = json.loads(cli("data", "download", root, "--json").out)
    assert (again["finished"], again["received"]) == (True, 0)
    check(world, root)


def test_a_person_may_say_yes(world: World, root: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import lesion.cli.data.download as command

    monkeypatch.setitem(SOURCES, "ham10000", world.source)
    for answer, code in ((False, 2), (True, 0)):
        monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(command.sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(command.typer, "confirm", lambda text, err, answer=answer: answer)
        assert cli("--quiet", "data", "download", root).code == code
    check(world, root)


def test_a_dry_run_shows_files_and_space(root: Path, cli: Cli) -> None:
    outcome = cli("data", "download", root, "--dry-run")
    assert outcome.code == 0
    assert "https://dataverse.harvard.edu/api/access/datafile/3172585" in outcome.out
    assert "1366.5" in outcome.out
    assert "CC BY-NC 4.0" in outcome.out
    assert "needs 4.26 GB" in outcome.out
    report = json.loads(cli("data", "download", root, "--dry-run", "--source", "isic", "--json").out)
    assert (report["source"], report["finished"]) == ("isic", False)
    assert not root.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "ham1000"], "did you mean 'ham10000'"),
        (["--source", "dataserve"], "did you mean 'dataverse'"),
        (["--subset", "5"], "5"),
        (["--source", "kaggle", "--subset", "50"], "kaggle gives no single images"),
    ],
)
def test_mistakes_of_the_command_are_clear(words: list[str], said: str, root: Path, cli: Cli) -> None:
    outcome = cli("data", "download", root, *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_who_downloads_into_a_folder_locks_the_others_out(world: World, root: Path) -> None:
    root.mkdir(parents=True)
    with hold_lock(root / LOCK, "write"), pytest.raises(OutputError, match="another process does so now"):
        run(world, root)
    assert list(root.iterdir()) == []
    assert run(world, root).finished
    assert not (root / LOCK).exists()
