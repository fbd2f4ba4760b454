from pathlib import Path

import pytest

from model.augmentation import Masks
from model.errors import UserError
from model.search_space import Choice, Range, read_space
from model.tuning import variable_options


def space_of(tmp_path: Path, text: str) -> object:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return read_space(path, variable_options())


def test_lists_and_ranges(tmp_path: Path) -> None:
    text = """
    kernel = ["default", 3, 5]
    learning-rate = { low = 1e-4, high = 0.01, scale = "log" }
    epochs = { low = 10, high = 100, step = 10 }
    """
    space = read_space(_written(tmp_path, text), variable_options())
    assert space.parameters == (
        Choice("kernel", ("default", "3", "5")),
        Range("learning-rate", 1e-4, 0.01, True),
        Range("epochs", 10.0, 100.0, False, 10),
    )
    assert space.values({"kernel": 0, "learning-rate": 0.00123456789, "epochs": 20.0}) == {
        "learning-rate": "0.00123457",
        "epochs": "20",
    }


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_the_default_has_its_place_in_the_space(tmp_path: Path) -> None:
    text = 'kernel = ["default", 3]\nn-mels = [64, 128]\ntime-masks = ["0,0", "2,0.1"]\n'
    text += "mixup = { low = 0, high = 1 }\n"
    space = read_space(_written(tmp_path, text), variable_options())
    given = {"kernel": 3, "n-mels": 128, "time-masks": Masks(2, 0.1), "mixup": 0.5}
    assert space.point_of(given) == {"kernel": 0, "n-mels": 1, "time-masks": 1, "mixup": 0.5}
    assert space.point_of({**given, "n-mels": 80}) is None
    assert space.point_of({**given, "mixup": None}) is None


def test_the_standard_space_is_of_options_that_there_are() -> None:
    options = {p.option for p in read_space(None, variable_options()).parameters}
    wanted = {"filters", "kernel", "pools", "dense", "dropout", "n-mels", "hop-length", "fmin"}
    assert wanted | {"fmax", "learning-rate", "batch-size", "mixup"} <= options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "varies nothing"),
        ("kernel = ", "is no TOML"),
        ("colour = [1]", "varies 'colour', which is no option of training"),
        ("window = [1, 2]", "varies 'window', which is no option"),
        ("kernel = []", "gives kernel as"),
        ("kernel = [3, 3]", "gives kernel as"),
        ("kernel = 3", "gives kernel as 3; give a list"),
        ("mixup = { low = 1, high = 0 }", "gives mixup as"),
        ("mixup = { low = 0, high = inf }", "gives mixup as"),
        ('mixup = { low = 0, high = 1, scale = "log" }', "gives mixup as"),
        ("mixup = { low = 0, high = 1, steps = 2 }", "gives mixup as"),
    ],
)
def test_what_is_no_space(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        space_of(tmp_path, text)
