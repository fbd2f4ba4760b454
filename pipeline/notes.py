"""Notes: what recorders write into their files as text, GUANO and AudioMoth's comment."""

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.clock import EARLIEST, ClockTime, at_offset


@dataclass(frozen=True)
class Notes:
    """What the texts tell, under the names and with the meaning of `HeaderFacts`."""

    guano: dict[str, str]
    clock: datetime | None
    utc: datetime | None
    time_source: str | None
    guano_clock: datetime | None
    guano_utc: datetime | None
    audiomoth_clock: datetime | None
    audiomoth_utc: datetime | None
    recorder_id: str | None
    firmware: str | None
    battery_v: float | None
    temperature_c: float | None
    gain_db: float | None
    latitude: float | None
    longitude: float | None
    flags: frozenset[str]


_STAMP = re.compile(
    r"(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})[T ]+(?P<H>[0-9]{2}):(?P<M>[0-9]{2})"
    r"(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]+))?)? *"
    r"(?P<zone>Z|(?P<sign>[+-])(?P<oh>[0-9]{1,2}):?(?P<om>[0-9]{2})?)?"
)
_RECORDED = re.compile(
    r"Recorded at (?P<H>[0-9]{2}):(?P<M>[0-9]{2}):(?P<S>[0-9]{2})(?:\.(?P<f>[0-9]+))? "
    r"(?P<d>[0-9]{2})/(?P<m>[0-9]{2})/(?P<Y>[0-9]{4})"
    r"(?: \((?P<zone>UTC) ?(?P<sign>[+-]?)(?P<oh>[0-9]{0,2})(?:: ?(?P<om>[0-9]{1,2}))?\))?"
)
_DEVICE = re.compile(r"AudioMoth (?!0FE081F80FE081F0)([0-9A-Fa-f]{16})\b")
"""An AudioMoth's ID; not the address of it in memory, which firmware before 1.2 wrote instead."""
_BATTERY = re.compile(
    r"battery (?:state )?was (?:less than |greater than |[<>] ?)?([0-9.]+[0-9]) ?V"
)
_TEMPERATURE = re.compile(r"temperature was (-?[0-9.]+[0-9]) ?C")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+")


def _moment(found: re.Match[str] | None) -> ClockTime | None:
    if found is None:
        return None
    fraction = (found["f"] or "")[:6].ljust(6, "0")
    year, month, day, hour, minute, second = (int(found[key] or 0) for key in "YmdHMS")
    try:
        clock = datetime(year, month, day, hour, minute, second, int(fraction))
    except ValueError:
        return None
    hours, minutes = int(found["oh"] or 0), int(found["om"] or 0)
    # Firmware 1.2.2 and 1.3 wrote "UTC:30" for either sign, so such an offset is not known.
    known = found["zone"] and hours <= 14 and minutes < 60
    if not known or (not found["sign"] and (hours or minutes)):
        return ClockTime(clock)
    offset = timedelta(hours=hours, minutes=minutes)
    return at_offset(clock, -offset if found["sign"] == "-" else offset)


def parse_guano(text: str) -> dict[str, str]:
    """The fields of GUANO text (`Key: value` lines); of a key that stands twice, the first."""
    fields: dict[str, str] = {}
    for line in text.lstrip("\ufeff").split("\n"):
        key, colon, value = (part.strip(" \t\r\f\v\0") for part in line.partition(":"))
        if colon and key:
            fields.setdefault(key, value)
    return fields


def _number(text: str | None) -> float | None:
    found = _NUMBER.search(text or "")
    value = float(found[0]) if found else math.inf
    return value if math.isfinite(value) and abs(value) < 1e6 else None


def _volts(battery: re.Match[str] | None) -> float | None:
    # Firmware 1.0, which named no UTC, wrote 4.5 V as "4.05V".
    text = battery[1] if battery else None
    return _number(re.sub(r"^([0-9])\.0([0-9])$", r"\1.\2", text) if text else None)


def _first(guano: dict[str, str], *names: str) -> str | None:
    """The value of the first of the names, of whatever maker's namespace, that has one."""
    for name in names:
        for key, value in guano.items():
            if value and (key == name or key.endswith("|" + name)):
                return value
    return None


def _gain_db(guano: dict[str, str]) -> float | None:
    """Song Meters list each channel's gain in dB; one number only if all are equal."""
    try:
        settings = json.loads(guano.get("WA|Song Meter|Audio settings", "null"))
        gains = {float(channel["gain"]) for channel in settings}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    value = gains.pop() if len(gains) == 1 else math.inf
    return value if math.isfinite(value) else None


def _position(text: str) -> tuple[float, float] | tuple[None, None]:
    found = re.fullmatch(r"([+-]?[0-9.]+)[ ,;]+([+-]?[0-9.]+)(?:[ ,;].*)?", text)
    try:
        latitude, longitude = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    except ValueError:
        return None, None
    # A recorder without a fix writes zeros.
    given = (latitude or longitude) and abs(latitude) <= 90 and abs(longitude) <= 180
    return (latitude, longitude) if given else (None, None)


def read_notes(comment: str, artist: str, guano: dict[str, str]) -> Notes:
    """What a file's comment, its artist field and its GUANO fields tell.

    The comment is read in the wording of every AudioMoth firmware from 1.0 to 1.11.
    """
    flags = set[str]()
    recorded = _RECORDED.search(comment)
    times: dict[str, ClockTime | None] = {
        "guano": _moment(_STAMP.fullmatch(guano.get("Timestamp", ""))),
        "audiomoth": _moment(recorded),
    }
    for source, time in times.items():
        if time is not None and time.clock < EARLIEST:
            flags.add("clock_reset")
            times[source] = None
    if (_number(guano.get("TE")) or 1) > 1:
        flags.add("time_expanded")
    source_name = next((name for name, time in times.items() if time), None)
    best, ours, moths = times.get(source_name or ""), times["guano"], times["audiomoth"]
    device = _DEVICE.search(comment if recorded else "") or _DEVICE.search(artist)
    battery = _BATTERY.search(comment) if recorded else None
    warmth = _TEMPERATURE.search(comment) if recorded else None
    latitude, longitude = _position(guano.get("Loc Position", ""))
    battery_v = _number(_first(guano, "Battery Voltage"))
    temperature = _number(_first(guano, "Temperature Ext", "Temperature Int"))
    return Notes(
        guano=guano,
        clock=best.clock if best else None,
        utc=best.utc if best else None,
        time_source=source_name,
        guano_clock=ours.clock if ours else None,
        guano_utc=ours.utc if ours else None,
        audiomoth_clock=moths.clock if moths else None,
        audiomoth_utc=moths.utc if moths else None,
        recorder_id=_first(guano, "Serial") or (device[1].upper() if device else None),
        firmware=_first(guano, "Firmware Version", "Firmware"),
        battery_v=battery_v if battery_v is not None else _volts(battery),
        temperature_c=temperature if temperature is not None else _number(warmth and warmth[1]),
        gain_db=_gain_db(guano),
        latitude=latitude,
        longitude=longitude,
        flags=frozenset(flags),
    )
