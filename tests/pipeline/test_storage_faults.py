"""A bucket behind a proxy that does harm: the dataset is the same, or the end is clear."""

import time
from pathlib import Path

import pytest

from benchmarks.kills import content
from model import retries
from model.retries import PATIENCE, StorageError, take_retries
from pipeline import pool
from pipeline.cli import main
from pipeline.run_record import read_runs
from pipeline.storage import Folder
from tests.pipeline.archive import tone, write
from tests.pipeline.fault_proxy import FAULTS, FaultProxy, Gone
from tests.pipeline.test_buckets import objects, upload

HOURS = 12


def detect(audio: str, bundle: Path, out: str, *more: str) -> int:
    given = ["--input", audio, "--model", str(bundle), "--output", out, "--min-score", "0"]
    return main(["detect", *given, "--slot", "1", "--direct_num_workers", "2", *more])


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's recordings, one for each of some shards."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    for hour in range(HOURS):
        write(root / f"marsh/20240601_{hour:02d}0000.wav", tone(3, seed=hour))
    write(root / "marsh/20240601_230000.flac", tone(20, seed=HOURS), 16_000)
    return root


@pytest.fixture(scope="module")
def expected(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `audio`, on a disk."""
    out = tmp_path_factory.mktemp("dataset") / "out"
    assert detect(str(audio), bundle, str(out)) == 0
    return out


@pytest.fixture
def archive(audio: Path, bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of `audio` in a bucket, behind the proxy. A silent server is left after 2 s."""
    upload(audio, f"{bucket}/audio")
    monkeypatch.setenv(PATIENCE, "8")
    take_retries()
    proxy.clear()
    return f"{bucket}/audio"


def test_faults_change_nothing(
    archive: str,
    bucket: str,
    bundle: Path,
    expected: Path,
    proxy: FaultProxy,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy.rate = 0.05
    assert detect(archive, bundle, f"{bucket}/out") == 0
    said = capsys.readouterr().out
    faults = proxy.faults.total()
    proxy.rate = 0.0
    assert objects(f"{bucket}/out") == content(expected)
    (run,) = read_runs(Folder(f"{bucket}/out"))
    counted = run.values["storage_retries"]
    told = int(said.partition("Storage ")[2].split()[0])
    # Slow answers need no second try, and a connection that broke at once gets one of aiohttp's.
    # After the screen come the last requests of the run.
    assert 0 < told <= sum(counted.values()) <= faults and faults > 5
    assert not Folder(f"{bucket}/out").files("_tmp")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_survived_by_each_verb(
    kind: str,
    archive: str,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "FIRST_S", 0.05)
    folder = Folder(archive.replace("audio", f"x [{kind}]"))
    proxy.rate, proxy.kinds = 0.15 if kind == "stall" else 0.3, (kind,)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 1024)
    for i in range(2):
        assert folder.create(f"{i}", b"created")
        assert not folder.create(f"{i}", b"again")
        folder.write(f"{i}", b"written")
        folder.place(str(large), f"large {i}", replace=False)
        folder.move(f"{i}", f"moved {i}")
        assert folder.read(f"moved {i}") == b"written" and not folder.exists(f"{i}")
        with folder.open(f"large {i}") as file:
            assert file.read() == large.read_bytes()
    assert folder.files() == ["large 0", "large 1", "moved 0", "moved 1"]
    folder.remove("")
    proxy.rate = 0.0
    assert folder.files() == [] and proxy.faults[kind] > 1
    counted = take_retries()
    meant = {"stall": "timeout", "reset": "connection", "lost": "connection"}.get(kind, kind)
    assert set(counted) <= {meant} and (counted or kind in ("slow", "reset", "half"))


def test_what_lasts_is_not_tried_again(archive: str, bucket: str, proxy: FaultProxy) -> None:
    folder = Folder(bucket)
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")
    proxy.goes(403)
    with pytest.raises(PermissionError):
        folder.read("nothing")
    with pytest.raises(PermissionError):
        folder.write("nothing", b"")
    proxy.goes(404)
    with pytest.raises(FileNotFoundError):
        folder.write("nothing", b"")
    assert proxy.requests.total() == 4 and not take_retries()


@pytest.mark.parametrize("gone", [503, "refuses", "silent"])
def test_a_server_that_is_gone_is_waited_for_once(
    gone: Gone, archive: str, bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "4")
    folder = Folder(f"{bucket}/other")
    proxy.goes(gone)
    with pytest.raises(StorageError, match="no good answer for 4 s") as caught:
        folder.read("x")
    assert caught.value.gone and 1 < sum(take_retries().values()) < 10
    with pytest.raises(StorageError):
        folder.read("x")
    assert not take_retries(), "one try was enough"
    proxy.goes(None)
    folder.write("x", b"y")
    assert folder.read("x") == b"y"


@pytest.mark.slow
@pytest.mark.parametrize("gone", [403, 404, "silent"])
def test_a_run_whose_bucket_goes_away_ends_and_goes_on(
    gone: Gone,
    archive: str,
    bucket: str,
    bundle: Path,
    expected: Path,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(PATIENCE, "4")
    proxy.goes(gone, after=24)
    began = time.monotonic()
    assert detect(archive, bundle, f"{bucket}/out") == 1
    took = time.monotonic() - began
    said = capsys.readouterr().err
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, said
    assert "Traceback" not in said and took < 60
    proxy.goes(None)
    pool.stop()
    kept = objects(f"{bucket}/out")
    assert kept and len(kept) < len(content(expected)), "it went in the middle"
    assert detect(archive, bundle, f"{bucket}/out") == 0
    assert objects(f"{bucket}/out") == content(expected)
    said = capsys.readouterr().out
    committed = len([name for name in kept if name.startswith("coverage/")])
    assert f"{HOURS + 1 - committed} shards done" in said, "those alone that were not"


@pytest.mark.slow
@pytest.mark.parametrize("gone", [403, 404])
def test_an_input_that_goes_away_is_no_damage(
    gone: Gone,
    archive: str,
    bundle: Path,
    expected: Path,
    proxy: FaultProxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Each is probed by one request, the FLAC by two.
    proxy.goes(gone, after=HOURS + 2 + 5, kind="read")
    assert detect(archive, bundle, str(tmp_path / "out")) == 1
    assert "shards are not committed" in capsys.readouterr().err
    proxy.goes(None)
    assert detect(archive, bundle, str(tmp_path / "out")) == 0
    assert content(tmp_path / "out") == content(expected)
