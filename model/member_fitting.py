"""Fitting the networks of a bundle: spectrograms for each batch, frozen backbones, precision."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from model.architecture import Architecture
from model.augmentation import Augmentation, augment, reference
from model.batches import Rows, ordered_batches
from model.bundle_document import Task
from model.errors import require
from model.examples import Examples
from model.fitting import FitOptions, Log, Rules, fit, kept_epoch, predict
from model.frontend import FrontEnd
from model.network import build_network

Float32 = npt.NDArray[np.float32]
SETTLED = 50
"""Batches after which the moving averages of batch normalisation are those of the data."""

TrainingPrecision = Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How a network is made: its architecture, and how it is fitted.

    A backbone is frozen at first: `fit` is of the new head alone, on the backbone's features,
    which are computed once and so of sound that is not augmented. Then the whole is fitted for
    `fine_tune` epochs at `fine_tune_rate` (None: a tenth of the head's). `precision` "auto" is
    Keras's mixed_float16 where there is a GPU, else float32.
    """

    architecture: Architecture = field(default_factory=Architecture)
    fit: FitOptions = field(default_factory=FitOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)
    fine_tune: int = 10
    fine_tune_rate: float | None = None
    precision: TrainingPrecision = "auto"

    def __post_init__(self) -> None:
        names = get_args(TrainingPrecision)
        require(self.precision in names, "precision", self.precision, " or ".join(names))
        fine_tune = self.fine_tune
        require(fine_tune >= 0, "number of fine-tune epochs", fine_tune, "0 or more")
        rate = self.fine_tune_rate
        require(rate is None or 0 < rate < math.inf, "fine-tune rate", rate, "above 0")

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "architecture": self.architecture.to_json(),
            **asdict(self.fit),
            "augmentation": self.augmentation.to_json(),
            "fine_tune": self.fine_tune,
            "fine_tune_rate": self.fine_tune_rate,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class Fitted:
    """A network, in float32, the log of its fitting, and the epoch whose weights it has."""

    network: Any
    log: Log
    kept_epoch: int


def fit_network(
    recipe: Recipe,
    front_end: FrontEnd,
    examples: Examples,
    training: Rows,
    validation: Rows,
    seed: int,
    report: Callable[[str], None],
    *,
    backgrounds: Float32 | None = None,
    checkpoint: Path | None = None,
    give_up: Callable[[Log], bool] = lambda log: False,
) -> Fitted:
    """Builds a network and fits it to rows of `examples`; the other arguments as of `fit`.

    `backgrounds` (n, n_mels, n_frames) are levels of sound without labels, to be mixed in.
    """
    import keras

    keras.utils.set_random_seed(seed)
    mean, variance = examples.moments(training, front_end)
    options = replace(recipe.fit, seed=seed)

    def build() -> Any:
        labels, task = len(examples.labels), examples.task
        network = recipe.architecture, front_end, labels, task
        return build_network(*network, mean=mean, variance=variance)

    def fit_all(network: Any, options: FitOptions, checkpoint: Path | None) -> Log:
        rules = make_rules(front_end, examples.task, recipe.augmentation, backgrounds)
        rows = training, validation
        body = keras.Model(network.input, network.get_layer("logits").output)
        return fit(
            body, examples, *rows, options, rules, report, checkpoint=checkpoint, give_up=give_up
        )

    with _policy(recipe.precision) as mixed:
        network = build()
        if not recipe.architecture.is_backbone:
            log = fit_all(network, options, checkpoint)
        else:
            random = recipe.architecture.weights == "none"
            log = _fit_head(
                network,
                front_end,
                examples,
                training,
                validation,
                options,
                report,
                checkpoint,
                random,
            )
            if recipe.fine_tune:
                head = network.get_weights()
                _thaw(network)
                rate = recipe.fine_tune_rate or options.learning_rate / 10
                slower = replace(options, epochs=recipe.fine_tune, learning_rate=rate)
                second = checkpoint and checkpoint.with_suffix(".all.npz")
                more = fit_all(network, slower, second)
                log += [entry | {"epoch": entry["epoch"] + len(log)} for entry in more]
                if kept_epoch(log, options.patience) <= len(log) - len(more):
                    network.set_weights(head)
    if mixed:
        weights = network.get_weights()
        network = build()
        network.set_weights(weights)
    return Fitted(network, log, kept_epoch(log, options.patience))


def make_rules(
    front_end: FrontEnd, task: Task, augmentation: Augmentation, backgrounds: Float32 | None
) -> Rules:
    """Levels to spectrograms: with what augmentation draws for training, plainly for judging."""
    import tensorflow as tf

    def draw(count: Any, seed: Any) -> Float32:
        assert backgrounds is not None
        rows = np.random.default_rng(seed).integers(len(backgrounds), size=int(count))
        return np.asarray(backgrounds[rows])

    def training(levels: Any, targets: Any, mask: Any, seed: Any) -> tuple[Any, Any, Any]:
        drawn = None
        if backgrounds is not None:
            drawn = tf.numpy_function(draw, [tf.shape(levels)[0], seed], tf.float32)
            drawn.set_shape((None, *front_end.input_shape))
        return augment(
            levels, targets, mask, seed, augmentation, front_end, task, backgrounds=drawn
        )

    def judging(levels: Any, targets: Any, mask: Any, seed: Any) -> tuple[Any, Any, Any]:
        return reference(levels, front_end), targets, mask

    return Rules(training, judging)


def _fit_head(
    network: Any,
    front_end: FrontEnd,
    examples: Examples,
    training: Rows,
    validation: Rows,
    options: FitOptions,
    report: Callable[[str], None],
    checkpoint: Path | None,
    random: bool,
) -> Log:
    """Fits what follows a backbone's features, which are computed once.

    `random` is for a backbone without weights of its own.
    """
    import keras

    features = network.get_layer("features").output
    body = keras.Model(network.input, features)
    rules = make_rules(front_end, examples.task, Augmentation.none(), None)
    if random:
        # With the statistics that batch normalisation begins with, random weights let nothing
        # through to the last layers.
        batches = ordered_batches(examples, training, options.batch_size, rules.judging)
        for batch in batches.repeat().take(SETTLED):
            body(batch[0], training=True)
    rows = np.concatenate([training, validation])
    report(f"features of {len(rows)} windows, computed once")
    inputs = np.zeros((len(examples.inputs), features.shape[1]), np.float32)
    inputs[rows] = predict(body, examples, rows, options.batch_size, rules)
    computed = replace(examples, inputs=inputs)
    same = Rules(_unchanged, _unchanged)
    names = [layer.name for layer in network.layers]
    layers = network.layers[names.index("features") + 1 : names.index("logits") + 1]
    # Copies: a layer with two inputs could no longer tell which is the network's.
    copies = [type(layer).from_config(layer.get_config()) for layer in layers]
    head = keras.Sequential([keras.Input(features.shape[1:]), *copies])
    for layer, copy in zip(layers, copies, strict=True):
        copy.set_weights(layer.get_weights())
    log = fit(head, computed, training, validation, options, same, report, checkpoint=checkpoint)
    for layer, copy in zip(layers, copies, strict=True):
        layer.set_weights(copy.get_weights())
    return log


def _unchanged(inputs: Any, targets: Any, mask: Any, seed: Any) -> tuple[Any, Any, Any]:
    return inputs, targets, mask


def _thaw(network: Any) -> None:
    """Lets all layers learn but batch normalisation: its statistics are of millions of images."""
    import keras

    for layer in network.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)


@contextlib.contextmanager
def _policy(precision: TrainingPrecision) -> Iterator[bool]:
    """Keras's precision for networks that are built within; whether it is a mixed one."""
    import keras
    import tensorflow as tf

    if precision == "auto":
        precision = "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield precision != "float32"
    finally:
        keras.config.set_dtype_policy(before)
