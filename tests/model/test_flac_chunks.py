"""Chunks of a FLAC: the samples that libsndfile gives, or none."""

import io
import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import miniaudio
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from model.flac import find_heads, stream_info
from model.flac_chunks import CHUNK_BYTES, CHUNK_SAMPLES, FlacChunks
from model.sound import Sound
from tests.data import data_folder
from tests.files import encode, flac_count, flac_variable

RATE = 24_000


def noise(frames: int, channels: int = 1, scale: float = 0.1) -> np.ndarray:
    sound = np.random.default_rng(frames).normal(0, scale, (frames, channels))
    return np.clip(sound, -1, 1).astype(np.float32)


def at_level(sound: np.ndarray, level: float, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, subtype, format="FLAC", compression_level=level)
    return file.getvalue()


def expected(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


def reader(content: bytes, frames: int, asked: list[int] | None = None) -> FlacChunks:
    stream = stream_info(content)
    assert stream is not None

    def part(start: int, count: int) -> bytes:
        if asked is not None:
            asked.append(count)
        return content[start : start + count]

    return FlacChunks(part, stream, len(content), frames)


def assert_whole(content: bytes, sound: np.ndarray, block: int = 10_007) -> None:
    chunks = reader(content, len(sound))
    for at in range(0, len(sound), block):
        count = min(block, len(sound) - at)
        read = chunks.read(at, count)
        assert read is not None and read.dtype == np.float32
        np.testing.assert_array_equal(read, sound[at : at + count])


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("level", [0, 0.5, 1])
@pytest.mark.parametrize("scale", [0.001, 0.1, 3])
def test_the_samples_are_those_of_libsndfile(
    subtype: str, channels: int, level: float, scale: float
) -> None:
    sound = noise(70_001, channels, scale)
    sound[:, -1] = sound[:, 0] * 0.9
    content = at_level(sound, level, subtype)
    assert_whole(content, expected(content))


@pytest.mark.parametrize("folder", ["s4a", "finch", "birdnet"])
def test_real_recordings(folder: str) -> None:
    for path in sorted(data_folder(folder).rglob("*.flac"))[:4]:
        content = path.read_bytes()
        assert_whole(content, expected(content), block=soundfile.info(path).samplerate)


def test_blocks_of_many_sizes() -> None:
    sound = noise(300_000, 2)
    pieces = [at_level(sound[i : i + 30_000], i // 30_000 % 2) for i in range(0, 300_000, 30_000)]
    content = flac_variable(pieces)
    np.testing.assert_array_equal(expected(content), np.concatenate([*map(expected, pieces)]))
    assert_whole(content, expected(content))


@cache
def sources() -> list[tuple[bytes, np.ndarray]]:
    sounds = [noise(400_000), noise(150_000, 2), noise(400_000)]
    sounds[2][100_000:350_000] = 0
    files = [encode(sound, RATE, "FLAC") for sound in sounds]
    files.append(flac_variable([files[1], at_level(sounds[1], 0)]))
    files.append(at_level(sounds[1], 0, "PCM_24"))
    return [(content, expected(content)) for content in files]


@settings(deadline=None)
@given(st.integers(0, 4), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6))
def test_any_place_is_found(source: int, places: list[tuple[float, float]]) -> None:
    content, sound = sources()[source]
    chunks = reader(content, len(sound))
    for where, size in places:
        start = min(len(sound) - 1, int(where * len(sound)))
        count = max(1, int(size * size * (len(sound) - start)))
        read = chunks.read(start, count)
        assert read is not None
        np.testing.assert_array_equal(read, sound[start : start + count])


def test_a_place_is_found_without_reading_what_lies_before() -> None:
    sound = noise(3_000_000)
    sound[:1_500_000] *= 0.01
    content = encode(sound, RATE, "FLAC")
    assert len(content) > 20 * CHUNK_BYTES
    for start in range(100_000, 3_000_000, 290_000):
        asked: list[int] = []
        assert reader(content, len(sound), asked).read(start, 1000) is not None
        assert sum(asked) < 8 * CHUNK_BYTES


def test_silence_takes_no_more_memory_than_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def spy(data: bytes, decode: Callable = miniaudio.flac_read_f32) -> miniaudio.DecodedSoundFile:
        decoded = decode(data)
        sizes.append(len(decoded.samples))
        return decoded

    monkeypatch.setattr("model.flac_chunks.miniaudio.flac_read_f32", spy)
    content = encode(np.zeros((3_000_000, 2), np.float32), RATE, "FLAC")
    assert len(content) < CHUNK_BYTES
    assert_whole(content, np.zeros((3_000_000, 2), np.float32), block=100_000)
    assert sum(sizes) == 6_000_000 and max(sizes) <= CHUNK_SAMPLES


def assert_none_wrong(content: bytes, sound: np.ndarray) -> int:
    """How many of the blocks of damaged bytes are not read; the others must be those of `sound`."""
    missing = 0
    for first in (0, 7):
        chunks = reader(content, len(sound))
        for at in [*range(first * 5000, len(sound), 5000), 0]:
            read = chunks.read(at, min(5000, len(sound) - at))
            if read is None:
                missing += 1
            else:
                np.testing.assert_array_equal(read, sound[at : at + 5000])
    return missing


@settings(deadline=None)
@given(st.integers(0, 4), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_no_flipped_bit_is_heard(source: int, where: float, bit: int) -> None:
    content, sound = sources()[source]
    data = bytearray(content)
    first = content.index(b"\xff\xf8") if source != 3 else content.index(b"\xff\xf9")
    data[first + int(where * (len(data) - first))] ^= 1 << bit
    assert assert_none_wrong(bytes(data), sound)


@pytest.mark.parametrize("source", [1, 4])
def test_no_flipped_bit_of_a_frame_is_heard(source: int) -> None:
    content, sound = sources()[source]
    stream = stream_info(content)
    assert stream is not None
    (head, *_), (stop, *_) = itertools.islice(find_heads(stream, content), 3, 5)
    for at in [*range(head, head + 20), *range(head + 20, stop, 97), stop - 2, stop - 1]:
        data = bytearray(content)
        data[at] ^= 1 << at % 8
        chunks = reader(bytes(data), len(sound))
        assert chunks.read(0, 20_000) is None


@settings(deadline=None)
@given(st.integers(0, 4), st.floats(0, 1), st.integers(0, 5000), st.floats(0, 1), st.booleans())
def test_no_lost_or_moved_bytes_are_heard(
    source: int, where: float, size: int, other: float, keep: bool
) -> None:
    content, sound = sources()[source]
    at, place = int(where * len(content)), int(other * len(content))
    piece = content[place : place + size]
    changed = content[:at] + piece + content[at + (len(piece) if keep else 0) :]
    if stream_info(changed) == stream_info(content):
        assert_none_wrong(changed, sound)
        assert_none_wrong(content[: max(at, 42)], sound)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 1, 3], [0, 1, 3], [0, 1, 1, 2, 3], [1, 2]])
def test_whole_frames_in_a_wrong_order(order: list[int]) -> None:
    """Each frame is undamaged, and as many samples may be there as should be."""
    sound = noise(4 * 4096)
    content = encode(sound, RATE, "FLAC")
    stream = stream_info(content)
    assert stream is not None
    heads = [place for place, *_ in find_heads(stream, content)] + [len(content)]
    frames = [content[start:stop] for start, stop in itertools.pairwise(heads)]
    changed = content[: heads[0]] + b"".join(frames[number] for number in order)
    assert reader(changed, len(sound)).read(0, 4096) is None


@pytest.mark.parametrize("after", [b"TAG" + bytes(125), b"\xff\xf8" * 500, bytes(20_000)])
@pytest.mark.parametrize("frames", [1, 4096, 30_000])
def test_what_follows_the_last_frame_is_no_sound(after: bytes, frames: int) -> None:
    content = encode(noise(frames), RATE, "FLAC")
    assert_whole(content + after, expected(content))


def test_tags_before_the_sound() -> None:
    content = encode(noise(30_000), RATE, "FLAC")
    assert_whole(b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + content, expected(content))
    picture = b"\6" + (200_000).to_bytes(3) + bytes(200_000)
    assert_whole(content[:42] + picture + content[42:], expected(content))
    endless = content[:42] + bytes(4_000)
    assert reader(endless, 30_000).read(0, 10) is None


@pytest.mark.parametrize("told", [0, 9_000, 2**36 - 1])
def test_the_header_s_length_does_not_count(told: int) -> None:
    content = encode(noise(30_000), RATE, "FLAC")
    assert_whole(flac_count(content, told), expected(content))


def test_beyond_the_end() -> None:
    content = encode(noise(30_000), RATE, "FLAC")
    assert reader(content, 30_000).read(29_000, 1_001) is None
    assert reader(content, 90_000).read(50_000, 10) is None


def test_a_sound_reads_in_chunks_until_one_is_damaged(tmp_path: Path, monkeypatch) -> None:
    content, sound = sources()[0]
    data = bytearray(content)
    data[len(data) * 3 // 4] ^= 1
    (tmp_path / "a.flac").write_bytes(data)
    starts: list[int] = []

    def spy(chunks: FlacChunks, start: int, count: int, read=FlacChunks.read) -> object:
        starts.append(start)
        return read(chunks, start, count)

    monkeypatch.setattr(FlacChunks, "read", spy)
    with Sound((tmp_path / "a.flac").as_uri()) as recording:
        for start in (0, 5_000, 390_000, 0):
            np.testing.assert_array_equal(recording.read(start, 5_000), sound[start:][:5_000])
        assert starts == [0, 5_000, 390_000, 0]
        assert len(recording.read(399_000, 5_000)) == 1_000
        assert recording.read(400_000, 10).shape == (0, 1)


def test_the_shortest_files(tmp_path: Path) -> None:
    content = encode(noise(1), RATE, "FLAC")
    assert_whole(content, expected(content))
    empty = content[:42]
    for frames in (0, 1):
        assert reader(empty, frames).read(0, 1) is None
    (tmp_path / "a.flac").write_bytes(content)
    with Sound(str(tmp_path / "a.flac")) as recording:
        assert recording.info.frames == 1
        np.testing.assert_array_equal(recording.read(0, 10), expected(content))
