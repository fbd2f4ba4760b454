import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.flac import find_ends, stream_info
from tests.files import encode, flac_count


def noise(frames: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 0.1, (frames, channels)).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize(("frames", "channels"), [(1, 1), (4096, 1), (30_000, 2), (70_001, 3)])
def test_every_frame_is_found(subtype: str, frames: int, channels: int) -> None:
    content = encode(noise(frames, channels), 48_000, "FLAC", subtype)
    stream = stream_info(content)
    assert stream is not None and (stream.frames, stream.channels) == (frames, channels)
    ends = find_ends(stream, content)
    assert [start for start, _ in ends] == list(range(0, frames, 4096))
    assert ends[-1][1] == frames


def test_more_frames_than_one_byte_counts() -> None:
    content = encode(noise(4096 * 140), 8000, "FLAC")
    stream = stream_info(content)
    assert stream is not None
    assert find_ends(stream, content[-20_000:])[-1] == (4096 * 139, 4096 * 140)


@settings(deadline=None)
@given(st.integers(0, 2**36 - 1))
def test_a_count_is_written_as_it_is_read(frames: int) -> None:
    content = encode(noise(100), 8000, "FLAC")
    stream = stream_info(content)
    assert stream is not None
    place = stream.place
    edited = content[:place] + stream.count(frames) + content[place + 5 :]
    assert edited == flac_count(content, frames)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_taken(content: bytes) -> None:
    stream_info(content)
    stream_info(b"fLaC\0\0\0\x22" + content)
    stream = stream_info(encode(noise(100), 8000, "FLAC"))
    assert stream is not None
    for start, stop in find_ends(stream, b"\xff\xf8" + content):
        assert 0 <= start < stop


def test_no_stream() -> None:
    assert stream_info(b"RIFF" * 10) is None
    assert stream_info(b"fLaC\0\0\0\x22") is None
