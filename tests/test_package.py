"""What is installed and staged."""

import ast
import importlib.metadata
import tarfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def test_a_cloud_runner_can_stage_it(tmp_path: Path, monkeypatch) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.stager import Stager

    monkeypatch.chdir(ROOT)
    options = PipelineOptions(["--setup_file", "./setup.py", "--sdk_location", "default"])
    resources = Stager.create_job_resources(options, str(tmp_path))
    assert any(b"workflow" in resource.role_payload for resource in resources)
    (package,) = tmp_path.rglob("*.tar.gz")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "model/scorer.py", "pipeline/transforms.py"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipeline/web/*")} <= names


def test_nothing_is_imported_that_is_not_declared() -> None:
    declared = {
        Requirement(line).name.lower().replace("-", "_")
        for line in importlib.metadata.requires("dawnchorus") or []
        if 'extra == "test"' not in line
    }
    names = {"scikit_learn": "sklearn", "pillow": "PIL"}
    known = {names.get(name, name) for name in declared} | {"model", "pipeline"}
    import sys

    for path in [*ROOT.glob("model/*.py"), *ROOT.glob("pipeline/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                tops = [node.module or ""]
            else:
                continue
            for top in (name.partition(".")[0] for name in tops):
                assert top in known or top in sys.stdlib_module_names, f"{path}: {top}"
                if path.parent.name == "model":
                    assert top not in {"pipeline", "apache_beam", "gcsfs"}, f"{path}: {top}"
