"""What an open recording tells of itself, and how it fails."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.audio import Decoded, decode_span
from model.retries import PATIENCE, StorageError
from model.sound import CODES, AudioError, Sound, as_audio_error, read_header
from model.windows import WindowPlan, WindowRule
from tests.data import data_folder
from tests.files import encode, flac_count, flac_rate, wav

RATE = 8000
RULE = WindowRule(0.5, 0.5)
ROOT = Path(__file__).resolve().parents[2]


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def windows(path: Path, frames: int | None = None) -> list[Decoded]:
    """The half-second windows of a file, as if `frames` were planned."""
    with Sound(str(path)) as sound:
        plan = WindowPlan(RULE, frames or sound.info.frames, sound.info.sample_rate)
        return list(decode_span(sound, plan, 0, plan.count, RATE, RATE // 2))


def reason(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_header(str(path))
    assert str(path.parent) not in caught.value.message
    return caught.value.reason


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not_audio"),
        (b"hello there " * 20, "not_audio"),
        (b"caff\0\1\0\0" + bytes(30), "not_audio"),
        (b"ID3\4\0\0\0\0\0\0" + bytes(50), "not_audio"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "damaged"),
        (encode(noise(1), RATE, "OGG")[:1000], "damaged"),
        (encode(noise(1), RATE, "MP3")[:100], "damaged"),
        (wav(bytes(2000), channels=0), "damaged"),
        (wav(bytes(2000), channels=65_535), "damaged"),
        (wav(bytes(2000), channels=1000), "unsupported"),
        (wav(bytes(2000), channels=129), "unsupported"),
        (wav(bytes(2000), rate=0), "damaged"),
        (wav(bytes(2000), rate=1), "damaged"),
        (wav(bytes(2000), rate=4_000_000_000), "damaged"),
        (wav(bytes(2000), rate=2_000_000_000), "damaged"),
        (wav(bytes(2000), bits=0), "unsupported"),
        (wav(bytes(2000), tag=0x99), "damaged"),
        (flac_rate(encode(noise(1), RATE, "FLAC"), 0), "damaged"),
        (flac_rate(encode(noise(1), RATE, "FLAC"), 1), "damaged"),
        (flac_count(encode(noise(1), RATE, "FLAC"), 0)[:60], "damaged"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert reason(tmp_path / "a.wav") == expected


def test_missing_files_folders_and_other_sizes(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.wav") == "vanished"
    (tmp_path / "x.wav").mkdir()
    assert reason(tmp_path / "x.wav") == "not_audio"
    (tmp_path / "a.wav").write_bytes(wav(bytes(100)))
    for url in (str(tmp_path / "a.wav"), (tmp_path / "a.wav").as_uri()):
        with pytest.raises(AudioError) as caught:
            Sound(url, size_bytes=100)
        assert caught.value.reason == "changed" and caught.value.curable


def test_the_library_s_codes() -> None:
    assert as_audio_error(soundfile.LibsndfileError(17)).curable, "out of memory"
    assert as_audio_error(MemoryError()).reason == "memory"
    assert as_audio_error(soundfile.LibsndfileError(2)).reason == "damaged"
    assert {as_audio_error(soundfile.LibsndfileError(code)).reason for code in CODES} == {
        "memory",
        "not_audio",
        "unsupported",
    }


class Failing(MemoryFileSystem):
    """A store that stops answering beyond the first bytes of a file."""

    protocol = "failing"
    limit = 70_000

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("failing:/"))

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        if end > Failing.limit:
            raise TimeoutError("no answer")
        return super().cat_file(path, start, end)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_failing_storage_is_no_damage(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    fsspec.register_implementation("failing", Failing, clobber=True)
    url = f"failing://{tmp_path.name}-{kind}"
    fsspec.filesystem("memory").pipe_file(
        url.replace("failing", "memory", 1), encode(noise(40), RATE, kind)
    )
    plan = WindowPlan(RULE, 40 * RATE, RATE)
    with pytest.raises(StorageError, match="no answer"), Sound(url) as sound:
        list(decode_span(sound, plan, 0, plan.count, RATE, 4000))


def test_storage_that_fails_while_a_flac_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    fsspec.register_implementation("failing", Failing, clobber=True)
    fsspec.filesystem("memory").pipe_file("memory://later", encode(noise(40), RATE, "FLAC"))
    monkeypatch.setattr(Failing, "limit", 10**9)
    with Sound("failing://later") as sound:
        plan = WindowPlan(RULE, 40 * RATE, RATE)
        monkeypatch.setattr(Failing, "limit", 70_000)
        with pytest.raises(StorageError, match="no answer"):
            list(decode_span(sound, plan, 0, plan.count, RATE, 4000))
        monkeypatch.setattr(Failing, "limit", 10**9)
        assert len(sound.read(0, 10)) == 10


def test_too_little_memory_is_curable(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(bytes(40_000_000)))
    code = f"""
import resource
from model.audio import decode_span
from model.sound import AudioError, Sound
from model.windows import WindowPlan, WindowRule
with Sound({str(tmp_path / "a.wav")!r}) as sound:
    plan = WindowPlan(WindowRule(2500, 2500), 20_000_000, 8000)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)
    try:
        list(decode_span(sound, plan, 0, 1, 8000, 20_000_000))
    except AudioError as error:
        print(error.reason, error.curable)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs the memory's size from Linux")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["memory", "True"], done.stderr


@pytest.mark.parametrize("told", [0, 9_000, 30_000, 2**36 - 1])
def test_a_flac_is_as_long_as_its_last_frame_says(tmp_path: Path, told: int) -> None:
    content = encode(noise(2.3), RATE, "FLAC")
    (tmp_path / "good.flac").write_bytes(content)
    (tmp_path / "bad.flac").write_bytes(flac_count(content, told))
    assert read_header(str(tmp_path / "bad.flac")).frames == 18_400
    pairs = zip(windows(tmp_path / "good.flac"), windows(tmp_path / "bad.flac"), strict=True)
    for good, bad in pairs:
        np.testing.assert_array_equal(good.waveform, bad.waveform)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_never_closed_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    audio = (noise(1) * 30_000).astype("<i2").tobytes()
    (tmp_path / "a.wav").write_bytes(wav(audio, promised=size))
    (tmp_path / "b.wav").write_bytes(wav(audio))
    assert read_header(str(tmp_path / "a.wav")).frames == RATE
    pairs = zip(windows(tmp_path / "a.wav"), windows(tmp_path / "b.wav"), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.waveform, other.waveform)
    (tmp_path / "stub.wav").write_bytes(wav(b"", after=b"guan" + struct.pack("<I", 4) + b"a:b\n"))
    assert read_header(str(tmp_path / "stub.wav")).frames == 0


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_what_lies_beyond_the_end_is_not_searched_for_long(tmp_path: Path, kind: str) -> None:
    content = encode(noise(30), RATE, kind)
    (tmp_path / "a").write_bytes(content[: len(content) // 3])
    with Sound(str(tmp_path / "a")) as sound:
        plan = WindowPlan(RULE, 10_000_000 * RATE, RATE)
        beyond = list(decode_span(sound, plan, 200, 20_000, RATE, 4000))
    assert {window.reason for window in beyond} == {"truncated"}


KINDS = ["flip", "bytes", "zeros", "gone", "again", "swap", "cut", "junk"]


def mutate(content: bytes, kind: str, rng: random.Random, first: int) -> bytes:
    """One of the ways in which cards and copies damage a file, from byte `first` on."""
    data, at = bytearray(content), rng.randrange(first, len(content))
    size = min(len(data) - at, rng.choice([1, 4, 50, 400, 3000, 20_000]))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(first, len(data))] = rng.randrange(256)
    elif kind == "zeros":
        data[at : at + size] = bytes(size)
    elif kind == "gone":
        del data[at : at + size]
    elif kind == "again":
        data[at:at] = data[at : at + size]
    elif kind == "swap":
        other = rng.randrange(first, len(data))
        size = min(size, len(data) - other)
        data[at : at + size], data[other : other + size] = (
            data[other : other + size],
            data[at : at + size],
        )
    elif kind == "cut":
        del data[at:]
    else:
        data[at:at] = rng.randbytes(size)
    return bytes(data)


def read(path: Path, content: bytes) -> list[Decoded] | str:
    path.write_bytes(content)
    try:
        return windows(path)
    except AudioError as error:
        return error.reason


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_damaged_files_never_fail_otherwise(tmp_path: Path, kind: str) -> None:
    sources = []
    for path in sorted(data_folder("s4a").glob("*.flac"))[20:24]:
        sound, _ = soundfile.read(path, dtype="float32")
        sources.append(encode(sound[: 4 * RATE], RATE, kind))
    for seed in range(160):
        rng = random.Random(seed)
        content = sources[seed % 4]
        found = read(tmp_path / "x", mutate(content, KINDS[seed // 4 % 8], rng, 0))
        if isinstance(found, str):
            assert found in ("damaged", "not_audio", "unsupported")
            continue
        assert [window.k for window in found] == list(range(len(found)))
        for window in found:
            assert (window.waveform is None) != (window.reason is None)
            if window.waveform is not None:
                assert window.waveform.shape == (4000,) and np.isfinite(window.waveform).all()


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_what_is_kept_of_a_damaged_file_is_what_was_there(tmp_path: Path, kind: str) -> None:
    """FLAC and OGG have checksums: no sound that is wrong, or at the wrong time, is scored."""
    kept = lost = 0
    for number, path in enumerate(sorted(data_folder("s4a").glob("*.flac"))[30:34]):
        sound, _ = soundfile.read(path, dtype="float32")
        content = encode(sound, RATE, kind)
        first = 300 if kind == "FLAC" else content.index(b"OggS", 3000)
        good = read(tmp_path / "good", content)
        assert isinstance(good, list)
        for seed in range(40):
            rng = random.Random(1000 * number + seed)
            bad = read(tmp_path / "bad", mutate(content, KINDS[seed % 8], rng, first))
            assert isinstance(bad, list)
            # The last window of a shorter file is shorter.
            for old, new in zip(good, bad if len(bad) == len(good) else bad[:-1], strict=False):
                if new.waveform is None:
                    lost += 1
                    continue
                kept += 1
                assert old.waveform is not None
                np.testing.assert_allclose(new.waveform[:2000], old.waveform[:2000], atol=1e-5)
    assert kept > 4 * lost > 0


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2))
@example(b"", 0)
def test_any_bytes_after_a_known_start(tmp_path_factory, content: bytes, start: int) -> None:
    head = [b"fLaC\0\0\0\x22", wav(b"")[:-4], encode(np.zeros(10), RATE, "OGG")[:28]][start]
    path = tmp_path_factory.mktemp("any") / "x"
    found = read(path, head + content)
    assert isinstance(found, list) or found in ("damaged", "not_audio", "unsupported")
