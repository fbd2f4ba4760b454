"""Progress of detection: watches the planned shards' commit records appear."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from pipeline.commit_index import refresh
from pipeline.plan import ShardRef
from pipeline.storage import Folder

TICK_S = 0.5
REMOTE_TICK_S = 5.0
INDEX_S = 60.0
"""Between two times that what is committed is written to the index."""
LOOKING = 1 / 20
"""Share of the time that may go into listing what is committed."""


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
    left = {ref.key.part("coverage"): ref.seconds for ref in refs}
    before = _stamps(out) if any(ref.seen is not None for ref in refs) else {}
    tick = TICK_S if out.is_local else REMOTE_TICK_S
    wait, last, indexed = tick, False, time.monotonic()
    while left and not last:
        last = stop.wait(wait)
        began = time.monotonic()
        try:
            if began - indexed > INDEX_S:
                # So that who asks for the dataset's status need not read all parts.
                refresh(out, every_part=False)
                indexed = time.monotonic()
            found = _stamps(out)
        except OSError:
            continue  # The next look may be luckier, and who works is told elsewhere.
        wait = max(tick, (time.monotonic() - began) / LOOKING)
        done = [name for name in left if found.get(name) != before.get(name)]
        seconds = sum(left.pop(name) for name in done)
        if done:
            bar.update(seconds / unit if left else (bar.total or 0) - bar.n)
        elapsed = bar.format_dict["elapsed"] or 1.0
        rate = f"{bar.n * unit / elapsed:,.0f} x realtime"
        bar.set_postfix_str(rate, refresh=last or sys.stderr.isatty())


def _stamps(out: Folder) -> dict[str, str | None]:
    return {name: entry.stamp for name, entry in out.below("coverage").items()}
