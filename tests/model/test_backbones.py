"""Networks for images: what they are given, and the weights that they start from."""

import shutil
import urllib.error
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from model.architecture import BACKBONES, Architecture
from model.backbones import FUNCTIONS, PIXEL_MEAN, PIXEL_STD
from model.errors import UserError
from model.frontend import FrontEnd
from model.network import build_network
from model.scorer import Scorer
from tests.bundles import bundle_of
from tests.data import data_folder
from tests.model.test_engines import some_spectrograms

FRONT_END = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=62, n_mels=64)
MODULES = {
    "resnet50": "resnet50",
    "inceptionv3": "inception_v3",
    "mobilenet": "mobilenet",
    "mobilenetv3": "mobilenet_v3",
    "efficientnet": "efficientnet",
}


def built(architecture: Architecture) -> Any:
    return build_network(architecture, FRONT_END, 3, "multilabel", mean=-40, variance=225)


def real_weights() -> str:
    return str(data_folder("imagenet") / "mobilenet_v1_0.25_224.h5")


@pytest.mark.parametrize("name", BACKBONES)
def test_spectrograms_become_what_the_backbone_expects(name: str) -> None:
    network = built(Architecture(name))
    side = FUNCTIONS[name].size
    image = keras.Model(network.input, network.get_layer("pixels").output)
    x = some_spectrograms(FRONT_END.input_shape, 2)
    given = np.asarray(image(x))
    assert given.shape == (2, side, side, 3)
    standard = np.asarray(keras.ops.image.resize((x[..., None] + 40) / 15, (side, side)))
    pixels = np.repeat(PIXEL_MEAN + PIXEL_STD * standard, 3, axis=-1)
    own = getattr(keras.applications, MODULES[name]).preprocess_input
    np.testing.assert_allclose(given, own(pixels.copy()), rtol=1e-4, atol=1e-3)
    # The first row is the first mel: an image is not turned.
    assert np.corrcoef(given[0, :, :, 0].mean(axis=1), standard[0].mean(axis=(1, 2)))[0, 1] > 0.99
    # So that small data sets move them.
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {x.momentum for x in norms} == {0.9}


def test_frozen_it_stays_as_it_is_and_the_head_learns() -> None:
    network = built(Architecture("mobilenet", width=0.25, weights=real_weights(), dense=4))
    names = [layer.name for layer in network.layers]
    at = names.index("features")
    for layer in network.layers[:at]:
        layer.trainable = False
    assert names[at + 1 :] == ["dense_dropout", "dense", "dropout", "logits", "scores"]
    assert [x.path.split("/")[0] for x in network.trainable_variables] == ["dense"] * 2 + [
        "logits"
    ] * 2
    x, y = some_spectrograms(FRONT_END.input_shape, 4), np.eye(4, 3, dtype=np.float32)
    before = network.get_weights()
    network.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", run_eagerly=True)
    network.train_on_batch(x, y)
    changed = [(a != b).any() for a, b in zip(before, network.get_weights(), strict=True)]
    assert not any(changed[:-4]) and changed[-1]


def test_the_head_alone_continues_from_the_features() -> None:
    network = built(Architecture("mobilenet", width=0.25, weights=real_weights(), dense=4))
    x = some_spectrograms(FRONT_END.input_shape, 3)
    features = network.get_layer("features").output
    body = keras.Model(network.input, features)
    head = keras.Model(features, network.output)
    np.testing.assert_allclose(
        np.asarray(head(np.asarray(body(x)))), np.asarray(network(x)), atol=1e-6
    )


def test_real_weights_of_a_file_with_its_top(tmp_path: Path) -> None:
    network = built(Architecture("mobilenet", width=0.25, weights=real_weights()))
    whole = keras.applications.MobileNet(weights=None, alpha=0.25)
    whole.load_weights(real_weights())
    body = keras.Model(network.get_layer("pixels").output, network.get_layer("features").output)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 224, 224, 3)).astype(np.float32)
    layer = whole.get_layer("conv_pw_13_relu")
    maps = np.asarray(keras.Model(whole.input, layer.output)(image))
    np.testing.assert_allclose(np.asarray(body(image)), maps.mean(axis=(1, 2)), atol=1e-4)

    # The same from a file without top, as the sentence about ImageNet's has it made.
    bare = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    bare.set_weights(whole.get_weights()[: len(bare.weights)])
    bare.save_weights(tmp_path / "mobilenet.weights.h5")
    again = built(
        Architecture("mobilenet", width=0.25, weights=str(tmp_path / "mobilenet.weights.h5"))
    )
    at = len(bare.weights)
    for one, other in zip(network.get_weights()[:at], again.get_weights()[:at], strict=True):
        np.testing.assert_array_equal(one, other)

    spectrograms = some_spectrograms(FRONT_END.input_shape, 4)
    bundle = bundle_of(tmp_path / "bundle", [network], FRONT_END, ("a", "b", "c"))
    scores = Scorer(bundle).score_spectrograms(spectrograms)
    assert scores.std(axis=0).max() > 0.01
    found = Scorer(bundle, "openvino").score_spectrograms(spectrograms)
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({"name": "mobilenet", "width": 1.0}, "MobileNet of width 1 .*architecture and width"),
        ({"name": "mobilenetv3"}, "MobileNetV3Large"),
        ({"name": "efficientnet"}, "EfficientNetB0 .*give the architecture that it was made for"),
    ],
)
def test_weights_of_another_network_are_refused(architecture: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"does not hold weights of Keras's {says}"):
        built(Architecture(weights=real_weights(), **architecture))


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    def refused(name: str, says: str) -> None:
        with pytest.raises(UserError, match=says):
            built(Architecture("mobilenet", width=0.25, weights=str(tmp_path / name)))

    refused("none.h5", "There is no file of weights .*none.h5")
    for name in ("text.h5", "text.weights.h5"):
        (tmp_path / name).write_text("not HDF5")
        refused(name, f"{name} does not hold weights")
    shutil.copyfile(real_weights(), tmp_path / "cut.h5")
    with open(tmp_path / "cut.h5", "r+b") as file:
        file.truncate(1_000_000)
    refused("cut.h5", "cut.h5 does not hold weights")


def test_without_network_the_sentence_tells_how_to_get_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    with pytest.raises(UserError, match="no network") as caught:
        built(Architecture("mobilenet", width=0.25, weights="imagenet"))
    said = str(caught.value)
    assert "--weights mobilenet.weights.h5" in said
    assert capsys.readouterr().out == ""
    # The command that it gives makes a file that fits, if only Keras gets the weights.
    code = said.partition('python -c "')[2].partition('"')[0]
    assert "alpha=0.25, include_top=False" in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("include_top=False,", "include_top=False, weights=None,"), {})
    built(Architecture("mobilenet", width=0.25, weights="mobilenet.weights.h5"))


def test_efficientnets_weights_from_a_file_are_used_as_keras_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ImageNet's weights Keras adds a layer, which other weights do not get."""
    source = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    (norm,) = [x for x in source.layers if isinstance(x, keras.layers.Normalization)]
    norm.set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3]), np.array(0)])
    file = str(tmp_path / "efficientnet.weights.h5")
    source.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: file)
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(224, 224, 3))
    (stem,) = [x for x in theirs.layers if x.name == "stem_conv_pad"]
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    expected = np.asarray(keras.Model(theirs.input, stem.output)(image))
    for weights in ("imagenet", file):
        network = built(Architecture("efficientnet", weights=weights))
        ours = keras.Model(
            network.get_layer("pixels").output, network.get_layer("stem_conv_pad").output
        )
        np.testing.assert_allclose(np.asarray(ours(image)), expected, rtol=1e-4, atol=1e-4)
    # OpenVINO takes the normalisation's numbers too.
    bundle = bundle_of(tmp_path / "bundle", [network], FRONT_END, ("a", "b", "c"))
    x = some_spectrograms(FRONT_END.input_shape, 2)
    found = Scorer(bundle, "openvino").score_spectrograms(x)
    np.testing.assert_allclose(found, np.asarray(network(x)), rtol=0, atol=1e-4)
