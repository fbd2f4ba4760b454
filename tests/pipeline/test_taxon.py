"""What a label names."""

import pytest

from pipeline.taxon import names_of


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("Turdus merula_Eurasian Blackbird", ("Turdus merula", "Eurasian Blackbird")),
        ("Strix occidentalis caurina_Owl", ("Strix occidentalis caurina", "Owl")),
        ("Parus major_Great_Tit", ("Parus major", "Great_Tit")),
        ("Engine_Engine", ("Engine", "Engine")),
        ("Turdus merula", ("Turdus merula", None)),
        ("Turdus merula_", ("Turdus merula_", None)),
        ("song_sparrow", ("song_sparrow", None)),
        ("Song_sparrow", ("Song_sparrow", None)),
        ("_", ("_", None)),
        ("", ("", None)),
    ],
)
def test_names(label: str, names: tuple[str, str | None]) -> None:
    assert names_of(label) == names
