import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.probe import probe, version_of
from pipeline.recording import Recording
from tests.pipeline.archive import RATE, cut, tone, write


def seen(path: Path) -> Recording:
    return probe(path.name, str(path), "stamp")


def test_what_a_file_says(tmp_path: Path) -> None:
    row = seen(write(tmp_path / "a.wav", np.stack([tone(1.5)] * 2, axis=1)))
    assert (row.frames, row.sample_rate, row.channels) == (12_000, RATE, 2)
    assert (row.duration_s, row.format, row.reason) == (1.5, "WAV/PCM_16", None)
    assert row.size_bytes == (tmp_path / "a.wav").stat().st_size and not row.flags


def test_a_version_is_that_of_size_and_ends(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    versions = set()
    for change in (None, 0, len(content) - 1, len(content) // 2):
        data = bytearray(content)
        if change is not None:
            data[change] ^= 1
        path = tmp_path / "x"
        path.write_bytes(data)
        with path.open("rb") as file:
            versions.add(version_of(file, len(data)))
    assert len(versions) == 3, "the middle is not read"
    with path.open("rb") as file:
        assert version_of(file, len(content)).startswith("256000-")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ALAW", "IMA_ADPCM"])
def test_a_cut_wav_is_expected_whole(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(4), RATE, subtype=subtype)
    cut(path, lambda size: size * 2 // 3)
    row = seen(path)
    assert row.flags == ("header_lies",) and row.reason is None
    assert row.frames == pytest.approx(
        4 * RATE, abs=0 if subtype != "IMA_ADPCM" else 1010
    )  # two blocks


def test_a_header_that_promises_twice_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 4 * RATE)
    path.write_bytes(data)
    assert seen(path).frames == 2 * RATE and seen(path).flags == ("header_lies",)


def test_unreadable_files_have_a_reason(tmp_path: Path) -> None:
    cases = {
        "empty.wav": (b"", "empty"),
        "text.wav": (b"this is text, whatever its name says", "not_audio"),
        "x.wac": (b"WAC ", "unsupported"),
        "stub.wav": (write(tmp_path / "s.wav", tone(1)).read_bytes()[:44], "empty"),
        "20240101_000000T.WAV": (write(tmp_path / "s.wav", tone(1)).read_bytes(), "triggered"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        row = seen(tmp_path / name)
        assert (row.reason, row.frames) == (reason, None), name
        assert row.message and str(tmp_path) not in row.message
    assert seen(tmp_path / "gone.wav").reason == "vanished"
    assert probe("d.wav", str(tmp_path), None, is_folder=True).reason == "not_audio"


def test_headers_tell_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    text = b"GUANO|Version: 1.0\nTimestamp: 2024-06-01T05:00:00+02:00\nLoc Position: 48.5 9.25\n"
    text += b" " * (len(text) % 2)
    data = path.read_bytes() + b"guan" + struct.pack("<I", len(text)) + text
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    row = seen(path)
    assert row.guano_clock == datetime(2024, 6, 1, 5)
    assert row.guano_utc is not None and row.guano_utc.hour == 3
    assert (row.latitude, row.longitude) == (48.5, 9.25)
