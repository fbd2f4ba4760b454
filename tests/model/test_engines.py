"""The engines against each other, and what they need of the process and the machine."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model import runtime
from model.architecture import Architecture
from model.bundle import Bundle
from model.bundle_document import Task
from model.errors import UserError
from model.frontend import FrontEnd
from model.network import build_network
from model.runtime import Engine, check_engine, check_precision, has_bfloat16
from model.scorer import Scorer
from tests.bundles import bundle_of

ROOT = Path(__file__).resolve().parents[2]
PAPER = FrontEnd()
SMALL = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=100, n_mels=16)
LABELS = ("chirp", "trill", "buzz")
INTEL = "processor\t: 0\nflags\t\t: fpu vme avx512f {}\nbugs\t\t: spectre_v1\n"


def has_it() -> bool:
    try:
        check_precision("bfloat16")
    except UserError:
        return False
    return True


bfloat16 = pytest.param(
    "bfloat16", 0.01, marks=pytest.mark.skipif(not has_it(), reason="a processor without bfloat16")
)


def network(front_end: FrontEnd, seed: int, task: Task, filters: tuple[int, ...]) -> Any:
    """A network whose scores differ between windows, as a trained one's do."""
    import keras

    keras.utils.set_random_seed(seed)
    made = build_network(Architecture(filters=filters), front_end, 3, task, mean=-40, variance=225)
    rng = np.random.default_rng(seed)
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            around = rng.normal(0, 0.3, (2, n))
            layer.set_weights(
                [rng.uniform(0.5, 1.5, n), around[0], around[1], rng.uniform(0.2, 1, n)]
            )
    return made


@pytest.fixture(scope="module", params=["paper", "folds", "singlelabel"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The paper's network; several small ones; one with a softmax."""
    front_end, task, seeds, filters = {
        "paper": (PAPER, "multilabel", [1], (64, 64, 128, 128)),
        "folds": (SMALL, "multilabel", [1, 2, 3], (4, 8)),
        "singlelabel": (SMALL, "singlelabel", [1], (4, 8)),
    }[request.param]
    networks = [network(front_end, seed, task, filters) for seed in seeds]
    return bundle_of(tmp_path_factory.mktemp("made") / "bundle", networks, front_end, LABELS, task)


def some_spectrograms(shape: tuple[int, int], n: int = 19) -> np.ndarray:
    """Float32 (n, *shape): noise, each with its own level and contrast."""
    rng = np.random.default_rng(0)
    level, contrast = rng.uniform(-60, -20, (n, 1, 1)), rng.uniform(5, 25, (n, 1, 1))
    return np.clip(rng.normal(level, contrast, (n, *shape)), -80, 0).astype(np.float32)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), bfloat16])
@pytest.mark.parametrize("engine", get_args(Engine))
def test_engines_agree(made: Bundle, engine: Engine, precision: Any, tolerance: float) -> None:
    spectrograms = some_spectrograms(made.front_end.input_shape)
    reference = Scorer(made).score_spectrograms(spectrograms)
    assert reference.std(axis=0).max() > 0.01, "windows that score alike would show nothing"
    scorer = Scorer(made, engine, precision)
    scores = scorer.score_spectrograms(spectrograms)
    assert scores.dtype == np.float32 and scores.shape == reference.shape
    np.testing.assert_allclose(scores, reference, rtol=0, atol=tolerance)
    assert (scores != reference).any() == (precision == "bfloat16" or engine != "tensorflow")
    assert scorer.score_spectrograms(spectrograms[:0]).shape == (0, 3)
    for n in range(1, len(spectrograms)):
        np.testing.assert_array_equal(scorer.score_spectrograms(spectrograms[:n]), scores[:n])
    # That another scorer in the process has another precision changes nothing.
    np.testing.assert_array_equal(Scorer(made).score_spectrograms(spectrograms), reference)


def test_threads_may_share_a_scorer(made: Bundle) -> None:
    from concurrent.futures import ThreadPoolExecutor

    spectrograms = some_spectrograms(made.front_end.input_shape, 4)
    scorer = Scorer(made, "openvino")
    expected = scorer.score_spectrograms(spectrograms)
    with ThreadPoolExecutor(4) as threads:
        for scores in threads.map(scorer.score_spectrograms, [spectrograms] * 12):
            np.testing.assert_array_equal(scores, expected)


def test_openvino_works_alone_and_keeps_to_itself(made: Bundle, tmp_path: Path) -> None:
    """No TensorFlow, no telemetry, nothing in the home folder; whatever the environment says."""
    home = tmp_path / "home"
    home.mkdir()
    spectrograms = some_spectrograms(made.front_end.input_shape)
    np.save(tmp_path / "spectrograms.npy", spectrograms)
    code = (
        "import sys, numpy as np\n"
        "from model.bundle import load_bundle\n"
        "from model.scorer import Scorer\n"
        f"scorer = Scorer(load_bundle({made.path!r}), 'openvino')\n"
        "scores = scorer.score_spectrograms(np.load('spectrograms.npy'))\n"
        "np.save('scores.npy', scores)\n"
        "import keras\n"
        "print(keras.config.backend(), *sorted({m.partition('.')[0] for m, what in "
        "sys.modules.items() if what} & {'tensorflow', 'openvino_telemetry', 'jax', 'torch'}))\n"
    )
    environment = {"HOME": str(home), "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "openvino\n"
    assert not (home / "intel").exists()
    reference = Scorer(made).score_spectrograms(spectrograms)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("first", "says"), [("", "scored"), ("import keras\n", "Keras works with openvino")]
)
def test_the_tensorflow_engine_needs_keras_on_tensorflow(
    tmp_path: Path, first: str, says: str
) -> None:
    path = bundle_of(
        tmp_path / "b", [network(SMALL, 1, "multilabel", (4,))], SMALL, LABELS, "multilabel"
    ).path
    code = (
        f"import os, sys\nsys.modules['openvino_telemetry'] = None\n{first}"
        "from model.bundle import load_bundle\nfrom model.scorer import Scorer\n"
        "from model.errors import UserError\n"
        f"try: Scorer(load_bundle({path!r})); print('scored')\n"
        "except UserError as error: print(error)\n"
    )
    environment = {"KERAS_BACKEND": "openvino", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert says in done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["pooled", "turned", "softmaxed"])
def test_networks_unlike_the_papers_are_converted_too(tmp_path: Path, kind: str) -> None:
    """Layers that work on channels last, where conversion must not put them first."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input(SMALL.input_shape)
    x = layers.Rescaling(0.02)(inputs)
    x = layers.Reshape((*SMALL.input_shape, 1))(x)
    if kind == "turned":
        x = layers.Permute((2, 1, 3))(x)
    x = layers.Conv2D(4, 3, activation="softmax" if kind == "softmaxed" else "relu")(x)
    x = layers.GlobalAveragePooling2D()(x) if kind == "pooled" else layers.Flatten()(x)
    x = layers.Dense(3, activation="sigmoid")(x)
    made = bundle_of(tmp_path / "b", [keras.Model(inputs, x)], SMALL, LABELS, "multilabel")
    code = (
        "import numpy as np\nfrom model.bundle import load_bundle\n"
        "from model.scorer import Scorer\nfrom tests.model.test_engines import some_spectrograms\n"
        f"scorer = Scorer(load_bundle({made.path!r}), 'openvino')\n"
        f"np.save({str(tmp_path / 'scores.npy')!r}, "
        "scorer.score_spectrograms(some_spectrograms(scorer.bundle.front_end.input_shape)))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    spectrograms = some_spectrograms(SMALL.input_shape)
    reference = Scorer(made).score_spectrograms(spectrograms)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), reference, rtol=0, atol=1e-4)


def test_the_papers_network_is_put_into_openvinos_order() -> None:
    """It would be right without, at more than twice the time."""
    from model.channels_first import channels_first

    changed = channels_first(network(SMALL, 1, "multilabel", (4, 8)))
    orders = [layer.data_format for layer in changed.layers if hasattr(layer, "data_format")]
    assert orders == ["channels_first"] * 5


def test_a_network_that_openvino_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle_of(
        tmp_path / "b", [network(SMALL, 1, "multilabel", (4,))], SMALL, LABELS, "multilabel"
    )
    from model import openvino_engine

    def fail(*_: object) -> None:
        raise NotImplementedError("no such operation\nat all")

    monkeypatch.setattr(openvino_engine, "_convert", fail)
    with pytest.raises(UserError, match=r"OpenVINO cannot run .* \(no such operation\); use"):
        Scorer(made, "openvino")


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    check_engine("tensorflow")
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "\.\[openvino\]"'):
        check_engine("openvino")


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        (INTEL.format("avx512_bf16"), True),
        (INTEL.format("amx_bf16 amx_tile"), True),
        (INTEL.format("avx512_vnni"), False),
        (INTEL.format("avx512_bf16x"), False),
        ("model name\t: avx512_bf16 inside\n" + INTEL.format(""), False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_processors_with_bfloat16(cpuinfo: str, has: bool) -> None:
    assert has_bfloat16(cpuinfo) is has


def test_a_processor_without_bfloat16_is_told(made: Bundle, monkeypatch) -> None:
    monkeypatch.setattr(runtime, "has_bfloat16", lambda cpuinfo: False)
    check_precision("float32")
    with pytest.raises(UserError, match=r"avx512_bf16 or amx_bf16.*use --precision float32\."):
        Scorer(made, precision="bfloat16")
