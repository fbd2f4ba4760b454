from typing import Any, get_args

import numpy as np
import pytest

from model.bundle_document import Task
from model.errors import UserError
from model.examples import Examples
from model.frontend import FrontEnd
from model.open_set import OpenSetResult, describe, leave_one_out, table
from model.rejection import Method

FRONT_END = FrontEnd(sample_rate=800, window_s=1.0, n_fft=64, hop_length=16, n_mels=12)
LABELS = ("low", "middle", "high", "top")


def examples(task: Task, n: int = 200) -> Examples:
    """Windows with a call in the bands of their label, and for multi-label tasks every fifth
    without one."""
    rng = np.random.default_rng(1)
    levels = rng.normal(-60, 3, (n, *FRONT_END.input_shape)).astype(np.float32)
    kinds = np.arange(n) % (5 if task == "multilabel" else 4)
    for level, kind in zip(levels, kinds, strict=True):
        at = rng.integers(10, 35)
        if kind < 4:
            level[3 * kind : 3 * kind + 3, at : at + 6] = rng.normal(-25, 3, (3, 6))
    targets = np.eye(5, 4, dtype=np.float32)[kinds]
    ones, place = np.ones_like(targets), np.arange(n, dtype=np.int64)
    return Examples(LABELS, task, levels, targets, ones, place, np.ones(n, bool))


def network(of: Examples, *, trained: bool = True, training: Any = None) -> Any:
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input(FRONT_END.input_shape, name="spectrogram")
    x = keras.layers.Rescaling(1 / 20, 2)(inputs)
    # The loudest frame of each band: where a call is does not matter.
    x = keras.layers.Reshape((*FRONT_END.input_shape, 1))(x)
    x = keras.layers.MaxPooling2D((1, FRONT_END.n_frames))(x)
    x = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(len(of.labels), name="logits")(x)
    activation = "sigmoid" if of.task == "multilabel" else "softmax"
    made = keras.Model(inputs, keras.layers.Activation(activation, name="scores")(x))
    if trained:
        loss = "binary_crossentropy" if of.task == "multilabel" else "categorical_crossentropy"
        made.compile(keras.optimizers.Adam(0.02), loss)
        peak = of.inputs[training].max(axis=(1, 2), keepdims=True)
        spectrograms = np.maximum(of.inputs[training], peak - 80) - peak
        made.fit(spectrograms, of.targets[training], epochs=15, verbose=0)
    return made


def rows(n: int = 200) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    numbers = np.arange(n)
    return [
        numbers[numbers % 20 < 10],
        numbers[numbers % 20 // 5 == 2],
        numbers[numbers % 20 >= 15],
    ]


@pytest.mark.parametrize("task", get_args(Task))
def test_a_label_kept_back_is_unheard_and_told_from_the_others(task: Task) -> None:
    given, parts, seen = examples(task), rows(), []

    def fit(reduced: Examples, training: Any, validation: Any) -> Any:
        seen.append(reduced.labels)
        assert set(training) <= set(parts[0]) and set(validation) <= set(parts[1])
        column = LABELS.index(next(iter(set(LABELS) - set(reduced.labels))))
        assert not given.targets[np.r_[training, validation], column].any()
        assert len(training) > len(parts[0]) / 2
        return network(reduced, training=training)

    results = leave_one_out(
        given, *parts, FRONT_END, fit, labels=["middle", "top"], known_share=0.1
    )
    assert seen == [("low", "high", "top"), ("low", "middle", "high")]
    assert [(r.label, r.method) for r in results] == [
        (label, method) for label in ("middle", "top") for method in get_args(Method)
    ]
    for result in results:
        column = LABELS.index(result.label)
        assert result.unknown_windows == given.targets[:, column].sum()
        assert result.known_windows == (given.targets[parts[2], column] == 0).sum()
        assert result.known_rejected <= 0.4
        assert (result.background_rejected is None) == (task == "singlelabel")
    assert np.mean([r.auroc for r in results if r.method == "distance"]) > 0.9


def test_windows_with_others_or_unclear_ones_are_neither_known_nor_unknown() -> None:
    given, parts = examples("multilabel"), rows()
    both = np.flatnonzero(given.targets[:, 0] > 0)[:7]
    given.targets[both, 1] = 1
    unclear = np.flatnonzero(given.targets[:, 2] > 0)[:5]
    given.mask[unclear, 1] = 0
    fitted = []

    def fit(reduced: Examples, training: Any, validation: Any) -> Any:
        fitted.append(np.r_[training, validation])
        return network(reduced, trained=False)

    (result, *_) = leave_one_out(given, *parts, FRONT_END, fit, labels=["middle"])
    assert result.unknown_windows == 40
    kept_out = np.r_[both, unclear]
    assert not np.isin(kept_out, fitted).any()
    assert result.known_windows == 40 - np.isin(kept_out, parts[2]).sum()


def test_what_networks_make_of_windows_is_their_mean_and_the_first_ones_embeddings() -> None:
    given = examples("multilabel", 70)
    one, two = network(given, trained=False), network(given, trained=False)
    two.set_weights([weight + 0.1 for weight in two.get_weights()])
    numbers = np.arange(5, 70)
    alone, together = (describe(n, given, numbers, FRONT_END) for n in ([one], [one, two]))
    other = describe([two], given, numbers, FRONT_END)
    np.testing.assert_allclose(together.scores, (alone.scores + other.scores) / 2, atol=1e-6)
    np.testing.assert_array_equal(together.embeddings, alone.embeddings)
    assert alone.embeddings.shape == (65, 16) and (alone.targets == given.targets[5:]).all()
    assert alone.excess is not None and not (given.inputs > -1).any()
    assert alone.excess[alone.background].max() < alone.excess[~alone.background].min()


def test_too_few_labels_are_refused() -> None:
    given = examples("singlelabel")
    with pytest.raises(UserError, match="at least 3 labels"):
        two = Examples(
            LABELS[:2],
            "singlelabel",
            given.inputs,
            given.targets[:, :2],
            given.mask[:, :2],
            given.recordings,
            given.usable,
        )
        leave_one_out(two, *rows(), FRONT_END, lambda *_: None)


def test_the_table_has_means_of_all_methods() -> None:
    results = [
        OpenSetResult(label, method, auroc, 0.05, 0.5, 0.1 if method else None, 40, 30)
        for label, auroc in (("rain", 0.6), ("dog", 0.8))
        for method in get_args(Method)
    ]
    lines = table(results).splitlines()
    assert lines[2] == "| rain | 0.600 | 0.600 | 0.600 |"
    assert lines[4].startswith("| mean ± standard error | 0.700 ± 0.100 |")
    assert lines[-1] == "| unknown rejected | 50.0 % | 50.0 % | 50.0 % |"
    assert "| background rejected | 10.0 % |" in lines[-2]
