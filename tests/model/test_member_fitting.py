from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.architecture import Architecture
from model.augmentation import Augmentation
from model.errors import UserError
from model.examples import Examples
from model.fitting import FitOptions
from model.frontend import FrontEnd, LogMel
from model.member_fitting import Recipe, fit_network

FRONT_END = FrontEnd(sample_rate=8_000, window_s=0.5, n_fft=256, hop_length=100, n_mels=32)
BACKBONE = Recipe(
    Architecture("mobilenet", width=0.25),
    FitOptions(epochs=8, learning_rate=0.01, batch_size=8),
    Augmentation.none(),
    fine_tune=0,
)


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Forty windows: a low band of sound, or a high one."""
    rng = np.random.default_rng(1)
    levels = rng.normal(-60, 3, (40, *FRONT_END.input_shape)).astype(np.float32)
    targets = np.zeros((40, 2), np.float32)
    for i, level in enumerate(levels):
        level[slice(4, 8) if i % 2 else slice(20, 24)] += 40
        targets[i, i % 2] = 1
    return Examples(
        labels=("high", "low"),
        task="singlelabel",
        inputs=levels,
        targets=targets,
        mask=np.ones_like(targets),
        recordings=np.arange(40),
        usable=np.ones(40, bool),
    )


def run(recipe: Recipe, examples: Examples, **more: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    rows = np.arange(40)
    return fit_network(
        recipe, FRONT_END, examples, rows[:32], rows[32:], 1, lines.append, **more
    ), lines


def test_a_frozen_backbone_keeps_its_weights_and_its_head_learns(examples: Examples) -> None:
    import keras

    fitted, lines = run(BACKBONE, examples)
    untrained, _ = run(replace(BACKBONE, fit=replace(BACKBONE.fit, learning_rate=1e-12)), examples)
    first, second = fitted.network, untrained.network
    at = [layer.name for layer in first.layers].index("features")
    for before, after in zip(second.layers[: at + 1], first.layers[: at + 1], strict=True):
        for a, b in zip(before.get_weights(), after.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    # Random weights as they are, it still lets through what its input says.
    body = keras.Model(first.input, first.get_layer("features").output)
    spectrograms = LogMel(FRONT_END).referenced(examples.inputs[:8].copy())
    assert np.std(body(spectrograms), axis=0).max() > 0.01
    assert "features of 40 windows, computed once" in lines
    assert fitted.log[-1]["loss"] < fitted.log[0]["loss"]
    assert len(fitted.log) == 8


def test_fine_tuning_comes_after_and_never_makes_it_worse(
    examples: Examples, tmp_path: Path
) -> None:
    recipe = replace(BACKBONE, fine_tune=2, fit=replace(BACKBONE.fit, epochs=3))
    fitted, _ = run(recipe, examples, checkpoint=tmp_path / "c.npz")
    assert [entry["epoch"] for entry in fitted.log] == [1, 2, 3, 4, 5]
    kept = fitted.log[fitted.kept_epoch - 1]["val_loss"]
    assert kept == min(entry["val_loss"] for entry in fitted.log)
    # All is done: nothing is trained again.
    again, lines = run(recipe, examples, checkpoint=tmp_path / "c.npz")
    assert not [line for line in lines if line.startswith("epoch")]
    for a, b in zip(fitted.network.get_weights(), again.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_backgrounds_are_mixed_in(examples: Examples) -> None:
    recipe = replace(
        BACKBONE,
        architecture=Architecture(filters=(4, 4)),
        fit=replace(BACKBONE.fit, epochs=1),
        augmentation=replace(Augmentation.none(), noise=1.0, noise_snr=(0.0, 0.0)),
    )
    quiet = np.full((3, *FRONT_END.input_shape), -100, np.float32)
    loud = quiet + np.linspace(0, 90, FRONT_END.n_mels, dtype=np.float32)[:, None]
    losses = [run(recipe, examples, backgrounds=each)[0].log[0]["loss"] for each in (quiet, loud)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fine_tune": -1}, "fine-tune epochs is -1"),
        ({"fine_tune_rate": 0.0}, "fine-tune rate is 0.0"),
        ({"precision": "half"}, "precision is half"),
    ],
)
def test_recipes_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**changes)
