import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_is_quick_and_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, pipeline, model\nfrom pipeline.cli import main\n"
        f"try: main({[*command, '--help']})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'apache_beam', 'librosa'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: dawnchorus")


def test_help_fits_a_screen_and_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert max(len(line) for line in said.splitlines()) <= 100
        assert "dawnchorus " + name in said


@pytest.mark.parametrize("arguments", [[], ["sing"], ["activity", "x", "--colour"], ["detect"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_traceback_only_with_debug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["activity", str(tmp_path)]
    assert main(arguments) == 1
    assert re.fullmatch(r"error: There is no dataset in .*\.\n", capsys.readouterr().err)
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error_of_ours(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pipeline --help | head -1"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, env=dict(os.environ)
    )
    assert result.stdout.startswith("usage: dawnchorus detect") and not result.stderr
