"""What each architecture costs: parameters, and core-seconds of its network per hour of sound.

    python -m benchmarks networks WORK [--repeats 5] [--engine tensorflow|openvino ...]

Builds each architecture untrained (10 labels) for two front ends, the default one (8-s windows at
16 kHz) and 5-s windows at 22.05 kHz, and scores batches of 8 noise spectrograms with each engine
on one thread. Rounds go through all networks in turn, so that a ratio to morgan2021 compares what
was measured side by side. Writes WORK/networks.json and prints the table that docs/networks.md
gives.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from model.architecture import OWN, Architecture
from model.frontend import FrontEnd
from model.runtime import BATCH, engine_environment
from pipeline.runner import cores

FRONT_ENDS = {"8 s, 16 kHz": FrontEnd(), "5 s, 22.05 kHz": FrontEnd(22_050, 5.0)}
NETWORKS = {
    **{name: Architecture(name) for name in OWN},
    "mobilenet, width 0.25": Architecture("mobilenet", width=0.25),
}
LABELS = [f"label {number}" for number in range(10)]
AT_LEAST_S = 1.0
Costs = dict[str, dict[str, list[float]]]


def write_bundles(work: Path) -> dict[str, int]:
    """A bundle of each network for each front end, in WORK/<front end>/<network>; parameters."""
    from model.bundle import write_bundle
    from model.network import build_network

    parameters = {}
    for front, front_end in FRONT_ENDS.items():
        for name, architecture in NETWORKS.items():
            network = build_network(architecture, front_end, len(LABELS), "multilabel", mean=-40)
            parameters[f"{front}: {name}"] = int(network.count_params())
            path = work / front / name
            if not path.exists():
                write_bundle(
                    str(path),
                    task="multilabel",
                    labels=LABELS,
                    front_end=front_end,
                    thresholds=dict.fromkeys(LABELS, 0.5),
                    networks=[network],
                    provenance={"made by": "python -m benchmarks"},
                    log=[],
                )
    return parameters


def measure(work: Path, engine: str, repeats: int) -> Costs:
    """Core-seconds per hour of sound, by front end and network, of each round."""
    import numpy as np

    from model.bundle import load_bundle
    from model.scorer import Scorer

    costs: Costs = {front: {name: [] for name in NETWORKS} for front in FRONT_ENDS}
    rng = np.random.default_rng(0)
    for front, front_end in FRONT_ENDS.items():
        size = BATCH, *front_end.input_shape
        spectrograms = rng.normal(-40, 15, size).astype(np.float32)
        scorers = {
            name: Scorer(load_bundle(str(work / front / name)), engine)  # type: ignore[arg-type]
            for name in NETWORKS
        }
        for scorer in scorers.values():
            scorer.score_spectrograms(spectrograms)
        for _ in range(repeats):
            for name, scorer in scorers.items():
                # The processor's time of this process: what others do beside it counts less.
                begun, times = time.process_time(), 0
                while (took := time.process_time() - begun) < AT_LEAST_S:
                    scorer.score_spectrograms(spectrograms)
                    times += 1
                hours = times * BATCH * front_end.window_s / 3600
                costs[front][name].append(took / hours)
    return costs


def measure_apart(work: Path, engine: str, repeats: int) -> Costs:
    """`measure`, in a process of its own: the engine's threads are set before it is imported."""
    command = [sys.executable, "-m", "benchmarks.networks", str(work), "--measure", engine]
    done = subprocess.run(
        [*command, "--repeats", str(repeats)],
        env={**os.environ, **engine_environment(engine), "TF_CPP_MIN_LOG_LEVEL": "3"},  # type: ignore[arg-type]
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(parameters: dict[str, int], costs: dict[str, Costs]) -> str:
    """Medians over the rounds as Markdown, with the ratio to morgan2021 of the same rounds."""
    heads = [f"{front}, {engine}" for front in FRONT_ENDS for engine in costs]
    first = next(iter(FRONT_ENDS))
    lines = ["| architecture | parameters | " + " | ".join(heads) + " |"]
    lines.append("|---|---" + "|---" * len(heads) + "|")
    for name in NETWORKS:
        cells = []
        for front in FRONT_ENDS:
            for found in costs.values():
                own, base = found[front][name], found[front]["morgan2021"]
                ratio = statistics.median(x / y for x, y in zip(own, base, strict=True))
                cells.append(f"{statistics.median(own):.1f} ({ratio:.2f})")
        count = f"{parameters[f'{first}: {name}'] / 1e6:.2f} M"
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks networks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", nargs="+", default=["tensorflow", "openvino"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.work, args.measure, args.repeats)))
        return
    parameters = write_bundles(args.work)
    costs = {engine: measure_apart(args.work, engine, args.repeats) for engine in args.engine}
    about = f"{platform.machine()}, {cores()} cores, {date.today()}, {args.repeats} rounds"
    document: dict[str, Any] = {"machine": about, "parameters": parameters, "costs": costs}
    (args.work / "networks.json").write_text(json.dumps(document, indent=1))
    print(f"{about}; core-seconds per hour of sound\n\n{table(parameters, costs)}")


if __name__ == "__main__":
    main()
