"""The synthetic archive: the same each time, true to its truth, and like what recorders write."""

import csv
import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.synth import DAMAGED_HOUR, LABELS, SECONDS, Archive, calls_expected, synthesise


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    yield synthesise(folder, seed=3)
    shutil.rmtree(folder)


def hour(recording: str) -> int:
    return int(Path(recording).stem.split("_")[-1][:2])


def test_a_recording_each_hour_at_two_sites_as_recorders_name_them(archive: Archive) -> None:
    on_disk = {str(p.relative_to(archive.audio)) for p in archive.audio.rglob("*") if p.is_file()}
    assert on_disk == set(archive.recordings)
    assert [hour(name) for name in archive.recordings] == list(range(24))
    assert archive.recordings[5] == "Ridge/20240601_050000.WAV"
    assert archive.recordings[6] == "Marsh/MARSH_20240601_060000.wav"
    with soundfile.SoundFile(archive.audio / archive.recordings[5]) as stream:
        assert "Recorded at 05:00:00 01/06/2024 (UTC)" in stream.comment
        assert (stream.samplerate, stream.channels, stream.subtype) == (16_000, 1, "PCM_16")


def test_recordings_last_five_minutes_and_one_is_cut_in_half(archive: Archive) -> None:
    for name in archive.recordings:
        with soundfile.SoundFile(archive.audio / name) as stream:
            heard_s = stream.frames / stream.samplerate
        damaged = name == archive.damaged
        assert heard_s == (SECONDS / 2 if damaged else SECONDS)
    assert hour(archive.damaged) == DAMAGED_HOUR and archive.damaged not in archive.labelled
    path = archive.audio / archive.damaged
    whole = 24_000 * 2 * SECONDS
    header = path.read_bytes()[:44]
    assert header[36:40] == b"data" and int.from_bytes(header[40:44], "little") == whole
    assert path.stat().st_size == 44 + whole // 2


def test_truth_lies_within_the_sound(archive: Archive) -> None:
    for call in archive.truth:
        end = SECONDS / 2 if call.file == archive.damaged else SECONDS
        assert 0 <= call.start_s < call.end_s <= end
        assert call.end_s - call.start_s < 4
        assert call.label in LABELS and call.file in archive.recordings


def test_tables_say_what_the_truth_says(archive: Archive) -> None:
    for path, known in (
        (archive.truth_csv, archive.recordings),
        (archive.labelled_csv, archive.labelled),
    ):
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        expected = [call for call in archive.truth if call.file in known]
        assert len(rows) == len(expected)
        for row, call in zip(rows, expected, strict=True):
            assert (row["file"], row["label"]) == (call.file, call.label)
            assert float(row["start"]) == pytest.approx(call.start_s, abs=6e-4)
            assert float(row["end"]) == pytest.approx(call.end_s, abs=6e-4)


def test_every_label_occurs_everywhere_and_most_at_dawn(archive: Archive) -> None:
    counts = Counter(call.label for call in archive.truth)
    assert set(counts) == set(LABELS) and min(counts.values()) >= 100
    labelled = Counter(call.label for call in archive.truth if call.file in archive.labelled)
    assert min(labelled[label] for label in LABELS) >= 30
    places = {name.split("/")[0] for name in archive.labelled}
    assert len(archive.labelled) == 8 and places == {"Ridge", "Marsh"}
    per_hour: dict[int, int] = defaultdict(int)
    for call in archive.truth:
        per_hour[hour(call.file)] += 1
    dawn = np.mean([per_hour[h] for h in (4, 5, 6, 7)])
    assert dawn > 2 * np.mean([per_hour[h] for h in range(24) if h not in (4, 5, 6, 7)])


def test_more_calls_are_expected_at_dawn_than_at_noon() -> None:
    at_dawn = sum(calls_expected(label, 5) for label in LABELS)
    assert at_dawn > 3 * sum(calls_expected(label, 11) for label in LABELS)
    for label in LABELS:
        assert all(calls_expected(label, h) >= 1 for h in range(24))


def test_calls_are_louder_than_the_quiet_around_them(archive: Archive) -> None:
    """Where the truth says trill there is more sound in the trills' band than before it."""
    louder = []
    for call in archive.truth:
        if call.label != "trill" or call.file == archive.damaged or call.start_s < 2:
            continue
        with soundfile.SoundFile(archive.audio / call.file) as stream:
            rate = stream.samplerate
            stream.seek(round((call.start_s - 1) * rate))
            sound = stream.read(round((1 + call.end_s - call.start_s) * rate))
        levels = []
        for part in (sound[:rate], sound[rate:]):
            power = np.abs(np.fft.rfft(part)) ** 2 / len(part)
            hertz = np.fft.rfftfreq(len(part), 1 / rate)
            levels.append(power[(hertz > 3500) & (hertz < 5600)].mean())
        louder.append(levels[1] > levels[0])
    assert len(louder) > 50 and np.mean(louder) > 0.7


def test_the_same_seed_gives_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    again = synthesise(tmp_path / "again", seed=3)
    assert hashes(again) == hashes(archive)
    assert again.truth == archive.truth
    shutil.rmtree(tmp_path / "again")


def hashes(archive: Archive) -> dict[str, str]:
    """SHA-256 of every file of an archive."""
    folder = archive.truth_csv.parent
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
