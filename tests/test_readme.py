"""What README shows runs as it is shown."""

import re
import shlex
from pathlib import Path

import pytest

from model.reasons import REASONS
from pipeline.cli import main
from pipeline.schema import TABLES
from tests.pipeline.archive import tiny_bundle, tone, write

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_detect_activity_and_every_query(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_bundle(tmp_path / "birds.bundle")
    write(tmp_path / "recordings/007/20240601_050000.wav", tone(3))
    commands = [
        shlex.split(line)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith(("dawnchorus detect", "dawnchorus activity"))
    ]
    assert [command[1] for command in commands] == ["detect", "activity", "activity"]
    for command in commands:
        assert main(command[1:]) == 0, command
    assert (tmp_path / "activity.csv").exists()
    python = blocks("python")
    assert len(python) == 3
    for block in python:
        exec(compile(block, "README.md", "exec"), {})
    assert "007" in capsys.readouterr().out


def test_train_parses() -> None:
    from model.train_command import add_arguments, make_options

    (line,) = [x for b in blocks("sh") for x in b.splitlines() if x.startswith("dawnchorus train")]
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert make_options(parser.parse_args(shlex.split(line)[2:])).front_end.window_s == 3


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    section = TEXT.split(f"**{table}**", 1)[1].split("\n\n**")[0]
    for name in TABLES[table].names:
        assert f"`{name}`" in section, name


def test_every_reason_is_documented() -> None:
    for code, reason in REASONS.items():
        curable = "yes" if reason.curable else "no"
        assert f"| `{code}` | {curable} | {reason.meaning} |" in TEXT
