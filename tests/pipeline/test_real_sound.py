"""Training and the job on real recordings."""

import json
from pathlib import Path

import pytest

from benchmarks import damage, real_sound
from tests.data import data_folder
from tests.pipeline.test_detection import detect, rows


def test_a_day_of_soundscape(bundle: Path, tmp_path: Path) -> None:
    assert detect(data_folder("s4a"), bundle, tmp_path / "out") == 0
    totals = rows(
        tmp_path / "out",
        """SELECT count(DISTINCT recording)::INT, count(DISTINCT site)::INT, any_value(site),
            sum(seconds_expected), sum(seconds_scored), sum(windows_skipped)::INT,
            count(start_utc)::INT FROM coverage""",
    )
    assert totals == [(96, 1, "S4A03895", 960.0, 960.0, 0, 0)]
    assert rows(tmp_path / "out", "SELECT count(*) FROM errors") == [(0,)]
    starts = rows(
        tmp_path / "out",
        """SELECT strftime(start_clock, '%Y%m%d_%H%M%S') = split_part(
            split_part(parse_filename(recording, true), 'S4A03895_', 2), '.', 1), time_source,
            count(*)::INT FROM coverage GROUP BY ALL""",
    )
    assert starts == [(True, "name", 96)]
    slots = rows(
        tmp_path / "out",
        """SELECT count(DISTINCT date_trunc('hour', start_clock))::INT, min(start_clock)::VARCHAR,
            max(start_clock)::VARCHAR FROM coverage""",
    )
    assert slots == [(24, "2019-05-22 00:00:00", "2019-05-22 23:45:00")]


@pytest.mark.slow
def test_damaged_files_cost_what_the_damage_touches(bundle: Path, tmp_path: Path) -> None:
    recordings = sorted(data_folder("s4a").glob("*.flac"))[::40]
    count = damage.campaign(recordings, bundle, tmp_path / "work", files=200, seed=3)
    assert count["files"] == 200 and count["recordings with damaged"]
    assert not count["flac: further windows with other scores"]


@pytest.mark.slow
def test_a_finch_is_recognised_in_recordings_not_trained_on(tmp_path: Path) -> None:
    options = [*real_sound.SYLLABLES, "--epochs", "4"]
    macro, chance = real_sound.finch(data_folder("finch") / "gy6or6", tmp_path / "work", options)
    assert chance < 0.2 and macro > 0.9
    metrics = json.loads((tmp_path / "work" / "evaluation" / "metrics.json").read_text())
    found = metrics["events"]["mean_f1"]
    # Four epochs give a young network, whose events depend on the processor's arithmetic: 0.47 was
    # seen. Events in wrong places would have hardly any.
    assert 0.3 < found["events"] < found["ceiling_events"]
    assert 0.5 < found["frames"] < found["ceiling_frames"]


@pytest.mark.slow
def test_clips_of_a_fold_not_trained_on(tmp_path: Path) -> None:
    options = ["--window", "5", "--group-by", "freesound_id", "--learning-rate", "3e-4"]
    options += ["--epochs", "15"]
    assert real_sound.esc10(data_folder("esc10"), tmp_path / "work", options) > 0.6
