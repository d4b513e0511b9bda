"""Where the public datasets lie: files, sizes, checksums, mirrors and licences."""

from dataclasses import dataclass

from lesion.data.index import IMAGES, METADATA
from lesion.errors import ConfigError
from lesion.suggest import lookup, nearest

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Licence:
    """What a dataset may be used for, and whom to name."""

    name: str
    url: str
    terms: str
    """One sentence."""
    attribution: tuple[str, ...]
    """Works to cite, one line each."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file, the same at each of its mirrors."""

    name: str
    urls: tuple[str, ...]
    """Mirrors, the best first."""
    place: str
    """Where its content ends up in the dataset: the folder of images, or the metadata."""
    bytes: int | None = None
    """Exact size; None where the publisher gives none."""
    md5: str | None = None
    sha256: str | None = None
    about: int = 0
    """Approximate bytes, for planning, where `bytes` is None."""
    unpacked: int | None = None
    """Approximate bytes of what is taken out of an archive; None: as many as it has itself, as with JPEG."""
    tables: tuple[str, ...] = ()
    """CSV files to take out of an archive."""

    @property
    def size(self) -> int:
        """Bytes for planning: exact if known."""
        return self.about if self.bytes is None else self.bytes

    @property
    def most(self) -> int:
        """Bytes that are taken from a server at most: exact if known, else twice the approximate size, or 64 MiB."""
        return max(2 * self.about, 2**26) if self.bytes is None else self.bytes

    @property
    def is_archive(self) -> bool:
        """Whether it has to be extracted."""
        return self.name.endswith(".zip")

    @property
    def has_checksum(self) -> bool:
        """Whether wrong bytes will be noticed when the file is complete; an archive checks itself."""
        return self.is_archive or bool(self.md5 or self.sha256)


@dataclass(frozen=True, slots=True)
class Offer:
    """All files of a dataset at one host, in the order to fetch them."""

    host: str
    files: tuple[RemoteFile, ...]
    needs_token: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset and who offers it."""

    name: str
    title: str
    licence: Licence
    offers: tuple[Offer, ...]
    image_urls: tuple[str, ...] = ()
    """Mirrors of single images; `{image}` is the image id."""

    def choose(self, host: str) -> tuple[Offer, ...]:
        """The offers to try in turn; "auto": those that need no token. ConfigError when there is none at `host`."""
        known = [offer.host for offer in self.offers]
        if host != AUTO and host not in known:
            guess = nearest(host, (AUTO, *known))
            raise ConfigError(
                f"{self.name} is not offered by {host!r}" + (f"; did you mean {guess!r}?" if guess else ""),
                hint=f"one of: {', '.join((AUTO, *known))}",
            )
        return tuple(offer for offer in self.offers if offer.host == host or (host == AUTO and not offer.needs_token))


def find_source(name: str) -> Source:
    """The dataset called `name`; ConfigError when there is none."""
    return lookup(SOURCES, name, "dataset")


CC_BY_NC = Licence(
    name="CC BY-NC 4.0",
    url="https://creativecommons.org/licenses/by-nc/4.0/",
    terms="Free to use and share with attribution, not for commercial purposes.",
    attribution=(
        "Tschandl P., Rosendahl C., Kittler H.: The HAM10000 dataset. Sci. Data 5, 180161 (2018)",
        "Tschandl P.: HAM10000. Harvard Dataverse, doi:10.7910/DVN/DBW86T",
        "Codella N. et al.: Skin Lesion Analysis Toward Melanoma Detection 2018. arXiv:1902.03368",
    ),
)
_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile/"
# Without it Dataverse sends its own tab-separated rendering, which fits no published checksum.
_ORIGINAL = "?format=original"
# The archive has moved once; both addresses are in use.
_ISIC = ("https://isic-archive.s3.amazonaws.com/challenges/2018/", "https://isic-challenge-data.s3.amazonaws.com/2018/")
_IMAGE_URLS = ("https://isic-archive.s3.amazonaws.com/images/{image}.jpg",)


def _isic(name: str, place: str, about: int, *tables: str) -> RemoteFile:
    return RemoteFile(name, tuple(prefix + name for prefix in _ISIC), place, about=about, tables=tables)


_HAM10000_AT_DATAVERSE = (
    RemoteFile(
        METADATA,
        (f"{_DATAVERSE}4338392{_ORIGINAL}",),
        METADATA,
        bytes=690_218,
        md5="8f85fb1aa29d80a2797247e434deb79d",
        sha256="de17ec44cb25ea9c3f6378ba18d69224c740afd62e86ec2edc6a894d6aa663d3",
    ),
    RemoteFile(
        "HAM10000_images_part_1.zip",
        (f"{_DATAVERSE}3172585",),
        IMAGES,
        bytes=1_366_522_108,
        md5="4639bfa73ab251610530a97c898e6e46",
        sha256="6202a599129c2efe81c25aea8586d422eeda8a4fae5df49dd7b7bbf956d419db",
    ),
    RemoteFile(
        "HAM10000_images_part_2.zip",
        (f"{_DATAVERSE}3172584",),
        IMAGES,
        bytes=1_403_566_547,
        md5="da43d6cc50f6613013be07e8986b384b",
        sha256="9677f30118c21ecc667a147de369d89acb25efab046fd32f6b13ad677ce2d6d0",
    ),
)
_HAM10000_AT_ISIC = (
    _isic("ISIC2018_Task3_Training_LesionGroupings.csv", METADATA, 600_000),
    _isic("ISIC2018_Task3_Training_GroundTruth.zip", METADATA, 500_000, "ISIC2018_Task3_Training_GroundTruth.csv"),
    _isic("ISIC2018_Task3_Training_Input.zip", IMAGES, 2_800_000_000),
)
_HAM10000_AT_KAGGLE = (
    RemoteFile(
        "skin-cancer-mnist-ham10000.zip",
        ("https://www.kaggle.com/api/v1/datasets/download/kmader/skin-cancer-mnist-ham10000",),
        IMAGES,
        bytes=5_582_914_511,
        md5="fd84b842e863f3c82f2f4231da626014",
        sha256="9c3fffba9a8522470472d13216cf2d4df7f3634880e5ff4ba6f0ba52daf5ebad",
        unpacked=2_800_000_000,  # it holds each image twice
        tables=(METADATA,),
    ),
)
_TEST_AT_DATAVERSE = (
    RemoteFile(
        "ISIC2018_Task3_Test_GroundTruth.csv",
        (f"{_DATAVERSE}6924466{_ORIGINAL}",),
        METADATA,
        md5="2b5663aacc9644740f27e355cf7f369a",
        about=120_000,
    ),
    RemoteFile(
        "ISIC2018_Task3_Test_Images.zip",
        (f"{_DATAVERSE}3855824",),
        IMAGES,
        md5="0488b6f65849e310857d9207daa55a21",
        about=401_000_000,
    ),
)
_TEST_AT_ISIC = (
    _isic("ISIC2018_Task3_Test_GroundTruth.zip", METADATA, 100_000, "ISIC2018_Task3_Test_GroundTruth.csv"),
    _isic("ISIC2018_Task3_Test_Input.zip", IMAGES, 401_000_000),
)

SOURCES = {
    "ham10000": Source(
        "ham10000",
        "HAM10000, 10,015 dermatoscopic images of 7,470 lesions",
        CC_BY_NC,
        (
            Offer("dataverse", _HAM10000_AT_DATAVERSE),
            Offer("isic", _HAM10000_AT_ISIC),
            Offer("kaggle", _HAM10000_AT_KAGGLE, needs_token=True),
        ),
        _IMAGE_URLS,
    ),
    "isic2018-test": Source(
        "isic2018-test",
        "ISIC 2018 task 3 test set, 1,511 dermatoscopic images",
        CC_BY_NC,
        (Offer("dataverse", _TEST_AT_DATAVERSE), Offer("isic", _TEST_AT_ISIC)),
        _IMAGE_URLS,
    ),
}
