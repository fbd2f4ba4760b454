"""What is heard around a detection: a clip of sound, and its spectrogram as a picture."""

import io
import math

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from model.sound import Sound

Float32 = npt.NDArray[np.float32]
BLOCK_S = 10
"""Seconds that are read at a time."""
FRAME_S, MOST_FRAME = 0.02, 1024
"""Length of a spectrogram's frames, which overlap by three quarters, and the most samples of one:
calls of bats are shorter than those of birds."""
RANGE_DB = 80
INCHES, DPI = (8.0, 3.2), 150
AXES = (0.07, 0.15, 0.915, 0.815)
"""Left, bottom, width and height of the picture's axes, as shares of the picture. They span the
clip's time."""
PLAY_RATE = 48000
"""Hz that every browser plays."""
SLOWNESS = (1, 2, 4, 10, 20)
"""How many times slower sound can be played: 20 brings 200 kHz to 10 kHz."""
MOST_PLAY_S = 1800


def read_clip(
    url: str, start_s: float, end_s: float, context_s: float
) -> tuple[Float32, int, float]:
    """The sound from `context_s` before to `context_s` after two times of a recording.

    Gives float32 (n, channels), the rate in Hz, and the time in the recording at which it starts.
    Raises AudioError or OSError where the recording cannot be read.
    """
    with Sound(url) as sound:
        rate, frames = sound.info.sample_rate, sound.info.frames
        first = max(0, math.floor((start_s - context_s) * rate))
        stop = min(frames, math.ceil((end_s + context_s) * rate))
        sound.until(stop)
        step = BLOCK_S * rate
        blocks = [sound.read(at, min(step, stop - at)) for at in range(first, stop, step)]
        nothing = np.zeros((0, sound.info.channels), np.float32)
    return np.concatenate([nothing, *blocks]), rate, first / rate


def encode_clip(samples: Float32, rate: int, kind: str) -> bytes:
    """The file of a clip: `flac` (24 bit) or `wav` (float). Raises LibsndfileError, ValueError."""
    file = io.BytesIO()
    subtype = "PCM_24" if kind == "flac" else "FLOAT"
    soundfile.write(file, samples, rate, format=kind.upper(), subtype=subtype)
    return file.getvalue()


def slowed_wav(path: str, channel: int | None, slow: int) -> tuple[bytes, int]:
    """A clip as a WAV file that browsers play (mono, 24 bit, `PLAY_RATE`), `slow` times slower.

    Slowed by time expansion: all frequencies are divided too, so that ultrasound can be heard.
    `channel` None is the mean of all. Gives the clip's own rate in Hz besides. Raises AudioError
    or OSError for a file that cannot be read, ValueError for one that is cut short or too long,
    or has no such channel.
    """
    samples, rate, _ = read_clip(path, 0, MOST_PLAY_S / slow, 1)  # A second more than is played.
    if len(samples) > MOST_PLAY_S / slow * rate:
        raise ValueError(f"the clip is too long to be played {slow} times slower")
    promised = soundfile.info(path).frames
    if len(samples) < promised:
        raise ValueError(f"the clip is damaged: of {promised} samples, {len(samples)} are left")
    if not promised:
        raise ValueError("the clip holds no sound")
    if channel is not None and channel >= samples.shape[1]:
        raise ValueError(f"the clip has no channel {channel}")
    mono = samples.mean(axis=1) if channel is None else samples[:, channel]
    played = soxr.resample(np.nan_to_num(mono), rate / slow, PLAY_RATE)
    file = io.BytesIO()
    soundfile.write(file, played, PLAY_RATE, format="WAV", subtype="PCM_24")
    return file.getvalue(), rate


def draw_spectrogram(
    samples: Float32, rate: int, at_s: float, bounds: tuple[float, float]
) -> bytes:
    """A PNG of the mean of a clip's channels; `at_s` is its start, `bounds` the detection's.

    Its axes stand at `AXES`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    mono = samples.mean(axis=1)
    size = min(len(mono), MOST_FRAME, max(16, round(FRAME_S * rate)))
    figure = Figure(figsize=INCHES, dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(AXES)
    end_s = at_s + len(mono) / rate
    if size >= 16:
        step = max(1, size // 4)
        frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::step]
        power = np.abs(np.fft.rfft(frames * np.hanning(size))).T ** 2
        level = 10 * np.log10(power + 1e-12)
        top = float(level.max())
        axes.imshow(
            level,
            origin="lower",
            aspect="auto",
            extent=(at_s, end_s, 0, rate / 2000),
            vmin=top - RANGE_DB,
            vmax=top,
            cmap="magma",
            interpolation="antialiased",  # More frames than pixels must not lose calls.
        )
    for bound in bounds:
        axes.axvline(bound, color="white", linewidth=1, linestyle="--")
    axes.set(xlabel="seconds in the recording", ylabel="kHz", xlim=(at_s, max(end_s, at_s + 0.01)))
    canvas.draw()
    # Of 256 colours it is half as large, and looks the same.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()
