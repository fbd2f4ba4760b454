"""What README shows runs as it is shown."""

import calendar
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from model.reasons import REASONS
from pipeline.cli import main
from pipeline.dataset import open_dataset, registered
from pipeline.deployments import joined, to_table
from pipeline.schema import TABLES
from tests.pipeline.archive import tiny_bundle, tone, write

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_detect_activity_and_every_query(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_bundle(tmp_path / "birds.bundle")
    for name in (
        "007/20240601_050000",
        "CREEK/20240601_130000",
        "CREEK/20240701_060000",
        "CREEK/20241103_005959",
        "NOWHERE/20240601_050000Z",
    ):
        write(tmp_path / f"recordings/{name}.wav", tone(3))
    (table,) = blocks("csv")
    (tmp_path / "deployments.csv").write_text(table)
    commands = [
        shlex.split(line)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith(tuple(f"dawnchorus {x}" for x in ("detect", "activity", "deployments")))
    ]
    names = [command[1] for command in commands]
    assert names == ["detect", "activity", "activity", "deployments"]
    for command in commands:
        assert main(command[1:]) == 0, command
    assert (tmp_path / "activity.csv").exists()
    python = blocks("python")
    assert len(python) == 4
    for block in python:
        variables: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), variables)
    assert "007" in capsys.readouterr().out
    columns = "site, recording, start_s, label, score, epoch_us(utc), site_time"
    joined_here = variables["times"].project(columns).fetchall()
    dataset = open_dataset("detections")
    with registered(dataset.connection, deployments=to_table(dataset.deployments() or ())):
        sql = f"SELECT {columns} FROM {joined('predictions', 'start_s')}"
        assert sorted(dataset.connection.sql(sql).fetchall(), key=str) == sorted(
            joined_here, key=str
        )
    found = {(row[1], row[2]): (row[5] // 1_000_000, row[6]) for row in joined_here}
    dawn = datetime(2024, 6, 1, 6)
    assert found["007/20240601_050000.wav", 0] == (utc(2024, 6, 1, 10), dawn)
    assert found["CREEK/20240601_130000.wav", 0] == (utc(2024, 6, 1, 13), dawn)
    assert found["CREEK/20240701_060000.wav", 0] == (utc(2024, 7, 1, 13), dawn.replace(month=7))
    assert found["NOWHERE/20240601_050000Z.wav", 0] == (utc(2024, 6, 1, 5), None)
    # Begun before the hour that comes twice: it runs on into the first of the two.
    assert found["CREEK/20241103_005959.wav", 1] == (utc(2024, 11, 3, 8), datetime(2024, 11, 3, 1))


def utc(*when: int) -> int:
    return calendar.timegm((*when, 0, 0))


def test_train_parses() -> None:
    from model.train_arguments import train_options_of
    from model.train_command import add_arguments

    lines = [x for b in blocks("sh") for x in b.splitlines() if x.startswith("dawnchorus train")]
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for line in lines:
        args = parser.parse_args(shlex.split(line)[2:])
        assert train_options_of(args, args.output).front_end.window_s == 3


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    section = TEXT.split(f"**{table}**", 1)[1].split("\n\n**")[0]
    for name in TABLES[table].names:
        assert f"`{name}`" in section, name


def test_every_reason_is_documented() -> None:
    for code, reason in REASONS.items():
        curable = "yes" if reason.curable else "no"
        assert f"| `{code}` | {curable} | {reason.meaning} |" in TEXT
