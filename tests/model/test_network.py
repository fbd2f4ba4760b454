import dataclasses

import keras
import numpy as np
import pytest

from model.errors import UserError
from model.frontend import FrontEnd, default_hop_length
from model.network import build_network, check_fit


def front_end(window_s: float, hop_length: int | None = None, **values: int) -> FrontEnd:
    hop = default_hop_length(16000, window_s) if hop_length is None else hop_length
    return dataclasses.replace(FrontEnd(window_s=window_s, hop_length=hop), **values)


@pytest.mark.parametrize("window_s", [0.25, 0.5, 3.0, 8.0])
def test_the_papers_network_fits_the_default_hop_length(window_s: float) -> None:
    check_fit(front_end(window_s))


def test_the_papers_layers() -> None:
    network = build_network(FrontEnd(), 19, "multilabel")
    assert network.input_shape == (None, 128, 251)
    shapes = [
        (layer.name, layer.output.shape[1:])
        for layer in network.layers
        if layer.name.startswith(("pool", "flat", "logits"))
    ]
    assert shapes == [
        ("pool_1", (64, 125, 64)),
        ("pool_2", (16, 31, 64)),
        ("pool_3", (4, 7, 128)),
        ("pool_4", (1, 1, 128)),
        ("flat", (128,)),
        ("logits", (19,)),
    ]


def test_the_shortest_hop_that_fits_is_named_and_fits() -> None:
    # 3 s at 16 kHz are 48,000 samples: 1 + 48000 // 377 = 128 frames, at 378 there are 127.
    with pytest.raises(UserError, match=r"hop length of at most 377, a window of at least 4\.064"):
        check_fit(front_end(3.0, 512))
    with pytest.raises(UserError, match="has 127"):
        check_fit(front_end(3.0, 378))
    check_fit(front_end(3.0, 377))
    check_fit(front_end(4.064, 512))


def test_too_few_mels_are_refused_and_fewer_filters_fit() -> None:
    small = front_end(8.0, n_mels=64)
    with pytest.raises(UserError, match=r"128 mels.*has 64.*at most 3 filters"):
        check_fit(small)
    check_fit(small, (64, 64, 128))


@pytest.mark.parametrize("filters", [(), (0,), (64, -1), (8, 8, 8, 8, 8)])
def test_filters_that_make_no_network_are_refused(filters: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="filters are"):
        check_fit(FrontEnd(), filters)


def test_the_task_decides_what_scores_are() -> None:
    small = front_end(0.25, n_mels=16)
    x = np.random.default_rng(0).normal(0, 1, (5, *small.input_shape)).astype(np.float32)
    keras.utils.set_random_seed(0)
    one = np.asarray(build_network(Architecture(filters=(4, 4)), small, 3, "singlelabel")(x))
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-6)
    many = np.asarray(build_network(Architecture(filters=(4, 4)), small, 3, "multilabel")(x))
    assert ((many > 0) & (many < 1)).all()
    assert (np.abs(many.sum(axis=1) - 1) > 1e-6).all()


def test_the_input_is_standardised() -> None:
    small = front_end(0.25, n_mels=16)
    network = build_network(small, 1, "multilabel", mean=-40, variance=100, filters=(4, 4))
    x = np.full((1, *small.input_shape), -20, np.float32)
    np.testing.assert_allclose(np.asarray(network.get_layer("standardise")(x)), 2, atol=1e-5)
