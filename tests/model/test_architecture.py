import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.architecture import BACKBONES, OWN, Architecture
from model.architecture_options import add_architecture_options, architecture_of
from model.errors import UserError
from model.frontend import FrontEnd, default_hop_length

ROOT = Path(__file__).resolve().parents[2]


def front_end(window_s: float, hop_length: int | None = None, **values: int) -> FrontEnd:
    hop = default_hop_length(16000, window_s) if hop_length is None else hop_length
    return dataclasses.replace(FrontEnd(window_s=window_s, hop_length=hop), **values)


@pytest.mark.parametrize("window_s", [0.25, 0.5, 3.0, 8.0])
@pytest.mark.parametrize("name", OWN)
def test_every_architecture_fits_the_default_hop_length(name: str, window_s: float) -> None:
    Architecture(name).check_fit(front_end(window_s))


def test_the_shortest_hop_that_fits_is_named_and_fits() -> None:
    # 3 s at 16 kHz are 48,000 samples: 1 + 48000 // 377 = 128 frames, at 378 there are 127.
    check_fit = Architecture().check_fit
    with pytest.raises(UserError, match=r"hop length of at most 377, a window of at least 4\.064"):
        check_fit(front_end(3.0, 512))
    with pytest.raises(UserError, match="has 127"):
        check_fit(front_end(3.0, 378))
    check_fit(front_end(3.0, 377))
    check_fit(front_end(4.064, 512))


@pytest.mark.parametrize(
    ("architecture", "mels", "frames"),
    [
        (Architecture(), 128, 128),
        (Architecture(filters=(8, 8)), 8, 8),
        (Architecture(pools=(2, 2, 2, 1)), 8, 8),
        # Its first convolution steps over every other frame: 63 are as good as 64.
        (Architecture("sprengel2016"), 32, 63),
        (Architecture("pnwcnet5"), 64, 64),
    ],
)
def test_the_smallest_input_is_built_and_what_is_smaller_is_refused(
    architecture: Architecture, mels: int, frames: int
) -> None:
    from model.network import build_network

    def sized(n_mels: int, n_frames: int) -> FrontEnd:
        made = FrontEnd(1000, (n_frames - 1) / 100, 64, 10, n_mels)
        assert made.input_shape == (n_mels, n_frames)
        return made

    assert build_network(architecture, sized(mels, frames), 2, "multilabel").output_shape[1] == 2
    with pytest.raises(UserError, match=f"at least {mels} mels.*use {mels} or more"):
        architecture.check_fit(sized(mels - 1, frames))
    with pytest.raises(UserError, match=f"at least {frames} frames.*a window of at least"):
        architecture.check_fit(sized(mels, frames - 1))


def test_too_few_mels_are_refused_and_fewer_filters_fit() -> None:
    small = front_end(8.0, n_mels=64)
    with pytest.raises(UserError, match=r"128 mels.*has 64.*at most 3 filters"):
        Architecture().check_fit(small)
    Architecture(filters=(64, 64, 128)).check_fit(small)
    with pytest.raises(UserError, match=r"64 mels.*use 64 or more\.$"):
        Architecture("pnwcnet5").check_fit(front_end(8.0, n_mels=63))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"filters": ()}, "filters are ;"),
        ({"filters": (0,)}, "filters are 0;"),
        ({"filters": (64, -1)}, "filters are 64,-1;"),
        ({"filters": (8,) * 5}, "filters are 8,8,8,8,8; give one to 4 .*as many pools"),
        ({"filters": (8, 8), "pools": (2,)}, r"pools are 2; give 2 numbers.*\(8,8\)"),
        ({"pools": (2, 2)}, "pools are 2,2; give 4 numbers"),
        ({"pools": (2, 2, 2, 0)}, "pools are 2,2,2,0; give 4 numbers of 1 or more"),
        ({"kernel": 0}, "kernel is 0"),
        ({"dense": -1}, "dense is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"head": "maximum"}, "head is maximum"),
        ({"name": "alexnet"}, "'alexnet'; use morgan2021, .* or efficientnet"),
        ({"name": "mobilenet", "width": 0.0}, "width is 0.0"),
        ({"name": "resnet50", "width": 0.5}, "no width; leave it out, or use mobilenet or mobil"),
        ({"name": "pnwcnet5", "filters": (8,)}, "pnwcnet5 has no filters.*use morgan2021"),
        ({"name": "mobilenet", "head": "average"}, "mobilenet has no head"),
        ({"weights": "imagenet"}, "no weights imagenet for morgan2021.*resnet50"),
        ({"name": "mobilenet", "weights": "imagenet", "width": 0.3}, "use 0.25, 0.5, 0.75 or 1.0"),
        ({"name": "mobilenetv3", "weights": "imagenet", "width": 0.5}, "use 0.75 or 1.0"),
        ({"name": "resnet50", "weights": "weights.pkl"}, r"weights.pkl; .* ends in \.h5"),
    ],
)
def test_what_makes_no_network_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        Architecture(**values)
    assert str(caught.value).count(". ") == 0, "one sentence"


def test_none_is_the_architectures_own() -> None:
    for name, own in OWN.items():
        resolved = Architecture(name).resolved()
        assert {option: getattr(resolved, option) for option in own} == own
        assert resolved == resolved.resolved()
    assert Architecture(filters=(8, 8)).resolved().pools == (2, 4)
    deep = Architecture(filters=(8,) * 5, pools=(2,) * 5).resolved()
    assert (deep.filters, deep.pools, deep.kernel) == ((8,) * 5, (2,) * 5, 3)


def test_json_tells_what_applies_and_no_place() -> None:
    assert Architecture(filters=(8, 4), dropout=0.5).to_json() == {
        "name": "morgan2021",
        "filters": [8, 4],
        "kernel": 3,
        "pools": [2, 4],
        "dense": 0,
        "dropout": 0.5,
        "head": "flatten",
    }
    small = Architecture("mobilenet", width=0.25, weights="/home/me/net.h5")
    assert small.to_json() == {
        "name": "mobilenet",
        "dense": 0,
        "dropout": 0.2,
        "width": 0.25,
        "weights": "net.h5",
    }
    for name in OWN:
        json.dumps(Architecture(name).to_json())
    assert {name for name in OWN if Architecture(name).is_backbone} == set(BACKBONES)


def test_the_command_lines_options() -> None:
    parser = argparse.ArgumentParser()
    add_architecture_options(parser.add_argument_group("network"))

    def parsed(text: str) -> Architecture:
        return architecture_of(parser.parse_args(text.split()))

    assert parsed("") == Architecture()
    assert parsed(
        "--filters 8,8 --kernel 5 --pools 2,2 --dense 16 --dropout 0.1 --head average"
    ) == Architecture("morgan2021", (8, 8), 5, (2, 2), 16, 0.1, "average")
    assert parsed("--architecture mobilenet --width 0.5 --weights a.h5") == Architecture(
        "mobilenet", width=0.5, weights="a.h5"
    )
    with pytest.raises(SystemExit):
        parsed("--filters 8,x")
    with pytest.raises(SystemExit):
        parsed("--architecture alexnet")


def test_options_need_no_tensorflow() -> None:
    code = (
        "import sys, model.architecture_options, model.network;"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'h5py')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
