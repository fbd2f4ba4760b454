"""Formats, names, headers and clocks of real archives, through the command."""

import csv
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from tests.files import chunk, encode, wav
from tests.pipeline.archive import RATE, cut, tone, write
from tests.pipeline.test_detection import detect, rows

SECONDS = 3
SCORES = """SELECT recording, start_s, label, score FROM predictions ORDER BY start_s, label"""
FORMATS = [
    ("WAV", "PCM_16", ".wav", 1e-5),
    ("WAV", "PCM_24", ".WAV", 1e-5),
    ("WAV", "PCM_32", ".Wav", 1e-5),
    ("WAV", "FLOAT", ".wav", 1e-5),
    ("WAV", "DOUBLE", ".wav", 1e-5),
    ("WAV", "ALAW", ".wav", 0.05),
    ("WAV", "ULAW", ".wav", 0.05),
    ("WAVEX", "PCM_24", ".wav", 1e-5),
    ("WAVEX", "FLOAT", ".wave", 1e-5),
    ("RF64", "PCM_16", ".rf64", 1e-5),
    ("RF64", "PCM_24", ".wav", 1e-5),
    ("W64", "PCM_16", ".w64", 1e-5),
    ("W64", "FLOAT", ".W64", 1e-5),
    ("AIFF", "PCM_16", ".aif", 1e-5),
    ("FLAC", "PCM_16", ".FLAC", 1e-5),
    ("FLAC", "PCM_24", ".flac", 1e-5),
    ("OGG", "VORBIS", ".Ogg", 0.1),
    ("OGG", "OPUS", ".opus", 0.1),
    ("MP3", "MPEG_LAYER_III", ".MP3", 0.1),
    # Read as what they are, whatever their names say.
    ("FLAC", "PCM_16", ".wav", 1e-5),
    ("MP3", "MPEG_LAYER_III", ".wav", 0.1),
    ("OGG", "VORBIS", ".mp3", 0.1),
    ("WAV", "PCM_16", ".flac", 1e-5),
]


def test_every_format_gives_the_same_scores(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    whole = (tone(SECONDS) * 30_000).astype(np.int16)
    for number, (kind, subtype, suffix, _) in enumerate(FORMATS):
        sound = whole if subtype.startswith("PCM") else whole.astype(np.float32) / 32_768
        content = encode(sound, RATE, kind, subtype)
        (tmp_path / f"a/{number:02d}{suffix}").write_bytes(content)
    assert detect(tmp_path / "a", bundle, tmp_path / "out") == 0
    assert rows(tmp_path / "out", "SELECT * FROM errors") == []
    told = dict(rows(tmp_path / "out", "SELECT DISTINCT recording[1:2], format FROM coverage"))
    scores: dict[int, list[float]] = {}
    for recording, _, _, score in rows(tmp_path / "out", SCORES):
        scores.setdefault(int(recording[:2]), []).append(score)
    for number, (kind, subtype, suffix, tolerance) in enumerate(FORMATS):
        assert told[f"{number:02d}"] == f"{kind}/{subtype}", suffix
        np.testing.assert_allclose(
            scores[number][: 3 * SECONDS], scores[0], atol=tolerance, err_msg=f"{kind} {subtype}"
        )


@pytest.mark.parametrize(("channel", "same"), [("0", 0), ("1", 1), ("mean", 2)])
def test_a_chosen_channel_of_stereo(bundle: Path, tmp_path: Path, channel: str, same: int) -> None:
    left, right = tone(2, 700, seed=1), tone(2, 3000, seed=2)
    mono = [left, right, (left + right) / 2][same]
    for suffix in ("wav", "flac"):
        write(tmp_path / f"stereo/a.{suffix}", np.stack([left, right], axis=1))
    write(tmp_path / "mono/a.wav", mono)
    assert detect(tmp_path / "stereo", bundle, tmp_path / "s", "--channel", channel) == 0
    assert detect(tmp_path / "mono", bundle, tmp_path / "m") == 0
    expected = [row[3] for row in rows(tmp_path / "m", SCORES)]
    for name in ("a.wav", "a.flac"):
        found = [row[3] for row in rows(tmp_path / "s", SCORES) if row[0] == name]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_rates_from_8_to_384_khz(bundle: Path, tmp_path: Path) -> None:
    rates = [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 250_000]
    rates += [256_000, 384_000]
    for rate in rates:
        write(tmp_path / f"a/{rate}.wav", tone(2, 1000, rate), rate)
    write(tmp_path / "a/4000.wav", tone(2, 1000, 4000), 4000)
    assert detect(tmp_path / "a", bundle, tmp_path / "out") == 0
    found = rows(
        tmp_path / "out",
        """SELECT sample_rate, duration_s, windows_scored, flags FROM coverage ORDER BY 1""",
    )
    flagged = (4000, 2.0, 2, ["below_model_rate"])
    assert found == [flagged, *((rate, 2.0, 2, []) for rate in rates)]


GUANO = b"GUANO|Version: 1.0\nTimestamp: 2024-06-03T05:00:00-05:00\nSerial: SM4-1\n"
MOTH = b"Recorded at 05:00:00 04/06/2024 (UTC) by AudioMoth 243B1F075C7B9B01 at medium gain."
RESET = b"Recorded at 00:00:10 01/01/1970 (UTC) by AudioMoth 243B1F075C7B9B01 at medium gain."


def icmt(text: bytes) -> bytes:
    return chunk(b"LIST", b"INFO" + chunk(b"ICMT", text + b"\0"))


def test_names_headers_and_clocks(bundle: Path, tmp_path: Path) -> None:
    audio = (tone(1) * 30_000).astype("<i2").tobytes()
    plain = wav(audio)
    guano, moth, reset = (
        wav(audio, after=chunk(b"guan", GUANO)),
        wav(audio, before=icmt(MOTH)),
        wav(audio, before=icmt(RESET)),
    )
    both = wav(audio, before=icmt(MOTH), after=chunk(b"guan", GUANO))
    cases = {
        # name: (content, site, clock, UTC, source, flags)
        "m/20240601_050000.WAV": (plain, "m", "2024-06-01 05:00:00", None, "name", []),
        "R1_20240601_050000.wav": (plain, "R1", "2024-06-01 05:00:00", None, "name", []),
        "R2_20240601_050000_250.wav": (plain, "R2", "2024-06-01 05:00:00.25", None, "name", []),
        "R3_20240601T050000Z.wav": (
            *(plain, "R3", "2024-06-01 05:00:00", "2024-06-01 05:00:00", "name"),
            [],
        ),
        "R4_20240601_050000+0530.wav": (
            *(plain, "R4", "2024-06-01 05:00:00", "2024-05-31 23:30:00", "name"),
            [],
        ),
        "R5_0+1_20240601$050000.wav": (plain, "R5", "2024-06-01 05:00:00", None, "name", []),
        "h/5B8F2A10.WAV": (
            *(plain, "h", "2018-09-05 00:57:52", "2018-09-05 00:57:52", "name"),
            [],
        ),
        "d/20240101.wav": (plain, "d", None, None, None, []),
        "n/rec [1] (copy).wav": (plain, "n", None, None, None, []),
        "old/19700101_000010.WAV": (plain, "old", None, None, None, []),
        "g/x.wav": (guano, "g", "2024-06-03 05:00:00", "2024-06-03 10:00:00", "guano", []),
        "a/x.wav": (moth, "a", "2024-06-04 05:00:00", "2024-06-04 05:00:00", "audiomoth", []),
        "a/20240604_050000.WAV": (
            *(moth, "a", "2024-06-04 05:00:00", "2024-06-04 05:00:00", "audiomoth"),
            [],
        ),
        "w/20240604_060000.WAV": (
            *(moth, "w", "2024-06-04 05:00:00", "2024-06-04 05:00:00", "audiomoth"),
            ["times_disagree"],
        ),
        "b/x.wav": (
            *(both, "b", "2024-06-03 05:00:00", "2024-06-03 10:00:00", "guano"),
            ["times_disagree"],
        ),
        "z/19700101_000010.WAV": (reset, "z", None, None, None, ["clock_reset"]),
        "z/20240604_060000.WAV": (
            *(reset, "z", "2024-06-04 06:00:00", None, "name"),
            ["clock_reset"],
        ),
    }
    for name, (data, *_) in cases.items():
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert detect(tmp_path / "audio", bundle, tmp_path / "out") == 0
    found = rows(
        tmp_path / "out",
        """SELECT recording, site, start_clock::VARCHAR, (start_utc AT TIME ZONE 'UTC')::VARCHAR,
            time_source, flags FROM coverage WHERE windows_scored = 1""",
    )
    assert {row[0]: row[1:] for row in found} == {
        name: tuple(told) for name, (_, *told) in cases.items()
    }


def test_what_is_refused_by_its_name(bundle: Path, tmp_path: Path) -> None:
    sound = write(tmp_path / "x.wav", tone(1)).read_bytes()
    triggered = [
        "20240601_050000T.WAV",
        "20240601_050000t.wav",
        "RIDGE_20240601_050000T.WAV",
        "24F31904660A5B12_20240601_050000T.wav",
    ]
    for name in [*triggered, "RIDGE_20240601_050000.wac", "20240601T050000.wav"]:
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(sound)
    assert detect(tmp_path / "a", bundle, tmp_path / "out") == 0
    found = rows(tmp_path / "out", "SELECT recording, reason, message FROM errors")
    reasons = {name: reason for name, reason, _ in found}
    assert reasons == dict.fromkeys(triggered, "triggered") | {
        "RIDGE_20240601_050000.wac": "unsupported"
    }
    said = {message for _, reason, message in found if reason == "triggered"}
    assert len(said) == 1 and "expand it" in said.pop()
    sites = dict(rows(tmp_path / "out", "SELECT recording, site FROM coverage"))
    assert sites["RIDGE_20240601_050000T.WAV"] == "RIDGE"


def test_recordings_that_overlap_are_kept_and_counted_once(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "a/R_20240601_050000.wav", tone(10))
    write(tmp_path / "a/R_20240601_050007.wav", tone(10))
    out = tmp_path / "out"
    assert detect(tmp_path / "a", bundle, out) == 0
    scored = "SELECT recording, windows_scored FROM coverage ORDER BY 1"
    assert rows(out, scored) == [
        ("R_20240601_050000.wav", 10),
        ("R_20240601_050007.wav", 10),
    ]
    told = ["activity", str(out), "--by", "hour", "--threshold", "0"]
    assert main([*told, "--output", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        counted = [(row["windows_positive"], row["windows_scored"]) for row in csv.DictReader(file)]
    assert counted == [("17", "17")] * 3


@pytest.mark.parametrize("pad", [b"\0", b""])
def test_chunks_of_odd_size(bundle: Path, tmp_path: Path, pad: bytes) -> None:
    audio = (tone(2) * 30_000).astype("<i2").tobytes()
    odd = b"junk" + struct.pack("<I", 3) + b"abc" + pad
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.wav").write_bytes(wav(audio, after=odd + chunk(b"guan", GUANO)))
    assert detect(tmp_path / "a", bundle, tmp_path / "out") == 0
    query = "SELECT time_source, windows_scored, flags FROM coverage"
    assert rows(tmp_path / "out", query) == [("guano", 2, [] if pad else ["odd_chunk"])]


def test_a_header_is_read_of_a_file_that_is_cut(bundle: Path, tmp_path: Path) -> None:
    audio = (tone(4) * 30_000).astype("<i2").tobytes()
    (tmp_path / "x.wav").write_bytes(wav(audio, before=icmt(MOTH)))
    cut(tmp_path / "x.wav", lambda size: size // 2)
    assert detect(tmp_path / "x.wav", bundle, tmp_path / "out") == 0
    query = "SELECT start_clock::VARCHAR, windows_scored, windows_skipped, flags FROM coverage"
    assert rows(tmp_path / "out", query) == [("2024-06-04 05:00:00", 1, 3, ["header_lies"])]
