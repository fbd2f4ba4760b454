"""Every architecture: its layers, one step of training, and a bundle that either engine scores."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from model.architecture import BACKBONES, OWN, Architecture
from model.frontend import FrontEnd, default_hop_length
from model.network import build_network
from model.scorer import Scorer
from tests.bundles import bundle_of
from tests.model.test_engines import some_spectrograms

ROOT = Path(__file__).resolve().parents[2]
SMALL = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=62, n_mels=64)
TINY = FrontEnd(window_s=0.25, hop_length=default_hop_length(16000, 0.25), n_mels=16)
LABELS = ("chirp", "trill", "buzz")
QUICK = [
    Architecture("sprengel2016"),
    Architecture("pnwcnet5"),
    Architecture(filters=(8, 8), kernel=5, pools=(2, 3), dense=6, dropout=0.5, head="average"),
    Architecture("mobilenet", width=0.25, dense=8),
    Architecture("mobilenetv3", width=0.1),
]
LARGE = [Architecture("resnet50"), Architecture("inceptionv3"), Architecture("efficientnet")]


def one_of(architecture: Architecture, seed: int = 1) -> Any:
    """A network as training leaves it: statistics of its input, and scores that differ."""
    keras.utils.set_random_seed(seed)
    network = build_network(architecture, SMALL, 3, "multilabel", mean=-40, variance=225)
    spectrograms = some_spectrograms(SMALL.input_shape, 4)
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0  # One call gives it the statistics of these.
    embed = keras.Model(network.input, network.get_layer("logits").input)
    embed(spectrograms, training=True)
    for layer in norms:
        layer.momentum = 0.9
    logits = network.get_layer("logits")
    kernel, bias = logits.get_weights()
    embeddings = np.asarray(embed(spectrograms, training=False))
    logits.set_weights([kernel / np.std(embeddings @ kernel), bias])
    return network


def test_the_papers_layers() -> None:
    network = build_network(Architecture(), FrontEnd(), 19, "multilabel")
    assert network.input_shape == (None, 128, 251)
    shapes = [
        (layer.name, layer.output.shape[1:])
        for layer in network.layers
        if layer.name.startswith(("pool", "flat", "logits"))
    ]
    assert shapes == [
        ("pool_1", (64, 126, 64)),
        ("pool_2", (16, 32, 64)),
        ("pool_3", (4, 8, 128)),
        ("pool_4", (1, 2, 128)),
        ("flat", (256,)),
        ("logits", (19,)),
    ]
    assert [type(layer).__name__ for layer in network.layers[3:7]] == [
        "Conv2D",
        "BatchNormalization",
        "ReLU",
        "MaxPooling2D",
    ]


def test_sprengels_layers() -> None:
    network = build_network(Architecture("sprengel2016"), FrontEnd(), 10, "singlelabel")
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert [(x.filters, *x.kernel_size, *x.strides) for x in convolutions] == [
        (64, 5, 5, 1, 2),
        (64, 5, 5, 1, 1),
        (128, 5, 5, 1, 1),
        (256, 5, 5, 1, 1),
        (256, 3, 3, 1, 1),
    ]
    assert network.get_layer("norm_5").output.shape == (None, 4, 4, 256)
    assert [layer.name for layer in network.layers[-6:]] == [
        "flat",
        "dense_dropout",
        "dense",
        "dropout",
        "logits",
        "scores",
    ]
    assert network.get_layer("dense").units == 1024
    assert network.get_layer("dropout").rate == network.get_layer("dense_dropout").rate == 0.4


def test_pnwcnets_layers() -> None:
    # Its own input, of 257 bins and 1000 frames, and its 135 labels.
    front_end = FrontEnd(8000, 999 * 96 / 8000, 512, 96, 257)
    network = build_network(Architecture("pnwcnet5"), front_end, 135, "multilabel")
    assert network.input_shape == (None, 257, 1000)
    weights = 25 * (32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 32 + 32 + 64 * 2
    weights += 128 * 2 + 5 * 16 * 128 * 512 + 512 + 512 * 135 + 135
    assert network.count_params() == weights
    dropouts = [x.rate for x in network.layers if isinstance(x, keras.layers.Dropout)]
    assert dropouts == [0.3] * 7
    assert not [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("architecture", [Architecture(name) for name in OWN], ids=list(OWN))
def test_the_parts_that_all_have(architecture: Architecture) -> None:
    front_end = FrontEnd()
    network = build_network(architecture, front_end, 5, "multilabel", mean=-40, variance=100)
    assert [x.name for x in network.inputs] == ["spectrogram"]
    assert network.input_shape == (None, *front_end.input_shape)
    x = np.full((1, *front_end.input_shape), -20, np.float32)
    np.testing.assert_allclose(np.asarray(network.get_layer("standardise")(x)), 2, atol=1e-5)
    logits, scores = network.layers[-2:]
    assert (logits.name, type(logits).__name__, logits.units) == ("logits", "Dense", 5)
    assert (scores.name, scores.activation.__name__) == ("scores", "sigmoid")
    assert len(logits.input.shape) == 2
    names = [operation.name for operation in network.operations]
    assert len(set(names)) == len(names)
    if architecture.is_backbone:
        assert len(network.get_layer("features").output.shape) == 2


def test_names_do_not_depend_on_what_was_built_before() -> None:
    built = [build_network(Architecture("mobilenetv3", width=0.1), SMALL, 2, "multilabel")]
    built += [build_network(Architecture("mobilenetv3", width=0.1), SMALL, 2, "multilabel")]
    first, second = ([operation.name for operation in x.operations] for x in built)
    assert first == second
    assert {"add", "resize", "multiply", "re_lu"} <= {name.rpartition("_")[0] for name in first}


def test_the_task_decides_what_scores_are() -> None:
    x = np.random.default_rng(0).normal(0, 1, (5, *TINY.input_shape)).astype(np.float32)
    keras.utils.set_random_seed(0)
    small = Architecture(filters=(4, 4))
    one = np.asarray(build_network(small, TINY, 3, "singlelabel")(x))
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-6)
    many = np.asarray(build_network(small, TINY, 3, "multilabel")(x))
    assert ((many > 0) & (many < 1)).all()
    assert (np.abs(many.sum(axis=1) - 1) > 1e-6).all()


def test_options_shape_the_network() -> None:
    def built(**options: Any) -> Any:
        return build_network(Architecture(**options), SMALL, 2, "multilabel")

    assert built(filters=(3, 5), kernel=7).get_layer("conv_2").kernel.shape == (7, 7, 3, 5)
    assert built(filters=(4,), pools=(3,)).get_layer("pool_1").output.shape == (None, 22, 22, 4)
    assert built(filters=(4,), head="average").get_layer("logits").input.shape == (None, 4)
    assert built(filters=(4,), dense=6).get_layer("logits").input.shape == (None, 6)
    assert built(filters=(4,), dropout=0.5).get_layer("dropout").rate == 0.5
    plain = built(name="pnwcnet5", dropout=0.0, dense=0, head="average")
    assert not [x for x in plain.layers if isinstance(x, keras.layers.Dropout)]
    assert plain.get_layer("logits").input.shape == (None, 128)
    half = built(name="mobilenet", width=0.5, dense=7)
    assert half.get_layer("features").output.shape == (None, 512)
    assert half.get_layer("logits").input.shape == (None, 7)


@pytest.mark.parametrize("architecture", QUICK, ids=[way.name for way in QUICK])
def test_it_learns_and_its_bundle_scores_the_same(
    architecture: Architecture, tmp_path: Path
) -> None:
    check_that_it_learns_and_scores(architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LARGE, ids=[way.name for way in LARGE])
def test_the_large_ones_too(architecture: Architecture, tmp_path: Path) -> None:
    check_that_it_learns_and_scores(architecture, tmp_path)


def check_that_it_learns_and_scores(architecture: Architecture, tmp_path: Path) -> None:
    network = one_of(architecture)
    spectrograms = some_spectrograms(SMALL.input_shape, 4)
    before = network.get_weights()
    expected = np.asarray(network(spectrograms))
    assert expected.std(axis=0).max() > 0.01, "windows that score alike would show nothing"
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new, "a call changes nothing")

    bundle = bundle_of(tmp_path / "bundle", [network], SMALL, LABELS)
    scorer = Scorer(bundle, embeddings=True)
    found = scorer.outputs_of_spectrograms(spectrograms)
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-4)
    alone = scorer.outputs_of_spectrograms(spectrograms[:1])
    np.testing.assert_array_equal(alone.scores, found.scores[:1])
    other = Scorer(bundle, "openvino", embeddings=True).outputs_of_spectrograms(spectrograms)
    # Random weights make noise of the last digits large; test_backbones has real ones.
    tolerance = 1e-2 if architecture.is_backbone else 1e-4
    np.testing.assert_allclose(other.scores, found.scores, rtol=0, atol=tolerance)
    size = np.abs(found.embeddings).max()
    np.testing.assert_allclose(other.embeddings, found.embeddings, rtol=0, atol=tolerance * size)

    y = np.eye(4, 3, dtype=np.float32)
    network.compile(keras.optimizers.SGD(1e-3), "binary_crossentropy", run_eagerly=True)
    network.train_on_batch(spectrograms, y)
    after = network.get_weights()
    changed = [(old != new).any() for old, new in zip(before, after, strict=True)]
    assert all(changed[-2:]) and np.mean(changed) > 0.9


@pytest.mark.slow
def test_openvino_scores_backbones_without_tensorflow(tmp_path: Path) -> None:
    """As workers do: Keras with OpenVINO as its backend."""
    spectrograms = some_spectrograms(SMALL.input_shape, 4)
    code = (
        "import sys, numpy as np\nfrom model.bundle import load_bundle\n"
        "from model.scorer import Scorer\n"
        "for name in sys.argv[2:]:\n"
        "    scorer = Scorer(load_bundle(f'{sys.argv[1]}/{name}'), 'openvino')\n"
        "    scores = scorer.score_spectrograms(np.load(f'{sys.argv[1]}/in.npy'))\n"
        "    np.save(f'{sys.argv[1]}/{name}.npy', scores)\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    np.save(tmp_path / "in.npy", spectrograms)
    expected = {}
    for name in BACKBONES:
        network = one_of(Architecture(name))
        bundle_of(tmp_path / name, [network], SMALL, LABELS)
        expected[name] = np.asarray(network(spectrograms, training=False))
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *BACKBONES], cwd=ROOT, check=True)
    for name in BACKBONES:
        scores = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(scores, expected[name], rtol=0, atol=1e-3)


def test_every_frame_and_band_counts() -> None:
    import keras
    import tensorflow as tf

    # 251 frames are no whole number of pools: none of them may be left out.
    keras.utils.set_random_seed(1)
    made = FrontEnd()
    for architecture in (Architecture(filters=(2, 2, 4, 4)), Architecture("pnwcnet5")):
        network = build_network(architecture, made, 2, "multilabel", mean=-40, variance=400)
        x = tf.constant(
            np.random.default_rng(0).normal(-40, 20, (8, *made.input_shape)), tf.float32
        )
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = keras.Model(network.input, network.get_layer("logits").output)(x)
            total = tf.reduce_sum(tf.square(logits))
        gradient = np.abs(tape.gradient(total, x).numpy()).max(axis=0)
        assert (gradient[:, -8:].max(axis=1) > 0).any()
        assert (gradient[-8:].max(axis=0) > 0).any()
