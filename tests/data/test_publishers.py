"""The facts about public datasets: complete, secure, consistent."""

import re
from urllib.parse import urlsplit

import pytest

from lesion.data.publishers import SOURCES, RemoteFile, Source, find_source
from lesion.errors import ConfigError

FILES = [file for source in SOURCES.values() for offer in source.offers for file in offer.files]
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


@each_file
def test_every_address_is_encrypted_and_at_a_known_host(file: RemoteFile) -> None:
    assert file.urls
    for url in file.urls:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname in {
            "dataverse.harvard.edu", "isic-archive.s3.amazonaws.com", "isic-challenge-data.s3.amazonaws.com",
            "www.kaggle.com",
        }  # fmt: skip


@each_file
def test_every_checksum_is_one_and_wrong_bytes_would_be_noticed(file: RemoteFile) -> None:
    assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
    assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
    assert file.has_checksum or file.name.endswith("LesionGroupings.csv")


@each_file
def test_every_file_can_be_planned_for_and_has_a_plain_name(file: RemoteFile) -> None:
    assert file.size > 0
    assert re.fullmatch(r"[\w.-]+", file.name)
    assert file.place in ("HAM10000_images", "HAM10000_metadata.csv")


@each_source
def test_every_offer_has_images_and_diagnoses(source: Source) -> None:
    for offer in source.offers:
        assert any(file.place == "HAM10000_images" and file.is_archive for file in offer.files)
        assert any(file.place == "HAM10000_metadata.csv" or file.tables for file in offer.files)


@each_source
def test_every_licence_names_its_terms_and_its_authors(source: Source) -> None:
    assert source.licence.name == "CC BY-NC 4.0"
    assert "not for commercial" in source.licence.terms
    assert any("HAM10000" in line for line in source.licence.attribution)
    assert all("{image}" in url for url in source.image_urls)


def test_tables_of_dataverse_are_asked_for_as_they_were_uploaded() -> None:
    tables = [file for file in FILES if "dataverse" in file.urls[0] and file.name.endswith(".csv")]
    assert len(tables) == 2
    assert all(url.endswith("?format=original") for file in tables for url in file.urls)


def test_the_archives_of_ham10000_have_the_published_sizes() -> None:
    sizes = {file.name: file.bytes for file in SOURCES["ham10000"].offers[0].files}
    assert sizes == {
        "HAM10000_metadata.csv": 690_218,
        "HAM10000_images_part_1.zip": 1_366_522_108,
        "HAM10000_images_part_2.zip": 1_403_566_547,
    }


def test_auto_asks_no_host_that_needs_an_account() -> None:
    assert [offer.host for offer in find_source("ham10000").choose("auto")] == ["dataverse", "isic"]
    assert [offer.host for offer in find_source("ham10000").choose("kaggle")] == ["kaggle"]


@pytest.mark.parametrize(
    ("dataset", "host", "said"),
    [
        ("ham1000", "auto", "unknown dataset 'ham1000'; did you mean 'ham10000'"),
        ("ham10000", "isci", "did you mean 'isic'"),
        ("isic2018-test", "kaggle", "isic2018-test is not offered by 'kaggle'"),
    ],
)
def test_misspelt_names_are_clear_errors(dataset: str, host: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        find_source(dataset).choose(host)
