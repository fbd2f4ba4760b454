"""Sites: what a recording's name and folders say of the place that it belongs to."""

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote

from model.errors import UserError
from pipeline.clock import find_time, stem

MAX_ENCODED = 240
"""Bytes that a site's encoded name may have: with `site=` it fits every file system's 255."""
NULL = "__HIVE_DEFAULT_PARTITION__"

_GENERIC = re.compile(
    r"(raw_?)?(audio|sound|wav|wave|flac|rec|record|recording|file|data)s?(_?(file|data)s?)?"
    r"|raw|recorders?|ogg|mp3|aiff|dcim|(sd_?|micro_?sd_?)?cards?|sd|usb|private|stereo|mono|music"
    r"|uploads?|originals?|exports?|backups?|untitled|no_name|new_folder"
    r"|1[0-9]{2}_?(ek|media|msdcf|olymp|_pana|canon|nikon|gopro|zoom)[0-9a-z]*|folder[0-9]+"
)
"""Folders (and prefixes of names) that say nothing of a place; spaces and dashes count as `_`."""

_COUNTED = re.compile(r"(wav|file|track)[_-]?[0-9]{3,}")
_CHANNEL = re.compile(r"(_[0-9]\+[0-9](_[0-9])?|__[0-9])$")
_YEAR = r"(?:19|20)[0-9]{2}"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_NAMED = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_GAP = r"[-_. ]"
_YEARS = re.compile(_YEAR)
_MONTHS = re.compile(
    rf"{_YEAR}{_GAP}{_MONTH}|{_YEAR}(?:0[1-9]|1[0-2])|{_MONTH}{_GAP}{_YEAR}"
    rf"|{_NAMED}{_GAP}?{_YEAR}|{_YEAR}{_GAP}?{_NAMED}"
)
_DAYS = re.compile(
    rf"{_YEAR}(?P<a>{_GAP}){_MONTH}(?P=a){_DAY}|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    rf"|{_DAY}(?P<b>{_GAP}){_MONTH}(?P=b){_YEAR}|{_MONTH}(?P<c>{_GAP}){_DAY}(?P=c){_YEAR}"
    rf"|{_DAY}{_GAP}?{_NAMED}{_GAP}?{_YEAR}|{_YEAR}{_GAP}?{_NAMED}{_GAP}?{_DAY}"
    rf"|{_YEAR}{_GAP}?w[0-5][0-9]"
)
_BETWEEN = re.compile(rf"[_ ]?to[_ ]?|--|{_GAP}")
_MONTH_IN_YEAR = re.compile(rf"{_MONTH}|(?:{_MONTH}{_GAP}?)?{_NAMED}")
_DAY_IN_MONTH = re.compile(_DAY)


def name_site(name: str) -> str | None:
    """The prefix before date and time in a base name (`SITE_20240101_060000.wav`), or None.

    The channels that an SM3 puts there (`SITE_0+1_`) are left out. A prefix that says nothing of a
    place (`REC_`, `Wav0123_`) is none.
    """
    found = find_time(name)
    if found is None:
        return None
    prefix = stem(name)[: found[1]]
    site = prefix.rstrip("_-. ")
    if not site or site == prefix:
        return None
    if re.fullmatch(r"[0-9]\+[0-9](_[0-9])?", site):
        return None
    site = _CHANNEL.sub("", site).rstrip("_-. ")
    return None if not site or _is_generic(site) or _COUNTED.fullmatch(site.lower()) else site


def site_of(recording: str, root_name: str, name_site: str | None) -> str:
    """The site of a recording, named by its posix path under the root.

    It is the prefix of its name, else the nearest folder above it that is not generic and not a
    date, else the root's name.
    """
    if name_site:
        return name_site
    folders = recording.split("/")[:-1]
    for depth in range(len(folders) - 1, -1, -1):
        folder = folders[depth].strip()
        if folder and not _is_generic(folder) and not _is_date(folders, depth):
            return folder
    return root_name


def _is_generic(folder: str) -> bool:
    return _GENERIC.fullmatch(re.sub("[- ]+", "_", folder.strip().lower())) is not None


def _is_date(folders: list[str], depth: int) -> bool:
    return _date_level(folders, depth) > 0


def _date_level(folders: list[str], depth: int) -> int:
    """How fine the date is that a folder's name tells: 1 year, 2 month, 3 day or finer, 0 none.

    One or two digits are a month or a day only in a year's or month's folder: elsewhere they may
    be the number of a site.
    """
    text = folders[depth].strip().lower()
    level = _own_level(text)
    if level or depth == 0:
        return level
    above = _date_level(folders, depth - 1)
    if above == 1 and _MONTH_IN_YEAR.fullmatch(text):
        return 2
    return 3 if above == 2 and _DAY_IN_MONTH.fullmatch(text) else 0


def _own_level(text: str) -> int:
    for level, form in ((1, _YEARS), (2, _MONTHS), (3, _DAYS)):
        if form.fullmatch(text):
            return level
    found = find_time(text)
    if found is not None and (found[1], found[2]) == (0, len(text)):
        return 3
    for gap in _BETWEEN.finditer(text):
        first, last = text[: gap.start()], text[gap.end() :]
        if _DAYS.fullmatch(first) and _DAYS.fullmatch(last):
            return 3
    return 0


def encode_site(site: str) -> str:
    """The site as it stands in the output's paths: percent-encoded UTF-8."""
    return quote(site, safe="")


def folded(site: str) -> str:
    """The site without what differs only in case or in how accents are stored."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", site).casefold())


def check_sites(sites: Iterable[str]) -> None:
    """Raises UserError where a site cannot be a folder, or two could not be told apart.

    Refused are an empty name, one that is not Unicode text, one above 240 encoded bytes, the
    word that stands for no value, and two that differ only in case or in how accents are stored.
    """
    seen: dict[str, str] = {}
    for site in sorted(set(sites)):
        if not site:
            raise UserError("A site has an empty name; name the site with --site.")
        try:
            length = len(encode_site(site))
        except UnicodeEncodeError:
            raise UserError(
                f"The site {site!r} is not Unicode text; rename its folder or use --site."
            ) from None
        if length > MAX_ENCODED:
            raise UserError(
                f"The site {site!r} has {length} bytes when encoded, and only {MAX_ENCODED} are "
                "allowed; rename its folder or use --site."
            )
        if site.casefold() == NULL.casefold():
            raise UserError(f"The site {site!r} is a word that stands for no value; rename it.")
        other = seen.setdefault(folded(site), site)
        if other != site:
            raise UserError(
                f"The sites {other!r} and {site!r} differ only in case or accents' form; "
                "rename one, or use --site."
            )
