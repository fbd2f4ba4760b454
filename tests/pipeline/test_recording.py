from datetime import UTC, datetime

from pipeline.clock import TimePattern
from pipeline.recording import PlaceRules, Recording

CLOCK = datetime(2024, 6, 1, 5)
OTHER = datetime(2024, 6, 1, 6)
RULES = PlaceRules("archive")


def place(name: str, rules: PlaceRules = RULES, **facts):
    return rules(Recording(name, f"/{name}", **facts))


def test_sources_in_the_order_of_trust() -> None:
    name = "RIDGE_20240601_050000.wav"
    found = place(name)
    assert (found.site, found.start_clock, found.time_source) == ("RIDGE", CLOCK, "name")
    assert found.flags == ()
    found = place(name, audiomoth_clock=OTHER)
    assert (found.start_clock, found.time_source) == (OTHER, "audiomoth")
    assert found.flags == ("times_disagree",)
    found = place(name, guano_clock=CLOCK, audiomoth_clock=OTHER)
    assert (found.time_source, found.flags) == ("guano", ("times_disagree",))


def test_a_list_is_trusted_least() -> None:
    found = place("20240601_050000.wav", inventory_clock=OTHER, inventory_site="Listed")
    assert (found.site, found.start_clock, found.time_source) == ("Listed", CLOCK, "name")
    assert found.flags == ("times_disagree",)
    utc = datetime(2024, 6, 1, 6, tzinfo=UTC)
    found = place("A_x.wav", inventory_clock=OTHER, inventory_utc=utc)
    assert (found.start_clock, found.start_utc, found.time_source) == (OTHER, utc, "inventory")
    found = place("A/x.wav", PlaceRules("a", site="Here"), inventory_site="Listed")
    assert found.site == "Here"
    found = place("RIDGE_20240601_050000.wav", inventory_site="Listed")
    assert found.site == "Listed"
    found = place("x.wav", inventory_clock=datetime(1970, 1, 1))
    assert (found.start_clock, found.flags) == (None, ("clock_reset",))


def test_agreeing_sources_share_their_offset() -> None:
    utc = datetime(2024, 6, 1, 5, tzinfo=UTC)
    found = place("20240601_050001.wav", audiomoth_clock=CLOCK, audiomoth_utc=utc)
    assert (found.start_utc, found.flags) == (utc, ())
    found = place("20240601_050000Z.wav", guano_clock=CLOCK)
    assert found.start_utc == utc and found.time_source == "guano"


def test_without_a_time() -> None:
    found = place("Marsh/Data/x.wav", flags=("clock_reset",))
    assert (found.site, found.start_clock, found.time_source) == ("Marsh", None, None)
    assert found.flags == ("clock_reset",)
    assert place("x.wav").site == "archive"


def test_rules_of_the_user() -> None:
    assert place("RIDGE_20240601_050000.wav", PlaceRules("a", site="Here")).site == "Here"
    rules = PlaceRules("a", time_pattern=TimePattern("{site}-%Y-%m-%d_%H.%M*"))
    found = place("x/N1-2024-06-01_05.00 b.wav", rules)
    assert (found.site, found.start_clock) == ("N1", CLOCK)
    assert place("20240601_050000.wav", rules).start_clock is None


def test_rows_round_trip() -> None:
    recording = Recording("a", "/a", frames=5, flags=("header_lies",), guano_clock=CLOCK)
    assert Recording.from_row(recording.to_row() | {"site": "x"}) == recording
