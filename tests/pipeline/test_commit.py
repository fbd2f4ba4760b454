import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

import pipeline.commit
from pipeline.commit import Member, clear, commit, coverage_id, finish, read_commit, staging
from pipeline.parts import rows_by_recording
from pipeline.schema import tables_of
from pipeline.shard_key import ShardKey
from pipeline.storage import Folder

KEY = ShardKey("Ridge", "2024-06-01", 5)
FACTS = {"schema_version": "1"}
TABLES = tables_of(2)
"""Of a dataset with embeddings."""
SIZES = (None, 2)


def row(recording: str, score: float) -> dict:
    return {
        "recording": recording,
        "start_s": 0.0,
        "end_s": 1.0,
        "label": "wren",
        "score": score,
    }


def put(
    out: Folder, recording: str, score: float, replaces: str | None, size: int | None = 2
) -> bool:
    member = Member(recording, "1-a", 0, 1, "")
    with staging(out, KEY, tables_of(size), FACTS, "run") as stage:
        stage.writers["predictions"].write([row(recording, score)])
        if size is not None:
            place = {"recording": recording, "start_s": 0.0, "end_s": 1.0}
            stage.writers["embeddings"].write([place | {"embedding": [score] * size}])
        stage.close([member])
        return commit(out, KEY, stage, replaces, "run")


def scores(out: Folder) -> list[float]:
    """The scores that stand, which those of the embeddings must be."""
    name, other = KEY.part("predictions"), KEY.part("embeddings")
    found = [s for _, t in rows_by_recording(out, name) for s in t["score"].to_pylist()]
    if out.exists(other):
        rows = [x for _, t in rows_by_recording(out, other) for x in t["embedding"].to_pylist()]
        assert rows == [[score] * 2 for score in found]
    return found


@pytest.fixture(params=["disk", "memory"])
def out(request, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}")


def test_first_commit_binds_its_parts(out: Folder) -> None:
    assert read_commit(out, KEY) is None
    assert put(out, "a.wav", 0.5, None)
    found = read_commit(out, KEY)
    assert found is not None and list(found.members) == ["a.wav"]
    assert found.coverage_id == coverage_id(out, KEY)
    assert not [name for name in out.files() if name.startswith("_tmp")]


@pytest.mark.parametrize("size", SIZES)
def test_the_same_rows_are_the_same_bytes(tmp_path: Path, size: int | None) -> None:
    one, two = Folder(str(tmp_path / "1")), Folder(str(tmp_path / "2"))
    for out in (one, two):
        assert put(out, "a.wav", 0.5, None, size)
    assert one.files() == two.files() and len(one.files()) == (3 if size is None else 4)
    assert all(one.read(name) == two.read(name) for name in one.files())


def test_a_commit_that_changed_meanwhile_is_not_replaced(out: Folder) -> None:
    assert put(out, "a.wav", 0.5, None)
    before = coverage_id(out, KEY)
    assert not put(out, "b.wav", 0.6, None)
    assert not put(out, "b.wav", 0.6, "something else")
    assert scores(out) == [0.5]
    assert put(out, "b.wav", 0.75, before)
    assert scores(out) == [0.75]


def test_repeating_a_commit_changes_nothing(out: Folder) -> None:
    assert put(out, "a.wav", 0.5, None)
    content = {name: out.read(name) for name in out.files()}
    assert put(out, "a.wav", 0.5, None)
    assert {name: out.read(name) for name in out.files()} == content


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and no clean-up of ours may be needed."""


STEPS = ("place", "create", "move", "remove")


@contextmanager
def before_step(number: int, happens: Callable[[], object]) -> Iterator[list[str]]:
    """Lets something happen before the storage's step `number`; the list holds that step then.

    After `Killed` no step is done any more, also none that would clean up.
    """
    done: list[str] = []
    happened: list[str] = []
    dead: list[bool] = []
    real = {verb: getattr(Folder, verb) for verb in STEPS}

    def watched(verb: str):
        def step(self, *args, **kwargs):
            if len(done) == number and not happened:
                happened.append(verb)
                try:
                    happens()
                except Killed:
                    dead.append(True)
            if dead:
                raise Killed
            result = real[verb](self, *args, **kwargs)
            done.append(verb)
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        for verb in STEPS:
            patch.setattr(Folder, verb, watched(verb))
        yield happened


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("replacement", [False, True])
def test_a_kill_between_any_two_steps_tears_nothing(
    tmp_path: Path, replacement: bool, size: int | None
) -> None:
    for number in itertools.count():
        out = Folder(str(tmp_path / f"{replacement}-{number}"))
        old = None
        if replacement:
            assert put(out, "a.wav", 0.25, None, size)
            old = coverage_id(out, KEY)
        finished = False
        with before_step(number, kill) as happened, suppress(Killed):
            finished = put(out, "a.wav", 0.5, old, size)
        clear(out, alive=())
        assert not out.exists("_tmp")
        standing = read_commit(out, KEY)
        if standing is None:
            assert not replacement, "a replacement never leaves a torn shard"
        else:
            assert scores(out) in ([0.25], [0.5])
        if not finished:
            assert put(out, "a.wav", 0.5, coverage_id(out, KEY), size)
        assert scores(out) == [0.5] and read_commit(out, KEY) is not None
        if not happened:
            break
    assert number >= 4


@pytest.mark.parametrize("alive", [("run",), ()])
def test_clearing_up_between_any_two_steps_of_a_living_worker_tears_nothing(
    tmp_path: Path, alive: tuple[str, ...]
) -> None:
    """Also if its run is believed dead: a worker may outlive it."""
    for number in itertools.count():
        out = Folder(str(tmp_path / str(number)))
        assert put(out, "a.wav", 0.25, None)
        old = coverage_id(out, KEY)
        finished = False
        sweep = partial(clear, out, alive)
        with before_step(number, sweep) as happened, suppress(FileNotFoundError):
            finished = put(out, "a.wav", 0.5, old)
        assert finished or not alive
        assert read_commit(out, KEY) is not None
        assert scores(out) == [0.5] if finished else scores(out) in ([0.25], [0.5])
        if not happened:
            break
    assert number >= 4


def test_a_worker_that_goes_on_after_others_replaced_its_shard_tears_nothing(
    out: Folder,
) -> None:
    for number in itertools.count():
        assert put(out, "a.wav", 0.125, coverage_id(out, KEY))
        old = coverage_id(out, KEY)

        def others(seen=old) -> None:
            finish(out, KEY)
            if coverage_id(out, KEY) == seen:
                put(out, "b.wav", 0.25, seen)
            assert put(out, "c.wav", 0.75, coverage_id(out, KEY))

        with before_step(number, others) as happened:
            finished = put(out, "a.wav", 0.5, old)
        standing = read_commit(out, KEY)
        assert standing is not None
        if not happened:
            break
        assert scores(out) == [0.75] and list(standing.members) == ["c.wav"]
    assert number >= 4 and finished
    clear(out, alive=())
    assert not [name for name in out.files() if name.startswith("_tmp")]


def test_two_first_commits_at_once(out: Folder) -> None:
    for number in itertools.count():
        for name in out.files():
            out.remove(name)
        other = partial(put, out, "b.wav", 0.75, None)
        with before_step(number, other) as happened:
            put(out, "a.wav", 0.5, None)
        if read_commit(out, KEY) is None:
            assert put(out, "a.wav", 0.5, coverage_id(out, KEY))
        assert scores(out) in ([0.5], [0.75])
        if not happened:
            break
    assert number > 2


def test_a_record_whose_parts_are_gone_is_dropped(out: Folder) -> None:
    assert put(out, "a.wav", 0.5, None)
    place, standing = f"_tmp/{KEY.path}/dead.1", coverage_id(out, KEY)
    out.write(f"{place}/predictions.parquet", b"torn")
    for replaces in (standing, "an older one"):
        record = {"place": place, "ids": dict.fromkeys(TABLES, "x")}
        out.write_json(f"_tmp/{KEY.path}/{pipeline.commit.RECORD}{replaces}.json", record)
    clear(out, alive=())
    assert scores(out) == [0.5] and not out.exists("_tmp")


@pytest.mark.parametrize("table", list(TABLES))
def test_a_part_that_is_not_whole_is_no_commit(out: Folder, table: str) -> None:
    assert put(out, "a.wav", 0.5, None)
    whole = out.read(KEY.part(table))
    length = int.from_bytes(whole[-8:-4], "little")
    garbled = bytearray(whole)
    for at in range(len(whole) - 8 - length, len(whole) - 8, 7):
        garbled[at] ^= 0x5A
    for torn in (b"", whole[:60], whole[:-1], bytes(garbled)):
        out.write(KEY.part(table), torn)
        assert read_commit(out, KEY) is None
        assert put(out, "a.wav", 0.5, coverage_id(out, KEY))
        assert out.read(KEY.part(table)) == whole
