"""The flex template: its metadata, its image, and how its parameters become options."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.detect_command import add_arguments
from pipeline.flex_template import as_options

ROOT = Path(__file__).parents[2]
NOT_FOR_TEMPLATES = {
    *("help", "dry_run", "workers", "rate", "price", "json"),  # No job comes of a dry run.
    "max_skipped",  # The command ends before anything is skipped.
}
BEAMS = {"sdk_container_image", "number_of_worker_harness_threads", "dataflow_service_options"}


@pytest.fixture(scope="module")
def metadata() -> dict:
    return json.loads((ROOT / "flex_template.json").read_text())


@pytest.fixture(scope="module")
def actions() -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {action.dest: action for action in parser._actions}


def test_each_option_is_described(metadata: dict, actions: dict[str, argparse.Action]) -> None:
    described = {one["name"]: one for one in metadata["parameters"]}
    assert len(described) == len(metadata["parameters"])
    assert set(described) == set(actions) - NOT_FOR_TEMPLATES | BEAMS
    for name, one in described.items():
        assert one["label"] and one["helpText"].endswith(".")
        if name in BEAMS:
            continue
        action = actions[name]
        assert one.get("isOptional", False) == (not action.required), name
        if action.choices:
            values = [option["value"] for option in one["enumOptions"]]
            assert values == [str(choice) for choice in action.choices], name
        assert (one.get("paramType") == "BOOLEAN") == (action.nargs == 0), name
        if "defaultValue" in one and action.nargs != 0:
            wanted = action.type(one["defaultValue"]) if action.type else one["defaultValue"]
            assert wanted == action.default, name


def test_google_reads_the_metadata(metadata: dict) -> None:
    dataflow = pytest.importorskip("google.cloud.dataflow")
    kinds = {kind.name for kind in dataflow.ParameterType} | {"ENUM", "BOOLEAN"}
    assert {one.get("paramType", "TEXT") for one in metadata["parameters"]} <= kinds
    for one in metadata["parameters"]:
        for pattern in one.get("regexes", []):
            re.compile(pattern)
        plain = {key: one[key] for key in ("name", "label", "helpText")}
        assert dataflow.ParameterMetadata.from_json(json.dumps(plain)).name == one["name"]


def test_parameters_become_options(actions: dict[str, argparse.Action]) -> None:
    given = [
        *("--input=gs://b/a_b", "--min_score=0.2", "--embeddings=true", "--prune=false"),
        *(
            "--temp_location=gs://b/t_t",
            "--redo_damaged=True",
            "--time_pattern=x_%Y=*",
            "--hop",
            "2",
        ),
    ]
    assert as_options(given) == [
        *("--input=gs://b/a_b", "--min-score=0.2", "--embeddings"),
        *("--temp_location=gs://b/t_t", "--redo-damaged", "--time-pattern=x_%Y=*", "--hop", "2"),
    ]
    assert as_options(["--embeddings=perhaps"]) == ["--embeddings=perhaps"]  # argparse refuses it
    # Fields that were left blank.
    assert as_options(["--hop=", "--input=x", "--site=", "--prune="]) == ["--input=x"]
    assert as_options(["--min-score=0.2", "--embeddings"]) == ["--min-score=0.2", "--embeddings"]


def dockerfile() -> dict[str, list[str]]:
    """The instructions of the Dockerfile, by their word."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest.strip())
    return found


def test_the_image_has_the_beam_of_the_package() -> None:
    arguments = dict(one.split("=", 1) for one in dockerfile()["ARG"] if "=" in one)
    project = (ROOT / "pyproject.toml").read_text()
    assert f'"apache-beam>={arguments["BEAM"].removesuffix(".0")},<3"' in project
    assert f'requires-python = ">={arguments["PYTHON"]}"' in project
    assert tuple(map(int, version("apache-beam").split("."))) >= tuple(
        map(int, arguments["BEAM"].split("."))
    )


def test_the_image_copies_all_that_is_installed() -> None:
    """Of the folder only what is named reaches Docker."""
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert kept == {"LICENSE", "README.md", "model", "pipeline", "pyproject.toml", "setup.py"}
    assert all((ROOT / name).exists() for name in kept)


def test_the_launcher_of_the_image_starts_the_job(tmp_path: Path) -> None:
    """What the Dockerfile writes for the launcher, run as the launcher does."""
    (writes,) = (one for one in dockerfile()["RUN"] if one.startswith("echo"))
    code, name = shlex.split(writes)[1], shlex.split(writes)[-1]
    assert dockerfile()["ENV"][0] == f"FLEX_TEMPLATE_PYTHON_PY_FILE=/template/{name}"
    (tmp_path / name).write_text(code)
    environment_path = ":".join(path or str(ROOT) for path in sys.path)
    done = subprocess.run(
        [
            sys.executable,
            name,
            "--input=/nothing/here",
            "--model=/no/bundle",
            "--min_score=0.2",
            "--output=out",
            "--template_location=gs://b/t",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": environment_path, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: /no/bundle")
