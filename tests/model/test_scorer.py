from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model.architecture import Architecture
from model.bundle_document import Task
from model.errors import UserError
from model.frontend import FrontEnd, LogMel
from model.network import build_network
from model.rejection import Known, Method, Rejecter, fit_rejecter
from model.runtime import Engine
from model.scorer import Scorer
from model.sounding import excess_db
from tests.bundles import bundle_of, rejecter_of

FRONT_END = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=100, n_mels=16)
LABELS = ("chirp", "trill", "buzz")


def network(seed: int, n_labels: int = 3) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    small = Architecture(filters=(4, 4))
    return build_network(small, FRONT_END, n_labels, "multilabel", mean=-30, variance=400)


def scorer(path: Path, networks: list[Any]) -> Scorer:
    return Scorer(bundle_of(path, networks, FRONT_END, LABELS))


@pytest.fixture
def waveforms() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(7, 4000)).astype(np.float32)


def test_scores_are_the_mean_over_the_networks(tmp_path: Path, waveforms: Any) -> None:
    networks = [network(1), network(2), network(3)]
    spectrograms = LogMel(FRONT_END)(waveforms)
    expected = np.mean([np.asarray(n(spectrograms, training=False)) for n in networks], axis=0)
    score = scorer(tmp_path / "b", networks)
    result = score(waveforms)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_array_equal(result, score.score_spectrograms(spectrograms))


def test_scores_do_not_depend_on_the_batch(tmp_path: Path, waveforms: Any) -> None:
    score = scorer(tmp_path / "b", [network(1)])
    whole = score(waveforms)
    parts = np.concatenate([score(waveforms[:1]), score(waveforms[1:1]), score(waveforms[1:])])
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert score(waveforms[:0]).shape == (0, 3)


def test_threads_may_share_a_scorer(tmp_path: Path, waveforms: Any) -> None:
    score = scorer(tmp_path / "b", [network(1)])
    whole = score(waveforms)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: score(waveforms), range(20)))
    for result in results:
        np.testing.assert_array_equal(result, whole)


def test_a_network_that_does_not_fit_the_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"maps \(16, 41\) to \(2,\)"):
        scorer(tmp_path / "b", [network(1), network(1, n_labels=2)])


def test_a_network_that_runs_code_is_refused(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input(FRONT_END.input_shape)
    x = keras.layers.Lambda(lambda x: x[:, :3, 0], output_shape=(3,))(inputs)
    with pytest.raises(UserError, match="needs 'Lambda'"):
        scorer(tmp_path / "b", [keras.Model(inputs, x)])
    assert not (tmp_path / "b").exists()


def test_a_network_that_changed_after_the_check_is_refused(tmp_path: Path) -> None:
    score = scorer(tmp_path / "b", [network(1)])
    (tmp_path / "b" / "network-0.keras").write_bytes(b"")
    with pytest.raises(UserError, match="was changed"):
        Scorer(score.bundle)


def test_scores_are_the_same_to_the_bit_in_any_batch(tmp_path: Path) -> None:
    from tests.pipeline.archive import tiny_bundle

    scorer = Scorer(tiny_bundle(tmp_path / "bundle"))
    rng = np.random.default_rng(0)
    shape = scorer.bundle.front_end.input_shape
    spectrograms = rng.normal(-40, 15, (32, *shape)).astype(np.float32)
    together = scorer.score_spectrograms(spectrograms)
    for n in range(1, 32):
        np.testing.assert_array_equal(scorer.score_spectrograms(spectrograms[:n]), together[:n])
    order = rng.permutation(32)
    np.testing.assert_array_equal(scorer.score_spectrograms(spectrograms[order]), together[order])


def fitted(networks: list[Any], method: Method, task: Task = "multilabel") -> Rejecter:
    """A rejecter of what is unlike 64 windows of noise of three kinds."""
    noise = np.random.default_rng(5).normal(size=(64, 4000)).astype(np.float32)
    kinds = np.arange(64) % 3
    noise[kinds == 1] = np.cumsum(noise[kinds == 1], axis=1)
    noise[kinds == 2, 1:] -= noise[kinds == 2, :-1]
    spectrograms = LogMel(FRONT_END)(noise)
    embeddings = networks[0].get_layer("flat").output
    model = type(networks[0])(networks[0].input, embeddings)
    scores = np.mean([np.asarray(n(spectrograms, training=False)) for n in networks], axis=0)
    targets = np.eye(3, dtype=np.float32)[kinds]
    excess = np.full(64, 30, np.float32)
    known = Known(scores, np.asarray(model(spectrograms)), targets, np.ones_like(targets), excess)
    return fit_rejecter(method, task, FRONT_END, known, known)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_a_rejecter_adds_unknown_to_the_mean_of_the_networks(
    method: Method, engine: Engine, tmp_path: Path, waveforms: Any
) -> None:
    networks = [network(1), network(2)]
    waveforms[3] = 0
    waveforms[4, 1000:1200] += 500
    plain = Scorer(bundle_of(tmp_path / "plain", networks, FRONT_END, LABELS), engine)
    rejecter = fitted(networks, method)
    bundle = bundle_of(tmp_path / "b", networks, FRONT_END, LABELS, rejecter=rejecter)
    score = Scorer(bundle, engine)
    result = score(waveforms)
    assert result.shape == (7, 4) and result.dtype == np.float32
    np.testing.assert_array_equal(result[:, :3], plain(waveforms))
    outputs = plain.outputs(waveforms)
    excess = excess_db(LogMel(FRONT_END)(waveforms), FRONT_END)
    unknown = rejecter.unknown(outputs.scores, outputs.embeddings, excess)
    np.testing.assert_array_equal(result[:, 3], unknown)
    assert result[3, 3] == 0 and (method == "max_score" or result[4, 3] > 0)
    alone = np.concatenate([score(waveforms[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(alone, result)
    again = score.outputs(waveforms)
    np.testing.assert_array_equal(again.scores, result)
    np.testing.assert_array_equal(again.embeddings, outputs.embeddings)
    assert score(waveforms[:0]).shape == (0, 4)


def test_a_rejecter_for_other_embeddings_is_refused(tmp_path: Path) -> None:
    rejecter = rejecter_of(FRONT_END, 3, 5)
    bundle = bundle_of(tmp_path / "b", [network(1)], FRONT_END, LABELS, rejecter=rejecter)
    with pytest.raises(UserError, match="embeddings of 5 numbers"):
        Scorer(bundle)
