"""Backgrounds: sound without labels that is added to examples in training."""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.annotations import Warnings
from model.audio import decode_span
from model.errors import UserError
from model.examples import Examples
from model.frontend import FrontEnd, LogMel
from model.locks import locked
from model.recordings import Recordings
from model.separation import quiet_columns
from model.sound import AudioError, Sound, read_header
from model.windows import WindowPlan, WindowRule

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

HARVEST = "harvest"
"""The word for a source that is no folder: the training recordings' own quiet parts."""
MOST = 2000
"""Windows that are kept at most. More would teach little more, and may be months of sound."""
BLOCK = 64
"""Windows of a recording that are looked at together."""
FAINT = 0.01
"""What is so many dB above the front end's `amin`, or less, is no sound."""
LEAST = 0.25
"""Share of a window that a recording's quiet frames must fill, to be repeated until it is full."""


@dataclass(frozen=True)
class Backgrounds:
    """Windows of background: `levels` float32 (n, n_mels, n_frames) in dB, in a file on the disk.

    `identity` tells one set of backgrounds from another, so that networks trained with one are not
    taken for those of another. `warnings` count what was left out.
    """

    levels: Float32
    identity: str
    warnings: tuple[str, ...] = ()


def from_recordings(
    folder: Path, front_end: FrontEnd, work: Path, show_progress: bool = False
) -> Backgrounds:
    """Levels of whole windows of the recordings below `folder`, in a file in `work`.

    At most `MOST` windows, spread evenly over all the sound. What stands in `work` from an earlier
    call is taken if neither front end nor the recordings' names, sizes and times have changed;
    `db_ref` and `top_db` may. Windows that are digitally silent or cannot be decoded are left out
    and counted, as are recordings that cannot be read. UserError if the disk is too small, or if no
    window is left.
    """
    recordings = Recordings(folder)
    digest = _digest(recordings, front_end)
    file, record = work / f"background-{digest}.f32", work / f"background-{digest}.npz"
    with locked(work / f"background-{digest}.lock"):
        if not record.exists():
            warnings = Warnings()
            chosen = _choose(recordings, front_end, warnings, show_progress)
            planned = sum(len(numbers) for _, numbers in chosen)
            levels = _new_levels(file, max(1, planned), front_end, work)
            count = _decode(recordings, chosen, front_end, levels, warnings, show_progress)
            del levels
            os.truncate(file, 4 * count * math.prod(front_end.input_shape))
            sentences = np.array(warnings.sentences(), np.str_)
            partial = record.with_name(f"background-{digest}.partial.npz")
            np.savez(partial, count=count, warnings=sentences)
            partial.rename(record)
    with np.load(record) as stored:
        count, sentences = int(stored["count"]), stored["warnings"]
    if not count:
        raise UserError(
            f"No recording below {folder} holds a window of {front_end.window_s:g} s that is not "
            "silent; give another --background."
        )
    levels = np.memmap(file, np.float32, "r", shape=(count, *front_end.input_shape))
    return Backgrounds(levels, digest, tuple(str(text) for text in sentences))


def harvest(examples: Examples, rows: Rows, front_end: FrontEnd, work: Path) -> Backgrounds:
    """Windows put together from the quiet frames of recordings; of `rows` of `examples` alone.

    `rows` must be those that a network learns from, or it would learn from those that judge it.
    The frames are those that signal/noise separation finds (`model.separation`), joined within
    each recording. Where they are less than a window, but `LEAST` of it, they are repeated to and
    fro. At most `MOST` windows, of recordings in random order. The levels are in a file in `work`
    that goes with the process. UserError if the disk is too small, or if no window comes about.
    """
    floor = 10 * math.log10(front_end.amin) + FAINT
    n_frames = front_end.n_frames
    with tempfile.TemporaryFile(dir=work) as file:
        levels = _new_levels(file, min(MOST, max(1, len(rows))), front_end, work)
    places = examples.recordings[rows]
    found = barren = 0
    for recording in np.random.default_rng(0).permutation(np.unique(places)):
        before = found
        own = rows[places == recording]
        for first in range(0, len(own), BLOCK):
            block = np.asarray(examples.inputs[own[first : first + BLOCK]])
            quiet = quiet_columns(block, floor)
            frames = block.transpose(1, 0, 2)[:, quiet]
            if frames.shape[1] < LEAST * n_frames:
                continue
            if frames.shape[1] < n_frames:
                frames = np.pad(frames, ((0, 0), (0, n_frames - frames.shape[1])), "symmetric")
            for start in range(0, frames.shape[1] - n_frames + 1, n_frames):
                if found < len(levels):
                    levels[found] = frames[:, start : start + n_frames]
                    found += 1
        barren += found == before
        if found == len(levels):
            break
    if not found:
        raise UserError(
            "The training recordings have no quiet parts that could be harvested as background; "
            "give recordings without labels to --background."
        )
    warnings = (f"{barren} training recordings have no quiet part to harvest.",) if barren else ()
    return Backgrounds(levels[:found], HARVEST, warnings)


def _rule(front_end: FrontEnd) -> WindowRule:
    # No padded windows: silence is no background.
    return WindowRule(front_end.window_s, front_end.window_s, "drop")


def _digest(recordings: Recordings, front_end: FrontEnd) -> str:
    """What decides the levels, in a name."""
    sha = hashlib.sha256(repr(replace(front_end, db_ref="max", top_db=None)).encode())
    sha.update(str(MOST).encode())
    for path in recordings.paths:
        try:
            about = (recordings.folder / path).stat()
        except OSError:  # A link to nowhere, say: counted where the header is read.
            known = path, -1, -1
        else:
            known = path, about.st_size, about.st_mtime_ns
        sha.update(repr(known).encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:16]


def _new_levels(file: Any, count: int, front_end: FrontEnd, work: Path) -> Float32:
    """Room for levels of `count` windows in a file; UserError if the disk lacks it."""
    shape = (count, *front_end.input_shape)
    size, free = 4 * math.prod(shape), shutil.disk_usage(work).free
    if size > free:
        raise UserError(
            f"{count} windows of background need {size / 1e9:.1f} GB, but {work} has "
            f"{free / 1e9:.1f} GB free; give a --work on a larger disk."
        )
    return np.memmap(file, np.float32, "w+", shape=shape)


def _choose(
    recordings: Recordings, front_end: FrontEnd, warnings: Warnings, show_progress: bool
) -> list[tuple[str, Rows]]:
    """Recordings and the numbers of their windows that are to be decoded."""
    from tqdm import tqdm

    rule = _rule(front_end)

    def count(path: str) -> int | AudioError | OSError:
        try:
            info = read_header(str(recordings.folder / path))
        except (AudioError, OSError) as error:
            return error
        plan = WindowPlan(rule, info.frames, info.sample_rate)
        return plan.count - plan.dropped

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        read = threads.map(count, recordings.paths)
        files, hidden = len(recordings.paths), not show_progress
        counts = list(tqdm(read, "headers of background", files, disable=hidden))
    whole = []
    for path, number in zip(recordings.paths, counts, strict=True):
        if not isinstance(number, int):
            warnings.add("{n} recordings of background cannot be read", f"{path}: {number}")
        elif not number:
            warnings.add("{n} recordings of background are shorter than a window", path)
        else:
            whole.append((path, number))
    stops = np.cumsum([number for _, number in whole], dtype=np.int64)
    total = int(stops[-1]) if whole else 0
    places = np.arange(total) if total <= MOST else np.linspace(0, total - 1, MOST).astype(np.int64)
    return [
        (path, places[(places >= stop - number) & (places < stop)] - (stop - number))
        for (path, number), stop in zip(whole, stops, strict=True)
    ]


def _decode(
    recordings: Recordings,
    chosen: Sequence[tuple[str, Rows]],
    front_end: FrontEnd,
    levels: Float32,
    warnings: Warnings,
    show_progress: bool,
) -> int:
    """Fills `levels` from the start with the windows that have sound; how many they are."""
    from tqdm import tqdm

    log_mel, rule = LogMel(front_end), _rule(front_end)
    usable = np.zeros(len(levels), bool)

    def decode(path: str, numbers: Rows, first: int) -> str | None:
        """One recording's levels, from row `first` on; what broke off."""
        try:
            with Sound(str(recordings.folder / path)) as sound:
                plan = WindowPlan(rule, sound.info.frames, sound.info.sample_rate)
                rate, samples = front_end.sample_rate, front_end.window_samples
                for row, k in enumerate(numbers.tolist(), first):
                    for window in decode_span(sound, plan, k, k + 1, rate, samples):
                        if window.waveform is not None:
                            levels[row] = log_mel.levels(window.waveform[None])[0]
                            usable[row] = True
        except (AudioError, OSError) as error:
            return f"{path}: {error}"
        return None

    paths, planned = [path for path, _ in chosen], [numbers for _, numbers in chosen]
    firsts = np.cumsum([0, *map(len, planned)])[:-1]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        decoded = threads.map(decode, paths, planned, firsts)
        hidden = not show_progress
        problems = list(tqdm(decoded, "background", len(paths), disable=hidden))
    for path, numbers, first, problem in zip(paths, planned, firsts, problems, strict=True):
        if problem:
            warnings.add("{n} recordings of background broke off", problem)
        lost = int((~usable[first : first + len(numbers)]).sum())
        if lost:
            sentence = "{n} windows of background are silent or cannot be decoded"
            warnings.add(sentence, path, lost)
    kept = np.flatnonzero(usable)
    for place, row in enumerate(kept):
        levels[place] = levels[row]
    return len(kept)
