"""Archives and datasets in buckets: what is asked of a real GCS server, and what is read."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from benchmarks.kills import content
from model.audio import decode_span
from model.errors import UserError
from model.files import BLOCK, open_file
from model.retries import StorageError
from model.sound import Sound
from model.windows import WindowPlan, WindowRule
from pipeline import storage
from pipeline.cli import main
from pipeline.discovery import discover
from pipeline.identity import settle_identity
from pipeline.plan import read_standing
from pipeline.probe import probe
from pipeline.storage import Folder, check_answers
from tests.pipeline.archive import tone, write
from tests.pipeline.fault_proxy import FaultProxy

NAMES = ["a b", "[1]", "x#2", "50%", "50%25", "why?", "star*", "böse ✓", "q'\"$", "1+1=2&3"]


def detect(audio: str, bundle: Path, out: str, *more: str) -> int:
    given = ["--input", audio, "--model", str(bundle), "--output", out, "--min-score", "0"]
    return main(["detect", *given, "--slot", "1", *more])


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert Folder(url).create(str(path.relative_to(folder)), path.read_bytes())


def objects(url: str) -> dict[str, bytes]:
    """The bytes of everything that readers see."""
    out = Folder(url)
    seen = [n for n in out.files() if n.endswith(".parquet") and not n.startswith("_")]
    return {name: out.read(name) for name in seen}


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings and sites of all `NAMES`."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    for i, name in enumerate(NAMES):
        write(root / name / f"{name}_20240601_{i:02d}0000.wav", tone(2, seed=i))
    return root


@pytest.fixture(scope="module")
def expected(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `audio`, on a disk."""
    out = tmp_path_factory.mktemp("dataset") / "out"
    assert detect(str(audio), bundle, str(out)) == 0
    return out


@pytest.mark.parametrize("place", ["plain", "all " + "".join(NAMES)])
def test_any_name_is_a_name(
    audio: Path, expected: Path, bundle: Path, bucket: str, place: str
) -> None:
    upload(audio, f"{bucket}/{place}/audio")
    assert detect(f"{bucket}/{place}/audio", bundle, f"{bucket}/{place}/out") == 0
    found = objects(f"{bucket}/{place}/out")
    assert found == content(expected) and len(found) == 3 * len(NAMES)
    names = Folder(f"{bucket}/{place}").files("out/_tmp")
    assert not names, "no temporaries stay"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_given(audio: Path, bucket: str, name: str) -> None:
    upload(audio, f"{bucket}/audio")
    (file,) = (audio / name).iterdir()
    below = {f"{other}/{next((audio / other).iterdir()).name}" for other in NAMES}
    assert {n for n, _ in discover([f"{bucket}/audio"]).recordings} == below
    assert [n for n, _ in discover([f"{bucket}/audio/{name}"]).recordings] == [file.name]
    given = discover([f"{bucket}/audio/{name}/{file.name}"])
    assert [n for n, _ in given.recordings] == [file.name]


def test_globs(audio: Path, bucket: str) -> None:
    upload(audio, f"{bucket}/audio")

    def sites(pattern: str) -> set[str]:
        found = discover([f"{bucket}/{pattern}"], root=f"{bucket}/audio").recordings
        return {name.partition("/")[0] for name, _ in found}

    assert sites("audio/50*/*.wav") == {"50%", "50%25"}
    assert sites("audio/?#2/*") == {"x#2"}
    assert sites("audio/[ab]*") == {"a b", "böse ✓"}
    assert sites("audio/**/*_0[0-2]0000.wav") == set(NAMES[:3])
    (audio_file,) = (audio / NAMES[0]).iterdir()
    fsspec.filesystem("gs").put(str(audio_file), f"{bucket}/audio/.hidden/{audio_file.name}")
    assert ".hidden" not in sites("audio/*/*.wav") | sites("audio/**")
    assert sites("audio/.hidden/*.wav") == {".hidden"}
    with pytest.raises(UserError, match="No recording matches"):
        discover([f"{bucket}/audio/none*"])


def test_a_bucket_that_is_not_there(
    audio: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--dry-run"]):
        assert main(
            ["detect", "--input", str(audio), "--model", str(bundle), *more]
            + ["--output", "gs://nobody-has-this/out"]
        )
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == (
            "error: There is no bucket gs://nobody-has-this; make it, or correct the name."
        )
    assert main(["status", "gs://"]) == 1
    assert "gs:// names no bucket; give one, as gs://BUCKET/FOLDER." in capsys.readouterr().err


def test_both_names_of_a_bucket(
    audio: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(audio, f"{bucket}/audio")
    other = bucket.replace("gs://", "gcs://")
    assert detect(f"{bucket}/audio", bundle, f"{bucket}/out") == 0
    capsys.readouterr()
    assert detect(f"{other}/audio", bundle, f"{other}/out") == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_a_moved_archive_recomputes_nothing(
    audio: Path, expected: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(audio, f"{bucket}/moved/audio")
    upload(expected, f"{bucket}/moved/out")
    before = objects(f"{bucket}/moved/out")
    root = ["--root", f"{bucket}/moved/audio"]
    assert detect(f"{bucket}/moved/audio", bundle, f"{bucket}/moved/out", *root) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert objects(f"{bucket}/moved/out") == before


def test_one_listing_request_a_page(
    bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAGE", 10)
    # Each in a folder of its own.
    fsspec.filesystem("gs").pipe({f"{bucket}/audio/site {i}/{i}.wav": b"x" for i in range(25)})
    for _ in range(2):
        proxy.clear()
        assert len(Folder(f"{bucket}/audio").files()) == 25
        assert dict(proxy.requests) == {"list": 3}
    proxy.clear()
    assert len(discover([f"{bucket}/audio"]).recordings) == 25
    assert dict(proxy.requests) == {"list": 4, "info": 1}, "one of each for: is it a folder?"


def test_what_stands_is_read_by_one_request_a_part_and_once(
    expected: Path, bucket: str, proxy: FaultProxy
) -> None:
    upload(expected, f"{bucket}/out")
    proxy.clear()
    assert len(read_standing(Folder(f"{bucket}/out")).commits) == len(NAMES)
    assert proxy.requests["read"] == 3 * len(NAMES) + 1, "and one for the index"
    assert proxy.ranged == 3 * len(NAMES)
    assert proxy.requests["list"] == 4 and not proxy.requests["info"], "one for each table"
    proxy.clear()
    assert len(read_standing(Folder(f"{bucket}/out")).commits) == len(NAMES)
    assert dict(proxy.requests) == {"list": 4, "read": 1}


@pytest.mark.parametrize(("kind", "seconds"), [("WAV", 30), ("FLAC", 60), ("OGG", 20), ("WAV", 1)])
def test_a_probe_reads_the_two_ends(
    bucket: str, proxy: FaultProxy, tmp_path: Path, kind: str, seconds: int
) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, tone(seconds), 8000, format=kind)
    Folder(bucket).write(path.name, path.read_bytes())
    listing = discover([bucket])
    ((name, entry),) = listing.recordings
    proxy.clear()
    row = probe(name, entry.url, entry.stamp, size=entry.size)
    assert row.reason is None and row.duration_s == seconds
    assert row.version == probe(name, str(path), None).version
    size = path.stat().st_size
    assert dict(proxy.requests) == {"read": 1 if size <= 2 * BLOCK else 2}
    assert proxy.bytes_read == min(size, 2 * BLOCK)


def test_a_file_that_changed_since_it_was_listed(bucket: str) -> None:
    for size in (1000, 100_000, 300_000):
        Folder(bucket).write("a.wav", bytes(200_000))
        ((name, entry),) = discover([bucket]).recordings
        Folder(bucket).write("a.wav", bytes(size))
        row = probe(name, entry.url, entry.stamp, size=entry.size)
        assert row.reason == ("vanished" if size < 200_000 else "not_audio")
    Folder(bucket).remove("a.wav")
    assert probe(name, entry.url, entry.stamp, size=entry.size).reason == "vanished"
    with pytest.raises(StorageError, match="there is no bucket gs://there-is-no-such-bucket"):
        check_answers("gs://there-is-no-such-bucket/a.wav")


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("part", [(0, 60), (200, 210), (590, 600), (100, 400)])
def test_what_windows_need_is_read(
    bucket: str, proxy: FaultProxy, tmp_path: Path, kind: str, part: tuple[int, int]
) -> None:
    """Of a file of ten minutes some windows: their bytes, and a tenth more at most."""
    rate, whole = 48_000, 600
    path = tmp_path / f"a.{kind.lower()}"
    sound = np.tile(np.random.default_rng(0).normal(0, 0.1, 60 * rate), whole // 60)
    soundfile.write(path, sound, rate, format=kind)
    with path.open("rb") as file:
        fsspec.filesystem("gs").pipe_file(f"{bucket}/a", file.read())
    proxy.clear()
    plan = WindowPlan(WindowRule(2.0, 2.0, "pad"), whole * rate, rate)
    with Sound(f"{bucket}/a", path.stat().st_size) as opened:
        windows = decode_span(opened, plan, part[0] // 2, part[1] // 2, rate, 2 * rate)
        assert all(window.waveform is not None for window in windows)
    needed = path.stat().st_size * (part[1] - part[0]) / whole
    assert proxy.bytes_read <= 1.1 * needed + (2 + 6 * (kind == "FLAC")) * BLOCK
    assert proxy.requests["list"] == 0 and proxy.requests["info"] == 1
    assert proxy.requests["read"] == proxy.ranged


def test_of_two_that_begin_a_dataset_one_does(bucket: str) -> None:
    out = Folder(f"{bucket}/out")
    with ThreadPoolExecutor(8) as threads:
        settled = list(
            threads.map(
                lambda hours: settle_identity(out, {"dataset": "dawnchorus"}, hours), range(8)
            )
        )
    assert len({found["slot_hours"] for found in settled}) == 1
    assert out.read_json("dataset.json") == settled[0]


def test_a_part_appears_under_its_name_at_once(
    audio: Path, bundle: Path, bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    shutil.copytree(audio / "a b", tmp_path / "audio")
    proxy.clear()
    assert detect(str(tmp_path / "audio"), bundle, f"{bucket}/out") == 0
    deleted = proxy.requests["delete"]
    assert {name.partition("/")[0] for name in Folder(f"{bucket}/out").files()} == {
        "_bundle", "_index", "_plan", "_runs", "coverage", "dataset.json", "errors", "predictions"
    }  # fmt: skip
    assert deleted == 1, "what was probed, once it is in the index; nothing is moved into place"


@pytest.mark.slow
def test_credentials_that_are_missing_are_told(tmp_path: Path, bundle: Path) -> None:
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("GOOGLE_", "STORAGE_", "GC"))}
    mine |= {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "GCE_METADATA_TIMEOUT": "1"}
    command = [sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())"]
    command += ["detect", "--input", "gs://some-bucket/audio", "--model", str(bundle)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        env=mine,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "gs://some-bucket/audio cannot be read" in line
    assert "gcloud auth application-default login" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "library"), [("abfs://b@a/audio", "adlfs"), ("oci://b@n/audio", "ocifs")]
)
def test_a_library_that_is_missing_is_named(
    url: str, library: str, tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    assert detect(url, bundle, str(tmp_path / "out")) == 1
    assert library in capsys.readouterr().err
    assert detect("http-and-more://x", bundle, str(tmp_path / "out")) == 1
    assert "cannot be opened" in capsys.readouterr().err


def test_any_other_url(audio: Path, expected: Path, bundle: Path, tmp_path: Path) -> None:
    """memory:// is this process's alone, and the workers are others: so the archive is read."""
    fs = fsspec.filesystem("memory")
    top = f"memory://{tmp_path.name}"
    fs.put(f"{audio}/", f"{top}/audio/", recursive=True)
    found = discover([f"{top}/audio"]).recordings
    assert {name.partition("/")[0] for name, _ in found} == set(NAMES)
    for name, entry in found:
        assert probe(name, entry.url, None, size=entry.size).reason is None
        with open_file(entry.url) as file, (audio / name).open("rb") as local:
            assert file.read() == local.read()
    upload(expected, f"{top}/out")
    assert len(read_standing(Folder(f"{top}/out")).commits) == len(NAMES)
