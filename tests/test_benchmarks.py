"""That the benchmarks measure what they say, on small archives; the figures are README's."""

from pathlib import Path

import pytest
import soundfile

from benchmarks import scale, throughput
from benchmarks.archives import archive
from benchmarks.tree import detect
from tests.pipeline.archive import tiny_bundle


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two different sounds, without real data."""
    folder = tmp_path_factory.mktemp("benchmarks")
    return archive(folder / "audio", folder / "no data", 3, 5)


def test_archives_are_synthesised_without_data(audio: Path) -> None:
    names = sorted(path.name for path in audio.iterdir())
    assert names == [f"REC_20240601_0000{second:02d}.flac" for second in (0, 5, 10)]
    sounds = [soundfile.read(audio / name)[0] for name in names]
    assert all(len(sound) == 5 * 48_000 and 0.001 < sound.std() < 0.5 for sound in sounds)
    assert (sounds[0] == sounds[2]).all() and (sounds[0] != sounds[1]).any()


def test_a_run_is_measured(audio: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    tiny_bundle(bundle)
    run = detect(audio, bundle, tmp_path / "out", watched=True)
    again = detect(audio, bundle, tmp_path / "out", watched=True)
    assert 0 < run.commits[0] <= run.seconds and not again.commits
    assert len(run.at_peak) > 1 and 1e8 < run.memory == sum(run.at_peak) < 4e9
    case = scale.Case("tiny", 15 / 3600, run, again)
    assert case.to_json()["shards"] == 1 and case.steady_s is None
    assert "| tiny | 1 |" in scale.table([case])
    with pytest.raises(RuntimeError, match=r"error: .*nothing"):
        detect(tmp_path / "nothing", bundle, tmp_path / "other")


def test_the_table_has_ratios_with_their_spread() -> None:
    def one(decode: float, bare: float, rate: float) -> dict[str, object]:
        costs = {
            "decode": {"soundfile": 1.5, "quick": decode},
            "resample": {"soxr": 0.5},
            "spectrogram": {"scipy": 0.25},
            "network": {"batches of 8": 2.0},
        }
        best = {stage: min(forms.values()) for stage, forms in costs.items()}
        return {
            "costs": costs,
            "scores": [[0.5]],
            "roofline": 7200 / sum(best.values()),
            "bare": bare,
            "detect": rate,
            "start_s": 4.0,
            "imports_s": 5.0,
        }

    rounds = [one(1.0, 1800, 1710), one(1.25, 1700, 1700), one(1.0, 2000, 1800)]
    result = throughput.summarise(rounds, [[0.25]])
    assert result["roofline"] == 7200 / 3.75
    assert result["of_bare"] == pytest.approx([0.9, 0.95, 1.0])
    assert result["start_of_imports"] == pytest.approx([0.8, 0.8, 0.8])
    assert result["largest_difference"] == 0.25
    text = throughput.table({"tensorflow float32": result | {"memory": 1.3e9}})
    assert "| `detect` / bare loop | 0.95 (0.90 to 1.00) |" in text
    assert "| decode: quick, core-s per hour | 1.00 |" in text
