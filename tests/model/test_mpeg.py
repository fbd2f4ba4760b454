"""MP3 without a table of its frames."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.mpeg import frames_in, read_frame, table_of
from model.sound import Sound


def mp3(rate: int, channels: int, mode: str, seconds: float = 60) -> tuple[bytes, int]:
    """A file that begins with silence and grows louder, and its samples per channel."""
    count = round(rate * seconds)
    rng = np.random.default_rng(rate)
    samples = 0.2 * rng.standard_normal((count, channels), dtype=np.float32)
    samples[: count // 3] = 0
    samples[count // 3 :] *= np.linspace(0.001, 1, count - count // 3, dtype=np.float32)[:, None]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode,
        compression_level=0.5,
    ) as sound:  # fmt: skip
        sound.write(samples)
    return file.getvalue(), count


def stripped(content: bytes) -> bytes:
    """The file without its first frame, which holds the table."""
    at, frame = next(frames_in(content))
    assert content[at:].find(b"Xing", 0, 64) > 0 or content[at:].find(b"Info", 0, 64) > 0
    return content[at + frame.size :]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_of_a_variable_bit_rate_is_there(rate: int, channels: int, tmp_path: Path) -> None:
    whole, count = mp3(rate, channels, "VARIABLE")
    path, with_table = tmp_path / "a.mp3", tmp_path / "b.mp3"
    path.write_bytes(stripped(whole))
    with_table.write_bytes(whole)
    assert abs(soundfile.info(path).frames - count) > rate, "libsndfile is wrong by seconds"
    with Sound(str(path)) as sound, Sound(str(with_table)) as complete:
        # Encoders begin with some silence, and fill the last frame.
        assert 0 <= sound.info.frames - count < 3000
        for start in (0, count // 2, count - rate):
            heard = sound.read(start + 576, rate // 2)
            assert len(heard) == rate // 2
            assert np.abs(heard - complete.read(start, rate // 2)).max() < 1e-5
        assert len(sound.read(sound.info.frames - 10, 100)) == 10


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_file_with_a_table_is_taken_as_it_is(mode: str) -> None:
    whole, _ = mp3(44100, 1, mode, 3)
    asked: list[tuple[int, int]] = []

    def part(at: int, count: int) -> bytes:
        asked.append((at, count))
        return whole[at : at + count]

    assert table_of(part, len(whole)) == (b"", 0)
    assert asked == [(0, 1 << 16)]


def test_of_a_constant_bit_rate_the_ends_are_read(tmp_path: Path) -> None:
    content, count = mp3(44100, 1, "CONSTANT")
    content = stripped(content)
    tagged = b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + content
    for number, bare in enumerate((content, tagged)):
        asked: list[int] = []

        def part(at: int, size: int, bare: bytes = bare, asked: list[int] = asked) -> bytes:
            asked.append(at)
            return bare[at : at + size]

        assert table_of(part, len(bare))[0] and len(asked) == 2
        path = tmp_path / f"{number}.mp3"
        path.write_bytes(bare)
        with Sound(str(path)) as sound:
            assert 0 <= sound.info.frames - count < 3000


def test_damage_between_frames_costs_what_it_damages(tmp_path: Path) -> None:
    whole, count = mp3(32000, 1, "VARIABLE")
    content = stripped(whole)
    places = [at for at, _ in frames_in(content)]
    broken = content[: places[500]] + b"\xff\xfb\x90 no frame \xff" * 7 + content[places[502] :]
    path = tmp_path / "broken.mp3"
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x05abcde" + broken + b"TAG".ljust(128, b"\0"))
    with Sound(str(path)) as sound:
        assert abs(sound.info.frames - count) < 5 * 1152


@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"\xff\xfb\x90", b"\xff\xfb\xf0\0", b"\xff\xfb\x9c\0", b"\xff\xeb\x90\0",
             b"\xff\xfd\x90\0", b"\xff\xfb\0\0", b"\x00\xfb\x90\0"],
)  # fmt: skip
def test_what_is_no_frame(head: bytes) -> None:
    assert read_frame(head) is None


def test_nothing_of_an_mp3() -> None:
    for content in (b"", b"\xff" * 5000, bytes(100_000), b"ID3\x04\0\0\x7f\x7f\x7f\x7f"):
        assert list(frames_in(content)) == []
        assert table_of(lambda at, n, c=content: c[at : at + n], len(content)) == (b"", 0)
