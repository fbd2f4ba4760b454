"""Probing: what a recording's file says of itself, from its header and its two ends."""

import errno
import hashlib
import os
from dataclasses import replace
from typing import BinaryIO

from model.files import open_file
from model.sound import AudioError, AudioInfo, Sound
from pipeline.clock import is_triggered_name
from pipeline.discovery import UNSUPPORTED
from pipeline.headers import HeaderFacts, read_facts
from pipeline.lists import extension
from pipeline.recording import Recording, unreadable
from pipeline.storage import check_answers, is_local

EXPAND = "triggered by amplitude: expand it with AudioMoth's app, and give what that writes"
END_BYTES = 64 * 1024
"""Bytes at each end of a file that its version is taken from."""

NOWHERE = {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
"""Errors of names that lead to no file: links in a circle, or what a list invents."""

ONE_SIZE = {1, 3, 6, 7}
"""WAV format tags (PCM, float, A-law, mu-law) whose samples all have the same size."""

LONGEST_LOSS_S = 86_400
"""Seconds that a header may promise beyond what is there: more is no cut, but a wrong number."""


def version_of(file: BinaryIO, size: int) -> str:
    """Size and SHA-256 (128 bits of it) of the first and the last 64 KiB."""
    digest = hashlib.sha256()
    file.seek(0)
    digest.update(file.read(END_BYTES))
    file.seek(max(END_BYTES, size - END_BYTES))
    digest.update(file.read(END_BYTES))
    return f"{size}-{digest.hexdigest()[:32]}"


def probe(
    recording: str,
    url: str,
    stamp: str | None,
    *,
    is_folder: bool = False,
    size: int | None = None,
) -> Recording:
    """The inventory's row of one file; never raises for what is wrong with the file itself.

    `size` are its bytes where a listing told them: then a bucket is asked for its two ends alone.
    Raises OSError where storage fails.
    """
    row = Recording(recording, url, stamp)
    if is_folder:
        return unreadable(row, "not_audio", "a folder, not a file")
    if is_local(url) and os.path.exists(url) and not os.path.isfile(url):
        return unreadable(row, "not_audio", "a pipe or device, not a file")
    name = url.rpartition("/")[2]
    try:
        with open_file(url, size) as file:
            size = file.seek(0, os.SEEK_END)
            row = replace(row, size_bytes=size, version=version_of(file, size))
            if extension(name) in UNSUPPORTED:
                return unreadable(row, "unsupported", f"{extension(name).upper()} is not supported")
            if is_triggered_name(name):
                return unreadable(row, "triggered", EXPAND)
            if size == 0:
                return unreadable(row, "empty", "the file has no bytes")
            file.seek(0)
            facts = read_facts(file, size)
            return _read(_with_facts(row, facts), facts, file)
    except FileNotFoundError:
        check_answers(url)
        return unreadable(row, "vanished", "the file is not there any more")
    except PermissionError:
        check_answers(url)
        return unreadable(row, "permission", "the file may not be read")
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return unreadable(row, "vanished", "there can be no file of that name")


def check_told(recording: Recording) -> None:
    """Raises AudioError if a file is not what its inventory told. Raises OSError as storage does.

    Whatever is wrong with the file is as when it is probed.
    """
    found = probe(recording.recording, recording.url, recording.stamp)
    if found.reason is not None:
        raise AudioError(found.reason, found.message or "")
    for what in ("size_bytes", "sample_rate", "channels", "frames"):
        told, there = getattr(recording, what), getattr(found, what)
        if told != there:
            raise AudioError("changed", f"the inventory tells {what} {told}, the file has {there}")


def _read(row: Recording, facts: HeaderFacts, file: BinaryIO) -> Recording:
    """The row with what the decoder says of an open file."""
    try:
        with Sound(row.url, file=file) as sound:
            info = sound.info
    except AudioError as error:
        reason = "empty" if facts.data_bytes_present == 0 else error.reason
        return unreadable(row, reason, error.message)
    if not info.frames:
        if facts.data_bytes_present:
            return unreadable(row, "damaged", "a header that hides its samples")
        return unreadable(row, "empty", "a header and no samples")
    frames, is_true = _frames(info, facts)
    return replace(
        row,
        frames=frames,
        duration_s=frames / info.sample_rate,
        sample_rate=info.sample_rate,
        channels=info.channels,
        format=info.format,
        flags=row.flags if is_true else tuple(sorted({*row.flags, "header_lies"})),
    )


def _frames(info: AudioInfo, facts: HeaderFacts) -> tuple[int, bool]:
    """Samples per channel that are expected, and whether the header told how many there are.

    They are what the header promises, if the file is cut, else what is there.
    """
    there, promised = info.frames, facts.frames_promised
    present, whole = facts.data_bytes_present, facts.data_bytes_promised
    if facts.container != "flac":
        promised = there
        if "header_lies" in facts.flags and present and whole and whole > present:
            if facts.format_tag in ONE_SIZE and facts.block_align:
                promised = whole // facts.block_align
            else:
                promised = there * whole // present
    if promised and there < promised <= there + LONGEST_LOSS_S * info.sample_rate:
        return promised, False
    return there, promised == there


def _with_facts(row: Recording, facts: HeaderFacts) -> Recording:
    return replace(
        row,
        guano_clock=facts.guano_clock,
        guano_utc=facts.guano_utc,
        audiomoth_clock=facts.audiomoth_clock,
        audiomoth_utc=facts.audiomoth_utc,
        recorder_id=facts.recorder_id,
        firmware=facts.firmware,
        battery_v=facts.battery_v,
        temperature_c=facts.temperature_c,
        gain_db=facts.gain_db,
        latitude=facts.latitude,
        longitude=facts.longitude,
        flags=tuple(facts.flags),
    )
