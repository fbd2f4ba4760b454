"""A step of training against plain Keras on tensors that are ready.

    python -m benchmarks training WORK [--windows 512] [--epochs 3] [--rounds 3]

The paper's network, windows of 8 s, batches of 32. `plain` is Keras's fit on batches that are ready
tensors, `arrays` the same on NumPy arrays, which Keras itself shuffles and cuts, `read` our fit on
levels in a file, `augmented` the same with the default augmentation, all in one process, in turn,
without XLA, whose convolutions are slower on processors. The first epoch of each round, in which
Keras traces, does not count. WORK is a folder for the file.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LABELS = 10
BATCH = 32


def make_examples(folder: Path, windows: int) -> Any:
    """Examples of noise, in a file."""
    from model.examples import Examples
    from model.frontend import FrontEnd

    shape = (windows, *FrontEnd().input_shape)
    inputs = np.memmap(folder / "levels.f32", np.float32, "w+", shape=shape)
    rng = np.random.default_rng(1)
    for row in inputs:
        row[:] = rng.normal(-40, 10, shape[1:])
    return Examples(
        labels=tuple(f"label {i}" for i in range(LABELS)),
        task="multilabel",
        inputs=inputs,
        targets=(rng.random((windows, LABELS)) < 0.1).astype(np.float32),
        mask=np.ones((windows, LABELS), np.float32),
        recordings=np.arange(windows),
        usable=np.ones(windows, bool),
    )


def plain(examples: Any, epochs: int, ready: bool) -> list[float]:
    """Seconds of each epoch of Keras's own fit, on batches that are ready or on arrays."""
    import keras
    import tensorflow as tf

    from model.architecture import Architecture
    from model.frontend import FrontEnd
    from model.network import build_network

    network = build_network(Architecture(), FrontEnd(), LABELS, "multilabel", variance=100)
    network.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy", jit_compile=False)
    times: list[float] = []
    arrays = np.array(examples.inputs), examples.targets
    data: dict[str, Any] = {"x": arrays[0], "y": arrays[1], "batch_size": BATCH}
    if ready:
        batches = tuple(x.reshape(-1, BATCH, *x.shape[1:]) for x in arrays)
        data = {"x": tf.data.Dataset.from_tensor_slices(batches)}
    network.fit(
        **data,
        epochs=epochs,
        verbose=0,
        callbacks=[_Clock(times)()],
    )
    return times


def ours(examples: Any, epochs: int, augmented: bool) -> list[float]:
    """Seconds of each epoch of our fit, without its validation."""
    from model.augmentation import Augmentation
    from model.fitting import FitOptions
    from model.frontend import FrontEnd
    from model.member_fitting import Recipe, fit_network

    augmentation = Augmentation() if augmented else Augmentation.none()
    recipe = Recipe(
        fit=FitOptions(epochs=epochs, patience=None, batch_size=BATCH), augmentation=augmentation
    )
    times: list[float] = []
    rows, nothing = np.arange(len(examples.inputs)), np.zeros(0, np.int64)
    last = [time.monotonic()]

    def report(line: str) -> None:
        now = time.monotonic()
        times.append(now - last[0])
        last[0] = now

    fit_network(recipe, FrontEnd(), examples, rows, nothing, 1, report)
    return times


class _Clock:
    """A Keras callback that keeps each epoch's time."""

    def __init__(self, times: list[float]) -> None:
        self.times = times
        self.began = 0.0

    def __call__(self) -> Any:
        import keras

        def begin(epoch: int, logs: Any = None) -> None:
            self.began = time.monotonic()

        def end(epoch: int, logs: Any = None) -> None:
            self.times.append(time.monotonic() - self.began)

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


def main() -> None:
    """Prints milliseconds a step and the ratios to plain Keras."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--windows", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    examples = make_examples(args.work, args.windows)
    ways: dict[str, Callable[[], list[float]]] = {
        "plain": lambda: plain(examples, args.epochs, True),
        "arrays": lambda: plain(examples, args.epochs, False),
        "read": lambda: ours(examples, args.epochs, False),
        "augmented": lambda: ours(examples, args.epochs, True),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name, way in ways.items():
            found[name].append(float(np.median(way()[1:])))
        print(
            f"round {number + 1}:",
            ", ".join(
                f"{n} {1000 * t[-1] * BATCH / args.windows:.0f} ms" for n, t in found.items()
            ),
            flush=True,
        )
    for name in ("arrays", "read", "augmented"):
        ratios = sorted(a / b for a, b in zip(found[name], found["plain"], strict=True))
        print(
            f"{name} / plain: {np.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) "
            "times as long a step"
        )


if __name__ == "__main__":
    main()
