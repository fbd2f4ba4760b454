"""The embedding: found in a network's description, and given by both engines as Keras gives it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model.bundle import Bundle
from model.embedding import Embedding, embedding_of
from model.errors import UserError
from model.frontend import LogMel
from model.runtime import Engine
from model.scorer import Scorer
from tests.bundles import bundle_of
from tests.model.test_engines import (
    LABELS,
    PAPER,
    ROOT,
    SMALL,
    bfloat16,
    network,
    some_spectrograms,
)

KINDS = ("paper", "folds", "sequence", "late", "inside", "two")


def build(kind: str) -> tuple[list[Any], Embedding]:
    """Networks, and what the embedding of the first one is."""
    import keras
    from keras import layers

    if kind == "paper":
        return [network(PAPER, 1, "multilabel", (64, 64, 128, 128))], Embedding("logits", 256)
    if kind == "folds":
        # What is left of the image is 2 x 5: the order of its values counts.
        made = [network(SMALL, seed, "multilabel", (4, 8)) for seed in (1, 2, 3)]
        return made, Embedding("logits", 96)
    keras.utils.set_random_seed(0)
    image = layers.Reshape((*SMALL.input_shape, 1))
    if kind == "sequence":
        hidden = layers.Dense(7, activation="relu")
        last = layers.Dense(3, activation="sigmoid", name="last")
        stack = [image, layers.Conv2D(4, 3), layers.Flatten(), hidden, layers.Dropout(0.5), last]
        return [keras.Sequential([keras.Input(SMALL.input_shape), *stack])], Embedding("last", 7)
    if kind == "late":  # Its shapes are known only once it is called, which calls layers again.
        stack = [image, layers.GlobalAveragePooling2D(), layers.Dense(5, activation="tanh")]
        late = keras.Sequential([*stack, layers.Dense(3, activation="softmax", name="last")])
        late(np.zeros((1, *SMALL.input_shape), np.float32))
        return [late], Embedding("last", 5)
    inputs = keras.Input(SMALL.input_shape)
    if kind == "inside":
        stack = [image, layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(9)]
        x = keras.Sequential([keras.Input(SMALL.input_shape), *stack])(inputs)
    else:
        x = layers.Dense(6, activation="relu")(layers.Flatten()(inputs))
    x = layers.Dense(3, name="logits")(x)
    if kind == "two":  # The name counts more than the place.
        x = layers.Dense(3, name="mixed")(x)
    scores = layers.Activation("sigmoid")(x)
    return [keras.Model(inputs, scores)], Embedding("logits", 9 if kind == "inside" else 6)


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, list[Any], Embedding]:
    networks, embedding = build(request.param)
    front_end = PAPER if request.param == "paper" else SMALL
    place = tmp_path_factory.mktemp("made") / "bundle"
    return bundle_of(place, networks, front_end, LABELS), networks, embedding


def cut(whole: Any, embedding: Embedding, spectrograms: np.ndarray) -> np.ndarray:
    """What Keras's own model gives where it ends before the layer."""
    import keras

    model = keras.Model(whole.inputs[0], whole.get_layer(embedding.layer).input)
    return np.asarray(model(spectrograms, training=False))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), bfloat16])
@pytest.mark.parametrize("engine", get_args(Engine))
def test_embeddings_are_kerass(
    made: tuple[Bundle, list[Any], Embedding], engine: Engine, precision: Any, tolerance: float
) -> None:
    bundle, networks, embedding = made
    assert embedding_of(bundle) == embedding
    spectrograms = some_spectrograms(bundle.front_end.input_shape)
    expected = cut(networks[0], embedding, spectrograms)
    size = np.abs(expected).max()
    assert expected.std(axis=0).max() > 0.01 * size, "windows that are alike would show nothing"
    scorer = Scorer(bundle, engine, precision, embeddings=True)
    found = scorer.outputs_of_spectrograms(spectrograms)
    assert found.embeddings.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, expected, rtol=0, atol=tolerance * size)
    scores = Scorer(bundle, engine, precision).score_spectrograms(spectrograms)
    if engine == "tensorflow":
        np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=min(tolerance, 4e-3))
    np.testing.assert_array_equal(scorer.score_spectrograms(spectrograms), scores)
    assert scorer.outputs_of_spectrograms(spectrograms[:0]).scores.shape == (0, 3)
    assert scorer.outputs_of_spectrograms(spectrograms[:0]).embeddings.shape == (0, embedding.size)
    for n in (1, 7, 8, 9, 18):
        part = scorer.outputs_of_spectrograms(spectrograms[:n])
        np.testing.assert_array_equal(part.embeddings, found.embeddings[:n])
        np.testing.assert_array_equal(part.scores, found.scores[:n])


def test_openvino_alone_gives_them_too(tmp_path: Path) -> None:
    """Where Keras works on OpenVINO, and not on TensorFlow as in this process."""
    made = {kind: build(kind) for kind in ("folds", "late", "inside")}
    for kind, (networks, _) in made.items():
        bundle_of(tmp_path / kind, networks, SMALL, LABELS)
    code = (
        "import sys, numpy as np\nfrom model.bundle import load_bundle\n"
        "from model.scorer import Scorer\nfrom tests.model.test_engines import some_spectrograms\n"
        "for path in sys.argv[1:]:\n"
        "    scorer = Scorer(load_bundle(path), 'openvino', embeddings=True)\n"
        "    spectrograms = some_spectrograms(scorer.bundle.front_end.input_shape)\n"
        "    found = scorer.outputs_of_spectrograms(spectrograms)\n"
        "    np.save(f'{path}.npy', found.embeddings)\n"
    )
    paths = [str(tmp_path / kind) for kind in made]
    subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, check=True)
    for kind, (networks, embedding) in made.items():
        expected = cut(networks[0], embedding, some_spectrograms(SMALL.input_shape))
        found, size = np.load(tmp_path / f"{kind}.npy"), np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("engine", get_args(Engine))
def test_waveforms_threads_and_a_scorer_made_for_scores(tmp_path: Path, engine: Engine) -> None:
    networks = [network(SMALL, seed, "multilabel", (4, 8)) for seed in (1, 2)]
    scorer = Scorer(bundle_of(tmp_path / "b", networks, SMALL, LABELS), engine)
    waveforms = np.random.default_rng(0).normal(size=(7, 4000)).astype(np.float32)
    found = scorer.outputs(waveforms)
    spectrograms = LogMel(SMALL)(waveforms)
    expected = cut(networks[0], Embedding("logits", 96), spectrograms)
    np.testing.assert_allclose(found.embeddings, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, scorer(waveforms), rtol=0, atol=1e-6)
    with ThreadPoolExecutor(4) as threads:
        for each in threads.map(scorer.outputs, [waveforms] * 12):
            np.testing.assert_array_equal(each.embeddings, found.embeddings)


def test_networks_without_an_embedding_score_and_say_so(tmp_path: Path) -> None:
    import keras
    from keras import layers

    def bundle(name: str, *stack: Any) -> Bundle:
        made = keras.Sequential([keras.Input(SMALL.input_shape), *stack])
        return bundle_of(tmp_path / name, [made], SMALL, LABELS)

    image = layers.Reshape((*SMALL.input_shape, 1))
    pooled = [layers.Conv2D(3, 3, activation="sigmoid"), layers.GlobalAveragePooling2D()]
    inner = keras.Sequential([layers.Flatten(), layers.Dense(3, activation="sigmoid")])
    frames = [layers.Dense(3, activation="sigmoid", name="each"), layers.GlobalAveragePooling1D()]
    for made, says in (
        (bundle("none", image, *pooled), "network-0.keras has no Dense layer of its own"),
        (bundle("inner", inner), "network-0.keras has no Dense layer of its own"),
        (bundle("frames", *frames), r"its Dense layer 'each' takes \(None, 16, 41\), not one row"),
    ):
        scorer = Scorer(made)
        assert scorer.score_spectrograms(some_spectrograms(SMALL.input_shape)).shape == (19, 3)
        with pytest.raises(UserError, match=says):
            scorer.outputs(np.zeros((1, 4000), np.float32))
        with pytest.raises(UserError, match=says):
            embedding_of(made)
