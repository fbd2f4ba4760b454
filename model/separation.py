"""Signal and noise told apart in spectrograms, to find sound without calls in recordings of calls.

The method is that of Sprengel, Jaggi, Kilcher and Hofmann 2016, "Audio based bird species
identification using deep learning techniques", CLEF Working Notes, CEUR-WS 1609, pages 547-559.
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

TIMES = 2.5
"""A cell that is so many times its row's median amplitude, and its column's, may be signal."""
MARGIN = 3
"""Columns beside a loud one that do not count as quiet: the paper's two dilations by 4 columns."""


def quiet_columns(levels: Float32, floor: float) -> Bool:
    """Which frames of windows from one recording hold background alone: bool (n, n_frames).

    `levels` are (n, n_mels, n_frames), in dB; frames that are at `floor` throughout are no sound,
    so neither background nor part of a median. As in the paper, a cell is loud that exceeds
    `TIMES` the median amplitude of its row (here: of all the windows) and of its column; lone
    cells do not count; a frame is quiet if neither it nor one within `MARGIN` has a loud cell.

    The paper erodes by 4 x 4 cells of 512 samples with three quarters overlap, so 12 ms wide at
    44.1 kHz and 23 ms at 22.05 kHz. Mel spectrograms with frames of 16 or 32 ms would lose whole
    calls, which would then pass as background (of two finches' syllables 34 and 70 %). Here two
    neighbouring bands in one frame suffice.
    """
    from scipy.ndimage import maximum_filter1d

    sound = (levels > floor).any(axis=1)
    if not sound.any():
        return np.zeros_like(sound)
    # Amplitudes' ratios are differences of levels, and their medians the same cells.
    above = np.float32(20 * np.log10(TIMES))
    rows = np.median(levels.transpose(1, 0, 2)[:, sound], axis=1)
    columns = np.median(levels, axis=1)
    loud = levels > rows[None, :, None] + above
    loud &= levels > columns[:, None] + above
    pairs = loud[:, 1:] & loud[:, :-1] if levels.shape[1] > 1 else loud
    near: Bool = maximum_filter1d(pairs.any(axis=1), 2 * MARGIN + 1, axis=1, mode="constant")
    return sound & ~near
