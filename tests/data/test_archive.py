"""Archives that nobody has to trust: what is taken, what is refused, and that nothing is left outside."""

import io
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lesion.data import archive as module
from lesion.data.archive import Limits, extract
from lesion.errors import DataError, OutputError

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4


def pack(path: Path, files: dict[str, bytes], **facts: Any) -> Path:
    """A ZIP archive; `facts` are set on every entry."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(describe(name, **facts), content)
    return path


def describe(name: str, **facts: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def list_all(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "outer" / "root"
    root.mkdir(parents=True)
    return root


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def test_images_tables_and_licence_are_taken_flat(root: Path, zipped: Path) -> None:
    files = {
        "deep/down/ISIC_1.jpg": JPEG,
        "ISIC_2.JPG": JPEG + b"2",
        "x/ISIC_3.jpeg": JPEG + b"3",
        "HAM10000_metadata.csv": b"a,b\n",
        "hmnist_28_28_RGB.csv": b"1,2\n",
        "x/LICENSE.txt": b"free",
        "ATTRIBUTION.txt": b"us",
        "__MACOSX/x/._ISIC_1.jpg": b"clutter",
        "x/.DS_Store": b"clutter",
        "x/": b"",
    }
    taken = extract(pack(zipped, files), root, ["HAM10000_metadata.csv"], "downloads")
    assert list_all(root) == set(taken)
    assert set(taken) == {
        "HAM10000_images/ISIC_1.jpg", "HAM10000_images/ISIC_2.jpg", "HAM10000_images/ISIC_3.jpg",
        "downloads/HAM10000_metadata.csv", "downloads/a.LICENSE.txt", "downloads/a.ATTRIBUTION.txt",
    }  # fmt: skip
    assert all((root / place).stat().st_size == size for place, size in taken.items())
    assert (root / "HAM10000_images" / "ISIC_2.jpg").read_bytes() == JPEG + b"2"


def test_images_kept_twice_are_taken_once(root: Path, zipped: Path) -> None:
    files = {
        "HAM10000_images_part_1/ISIC_1.jpg": JPEG,
        "ham10000_images_part_1/ISIC_1.jpg": JPEG,
        "ham10000_images_part_1/isic_1.JPG": JPEG,
    }
    assert set(extract(pack(zipped, files), root)) == {"HAM10000_images/ISIC_1.jpg"}


REFUSED = {
    "absolute path": ({"/etc/cron.d/ISIC_1.jpg": JPEG}, "absolute path"),
    "drive": ({"C:/x/ISIC_1.jpg": JPEG}, "absolute path"),
    "drive without a slash": ({"C:ISIC_1.jpg": JPEG}, "absolute path"),
    "parent": ({"../ISIC_1.jpg": JPEG}, "leads elsewhere"),
    "parent in the middle": ({"a/../../ISIC_1.jpg": JPEG}, "leads elsewhere"),
    "backslash": ({"..\\ISIC_1.jpg": JPEG}, "leads elsewhere"),
    "two slashes": ({"a//ISIC_1.jpg": JPEG}, "leads elsewhere"),
    "control character": ({"ISIC_\x1b[2J.jpg": JPEG}, "leads elsewhere"),
    "program": ({"setup.exe": b"MZ"}, "unexpected"),
    "script": ({"ISIC_1.jpg.sh": b"#!"}, "unexpected"),
    "page": ({"index.html": b"<html>"}, "unexpected"),
    "archive in an archive": ({"more.zip": b"PK"}, "unexpected"),
    "hidden image": ({".ISIC_1.jpg": JPEG}, "unexpected"),
    "odd letters": ({"ISIC 1\N{RIGHT-TO-LEFT OVERRIDE}.jpg": JPEG}, "unexpected"),
    "device of Windows": ({"NUL.jpg": JPEG}, "unexpected"),
    "no JPEG": ({"ISIC_1.jpg": b"<html>not found</html>"}, "is no JPEG"),
    "same name, other image": ({"a/ISIC_1.jpg": JPEG, "b/isic_1.jpg": JPEG + b"!"}, "differ"),
    "bomb": ({"ISIC_1.jpg": JPEG + bytes(20 * 2**20)}, "would grow from"),
    "bomb in a table": ({"t.csv": bytes(20 * 2**20)}, "would grow from"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_evil_contents_are_refused(case: str, root: Path, zipped: Path) -> None:
    files, said = REFUSED[case]
    pack(zipped, {"ISIC_0.jpg": JPEG, **files})
    before = list_all(root.parent.parent)
    with pytest.raises(DataError, match=said):
        extract(zipped, root, ["t.csv"])
    left = list_all(root.parent.parent) - before
    assert left <= {"outer/root/HAM10000_images/ISIC_0.jpg"}
    if case != "no JPEG":
        assert not left


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR],
    ids=["link", "character device", "block device", "pipe", "socket", "folder"],
)  # fmt: skip
def test_what_is_no_file_is_refused(kind: int, root: Path, zipped: Path) -> None:
    pack(zipped, {"ISIC_1.jpg": b"/etc/passwd"}, create_system=3, external_attr=(kind | 0o777) << 16)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        extract(zipped, root)
    assert list_all(root) == set()


def test_a_name_listed_twice_is_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {"ISIC_1.jpg": JPEG, "ISIC_2.jpg": JPEG})
    zipped.write_bytes(zipped.read_bytes().replace(b"ISIC_2", b"ISIC_1"))
    with pytest.raises(DataError, match="is there twice"):
        extract(zipped, root)


def test_a_name_cut_at_a_nul_is_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {"ISIC_1.jpgXexe": JPEG})
    zipped.write_bytes(zipped.read_bytes().replace(b".jpgXexe", b".jpg\0exe"))
    with pytest.raises(DataError, match="leads elsewhere"):
        extract(zipped, root)


def test_too_many_entries_are_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {f"ISIC_{i}.jpg": JPEG for i in range(6)})
    with pytest.raises(DataError, match="6 entries, at most 5"):
        extract(zipped, root, limits=Limits(entries=5))


def test_a_file_that_is_too_large_is_refused(root: Path, zipped: Path) -> None:
    with pytest.raises(DataError, match="1028 bytes, at most 1000"):
        extract(pack(zipped, {"ISIC_1.jpg": JPEG}), root, limits=Limits(file_bytes=1000))


def test_a_total_that_is_too_large_is_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {f"ISIC_{i}.jpg": JPEG for i in range(6)})
    with pytest.raises(DataError, match="would grow to 6168 bytes"):
        extract(zipped, root, limits=Limits(total_bytes=6000))


def test_an_encrypted_file_is_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {"ISIC_1.jpg": JPEG})
    raw = bytearray(zipped.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    zipped.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        extract(zipped, root)


def test_an_unknown_packing_is_refused(root: Path, zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("ISIC_1.jpg", JPEG)
    with pytest.raises(DataError, match="packed in an unknown way"):
        extract(zipped, root)


def test_entries_that_share_their_bytes_are_refused(root: Path, zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("ISIC_1.jpg", JPEG * 4)
        shared = archive.infolist()[0]
        for i in range(2, 9):
            twin = describe(f"ISIC_{i}.jpg", compress_type=0, CRC=shared.CRC, header_offset=0)
            twin.file_size = twin.compress_size = shared.file_size
            archive.filelist.append(twin)
    with pytest.raises(DataError, match="overlap"):
        extract(zipped, root)


@pytest.mark.parametrize("lie", [10, 5000])
def test_a_lie_about_the_size_is_noticed(lie: int, root: Path, zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(describe("ISIC_1.jpg"), JPEG)
    raw = bytearray(zipped.read_bytes())
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, lie)
    zipped.write_bytes(raw)
    with pytest.raises(DataError):
        extract(zipped, root)
    assert list_all(root) == set()


def test_a_flipped_bit_is_noticed_and_leaves_nothing_of_its_file(root: Path, zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("ISIC_1.jpg", JPEG)
        archive.writestr("ISIC_2.jpg", JPEG + b"2")
    raw = bytearray(zipped.read_bytes())
    raw[raw.rindex(JPEG) + 500] ^= 1
    zipped.write_bytes(raw)
    with pytest.raises(DataError, match="no intact ZIP archive: Bad CRC"):
        extract(zipped, root)
    assert list_all(root) == {"HAM10000_images/ISIC_1.jpg"}


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", b"PK\x03\x04 half"])
def test_what_is_no_archive_is_refused(content: bytes, root: Path, zipped: Path) -> None:
    zipped.write_bytes(content)
    with pytest.raises(DataError, match="no intact ZIP archive"):
        extract(zipped, root)


def test_half_an_archive_is_refused(root: Path, zipped: Path) -> None:
    pack(zipped, {f"ISIC_{i}.jpg": JPEG for i in range(20)})
    zipped.write_bytes(zipped.read_bytes()[:-300])
    with pytest.raises(DataError):
        extract(zipped, root)
    assert list_all(root) == set()


def test_a_link_in_the_way_is_replaced_not_followed(root: Path, zipped: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("keep me")
    (root / "HAM10000_images").mkdir()
    for name in ("ISIC_1.jpg", ".ISIC_1.jpg.part"):
        (root / "HAM10000_images" / name).symlink_to(secret)
    extract(pack(zipped, {"ISIC_1.jpg": JPEG}), root)
    assert secret.read_text() == "keep me"
    assert (root / "HAM10000_images" / "ISIC_1.jpg").read_bytes() == JPEG


def test_what_is_there_is_kept_and_what_is_damaged_replaced(root: Path, zipped: Path) -> None:
    pack(zipped, {f"ISIC_{i}.jpg": JPEG for i in range(3)})
    extract(zipped, root)
    images = root / "HAM10000_images"
    (images / "ISIC_1.jpg").write_bytes(JPEG[::-1])  # same size
    (images / "ISIC_2.jpg").write_bytes(JPEG[:100])
    before = (images / "ISIC_0.jpg").stat().st_ino
    extract(zipped, root)
    assert {path.read_bytes() for path in images.iterdir()} == {JPEG}
    assert (images / "ISIC_0.jpg").stat().st_ino == before


def test_a_full_disk_is_an_output_error(root: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(zipped, {"ISIC_1.jpg": JPEG})
    real = Path.open

    def deny(path: Path, *words: Any, **more: Any) -> io.IOBase:
        if path.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return real(path, *words, **more)  # type: ignore[return-value]

    monkeypatch.setattr(module.Path, "open", deny)
    with pytest.raises(OutputError, match="No space left"):
        extract(zipped, root)
    assert list_all(root) == set()
