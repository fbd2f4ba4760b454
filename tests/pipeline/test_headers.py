import io
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.headers import W64_RIFF, HeaderFacts, read_facts
from tests.data import data_folder

AUDIO = bytes(range(200)) * 100
FORMAT = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
GUANO = b"GUANO|Version:1.0\nTimestamp:2024-01-01T06:00:00-05:00\nSerial:24F31904660A5B12\n"
COMMENT = (
    "Recorded at 19:17:30 10/04/2018 (UTC) by AudioMoth 243B1F075C7B9B01 at gain setting 2 "
    "while battery state was 4.5V."
)
WHEN = datetime(2018, 4, 10, 19, 17, 30)


def chunk(name: bytes, body: bytes, size: int | None = None, pad: bytes = b"\0") -> bytes:
    size = len(body) if size is None else size
    return name + struct.pack("<I", size) + body + pad * (len(body) % 2)


def riff(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def info(**texts: str) -> bytes:
    return chunk(
        b"LIST", b"INFO" + b"".join(chunk(k.encode(), v.encode()) for k, v in texts.items())
    )


def wav(*before: bytes, after: bytes = b"", size: int | None = None, audio: bytes = AUDIO) -> bytes:
    return riff(chunk(b"fmt ", FORMAT), *before, chunk(b"data", audio, size), after)


def facts(content: bytes) -> HeaderFacts:
    return read_facts(io.BytesIO(content), len(content))


def told(comment: str, artist: str = "") -> HeaderFacts:
    texts = {"IART": artist} if artist else {}
    return facts(wav(info(**texts, ICMT=comment + "\0\0\0")))


def test_the_structure_of_a_plain_wav() -> None:
    found = facts(wav())
    assert (found.container, found.data_offset) == ("wav", 44)
    assert found.data_bytes_promised == found.data_bytes_present == len(AUDIO)
    assert (found.format_tag, found.channels, found.sample_rate) == (1, 1, 8000)
    assert (found.block_align, found.bits, found.flags) == (2, 16, ())
    assert found.clock is found.utc is found.time_source is found.comment is None


@pytest.mark.parametrize(
    ("container", "subtype", "tag", "bits"),
    [
        ("WAV", "PCM_16", 1, 16),
        ("WAV", "PCM_24", 1, 24),
        ("WAV", "FLOAT", 3, 32),
        ("WAV", "ALAW", 6, 8),
        ("WAVEX", "PCM_24", 1, 24),
        ("RF64", "PCM_16", 1, 16),
        ("W64", "PCM_16", 1, 16),
    ],
)
def test_files_that_libsndfile_wrote(
    tmp_path: Path, container: str, subtype: str, tag: int, bits: int
) -> None:
    path = tmp_path / "x.wav"
    frames = 4801
    soundfile.write(path, np.zeros((frames, 2)), 48000, subtype, format=container)
    found = facts(path.read_bytes())
    expected = {"WAV": "wav", "WAVEX": "wav"}.get(container, container.lower())
    assert (found.container, found.flags) == (expected, ())
    assert (found.format_tag, found.bits, found.block_align) == (tag, bits, bits // 4)
    assert (found.sample_rate, found.channels) == (48000, 2)
    assert found.data_bytes_promised == found.data_bytes_present == frames * bits // 4
    cut = path.read_bytes()[: (found.data_offset or 0) + 1000]
    assert facts(cut).data_bytes_present == 1000
    assert facts(cut).data_bytes_promised == found.data_bytes_promised
    assert facts(cut).flags == ("header_lies",)


def test_a_chunk_appended_to_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    found = facts(path.read_bytes() + chunk(b"guan", GUANO))
    assert found.guano_clock == datetime(2024, 1, 1, 6) and found.flags == ()


def test_flac(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    with soundfile.SoundFile(path, "w", 96000, 2, "PCM_24") as file:
        file.comment = COMMENT
        file.artist = "AudioMoth 243B1F075C7B9B01"
        file.write(np.zeros((1234, 2)))
    content = path.read_bytes()
    found = facts(content)
    assert (found.container, found.sample_rate, found.channels) == ("flac", 96000, 2)
    assert (found.bits, found.frames_promised) == (24, 1234)
    assert (found.audiomoth_clock, found.battery_v) == (WHEN, 4.5)
    tagged = b"ID3\x04\0\0" + bytes([0, 0, 1, 2]) + b"\0" * 130 + content
    assert facts(tagged).frames_promised == 1234
    kept = b"riff" + chunk(b"guan", GUANO)
    block = bytes([2]) + len(kept).to_bytes(3) + kept
    assert facts(content[:42] + block + content[42:]).guano["Serial"] == "24F31904660A5B12"


def test_guano_in_a_flac_tag() -> None:
    tags = [b"GUANO=" + GUANO, b"DESCRIPTION=nothing"]
    body = struct.pack("<II", 0, len(tags))
    body += b"".join(struct.pack("<I", len(tag)) + tag for tag in tags)
    found = facts(b"fLaC" + bytes([0x84]) + len(body).to_bytes(3) + body)
    assert found.time_source == "guano" and found.comment == "nothing"


def test_a_real_flac_archive() -> None:
    path = sorted(data_folder("s4a").glob("*.flac"))[0]
    with path.open("rb") as file:
        found = read_facts(file, path.stat().st_size)
    real = soundfile.info(path)
    assert (found.sample_rate, found.frames_promised) == (real.samplerate, real.frames)


def test_little_is_read() -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, count: int | None = -1, /) -> bytes:
            content = super().read(count)
            self.total += len(content)
            return content

    content = wav(audio=bytes(10_000_000), after=chunk(b"guan", GUANO))
    file = Counting(content)
    assert read_facts(file, len(content)).time_source == "guano"
    assert file.total < 5000


@pytest.mark.parametrize(
    ("start", "container"),
    [
        (b"OggS\0", "ogg"),
        (b"ID3\x04\0\0\0\0\0\0", "mp3"),
        (b"\xff\xfb\x90\0", "mp3"),
        (b"FORM\0\0\0\0AIFF", "aiff"),
        (b"FORM\0\0\0\0AIFC", "aiff"),
        (b"WAAC", "wac"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"\xff\xff\xff\xff", None),
        (b"\xff\xfe\0", None),
        (b"\xff", None),
        (b"text", None),
        (b"", None),
    ],
)
def test_containers(start: bytes, container: str | None) -> None:
    assert facts(start) == HeaderFacts(container=container)


@pytest.mark.parametrize("promise", [2 * len(AUDIO), len(AUDIO) + 2])
def test_a_header_that_promises_too_much(promise: int) -> None:
    found = facts(wav(size=promise))
    assert (found.data_bytes_promised, found.data_bytes_present) == (promise, len(AUDIO))
    assert found.flags == ("header_lies",)


def test_less_than_a_frame_missing_is_no_lie() -> None:
    assert facts(wav(size=len(AUDIO) + 1)).flags == ()


def test_a_data_size_of_zero() -> None:
    found = facts(wav(size=0))
    assert (found.data_bytes_promised, found.data_bytes_present) == (0, len(AUDIO))
    assert found.flags == ("header_lies",)


def test_a_stub_without_audio() -> None:
    found = facts(wav(audio=b""))
    assert (found.data_bytes_promised, found.data_bytes_present, found.flags) == (0, 0, ())
    found = facts(wav(audio=b"", after=chunk(b"guan", GUANO)))
    assert (found.data_bytes_present, found.time_source, found.flags) == (0, "guano", ())
    found = facts(wav(audio=b"", size=4000))
    assert (found.data_bytes_present, found.flags) == (0, ("header_lies",))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_size_left_open(size: int) -> None:
    found = facts(wav(size=size))
    assert (found.data_bytes_promised, found.data_bytes_present) == (None, len(AUDIO))
    assert found.flags == ("header_lies",)


def test_audio_that_the_header_leaves_out() -> None:
    content = wav(size=2000, audio=b"\1\xff" * 20_000)
    found = facts(content)
    assert (found.data_bytes_promised, found.data_bytes_present) == (2000, 40_000)
    assert found.flags == ("header_lies",)
    assert facts(wav(after=bytes(100_000))).flags == ()
    assert facts(wav(after=b"\1\xff" * 100)).flags == ()


def test_rf64_takes_its_sizes_from_ds64() -> None:
    table = b"guan" + struct.pack("<Q", len(GUANO))
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(AUDIO), 0, 1) + table)
    content = riff(
        ds64,
        chunk(b"fmt ", FORMAT),
        chunk(b"data", AUDIO, 0xFFFFFFFF),
        chunk(b"guan", GUANO, 0xFFFFFFFF),
        magic=b"RF64",
    )
    found = facts(content)
    assert (found.container, found.data_bytes_promised) == ("rf64", len(AUDIO))
    assert (found.time_source, found.flags) == ("guano", ())


def test_w64_with_a_list() -> None:
    tail = bytes.fromhex("2f91cf11a5d628db04c10000")

    def block(name: bytes, body: bytes) -> bytes:
        return name + tail + struct.pack("<Q", 24 + len(body)) + body + b"\0" * (-len(body) % 8)

    blocks = block(b"fmt ", FORMAT) + block(b"data", AUDIO + b"\1")
    blocks += block(b"list", info(ICMT=COMMENT)[8:])
    found = facts(W64_RIFF + struct.pack("<Q", 40 + len(blocks)) + b"wave" + tail + blocks)
    assert (found.container, found.data_bytes_promised) == ("w64", len(AUDIO) + 1)
    assert (found.audiomoth_clock, found.flags) == (WHEN, ())


@pytest.mark.parametrize("pad", [b"\0", b" ", b""])
@pytest.mark.parametrize("place", ["before", "after"])
def test_chunks_of_odd_size(pad: bytes, place: str) -> None:
    odd = chunk(b"junk", b"abc", pad=pad) + chunk(b"guan", GUANO)
    found = facts(wav(odd) if place == "before" else wav(after=odd))
    assert found.guano_clock == datetime(2024, 1, 1, 6)
    assert found.data_bytes_present == len(AUDIO)
    assert found.flags == (() if pad else ("odd_chunk",))


def test_odd_data_without_a_pad_byte() -> None:
    content = riff(
        chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO + b"\1", pad=b""), chunk(b"guan", GUANO)
    )
    assert facts(content).time_source == "guano"


def test_guano_fields() -> None:
    text = (
        "GUANO|Version: 1.0\r\n\nTimestamp: 2025-02-27T07:39:02.5+01:00\nLoc Position: 46.765390 "
        "8.738140\nMake: Wildlife Acoustics, Inc.\nSerial: 2MA04827\nFirmware Version: 4.6\n"
        'WA|Song Meter|Audio settings: [{"rate":24000,"gain":18},{"rate":24000,"gain":18}]\n'
        "Temperature Int: -1.25\nOAD|Battery Voltage:4.1\nNote: ü: a\nno colon\n \0\0"
    )
    found = facts(wav(chunk(b"guan", text.encode())))
    assert (found.latitude, found.longitude) == (46.76539, 8.73814)
    assert (found.recorder_id, found.firmware) == ("2MA04827", "4.6")
    assert (found.temperature_c, found.battery_v, found.gain_db) == (-1.25, 4.1, 18.0)
    assert found.guano["Note"] == "ü: a" and "no colon" not in found.guano
    assert found.clock == datetime(2025, 2, 27, 7, 39, 2, 500_000)
    assert found.utc == datetime(2025, 2, 27, 6, 39, 2, 500_000, UTC)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("Temperature Int:20\nTemperature Ext:5", "temperature_c", 5.0),
        ("Temperature Int:warm", "temperature_c", None),
        ("Loc Position:0.0 0.0", "latitude", None),
        ("Loc Position:91 0", "latitude", None),
        ("Loc Position:-3.5,10", "latitude", -3.5),
        ("Loc Position:1.2.3 4", "latitude", None),
        ('WA|Song Meter|Audio settings:[{"gain":6},{"gain":18}]', "gain_db", None),
        ("WA|Song Meter|Audio settings:[{", "gain_db", None),
        ("PET|Firmware:1.0.4 (2009-11-25)", "firmware", "1.0.4 (2009-11-25)"),
        ("TE:10", "flags", ("time_expanded",)),
        ("TE:1", "flags", ()),
        ("Timestamp:1970-01-01T00:00:00Z", "flags", ("clock_reset",)),
        ("Timestamp:1970-01-01T00:00:00Z", "clock", None),
        ("Timestamp:2000-12-31T23:59:59", "clock", None),
        ("Timestamp:2001-01-01T00:00:00", "clock", datetime(2001, 1, 1)),
        ("Timestamp:2024-02-30T00:00:00", "clock", None),
        ("Timestamp:2024-01-01 06:00", "clock", datetime(2024, 1, 1, 6)),
        ("Timestamp:2024-01-01 06:00", "utc", None),
        ("Timestamp:2024-01-01T06:00:00Z", "utc", datetime(2024, 1, 1, 6, tzinfo=UTC)),
        ("Timestamp:2024-01-01T06:00:00-5:00", "utc", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        ("Timestamp:2024-01-01T06:00:00+0530", "utc", datetime(2024, 1, 1, 0, 30, tzinfo=UTC)),
        ("Timestamp:2024-01-01T06:00:00+99:00", "utc", None),
    ],
)
def test_single_guano_fields(line: str, name: str, value: object) -> None:
    assert getattr(facts(wav(chunk(b"guan", line.encode()))), name) == value


@given(
    moment=st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(9999, 12, 30)),
    minutes=st.none() | st.integers(-14 * 60, 14 * 60),
)
def test_any_guano_timestamp_is_read_back(moment: datetime, minutes: int | None) -> None:
    zone = None if minutes is None else timezone(timedelta(minutes=minutes))
    text = moment.replace(tzinfo=zone).isoformat()
    found = facts(wav(chunk(b"guan", f"Timestamp: {text}".encode())))
    assert (found.guano_clock, found.time_source) == (moment, "guano")
    assert found.guano_utc == (zone and moment.replace(tzinfo=zone).astimezone(UTC))


ID = "AudioMoth 243B1F075C7B9B01"
WORDINGS = [
    (f"by {ID} at gain setting 2 while battery state was < 3.6V", 3.6, None),
    (f"by {ID} at gain setting 2 while battery state was > 5.0V", 5.0, None),
    (f"by {ID} at gain setting 2 while battery state was 4.05V", 4.5, None),
    (f"by {ID} at gain setting 2 while battery state was less than 3.6V.", 3.6, None),
    (
        f"by {ID} at gain setting 3 while battery state was greater than 4.9V. Recording cancelled "
        "before completion due to low battery voltage.",
        4.9,
        None,
    ),
    (
        f"by {ID} at medium-high gain setting while battery state was 3.9V and temperature was "
        "-0.4C. Amplitude threshold was 256. Band-pass filter applied with cut-off frequencies of "
        "1.0kHz and 8.0kHz. Recording cancelled before completion due to low voltage.",
        3.9,
        -0.4,
    ),
    (
        f"by {ID} using external microphone at low gain setting while battery state was less than "
        "2.5V and temperature was 21.3C. Recording stopped due to file size limit.",
        2.5,
        21.3,
    ),
    (
        f"by {ID} at low-medium gain while battery was greater than 4.9V and temperature was "
        "4.0C. Frequency trigger (4.0kHz and window length of 64 samples) threshold was 5% with "
        "3s minimum trigger duration. Recording stopped by magnetic switch.",
        4.9,
        4.0,
    ),
]


@pytest.mark.parametrize(("words", "battery", "temperature"), WORDINGS)
@pytest.mark.parametrize(
    ("zone", "minutes"),
    [
        ("", None),
        (" (UTC)", 0),
        (" (UTC+5)", 300),
        (" (UTC-2:30)", -150),
        (" (UTC-0:30)", -30),
        (" (UTC+12: 5)", 725),
        (" (UTC:30)", None),
    ],
)
def test_audiomoth_comments(
    words: str, battery: float, temperature: float | None, zone: str, minutes: int | None
) -> None:
    found = told(f"Recorded at 19:17:30 10/04/2018{zone} {words}", artist=ID)
    assert (found.clock, found.time_source) == (WHEN, "audiomoth")
    utc = None if minutes is None else WHEN.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    assert found.utc == found.audiomoth_utc == utc
    assert (found.battery_v, found.temperature_c) == (battery, temperature)
    assert (found.recorder_id, found.gain_db) == ("243B1F075C7B9B01", None)


def test_a_deployment_is_not_the_recorder() -> None:
    comment = (
        "Recorded at 10:06:19 06/12/2020 (UTC) during deployment EEC909D42565A5F0 at medium gain "
        "setting while battery state was 4.2V and temperature was 19.6C."
    )
    assert told(comment).recorder_id is None
    assert told(comment, "AudioMoth 2495F303562DE118").recorder_id == "2495F303562DE118"


def test_an_address_is_not_the_recorder() -> None:
    comment = (
        "Recorded at 06:00:00 17/02/2019 (UTC) by AudioMoth 0FE081F80FE081F0 at gain setting 4"
    )
    assert told(comment).recorder_id is None


def test_a_comment_with_milliseconds() -> None:
    assert told("Recorded at 10:06:19.250 06/12/2020 (UTC)").utc == datetime(
        2020, 12, 6, 10, 6, 19, 250_000, UTC
    )


def test_a_reset_clock_leaves_the_next_source() -> None:
    early = told("Recorded at 00:00:10 01/01/1970 (UTC) by AudioMoth 243B1F075C7B9B01")
    assert (early.clock, early.flags) == (None, ("clock_reset",))
    reset = chunk(b"guan", b"Timestamp:1970-01-01T00:00:00")
    both = facts(wav(info(ICMT=COMMENT), after=reset))
    assert (both.clock, both.time_source) == (WHEN, "audiomoth")
    assert both.guano_clock is None and both.flags == ("clock_reset",)


def test_both_times_are_told_and_guano_is_trusted() -> None:
    found = facts(wav(info(ICMT=COMMENT), after=chunk(b"guan", GUANO)))
    assert (found.time_source, found.clock) == ("guano", datetime(2024, 1, 1, 6))
    assert (found.guano_utc, found.audiomoth_clock) == (found.utc, WHEN)
    assert found.utc == datetime(2024, 1, 1, 11, tzinfo=UTC)


def test_a_comment_of_another_kind() -> None:
    found = told("battery was 4.2V")
    assert (found.comment, found.battery_v, found.clock) == ("battery was 4.2V", None, None)
    impossible = told("Recorded at 25:00:00 10/04/2018 (UTC) by " + ID)
    assert (impossible.clock, impossible.flags) == (None, ())


SEEDS = [
    wav(info(ICMT=COMMENT, IART=ID), after=chunk(b"guan", GUANO)),
    riff(chunk(b"ds64", bytes(40)), chunk(b"fmt ", FORMAT), magic=b"RF64"),
    W64_RIFF + bytes(24) + b"fmt " + bytes(12) + struct.pack("<Q", 2**64 - 1),
    b"fLaC" + bytes([0, 0, 0, 34]) + bytes(34) + bytes([4, 0, 0, 40]) + bytes(60),
    b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
]


@given(
    seed=st.sampled_from(SEEDS),
    cut=st.integers(0, 25_000),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=8)), max_size=6),
)
def test_damaged_headers_never_raise(seed: bytes, cut: int, edits: list[tuple[int, bytes]]) -> None:
    content = bytearray(seed[:cut])
    for place, new in edits:
        content[place : place + len(new)] = new
    found = facts(bytes(content))
    if found.data_bytes_present is not None:
        assert 0 <= found.data_bytes_present <= len(content)


@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"fLaC", W64_RIFF]))
def test_any_bytes_never_raise(content: bytes, start: bytes) -> None:
    facts(start + content)


@given(st.text(max_size=80))
def test_any_text_never_raises(text: str) -> None:
    content = f"Timestamp:{text}\nLoc Position:{text}\nTE:{text}\n{text}".encode(errors="replace")
    facts(wav(chunk(b"guan", content)))
    told("Recorded at 19:17:30 10/04/2018 (UTC" + text.encode(errors="replace").decode())


def test_a_file_shorter_than_listed() -> None:
    content = wav()
    for size in (len(content) + 10, 10**15):
        assert read_facts(io.BytesIO(content[:60]), size).container == "wav"


def test_failing_storage_is_not_hidden() -> None:
    class Broken(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            raise TimeoutError("no answer")

    with pytest.raises(OSError, match="no answer"):
        read_facts(Broken(), 100)
