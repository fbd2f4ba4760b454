"""The plan: every span in its shard, whatever the archive is made of and however it is cut."""

import random
import tempfile
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.windows import WindowRule
from pipeline import plan
from pipeline.commit import Commit
from pipeline.plan import Standing, read_refs, read_shards, sorted_spans, write_plan
from pipeline.recording import Place, Recording, unreadable
from pipeline.shard_key import ShardKey
from pipeline.spans import Span, spans_of
from pipeline.storage import Folder

RULE = WindowRule(2.0, 2.0)
PLACED = st.lists(
    st.tuples(
        st.sampled_from(["Ridge", "a b", "ünï", "=%/"]),
        st.one_of(st.none(), st.integers(0, 4 * 86_400)),
        st.one_of(st.none(), st.integers(1, 3 * 86_400)),
    ),
    max_size=30,
)


def placed(found: list[tuple[str, int | None, int | None]]) -> list[tuple[Recording, Place]]:
    """Recordings with a site, seconds after a moment, and seconds of sound; None: unreadable."""
    result = []
    for number, (site, at, seconds) in enumerate(found):
        name = f"{site}/{number:03d}.wav"
        recording = Recording(name, f"/a/{name}", version=f"{number}-x", flags=("clock_reset",))
        if seconds is None:
            recording = unreadable(recording, "damaged", "no 'sound'")
        else:
            facts = {"frames": seconds * 100, "sample_rate": 100, "duration_s": float(seconds)}
            recording = Recording(name, f"/a/{name}", version=f"{number}-x", **facts)
        clock = None if at is None else datetime(2024, 6, 1, 22) + timedelta(seconds=at)
        result.append((recording, Place(site, clock, None, "name" if clock else None)))
    return result


def write(
    folder: Path, given: list[tuple[Recording, Place]], standing: Standing, **more: object
) -> Folder:
    place = Folder(str(folder))
    with sorted_spans(given, RULE, 6) as spans:
        present = frozenset(recording.recording for recording, _ in given)
        write_plan(place, spans.batches(), standing, present, RULE.hop_s, **more)
    return place


@settings(deadline=None, max_examples=30)
@given(PLACED, st.sampled_from([1, 3, 10_000]), st.randoms(use_true_random=False))
def test_shards_hold_the_spans_of_all_recordings(
    found: list[tuple[str, int | None, int | None]], rows: int, chance: random.Random
) -> None:
    given = placed(found)
    expected: dict[ShardKey, list[Span]] = defaultdict(list)
    for recording, place in given:
        for span in spans_of(recording, place, RULE, 6):
            expected[span.key].append(span)
    chance.shuffle(given)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP", rows)
        written = write(Path(folder), given, Standing({}))
        shards = list(read_shards(written.url))
        assert [shard for _, shard in shards] == [ref.load() for ref, _ in shards]
    assert [shard.key for _, shard in shards] == sorted(
        expected, key=lambda key: (key.site.encode(), key.date, key.slot)
    )
    for ref, shard in shards:
        spans = sorted(expected[shard.key], key=lambda span: span.recording.recording.encode())
        assert list(shard.spans) == spans
        readable = [span for span in spans if span.recording.duration_s]
        owned = [
            min(span.stop * 2.0, span.recording.duration_s or 0.0) - span.first * 2.0
            for span in readable
        ]
        assert ref.seconds == pytest.approx(sum(owned))


def test_only_what_has_work_is_planned(tmp_path: Path) -> None:
    given = placed([("A", 0, 60), ("A", 60, 60), ("B", 0, 60), ("C", 0, 60)])
    write(tmp_path / "all", given, Standing({}))
    (a, b, c) = (shard for _, shard in read_shards(str(tmp_path / "all")))

    def committed(spans: tuple[Span, ...]) -> Commit:
        return Commit("id", {span.recording.recording: span.member() for span in spans})

    # The first has a new recording, the second stands, the third is torn, another is gone.
    gone = ShardKey("D", "2024-06-01", 0)
    left = committed(placed_spans("D"))
    standing = Standing(
        {a.key: committed(a.spans[:1]), b.key: committed(b.spans), c.key: None, gone: left}
    )
    write(tmp_path / "some", given, standing)
    planned = {ref.site: (ref, shard) for ref, shard in read_shards(str(tmp_path / "some"))}
    assert planned.keys() == {"A", "C"}
    ref, shard = planned["A"]
    assert shard.spans == a.spans and ref.seconds == 60 and ref.seen == "id"
    assert planned["C"][0].seconds == 60 and planned["C"][0].seen is None

    name = next(iter(left.members))
    write(tmp_path / "pruned", given, standing, prune=[name])
    (ref,) = (ref for ref in read_refs(str(tmp_path / "pruned")) if ref.site == "D")
    assert ref.drop == (name,) and ref.rows == 0 and ref.load().spans == ()


def placed_spans(site: str) -> tuple[Span, ...]:
    ((recording, place),) = placed([(site, 0, 60)])
    return tuple(spans_of(recording, place, RULE, 6))


def test_an_empty_plan(tmp_path: Path) -> None:
    written = write(tmp_path, [], Standing({}))
    assert list(read_refs(written.url)) == [] and written.files() == ["shards.parquet"]
