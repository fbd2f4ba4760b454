import itertools
from pathlib import Path

import pytest

import pipeline.commit
from pipeline.commit import Member, commit, coverage_id, finish, read_commit, records, staging
from pipeline.parts import rows_by_recording
from pipeline.shard_key import ShardKey
from pipeline.storage import Folder

KEY = ShardKey("Ridge", "2024-06-01", 5)
FACTS = {"schema_version": "1"}


def row(recording: str, score: float) -> dict:
    return {
        "recording": recording,
        "start_s": 0.0,
        "end_s": 1.0,
        "label": "wren",
        "score": score,
    }


def put(out: Folder, recording: str, score: float, replaces: str | None) -> bool:
    member = Member(recording, "1-a", 0, 1, "")
    with staging(out, KEY, FACTS, "run") as stage:
        stage.writers["predictions"].write([row(recording, score)])
        stage.close([member])
        return commit(out, KEY, stage, replaces, "run")


def scores(out: Folder) -> list[float]:
    name = KEY.part("predictions")
    return [s for _, t in rows_by_recording(out, name) for s in t["score"].to_pylist()]


@pytest.fixture(params=["disk", "memory"])
def out(request, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}")


def test_first_commit_binds_its_parts(out: Folder) -> None:
    assert read_commit(out, KEY.path) is None
    assert put(out, "a.wav", 0.5, None)
    found = read_commit(out, KEY.path)
    assert found is not None and list(found.members) == ["a.wav"]
    assert found.coverage_id == coverage_id(out, KEY)
    assert not [name for name in out.files() if name.startswith("_tmp")]


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    one, two = Folder(str(tmp_path / "1")), Folder(str(tmp_path / "2"))
    for out in (one, two):
        assert put(out, "a.wav", 0.5, None)
    assert one.files() == two.files() and len(one.files()) == 3
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


def kill_before(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Makes the storage die before its step `number`; gives the list that counts steps."""
    steps: list[str] = []

    def dying(verb: str, real):
        def step(self, *args, **kwargs):
            if len(steps) >= number:
                raise Killed
            steps.append(verb)
            return real(self, *args, **kwargs)

        return step

    for verb in STEPS:
        monkeypatch.setattr(Folder, verb, dying(verb, getattr(Folder, verb)))
    return steps


@pytest.mark.parametrize("replacement", [False, True])
def test_a_kill_between_any_two_steps_tears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacement: bool
) -> None:
    for number in itertools.count():
        out = Folder(str(tmp_path / f"{replacement}-{number}"))
        old = None
        if replacement:
            assert put(out, "a.wav", 0.25, None)
            old = coverage_id(out, KEY)
        with monkeypatch.context() as patch:
            steps = kill_before(patch, number)
            try:
                finished = put(out, "a.wav", 0.5, old)
            except Killed:
                finished = False
        for name in records(out):
            assert name.endswith("record.json")
        finish(out, KEY)
        standing = read_commit(out, KEY.path)
        if standing is None:
            assert not replacement, "a replacement never leaves a torn shard"
        else:
            assert scores(out) in ([0.25], [0.5])
        if not finished:
            assert put(out, "a.wav", 0.5, coverage_id(out, KEY))
        assert scores(out) == [0.5] and read_commit(out, KEY.path) is not None
        if len(steps) < number:
            break
    assert number > 4


def test_a_record_whose_target_is_gone_is_dropped(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    assert put(out, "a.wav", 0.5, None)
    place = f"_tmp/{KEY.path}/dead.1"
    for table in ("predictions", "errors", "coverage"):
        out.write(f"{place}/{table}.parquet", b"stale")
    record = {"place": place, "ids": {}, "replaces": "an older one"}
    out.write_json(f"_tmp/{KEY.path}/{pipeline.commit.RECORD}", record)
    finish(out, KEY)
    assert scores(out) == [0.5] and not out.exists("_tmp")
