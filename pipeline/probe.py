"""Probing: what a recording's file says of itself, from its header and its two ends."""

import hashlib
import os
from dataclasses import replace
from typing import BinaryIO

from model.audio import AudioError, Sound
from pipeline.clock import is_triggered_name
from pipeline.discovery import UNSUPPORTED, extension
from pipeline.headers import HeaderFacts, read_facts
from pipeline.recording import Recording, unreadable
from pipeline.storage import Folder

END_BYTES = 64 * 1024
"""Bytes at each end of a file that its version is taken from."""

ONE_SIZE = {1, 3, 6, 7}
"""WAV format tags (PCM, float, A-law, mu-law) whose samples all have the same size."""


def version_of(file: BinaryIO, size: int) -> str:
    """Size and SHA-256 (128 bits of it) of the first and the last 64 KiB."""
    digest = hashlib.sha256()
    file.seek(0)
    digest.update(file.read(END_BYTES))
    file.seek(max(END_BYTES, size - END_BYTES))
    digest.update(file.read(END_BYTES))
    return f"{size}-{digest.hexdigest()[:32]}"


def probe(recording: str, url: str, stamp: str | None, *, is_folder: bool = False) -> Recording:
    """The inventory's row of one file; never raises for what is wrong with the file itself.

    Raises OSError where storage fails.
    """
    row = Recording(recording, url, stamp)
    if is_folder:
        return unreadable(row, "not_audio", "a folder, not a file")
    parent, _, name = url.rpartition("/")
    try:
        with Folder(parent).open(name) as file:
            size = file.seek(0, os.SEEK_END)
            row = replace(row, size_bytes=size, version=version_of(file, size))
            if extension(name) in UNSUPPORTED:
                return unreadable(row, "unsupported", f"{extension(name).upper()} is not supported")
            if is_triggered_name(name):
                return unreadable(row, "triggered", "amplitude-triggered: expand it first")
            if size == 0:
                return unreadable(row, "empty", "the file has no bytes")
            file.seek(0)
            facts = read_facts(file, size)
    except FileNotFoundError:
        return unreadable(row, "vanished", "the file is not there any more")
    except PermissionError:
        return unreadable(row, "permission", "the file may not be read")
    row = _with_facts(row, facts)
    try:
        with Sound(url) as sound:
            info = sound.info
    except AudioError as error:
        reason = "empty" if facts.data_bytes_present == 0 else error.reason
        return unreadable(row, reason, error.message)
    if not info.frames:
        return unreadable(row, "empty", "a header and no samples")
    frames = _frames(info.frames, facts)
    return replace(
        row,
        frames=frames,
        duration_s=frames / info.sample_rate,
        sample_rate=info.sample_rate,
        channels=info.channels,
        format=info.format,
    )


def _frames(decodable: int, facts: HeaderFacts) -> int:
    """Samples per channel that are expected: what the header promises, if the file is cut."""
    promised, present = facts.data_bytes_promised, facts.data_bytes_present
    if "header_lies" not in facts.flags or not promised or not present or promised <= present:
        return decodable
    if facts.format_tag in ONE_SIZE and facts.block_align:
        return max(decodable, promised // facts.block_align)
    return max(decodable, round(decodable * (promised / present)))


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
