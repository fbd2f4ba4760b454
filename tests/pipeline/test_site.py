from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from pipeline.site import check_sites, encode_site, name_site, site_of

ODD = [
    "a b",
    "a/b",
    "a=b",
    "100%",
    "%20",
    "Überlandweg",
    "森",
    "[x]",
    "_hidden",
    ".hidden",
    "a+b",
    'it\'s "x"',
    "tail ",
    "*?",
    "back\\slash",
    "line\nbreak",
    "007",
]


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("SITE_20240101_060000.wav", "SITE"),
        ("S4A03895_20190522_000000.flac", "S4A03895"),
        ("A-01 north_20240101_060000.wav", "A-01 north"),
        ("SITE_0+1_20240101$060000.wav", "SITE"),
        ("flood__0__20170725_123456.wav", "flood"),
        ("flood_0+1_1_20170725_123456_123.wav", "flood"),
        ("0+1_20240101_060000.wav", None),
        ("MF01-01_SMM119_20251103_161400.wav", "MF01-01_SMM119"),
        ("24F31904660A5B12_20240101_060000T.WAV", "24F31904660A5B12"),
        ("_x_20240101_060000.WAV", "_x"),
        ("OWL_123456_2022-07-19_T00-00-00.WAV", "OWL_123456"),
        ("20240101_060000.WAV", None),
        ("_20240101_060000.WAV", None),
        ("S20240815T091156.wav", None),
        ("REC_20240101_060000.wav", None),
        ("Wav0123_2008_07_04__22_58_14.wav", None),
        ("SITE_20240101.wav", None),
        ("5B8F2A10.WAV", None),
        ("SITE.wav", None),
    ],
)
def test_the_prefix_of_a_name(name: str, site: str | None) -> None:
    assert name_site(name) == site


@pytest.mark.parametrize(
    ("recording", "site"),
    [
        ("A1/20240101_060000.WAV", "A1"),
        ("A1/Data/x.wav", "A1"),
        ("A1/DCIM/100EK113/x.wav", "A1"),
        ("A1/raw audio/x.wav", "A1"),
        ("A1/20240101/x.wav", "A1"),
        ("A1/2024-01-01/x.wav", "A1"),
        ("A1/01.02.2024/x.wav", "A1"),
        ("A1/2024/01/05/x.wav", "A1"),
        ("A1/2024/January/5/x.wav", "A1"),
        ("A1/2024-01/x.wav", "A1"),
        ("A1/Jan 2024/x.wav", "A1"),
        ("A1/20240101-20240131/x.wav", "A1"),
        ("A1/2024-01-01_to_2024-01-31/x.wav", "A1"),
        ("A1/20240101_060000/x.wav", "A1"),
        ("region/A1/wav/x.wav", "A1"),
        ("A1/A1_20240101/x.wav", "A1_20240101"),
        ("A1/05/x.wav", "05"),
        ("20240101/05/x.wav", "05"),
        ("2024/13/x.wav", "13"),
        ("2024/99/x.wav", "99"),
        ("May/x.wav", "May"),
        ("123FOREST/x.wav", "123FOREST"),
        ("20241301/x.wav", "20241301"),
        ("x.wav", "root"),
        ("Data/2024/x.wav", "root"),
    ],
)
def test_the_nearest_folder_that_says_a_place(recording: str, site: str) -> None:
    assert site_of(recording, "root", None) == site


def test_the_name_goes_before_the_folder() -> None:
    assert site_of("A1/x.wav", "root", "B2") == "B2"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_an_encoded_site_is_one_plain_folder_name(site: str) -> None:
    encoded = encode_site(site)
    assert encoded.isascii() and not set(encoded) & set('/\\=:*?"<>| \n')


def test_every_reader_gives_the_sites_back(tmp_path: Path) -> None:
    for site in ODD:
        folder = tmp_path / f"site={encode_site(site)}"
        folder.mkdir()
        pq.write_table(pa.table({"told": [site]}), folder / "part-00.parquet")
    files = f"{tmp_path}/*/*.parquet"
    expected = sorted((site, site) for site in ODD)

    rows = duckdb.execute(
        "SELECT told, site FROM read_parquet(?, hive_partitioning=true, "
        "hive_types={'site': VARCHAR})",
        [files],
    ).fetchall()
    assert sorted(rows) == expected

    parts = ds.partitioning(pa.schema([("site", pa.string())]), flavor="hive")
    table = ds.dataset(str(tmp_path), partitioning=parts).to_table()
    assert sorted(zip(*table.to_pydict().values(), strict=True)) == expected

    frame = pl.read_parquet(tmp_path, hive_partitioning=True, hive_schema={"site": pl.String})
    assert sorted(frame.select("told", "site").rows()) == expected

    both = pd.read_parquet(tmp_path)[["told", "site"]].astype(str)
    assert sorted(both.itertuples(index=False, name=None)) == expected


def test_the_length_of_an_encoded_site_is_bounded() -> None:
    check_sites(["a" * 240, "ü" * 40])
    for site in ("a" * 241, "ü" * 41):
        with pytest.raises(UserError, match="bytes"):
            check_sites([site])


@pytest.mark.parametrize("pair", [("A1", "a1"), ("Straße", "STRASSE"), ("é", "e\u0301")])
def test_sites_that_cannot_be_told_apart_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UserError) as refused:
        check_sites(pair)
    assert all(repr(site) in str(refused.value) for site in pair)


@pytest.mark.parametrize("site", ["", "\udcff", "__HIVE_DEFAULT_PARTITION__"])
def test_sites_that_cannot_be_folders_are_refused(site: str) -> None:
    with pytest.raises(UserError):
        check_sites(["A1", site])


def test_good_sites_pass() -> None:
    check_sites([*ODD, *ODD])
    check_sites([])
