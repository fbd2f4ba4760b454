from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.architecture import Architecture
from model.errors import UserError
from model.frontend import FrontEnd, LogMel
from model.network import build_network
from model.scorer import Scorer
from tests.bundles import bundle_of

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
