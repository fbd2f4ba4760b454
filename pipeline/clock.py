"""Clock times that the names of recordings tell."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from model.errors import UserError

EARLIEST = datetime(2001, 1, 1)
"""A clock time before this is that of a clock that was reset, and counts as none."""
HEX_FIRST, HEX_STOP = 0x5685C180, 0x80000000
"""Unix seconds that an AudioMoth's hexadecimal name may tell: 2016, its first year, to 2038."""

_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_OFFSET = r"(?P<sign>[+-])(?P<oh>0[0-9]|1[0-4]):?(?P<om>00|15|30|45)(?![0-9.])"
_DATED = re.compile(
    r"(?<![0-9])(?P<date>[0-9]{4}(?P<ds>[-_.]?)[0-9]{2}(?P=ds)[0-9]{2})"
    r"(?:[Tt_$ -]{1,2}|(?=[0-9]{6}(?![0-9])))"
    r"(?P<time>[0-9]{2}(?P<ts>[-_.:]?)[0-9]{2}(?P=ts)[0-9]{2})(?![0-9])"
    r"(?:(?:[.,](?P<fraction>[0-9]{1,9})|_(?P<ms>[0-9]{3}))(?![0-9A-SU-Ya-su-y]))?"
    r"(?:(?P<triggered>[Tt])(?![A-Za-z0-9]))?"
    rf"(?:(?P<zulu>[Zz])(?![A-Za-z0-9])|[_ ]?{_OFFSET})?"
)
_HEX = re.compile(r"[0-9A-F]{8}|[0-9a-f]{8}")


@dataclass(frozen=True)
class ClockTime:
    """`clock` is what the recorder's clock showed (naive); `utc` (aware) is known only where the
    source tells its offset."""

    clock: datetime
    utc: datetime | None = None

    def __post_init__(self) -> None:
        if self.clock.tzinfo is not None:
            raise ValueError("clock must be naive")
        if self.utc is not None and self.utc.utcoffset() != timedelta(0):
            raise ValueError("utc must be an aware time in UTC")


def at_offset(clock: datetime, offset: timedelta | None) -> ClockTime:
    """The clock time with its UTC, if the offset of the clock from UTC is known."""
    if offset is None:
        return ClockTime(clock)
    try:
        return ClockTime(clock, (clock - offset).replace(tzinfo=UTC))
    except OverflowError:
        return ClockTime(clock)


def stem(name: str) -> str:
    """A file's base name without its extension; digits after the last dot are no extension."""
    return _EXTENSION.sub("", name.rpartition("/")[2])


@lru_cache(1024)
def find_time(name: str) -> tuple[ClockTime, int, int, bool] | None:
    """The first date and time in a base name: (time, start, end, triggered), or None.

    Start and end are places in `stem(name)`. Names that hold a date and no time, an impossible
    one, or one before 2001 have none. A name of three digits after the time (`_123`) tells
    milliseconds.
    """
    text = stem(name)
    for found in _DATED.finditer(text):
        digits = re.sub("[^0-9]", "", found["date"] + found["time"])
        try:
            clock = datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}")
        except ValueError:
            continue
        fraction = (found["fraction"] or found["ms"] or "0")[:6]
        clock = clock.replace(microsecond=int(fraction.ljust(6, "0")))
        if clock < EARLIEST:
            continue
        offset = timedelta(0) if found["zulu"] else None
        if found["sign"]:
            offset = timedelta(hours=int(found["oh"]), minutes=int(found["om"]))
            offset = -offset if found["sign"] == "-" else offset
        return at_offset(clock, offset), found.start(), found.end(), bool(found["triggered"])
    return None


def name_time(name: str) -> ClockTime | None:
    """The clock time that a recording's base name tells, or None.

    Known are `YYYYMMDD_HHMMSS` (AudioMoth), the same after a prefix or with `$` (Song Meters), with
    `T`, `-`, a space or nothing between date and time, with dashes, dots or colons inside them,
    with a fraction (`_123`, `.123456`), and with `Z` or an offset as `+hhmm`, which give UTC.

    A name of eight hexadecimal digits is Unix seconds: the AudioMoth firmware that wrote it knew
    no other clock than UTC. Eight decimal digits that are a date are a date, which has no time.
    """
    found = find_time(name)
    return found[0] if found else _hex_time(stem(name))


def is_triggered_name(name: str) -> bool:
    """Whether AudioMoth marked the recording as triggered: a `T` after the time in its name."""
    found = find_time(name)
    return found is not None and found[3]


def _hex_time(text: str) -> ClockTime | None:
    if not _HEX.fullmatch(text):
        return None
    if text.isdecimal() and 1970 <= int(text[:4]) < 2100:
        try:
            datetime.strptime(text, "%Y%m%d")
        except ValueError:
            pass
        else:
            return None
    seconds = int(text, 16)
    if not HEX_FIRST <= seconds < HEX_STOP:
        return None
    return at_offset(datetime(1970, 1, 1) + timedelta(seconds=seconds), timedelta(0))


_WORD = r"[^\W\d_]+"
_DIRECTIVES = {
    "Y": r"[0-9]{4}",
    "y": r"[0-9]{2}",
    "m": r"1[0-2]|0?[1-9]",
    "d": r"3[01]|[12][0-9]|0?[1-9]",
    "H": r"2[0-3]|[01]?[0-9]",
    "I": r"1[0-2]|0?[1-9]",
    "M": r"[0-5]?[0-9]",
    "S": r"[0-5]?[0-9]",
    "f": r"[0-9]{1,6}",
    "j": r"36[0-6]|3[0-5][0-9]|[12][0-9]{2}|0[1-9][0-9]|00[1-9]|[1-9][0-9]|[1-9]",
    "z": r"[+-][0-9]{2}:?[0-9]{2}|Z",
    "b": _WORD,
    "B": _WORD,
    "a": _WORD,
    "A": _WORD,
    "p": _WORD,
}
_TOKEN = re.compile(r"%(?P<directive>.?)|\{(?P<field>[^{}]*)\}|(?P<any>\*)|(?P<literal>.)", re.S)


@dataclass(frozen=True)
class TimePattern:
    """A user's pattern of names: directives of `strptime`, `{site}`, and `*` for any characters.

    All else is literal, in any case. It is matched against the whole base name, extension included;
    where it has `/`, against as many of the last parts of the path under the root. A directive or
    `{site}` that stands twice must match the same text twice. Without a time of day it is midnight.

    Raises UserError where the pattern tells no date or cannot be understood.
    """

    pattern: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _directives: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        regex, seen = "", list[str]()
        for token in _TOKEN.finditer(self.pattern):
            directive, name = token["directive"], token["field"]
            if token["any"]:
                regex += "[^/]*?"
            elif token["literal"]:
                regex += re.escape(token["literal"])
            elif directive == "%":
                regex += "%"
            elif name is not None and name != "site":
                raise self._wrong(f"has {{{name}}}, and only {{site}} is known")
            elif name is None and directive not in _DIRECTIVES:
                raise self._wrong(f"has %{directive}, which is not known")
            else:
                key = name or directive
                known = _DIRECTIVES.get(key, "[^/]+?")
                regex += f"(?P={key})" if key in seen else f"(?P<{key}>{known})"
                seen += [] if key in seen else [key]
        if not ({"Y", "y"} & {*seen} and ("j" in seen or ("d" in seen and {*"mbB"} & {*seen}))):
            raise self._wrong("tells no date: it needs year, month and day, as %Y%m%d")
        if {"Y", "y"} <= {*seen}:
            raise self._wrong("has both %Y and %y")
        if "I" in seen and "p" not in seen:
            raise self._wrong("has %I and no %p")
        object.__setattr__(self, "_regex", re.compile(regex, re.IGNORECASE))
        object.__setattr__(self, "_directives", tuple(key for key in seen if key != "site"))

    def _wrong(self, what: str) -> UserError:
        return UserError(
            f"The time pattern {self.pattern!r} {what}; give one such as "
            "'{site}_%Y%m%d_%H%M%S.wav' to --time-pattern."
        )

    def match(self, path: str) -> tuple[ClockTime | None, str | None] | None:
        """The time and site of a recording, by its path under the root; None if it matches not.

        The time is None where the name holds no possible date, or one before 2001.
        """
        parts = path.split("/")[-1 - self.pattern.count("/") :]
        found = self._regex.fullmatch("/".join(parts))
        if found is None:
            return None
        site = found["site"] if "site" in self._regex.groupindex else None
        try:
            time = datetime.strptime(
                "\n".join(found[key] for key in self._directives),
                "\n".join(f"%{key}" for key in self._directives),
            )
        except ValueError:
            return None, site
        clock = time.replace(tzinfo=None)
        return (at_offset(clock, time.utcoffset()) if clock >= EARLIEST else None), site
