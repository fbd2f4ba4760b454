from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from pipeline.clock import ClockTime, TimePattern, is_triggered_name, name_time

SIX = datetime(2024, 1, 1, 6)
MOMENTS = st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(9999, 12, 30))
STYLES = [
    "%Y%m%d_%H%M%S.WAV",
    "%Y%m%d_%H%M%ST.WAV",
    "SITE_%Y%m%d_%H%M%S.wav",
    "A-01 north_%Y%m%d_%H%M%S.flac",
    "S4A03895_0+1_%Y%m%d$%H%M%S.wav",
    "%Y%m%dT%H%M%S.ogg",
    "%Y%m%d-%H%M%S.mp3",
    "%Y%m%d%H%M%S.wav",
    "%Y-%m-%dT%H-%M-%S.wav",
    "%Y-%m-%dT%H:%M:%S.wav",
    "%Y-%m-%d %H.%M.%S.wav",
    "%Y_%m_%d__%H_%M_%S.wav",
    "OWL_123456_%Y-%m-%d_T%H-%M-%S.WAV",
    "%Y%m%d_%H%M%S_comment.wav",
    "%Y%m%d_%H%M%S",
]


@pytest.mark.parametrize("style", STYLES)
@given(moment=MOMENTS)
def test_any_moment_in_any_style_is_found(style: str, moment: datetime) -> None:
    name = moment.strftime(style.replace("%Y", f"{moment.year:04d}"))
    assert name_time(name) == ClockTime(moment.replace(microsecond=0))


@pytest.mark.parametrize("form", ["_{0:03d}.wav", ".{0:03d}.wav", ".{0:03d}Z.wav", "_{0:03d}Z.w64"])
@given(moment=MOMENTS)
def test_milliseconds_are_kept(form: str, moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    name = f"X_{moment:%Y%m%d_%H%M%S}" + form.format(moment.microsecond // 1000)
    found = name_time(name)
    assert found is not None and found.clock == moment
    assert found.utc == (moment.replace(tzinfo=UTC) if "Z" in form else None)


@given(
    moment=MOMENTS,
    quarters=st.integers(-56, 56),
    form=st.sampled_from(["%Y%m%dT%H%M%S{}.flac", "SwiftOne_%Y%m%d_%H%M%S_{}.wav"]),
)
def test_an_offset_gives_utc(moment: datetime, quarters: int, form: str) -> None:
    moment = moment.replace(microsecond=0)
    zone = timezone(timedelta(minutes=15 * quarters))
    offset = moment.replace(tzinfo=zone).strftime("%z")
    found = name_time(moment.strftime(form).format(offset))
    assert found == ClockTime(moment, moment.replace(tzinfo=zone).astimezone(UTC))


@given(seconds=st.integers(1451606400, 2**31 - 1), upper=st.booleans())
def test_hexadecimal_names_are_unix_seconds(seconds: int, upper: bool) -> None:
    digits = f"{seconds:08X}" if upper else f"{seconds:08x}"
    if digits.isdecimal() and 1970 <= int(digits[:4]) < 2100:
        return
    utc = datetime.fromtimestamp(seconds, UTC)
    assert name_time(f"{digits}.WAV") == ClockTime(utc.replace(tzinfo=None), utc)


@given(st.text(max_size=40))
def test_any_name_is_read_without_an_error(name: str) -> None:
    found = name_time(name)
    assert found is None or found.clock.year >= 2001


@pytest.mark.parametrize(
    "name",
    [
        "20240101.wav",  # a date, though eight hexadecimal digits
        "SITE_20240101.wav",
        "20241301_060000.wav",
        "20240230_060000.wav",
        "20240101_250000.wav",
        "20240101_240000.wav",
        "20001231_235959.wav",  # a clock that was reset
        "19700101_000000.WAV",
        "00000E10.WAV",
        "3A4FC880.WAV",  # years before there was such a recorder
        "10160435.wav",  # another maker's counter
        "5B8f2A10.WAV",
        "120240101_060000.wav",
        "20240101_0600001.wav",
        "2024-0101_060000.wav",
        "2024-01-01T06-0000.wav",
        "",
        "recording.wav",
    ],
)
def test_names_without_a_time(name: str) -> None:
    assert name_time(name) is None


def test_the_first_possible_time_counts() -> None:
    assert name_time("20240101_20240101_060000.wav") == ClockTime(SIX)
    assert name_time("20240101_060000_20240101_070000.wav") == ClockTime(SIX)
    assert name_time("20010101_000000.wav") == ClockTime(datetime(2001, 1, 1))


def test_what_follows_a_time_is_not_taken_for_an_offset_or_a_fraction() -> None:
    for name in (
        "20240101_060000-0001.wav",
        "20240101_060000_-18.2656+144.5564.flac",
        "20240101_060000_1234.wav",
        "20240101_060000.5AFCD4F4.WAV",
        "20240101_060000Zoo.wav",
    ):
        assert name_time(name) == ClockTime(SIX), name


def test_a_folder_does_not_count() -> None:
    assert name_time("20240101_060000/x.wav") is None


def test_the_named_examples() -> None:
    assert name_time("SITE_0+1_20240101$060000.wav") == ClockTime(SIX)
    assert name_time("20240101_060000Z.wav") == ClockTime(SIX, SIX.replace(tzinfo=UTC))
    noon = datetime(2018, 9, 5, 0, 57, 52)
    assert name_time("5B8F2A10.WAV") == ClockTime(noon, noon.replace(tzinfo=UTC))
    found = name_time("S20240815T091156.982648+1000_E20240815T091251.967555+1000.wav")
    assert found is not None and found.utc == datetime(2024, 8, 14, 23, 11, 56, 982648, UTC)


def test_an_offset_at_the_end_of_the_calendar_leaves_utc_unknown() -> None:
    assert name_time("99991231_235959-0500.wav") == ClockTime(datetime(9999, 12, 31, 23, 59, 59))


def test_triggered_names() -> None:
    assert is_triggered_name("20240101_060000T.WAV")
    assert is_triggered_name("24F31904660A5B12_20240101_060000T.wav")
    assert not is_triggered_name("20240101_060000.WAV")
    assert not is_triggered_name("20240101T060000.WAV")
    assert not is_triggered_name("20240101_060000Two.WAV")


def test_a_clock_time_is_what_it_says() -> None:
    with pytest.raises(ValueError, match="naive"):
        ClockTime(SIX.replace(tzinfo=UTC))
    with pytest.raises(ValueError, match="UTC"):
        ClockTime(SIX, SIX)


@given(moment=MOMENTS)
def test_a_pattern_reads_what_it_writes(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    pattern = TimePattern("{site}-%d.%m.%Y at %H%M%S*.wav")
    name = f"North Ridge-{moment:%d.%m.%Y} at {moment:%H%M%S}_x.WAV"
    assert pattern.match(f"a/{name}") == (ClockTime(moment), "North Ridge")


def test_a_pattern_with_folders_is_matched_against_the_end_of_the_path() -> None:
    pattern = TimePattern("{site}/%Y/%j/%H%M.wav")
    expected = (ClockTime(datetime(2024, 2, 1, 6, 30)), "A1")
    assert pattern.match("A1/2024/032/0630.wav") == expected
    assert pattern.match("deep/er/A1/2024/032/0630.wav") == expected
    assert pattern.match("2024/032/0630.wav") is None
    assert pattern.match("A1/x/2024/032/0630.wav") == (expected[0], "x")


def test_a_star_stays_within_a_folder() -> None:
    assert TimePattern("A/*%Y%m%d.wav").match("A/b/20240101.wav") is None
    assert TimePattern("A/*%Y%m%d.wav").match("A/b20240101.wav") is not None


def test_a_pattern_matches_the_whole_base_name() -> None:
    pattern = TimePattern("%Y%m%d_%H%M%S.wav")
    assert pattern.match("x/20240101_060000.wav") == (ClockTime(SIX), None)
    assert pattern.match("x20240101_060000.wav") is None
    assert pattern.match("20240101_060000.wav.wav") is None


def test_offsets_months_and_repeats_in_a_pattern() -> None:
    utc = datetime(2024, 1, 1, 11, 0, tzinfo=UTC)
    assert TimePattern("%d%b%y %I%p%z").match("01Jan24 06am-0500") == (ClockTime(SIX, utc), None)
    twice = TimePattern("%Y/{site}_%Y%m%d.wav")
    assert twice.match("2024/a_20240101.wav") == (ClockTime(datetime(2024, 1, 1)), "a")
    assert twice.match("2023/a_20240101.wav") is None
    assert TimePattern("100%%_%Y%m%d").match("100%_20240101") is not None
    assert TimePattern("[x](%Y%m%d)").match("[x](20240101)") is not None


def test_a_match_without_a_usable_date_still_gives_the_site() -> None:
    pattern = TimePattern("{site}_%Y%m%d.wav")
    assert pattern.match("a_20240230.wav") == (None, "a")
    assert pattern.match("a_19700101.wav") == (None, "a")
    assert pattern.match("a_2024.wav") is None


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*.wav", "no date"),
        ("%H%M%S", "no date"),
        ("%Y%m", "no date"),
        ("%m%d", "no date"),
        ("%Y%m%d_%Q", "%Q"),
        ("%Y%m%d%", "% "),
        ("{place}_%Y%m%d", "{place}"),
        ("%Y%y%m%d", "both"),
        ("%Y%m%d%I", "%p"),
        ("", "no date"),
    ],
)
def test_a_wrong_pattern_is_refused_by_name(pattern: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        TimePattern(pattern)
    assert repr(pattern) in str(refused.value) and said.strip() in str(refused.value)


@given(st.text("%YmdHMSfjyzbBpIaA{}site*/._x", max_size=12), st.text(max_size=20))
def test_any_pattern_is_refused_or_matches_without_an_error(pattern: str, path: str) -> None:
    try:
        compiled = TimePattern("%Y%m%d" + pattern)
    except UserError:
        return
    compiled.match(path)
    compiled.match("20240101" + path)
