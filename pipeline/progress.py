"""Progress of detection: watches the planned shards' commit records appear."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from pipeline.plan import ShardRef
from pipeline.storage import Folder

TICK_S = 0.5
LOCAL_LOOKS = 5000
REMOTE_LOOKS = 20


@contextmanager
def shown(out: Folder, refs: Sequence[ShardRef]) -> Iterator[None]:
    """Shows a bar of audio hours done, rate and time left, while the body runs."""
    total = sum(ref.seconds for ref in refs)
    unit, name = (3600, "h") if total >= 7200 else (60, "min")
    stop = threading.Event()
    with tqdm(
        total=total / unit,
        desc="audio",
        file=sys.stderr,
        mininterval=TICK_S if sys.stderr.isatty() else 10,
        bar_format="{desc} {percentage:3.0f}% |{bar:30}| {n:.1f} of {total:.1f} "
        + name
        + "{postfix}, "
        "{elapsed} gone, {remaining} left",
    ) as bar:
        watcher = threading.Thread(target=_watch, args=(out, refs, bar, unit, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _watch(
    out: Folder, refs: Sequence[ShardRef], bar: "tqdm[None]", unit: int, stop: threading.Event
) -> None:
    names = [(ref.key.part("coverage"), ref.seconds) for ref in refs]
    looks = LOCAL_LOOKS if out.is_local else REMOTE_LOOKS
    standing = [ref.key.part("coverage") for ref in refs if ref.seen is not None]
    before = {name: out.stamp(name) for name in standing}
    at = 0
    while names:
        last = stop.wait(TICK_S)
        begin = 0 if last else at % len(names)
        window = names if last and out.is_local else names[begin : begin + looks]
        done = [item for item in window if out.stamp(item[0]) != before.get(item[0])]
        at = begin + looks if begin + looks < len(names) else 0
        if done:
            gone = set(done)
            names = [item for item in names if item not in gone]
            bar.update(
                sum(seconds for _, seconds in done) / unit if names else (bar.total or 0) - bar.n
            )
        elapsed = bar.format_dict["elapsed"] or 1.0
        rate = f"{bar.n * unit / elapsed:,.0f} x realtime"
        bar.set_postfix_str(rate, refresh=last or sys.stderr.isatty())
        if last:
            return
