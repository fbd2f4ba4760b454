"""Augmentation: what is drawn at random so that a few hundred clips stand for many.

It is done on levels (dB of mel power, before reference and range), in TensorFlow, on whole batches.
What is drawn follows from a seed: the same seed gives the same batch.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from model.bundle_document import Task
from model.errors import require
from model.frontend import FrontEnd

RATIO = (0.3, 0.7)
"""Share of the amplitude that the first of two mixed sounds has in a multi-label task: at most
7 dB apart, both can still be heard, so that both labels hold."""
SLOPE = 15.0
"""Largest rise or fall of synthetic noise from its middle mel band to either end, in dB."""
KNOTS = 4
"""Bands at which a gain is drawn; between them it is interpolated."""


@dataclass(frozen=True)
class Masks:
    """Masks along one axis: how many, and the largest width as a share of the axis."""

    count: int
    width: float


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each example in training; `none()` switches all of it off.

    `time_shift`: the largest shift to either side, as a share of the window; what leaves at one end
    comes back at the other. `mixup`: the probability that an example is mixed with another one of
    its batch. `noise`: the probability that background is added, `noise_snr` the lowest and the
    highest ratio of signal to background, in dB, that is drawn. `time_masks`, `frequency_masks`:
    SpecAugment's (Park et al. 2019). `gain`: the largest change of level, up or down, in dB, that
    is drawn at several bands (as in FilterAugment, Nam et al. 2022): recorders, distance and
    vegetation colour what they let through. Raises UserError for values out of range.
    """

    time_shift: float = 1.0
    mixup: float = 0.5
    noise: float = 0.2
    noise_snr: tuple[float, float] = (10.0, 40.0)
    time_masks: Masks = Masks(1, 0.1)
    frequency_masks: Masks = Masks(1, 0.1)
    gain: float = 3.0

    def __post_init__(self) -> None:
        for name in ("time_shift", "mixup", "noise"):
            value = getattr(self, name)
            require(0 <= value <= 1, name.replace("_", " "), value, "from 0 to 1")
        low, high = self.noise_snr
        require(
            -100 <= low <= high <= 100, "noise SNR", f"{low:g},{high:g}", "two rising numbers in dB"
        )
        for name in ("time_masks", "frequency_masks"):
            masks = getattr(self, name)
            holds = 0 <= masks.count <= 100 and 0 <= masks.width < 1
            shown = f"{masks.count},{masks.width:g}"
            require(holds, name.replace("_", " "), shown, "a number and a width below 1")
        require(0 <= self.gain <= 60, "gain", self.gain, "from 0 to 60 dB")

    @classmethod
    def none(cls) -> "Augmentation":
        """Training sees every example as it is."""
        return cls(0, 0, 0, (0, 0), Masks(0, 0), Masks(0, 0), 0)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self) | {"noise_snr": list(self.noise_snr)}


def augment(
    levels: Any,
    targets: Any,
    mask: Any,
    seed: Any,
    augmentation: Augmentation,
    front_end: FrontEnd,
    task: Task,
    backgrounds: Any = None,
) -> tuple[Any, Any, Any]:
    """Levels (n, n_mels, n_frames) to spectrograms in dB of the same shape, with their targets.

    `targets` and `mask` are (n, n_labels), `seed` int32 (2,); `backgrounds` are levels as many as
    `levels`, or None for steady noise of a random slope. Shift, gain, noise and masks leave the
    labels alone. Of two mixed sounds a multi-label window holds the labels of both (one that is
    masked in one of them and not present in the other stays masked); in a single-label task the
    targets become the two sounds' shares (between-class learning, Tokozume et al. 2018).
    """
    if augmentation.time_shift:
        levels = _shift(levels, augmentation.time_shift, _seed(seed, 1))
    if augmentation.gain:
        levels = _colour(levels, augmentation.gain, front_end.amin, _seed(seed, 2))
    if augmentation.mixup:
        levels, targets, mask = _mix(
            levels, targets, mask, augmentation.mixup, task, front_end.amin, _seed(seed, 3)
        )
    if augmentation.noise:
        levels = _add_noise(levels, backgrounds, augmentation, front_end.amin, _seed(seed, 4))
    # After the reference: a window without its loudest moment must not become louder.
    return _hide(reference(levels, front_end), augmentation, _seed(seed, 5)), targets, mask


def reference(levels: Any, front_end: FrontEnd) -> Any:
    """What `LogMel.referenced` does, in TensorFlow."""
    import tensorflow as tf

    f = front_end
    peak = tf.reduce_max(levels, axis=[1, 2], keepdims=True)
    if f.top_db is not None:
        levels = tf.maximum(levels, peak - f.top_db)
    return levels - (peak if f.db_ref == "max" else 10 * math.log10(max(f.db_ref, f.amin)))


def _seed(seed: Any, purpose: int) -> Any:
    """Another seed for each purpose."""
    import tensorflow as tf

    return tf.random.fold_in(seed, purpose)


def _draw(shape: Any, seed: Any, purpose: int, low: float = 0.0, high: float = 1.0) -> Any:
    import tensorflow as tf

    return tf.random.stateless_uniform(shape, _seed(seed, purpose), low, high)


def _power(levels: Any) -> Any:
    import tensorflow as tf

    # exp is several times faster than pow.
    return tf.exp(levels * (math.log(10) / 10))


def _decibels(power: Any, amin: float) -> Any:
    import tensorflow as tf

    return tf.math.log(tf.maximum(power, amin)) * (10 / math.log(10))


def _mean(power: Any) -> Any:
    """The mean over mels and frames, kept above 0 for division."""
    import tensorflow as tf

    return tf.maximum(tf.reduce_mean(power, axis=[1, 2], keepdims=True), 1e-30)


def _shift(levels: Any, share: float, seed: Any) -> Any:
    import tensorflow as tf

    count, frames = tf.shape(levels)[0], levels.shape[2]
    by = _draw((count,), seed, 1, -share, share) * frames
    places = (tf.range(frames)[None] + tf.cast(tf.round(by), tf.int32)[:, None]) % frames
    return tf.gather(levels, places, axis=2, batch_dims=1)


def _colour(levels: Any, gain: float, amin: float, seed: Any) -> Any:
    import tensorflow as tf

    at_knots = _draw((tf.shape(levels)[0], KNOTS, 1, 1), seed, 1, -gain, gain)
    by_band = tf.image.resize(at_knots, (levels.shape[1], 1), "bilinear")
    return tf.maximum(levels + by_band[..., 0], 10 * math.log10(amin))


def _mix(
    levels: Any, targets: Any, mask: Any, share: float, task: Task, amin: float, seed: Any
) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    count = tf.shape(levels)[0]
    other = tf.argsort(_draw((count,), seed, 1))
    mixed = _draw((count, 1), seed, 2) < share
    low, high = RATIO if task == "multilabel" else (0.0, 1.0)
    ratio = _draw((count, 1), seed, 3, low, high)
    power = _power(levels)
    mean = _mean(power)
    # Of equal level before, or the ratio would say nothing of what is heard; as loud as the first
    # was after.
    equal = power / mean
    first, second = tf.square(ratio)[..., None], tf.square(1 - ratio)[..., None]
    both = (first * equal + second * tf.gather(equal, other)) / (first + second)
    levels = tf.where(mixed[..., None], _decibels(both * mean, amin), levels)
    others, other_mask = tf.gather(targets, other), tf.gather(mask, other)
    if task == "singlelabel":
        return levels, tf.where(mixed, ratio * targets + (1 - ratio) * others, targets), mask
    union = tf.maximum(targets, others)
    clear = tf.maximum(union, mask * other_mask)
    return levels, tf.where(mixed, union, targets), tf.where(mixed, clear, mask)


def _add_noise(
    levels: Any, backgrounds: Any, augmentation: Augmentation, amin: float, seed: Any
) -> Any:
    import tensorflow as tf

    count = tf.shape(levels)[0]
    power = _power(levels)
    if backgrounds is None:
        slope = _draw((count, 1, 1), seed, 1, -SLOPE, SLOPE)
        rise = _power(slope * tf.linspace(-1.0, 1.0, levels.shape[1])[None, :, None])
        # The power of Gaussian noise in a cell is exponentially distributed.
        background = -tf.math.log(_draw(tf.shape(levels), seed, 2, 1e-6)) * rise
    else:
        background = _power(backgrounds)
    snr = _draw((count, 1, 1), seed, 3, *augmentation.noise_snr)
    wanted = _mean(power) / _power(snr)
    noisy = _decibels(power + background / _mean(background) * wanted, amin)
    return tf.where(_draw((count, 1, 1), seed, 4) < augmentation.noise, noisy, levels)


def _hide(spectrograms: Any, augmentation: Augmentation, seed: Any) -> Any:
    """Puts each window's mean, which tells a network nothing, in place of some bands and frames."""
    import tensorflow as tf

    count = tf.shape(spectrograms)[0]
    hidden = tf.zeros((count, 1, 1), tf.bool)
    for axis, masks in ((1, augmentation.frequency_masks), (2, augmentation.time_masks)):
        size = spectrograms.shape[axis]
        places = tf.range(size, dtype=tf.float32)[None]
        for number in range(masks.count):
            drawn = _draw((count, 2), _seed(seed, axis), number)
            width = drawn[:, :1] * masks.width * size
            start = drawn[:, 1:] * (size - width)
            covered = (places >= start) & (places < start + width)
            hidden |= covered[..., None] if axis == 1 else covered[:, None]
    mean = tf.reduce_mean(spectrograms, axis=[1, 2], keepdims=True)
    return tf.where(hidden, mean, spectrograms)
