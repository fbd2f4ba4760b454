"""The programs of other runners, as they are published; fetched and built once, then kept.

They are Prism and Beam's boot program (Go), Flink and Beam's job server for it (Java). A test that
needs one that cannot be had here is skipped, with the reason.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

FLINK = "1.19.3"
JOB_SERVER = "org.apache.beam:beam-runners-flink-1.19:2.62.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dawnchorus-tests"
LONGEST_S = 900
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>dawnchorus</groupId><artifactId>job-server</artifactId><version>1</version>
<dependencies><dependency>
<groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>
</dependency></dependencies></project>
"""


def prism() -> Path:
    """The program of Beam's local runner."""
    return _built_with_go("github.com/apache/beam/sdks/v2/go/cmd/prism", "prism")


def boot() -> Path:
    """The program that starts a Python worker of Beam's."""
    return _built_with_go("github.com/apache/beam/sdks/v2/python/container", "container")


def flink() -> Path:
    """A folder with Flink's jars."""
    with _made(f"flink-{FLINK}") as folder:
        if folder is not None:
            package = f"apache-flink-libraries=={FLINK}"
            _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package)
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                for member in tar.getmembers():
                    if "/deps/lib/" in member.name and member.name.endswith(".jar"):
                        member.name = os.path.basename(member.name)
                        tar.extract(member, folder, filter="data")
            archive.unlink()
    return CACHE / f"flink-{FLINK}"


def job_server() -> Path:
    """A jar that starts Beam's job server for Flink; the jars that it names lie beside it."""
    name = JOB_SERVER.replace(":", "-")
    with _made(name) as folder:
        if folder is not None:
            _need("mvn")
            (folder / "pom.xml").write_text(POM.format(*JOB_SERVER.split(":")))
            goal = ("dependency:copy-dependencies", f"-DoutputDirectory={folder}")
            _run("mvn", "-q", "-B", "-f", folder / "pom.xml", *goal)
            _write_manifest_jar(folder)
    return CACHE / name / "job-server.jar"


def java() -> str:
    """The program that runs the jars."""
    return _need("java")


def _write_manifest_jar(folder: Path) -> None:
    import zipfile

    jars = " ".join(sorted(path.name for path in folder.glob("*.jar")))
    lines = [
        "Manifest-Version: 1.0",
        "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver",
        f"Class-Path: {jars}",
    ]
    # A line of a manifest has at most 72 bytes; one that begins with a space goes on.
    folded = [
        (" " if at else "") + line[at : at + 70] for line in lines for at in range(0, len(line), 70)
    ]
    with zipfile.ZipFile(folder / "job-server.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "\r\n".join(folded) + "\r\n")


def _built_with_go(module: str, name: str) -> Path:
    beam = f"v{version('apache-beam')}"
    with _made(f"{name}-{beam}") as folder:
        if folder is not None:
            _need("go")
            _run("go", "install", f"{module}@{beam}", GOBIN=str(folder))
    return CACHE / f"{name}-{beam}" / name


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def _run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    if done.returncode:
        pytest.skip(f"{command[0]} could not fetch or build: {done.stderr.strip()[-300:]}")


@contextmanager
def _made(name: str) -> Iterator[Path | None]:
    """A folder to fill, which then gets its name in the cache; None where it is there already."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (CACHE / name).exists():
            yield None
            return
        folder = CACHE / f"{name}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            folder.rename(CACHE / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
