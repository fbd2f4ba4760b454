"""Damaged recordings through the command: what they cost, what is told, what adds up."""

import os
import random
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.reasons import REASONS
from tests.files import encode, flac_count, flac_rate, wav
from tests.pipeline.archive import RATE, tone, write
from tests.pipeline.test_detection import detect, rows

SECONDS = 20
SOUND = (tone(SECONDS) * 30_000).astype(np.int16)
FLOATS = SOUND.astype(np.float32) / 32_768


def adds_up(out: Path) -> None:
    """Every recording's windows and seconds, and its errors, agree; every reason is documented."""
    wrong = """SELECT recording FROM coverage WHERE windows_expected != windows_scored +
        windows_skipped OR abs(seconds_expected - seconds_scored - seconds_skipped) > 1e-6"""
    assert rows(out, wrong) == []
    skipped = """SELECT recording, channel, sum(windows_skipped)::INT FROM coverage
        GROUP BY ALL HAVING sum(windows_skipped) > 0 ORDER BY ALL"""
    lost = """SELECT recording, channel, sum(windows_lost)::INT FROM errors
        GROUP BY ALL HAVING sum(windows_lost) > 0 ORDER BY ALL"""
    assert rows(out, skipped) == rows(out, lost)
    for reason, curable, message in rows(out, "SELECT reason, curable, message FROM errors"):
        assert REASONS[reason].curable == curable
        assert message and str(out.parent) not in message
    twice = """SELECT recording, start_s FROM predictions
        GROUP BY recording, channel, start_s, label HAVING count(*) > 1"""
    assert rows(out, twice) == []


def summary(out: Path) -> dict[str, tuple[int, int, list[tuple[str, float, float]]]]:
    """Of each recording: windows expected, scored, and the errors' reasons and bounds."""
    counts = """SELECT recording, sum(windows_expected)::INT, sum(windows_scored)::INT
        FROM coverage GROUP BY 1"""
    errors: dict[str, list[tuple[str, float, float]]] = {}
    for name, *error in rows(out, "SELECT recording, reason, from_s, to_s FROM errors ORDER BY 3"):
        errors.setdefault(name, []).append(tuple(error))
    return {name: (n, scored, errors.get(name, [])) for name, n, scored in rows(out, counts)}


def scores(out: Path) -> dict[tuple[str, float], np.ndarray]:
    """The scores of each recording's windows, by start."""
    found: dict[tuple[str, float], list[float]] = {}
    for name, start, score in rows(
        out, "SELECT recording, start_s, score FROM predictions ORDER BY label"
    ):
        found.setdefault((name, start), []).append(score)
    return {key: np.array(values) for key, values in found.items()}


def hole(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(2000) + content[middle + 2000 :]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def gone(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + content[middle + 2000 :]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_damage_in_the_middle_costs_what_it_touches(
    bundle: Path, tmp_path: Path, kind: str
) -> None:
    good = encode(SOUND if kind in ("WAV", "FLAC") else FLOATS, RATE, kind)
    ways: dict[str, Callable[[bytes], bytes]] = {
        "good": lambda content: content,
        "half": half,
        "hole": hole,
        "flipped": flipped,
        "gone": gone,
    }
    (tmp_path / "a").mkdir()
    for name, damage in ways.items():
        (tmp_path / f"a/{name}.{kind.lower()}").write_bytes(damage(good))
    out = tmp_path / "out"
    assert detect(tmp_path / "a", bundle, out) == 0
    adds_up(out)
    found, scored = summary(out), scores(out)
    suffix = kind.lower()
    assert found[f"good.{suffix}"] == (SECONDS, SECONDS, [])
    checked = kind in ("FLAC", "OGG")
    for name in ways:
        file = f"{name}.{suffix}"
        expected, kept, errors = found[file]
        if name == "half":
            assert SECONDS // 2 - 3 <= kept <= SECONDS // 2 + 1
            # What an OGG that was cut has lost is told nowhere in it.
            assert kind == "OGG" or (expected == SECONDS and "truncated" in {e[0] for e in errors})
        elif checked and name != "good":
            assert expected == SECONDS and SECONDS - 5 <= kept < SECONDS
            assert {reason for reason, _, _ in errors} == {"damaged"}
        lost = [(start, stop) for _, start, stop in errors]
        for second in range(SECONDS):
            start = float(second)
            # Resampling and the header's rounding reach no further than a window.
            near = any(start < stop + 0.1 and first < start + 1.1 for first, stop in lost)
            near = near or abs(second - SECONDS // 2) <= 1 or (kind == "OGG" and name == "half")
            after = second > SECONDS // 2
            if (file, start) in scored and not near and (checked or not after):
                np.testing.assert_allclose(
                    scored[file, start], scored[f"good.{suffix}", start], atol=1e-5
                )


def test_headers_that_lie(bundle: Path, tmp_path: Path) -> None:
    audio = SOUND[: 4 * RATE].astype("<i2").tobytes()
    flac = encode(SOUND[: 4 * RATE], RATE, "FLAC")
    cases: dict[str, tuple[bytes, int, int, list[str]]] = {
        # (content, windows expected, scored, reasons)
        "good.wav": (wav(audio), 4, 4, []),
        "double.wav": (wav(audio, promised=2 * len(audio)), 8, 4, ["truncated"]),
        "zero.wav": (wav(audio, promised=0), 4, 4, []),
        "open.wav": (wav(audio, promised=0xFFFFFFFF), 4, 4, []),
        "days.wav": (wav(audio, promised=0xEFFFFFFF), 4, 4, []),
        "half.wav": (wav(audio)[: 44 + len(audio) // 2], 4, 2, ["truncated"]),
        "stub.wav": (wav(audio)[:44], 0, 0, ["empty"]),
        "nothing.wav": (wav(b""), 0, 0, ["empty"]),
        "empty.wav": (b"", 0, 0, ["empty"]),
        "text.wav": (b"this was never a recording\n" * 50, 0, 0, ["not_audio"]),
        "no channel.wav": (wav(audio, channels=0), 0, 0, ["damaged"]),
        "1000 channels.wav": (wav(audio, channels=1000), 0, 0, ["unsupported"]),
        "0 Hz.wav": (wav(audio, rate=0), 0, 0, ["damaged"]),
        "4 GHz.wav": (wav(audio, rate=4_000_000_000), 0, 0, ["damaged"]),
        "2 GHz.wav": (wav(audio, rate=2_000_000_000), 0, 0, ["damaged"]),
        "open.flac": (flac_count(flac, 0), 4, 4, []),
        "double.flac": (flac_count(flac, 8 * RATE), 8, 4, ["truncated"]),
        "less.flac": (flac_count(flac, 2 * RATE), 4, 4, []),
        "years.flac": (flac_count(flac, 2**36 - 1), 4, 4, []),
        "0 Hz.flac": (flac_rate(flac, 0), 0, 0, ["damaged"]),
        "1 Hz.flac": (flac_rate(flac, 1), 0, 0, ["damaged"]),
        "head.flac": (flac[:60], 0, 0, ["empty"]),
        "flac named.wav": (flac, 4, 4, []),
    }
    for kind, place in (("W64", 16), ("RF64", None)):
        content = bytearray(encode(SOUND[: 4 * RATE], RATE, kind))
        at = content.index(b"data") + 16 if place else content.index(b"ds64") + 16
        content[at : at + 8] = struct.pack("<Q", 2**62)
        cases[f"ages.{kind.lower()}"] = (bytes(content), 4, 4, [])
    (tmp_path / "a").mkdir()
    for name, (content, *_) in cases.items():
        (tmp_path / "a" / name).write_bytes(content)
    out = tmp_path / "out"
    assert detect(tmp_path / "a", bundle, out) == 0
    adds_up(out)
    found = {
        name: (n, scored, sorted({reason for reason, _, _ in errors}))
        for name, (n, scored, errors) in summary(out).items()
    }
    assert found == {name: tuple(told) for name, (_, *told) in cases.items()}
    flagged = rows(out, "SELECT recording FROM coverage WHERE list_contains(flags, 'header_lies')")
    lies = {"double", "zero", "open", "days", "half", "stub", "less", "years", "ages"}
    assert {name.partition(".")[0] for (name,) in flagged} == lies
    kept = scores(out)
    for name, (_, _, scored, _) in cases.items():
        for second in range(scored):
            np.testing.assert_allclose(kept[name, second], kept["good.wav", second], atol=1e-5)


def test_samples_that_say_nothing(bundle: Path, tmp_path: Path) -> None:
    stereo = np.stack([SOUND[: 4 * RATE]] * 2, axis=1)
    stereo[RATE : 2 * RATE, 0] = -1
    stereo[RATE : 3 * RATE, 1] = 77
    write(tmp_path / "a/constant.wav", stereo)
    wrong = FLOATS[: 4 * RATE].copy()
    wrong[RATE + 5] = np.nan
    wrong[3 * RATE :] = -np.inf
    (tmp_path / "a/wrong.wav").write_bytes(encode(wrong, RATE, "WAV", "FLOAT"))
    write(tmp_path / "a/zero.wav", np.zeros(2 * RATE, np.int16))
    write(tmp_path / "a/one sample.wav", np.append(SOUND[:RATE], np.int16(9)))
    expected = {
        "mean": {"constant.wav": [("silent", 1.0, 2.0)]},
        "0": {"constant.wav": [("silent", 1.0, 2.0)]},
        "1": {"constant.wav": [("silent", 1.0, 3.0)]},
    }
    for channel, lost in expected.items():
        out = tmp_path / channel
        assert detect(tmp_path / "a", bundle, out, "--channel", channel) == 0
        adds_up(out)
        found = {name: errors for name, (_, _, errors) in summary(out).items()}
        assert found["constant.wav"] == lost["constant.wav"]
        if channel != "1":
            assert found["wrong.wav"] == [("not_finite", 1.0, 2.0), ("not_finite", 3.0, 4.0)]
            assert found["zero.wav"] == [("silent", 0.0, 2.0)]
            assert found["one sample.wav"] == []
        assert not np.isnan(np.concatenate(list(scores(out).values()))).any()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_things_that_are_no_files(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "a/good.wav", tone(1))
    (tmp_path / "a/folder.wav").mkdir()
    (tmp_path / "a/link.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a/loop.wav").symlink_to(tmp_path / "a/loop.wav")
    os.mkfifo(tmp_path / "a/pipe.wav")
    lines = ["a", "a/good.wav/deeper.wav", f"a/{'x' * 300}.wav"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    out = tmp_path / "out"
    root = tmp_path / "a"
    assert detect(tmp_path / "list.txt", bundle, out, "--root", str(root)) == 0
    adds_up(out)
    found = {name: [error[0] for error in errors] for name, (_, _, errors) in summary(out).items()}
    assert found == {
        "good.wav": [],
        "folder.wav": ["not_audio"],
        "link.wav": ["vanished"],
        "loop.wav": ["vanished"],
        "pipe.wav": ["not_audio"],
        "good.wav/deeper.wav": ["vanished"],
        f"{'x' * 300}.wav": ["vanished"],
    }


def test_files_that_change_between_plan_and_reading(bundle: Path, tmp_path: Path) -> None:
    """Files vanish, grow and shrink as soon as the run has written its plan."""
    for name in ("gone", "grown", "shrunk", "same"):
        write(tmp_path / f"a/{name}_20240601_000000.wav", tone(2))
    out = tmp_path / "out"

    def meddle() -> None:
        while not list(out.glob("_plan/*/shards.parquet")) and not stop.wait(0.001):
            pass
        (tmp_path / "a/gone_20240601_000000.wav").unlink()
        with (tmp_path / "a/grown_20240601_000000.wav").open("ab") as file:
            file.write(bytes(5000))
        os.truncate(tmp_path / "a/shrunk_20240601_000000.wav", 20_000)

    stop = threading.Event()
    other = threading.Thread(target=meddle)
    other.start()
    try:
        assert detect(tmp_path / "a", bundle, out) == 0
    finally:
        stop.set()
        other.join()
    adds_up(out)
    query = "SELECT recording[:4], reason, curable, windows_lost FROM errors ORDER BY 1"
    assert rows(out, query) == [
        ("gone", "vanished", True, 2),
        ("grow", "changed", True, 2),
        ("shru", "changed", True, 2),
    ]
    assert detect(tmp_path / "a", bundle, out) == 0
    adds_up(out)
    assert rows(out, "SELECT recording[:4], windows_scored FROM coverage ORDER BY 1") == [
        ("gone", 0),
        ("grow", 2),
        ("same", 2),
        ("shru", 1),
    ]


@pytest.mark.parametrize("channel", ["mean", "each"])
def test_any_damage_adds_up(bundle: Path, tmp_path: Path, channel: str) -> None:
    from tests.model.test_sound import KINDS, mutate

    stereo = np.stack([FLOATS[: 5 * RATE], -FLOATS[RATE : 6 * RATE]], axis=1)
    (tmp_path / "a").mkdir()
    rng = random.Random(channel)
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        content = encode(stereo, RATE, kind)
        for number in range(24):
            damaged = mutate(content, KINDS[number % len(KINDS)], rng, 0)
            name = f"S_20240601_{number % 2:02d}5958_{number:03d}.{kind}"
            (tmp_path / "a" / name).write_bytes(damaged)
    out = tmp_path / "out"
    assert detect(tmp_path / "a", bundle, out, "--channel", channel) == 0
    adds_up(out)
    assert rows(out, "SELECT count(DISTINCT recording)::INT FROM coverage") == [(96,)]
