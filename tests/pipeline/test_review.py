"""The server of a review: what it keeps, what it gives, and whom it refuses."""

import csv
import io
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from model.annotations import Annotation, read_annotations
from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.reviewable import Server, reviewing, row_of, write_sample, write_table

ROWS = [
    row_of(0),
    row_of(1),
    row_of(2, "robin", start=2.0, end=3.0, clip_start=1.5),  # The window of row 1.
    row_of(3, "robin", channel=1),
    row_of(4, "robin", clip="", clip_start="", problem="the file is not there any more"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("made") / "sample", ROWS, channels=2)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "sample"))


@pytest.fixture(scope="module")
def shared(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for what changes nothing."""
    with reviewing(shutil.copytree(made, tmp_path_factory.mktemp("shared") / "sample")) as server:
        yield server


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold in the next seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def verdicts(folder: Path) -> list[str]:
    return [row["verdict"] for row in table(folder / "verified.csv")]


def test_marks_are_kept_and_add_up(folder: Path) -> None:
    with reviewing(folder, "--reviewer", "anna") as server:
        assert verdicts(folder) == [""] * 5
        assert server.mark(0, "right", comment="=1 clear; =2") == 200
        assert server.mark(1, "wrong") == 200
        assert server.mark(2, "right") == 200
        assert server.mark(3, "wrong", other_label="tree-creeper") == 200
        assert server.mark(4, "unsure") == 200
        # In the results while it runs.
        assert eventually(lambda: verdicts(folder) == ["right", "wrong", "right", "wrong", ""])
        assert server.mark(0, "right", "ben") == 200
        assert server.mark(1, "right", "ben") == 200
        assert server.mark(3, None, "ben", comment="too faint") == 200
        # Each is shown only what is theirs.
        assert server.ask("/marks?reviewer=ben")[1] == {
            "0": {"verdict": "right", "other_label": "", "comment": ""},
            "1": {"verdict": "right", "other_label": "", "comment": ""},
            "3": {"verdict": None, "other_label": "", "comment": "too faint"},
        }
        said = server.end()
    assert "Of           5 detections" in said and "anna       5      2      2       1" in said
    assert "Agreement    anna and ben: 50% of 2 detections, kappa 0.00" in said
    rows = table(folder / "verified.csv")
    given = table(folder / "sample.csv")
    for row, before in zip(rows, given, strict=True):
        assert {**before, "verdict": ""} == {k: "" if k == "verdict" else row[k] for k in before}
    added = ("verdict", "other_label", "comment", "reviewers", "disagreement")
    assert [tuple(row[name] for name in added) for row in rows] == [
        ("right", "", "anna: =1 clear; '=2", "anna, ben", ""),
        ("", "", "", "anna, ben", "verdict"),
        ("right", "", "", "anna", ""),
        ("wrong", "tree-creeper", "ben: too faint", "anna", ""),
        ("", "", "", "anna", ""),
    ]


def test_what_train_is_given(folder: Path) -> None:
    with reviewing(folder) as server:
        for row, (verdict, other) in enumerate(
            [("right", ""), ("wrong", ""), ("right", ""), ("wrong", "jay"), ("right", "")]
        ):
            assert server.mark(row, verdict, other_label=other) == 200
        server.end()
    read = read_annotations(folder, folder / "annotations.csv")
    # Row 1 was wrong, but in its window row 2 is right; row 4 has no clip.
    assert read.annotations == (
        Annotation("clips/00001.flac", 0.0, 1.0, "wren"),
        Annotation("clips/00002.flac", 0.5, 1.5, "robin"),
        Annotation("clips/00003.flac", 0.5, 1.5, "robin"),
        Annotation("clips/00004.flac", 0.5, 1.5, "jay"),
    )
    assert read.columns["clips/00001.flac"] == {"recording": "A/20240601_050000.wav"}
    with reviewing(folder) as server:
        for row, verdict in enumerate(["wrong", "right", "wrong", "unsure"]):
            assert server.mark(row, verdict) == 200
        assert server.mark(1, "wrong", "ben") == 200
        assert server.mark(2, "wrong", "ben", other_label="jay") == 200
        server.end()
    read = read_annotations(folder, folder / "annotations.csv")
    # Nothing is known of row 1 (disagreement) and 3 (unsure); row 0 holds none.
    assert read.recordings == ("clips/00001.flac", "clips/00003.flac")
    assert read.annotations == (Annotation("clips/00003.flac", 0.5, 1.5, "jay"),)


def test_undo_gives_back_what_was_before(folder: Path) -> None:
    with reviewing(folder) as server:
        server.mark(0, "right")
        server.mark(1, "wrong", "ben")
        server.mark(0, "wrong", other_label="jay", comment="hm")
        before = {"verdict": "right", "other_label": "", "comment": ""}
        assert server.undo() == {"row": 0, "mark": before}
        assert server.undo() == {"row": 0, "mark": None}
        assert server.undo() == {"row": None}
        assert eventually(lambda: verdicts(folder) == ["", "wrong", "", "", ""])


def test_a_killed_server_loses_nothing(folder: Path) -> None:
    with reviewing(folder) as server:
        for row in range(4):
            assert server.mark(row, "right") == 200
        server.process.kill()
    (folder / "verified.csv").unlink(missing_ok=True)
    with (folder / "marks.jsonl").open("ab") as file:
        file.write(b'{"detection": {"recor')  # And the power went.
    with reviewing(folder) as server:
        assert verdicts(folder) == ["right"] * 4 + [""]
        assert server.mark(4, "wrong") == 200
        server.process.kill()
    with reviewing(folder) as server:
        assert verdicts(folder) == ["right"] * 4 + ["wrong"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0


def test_a_table_in_another_order_keeps_its_marks(folder: Path) -> None:
    with reviewing(folder) as server:
        server.mark(0, "right")
        server.mark(3, "wrong")
        old = server.ask("/sample")[1]["id"]
        server.end()
    # As a spreadsheet writes it: sorted by another column, numbers spelt anew, semicolons.
    rows = [row | {"start": f"{row['start']:.3f}"} for row in reversed(ROWS)]
    write_table(folder, rows, delimiter=";")
    with reviewing(folder) as server:
        assert {k: v["verdict"] for k, v in server.ask("/marks?reviewer=anna")[1].items()} == {
            "4": "right",
            "1": "wrong",
        }
        # A page that still shows the old order would mark another row.
        body = {"sample": old, "row": 0, "verdict": "right", "reviewer": "anna"}
        status, said, _ = server.ask("/mark", body)
        assert status == 409 and "load the page again" in said["error"]
        server.end()


def test_verdicts_of_the_table_count_as_one_reviewers(folder: Path) -> None:
    words = ("yes", "0", "RIGHT", "", "wrong")
    write_table(folder, [row | {"verdict": word} for row, word in zip(ROWS, words, strict=True)])
    with reviewing(folder) as server:
        assert verdicts(folder) == ["right", "wrong", "right", "", "wrong"]
        assert server.ask("/marks?reviewer=anna")[1] == {}
        server.mark(0, "right")
        server.mark(1, "right")
        said = server.end()
    assert "anna and table: 50% of 2 detections" in said
    assert verdicts(folder) == ["right", "", "right", "", "wrong"]
    assert (folder / "marks.jsonl").read_text().count("table") == 0


def test_from_a_dataset_to_new_thresholds(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    name = "=A,1/20240601_000000.wav"
    write(tmp_path / "audio" / name, tone(12, seed=1))
    out, folder = tmp_path / "out", tmp_path / "sample"
    given = ["--input", str(tmp_path / "audio"), "--model", str(bundle), "--min-score", "0"]
    assert main(["detect", *given, "--output", str(out)]) == 0
    assert main(["sample", str(out), "--number", "5", "--output", str(folder)]) == 0
    with reviewing(folder) as server:
        rows = server.ask("/sample")[1]["rows"]
        for row in range(len(rows)):
            assert server.mark(row, "right" if row % 3 else "wrong") == 200
        for row, told in enumerate(rows):
            status, sound, _ = server.ask(f"/clips/{row}.wav")
            assert status == 200
            _, rate = soundfile.read(io.BytesIO(sound))
            assert rate == 48000 and told["clip_start"] == max(0, told["start"] - 1)
        server.end()
    capsys.readouterr()
    # The recording's name, though it begins with =, is exact: the dataset knows the detections.
    verified = ["--verified", str(folder / "verified.csv"), "--model", str(bundle)]
    for number, more in enumerate(([], ["--dataset", str(out)])):
        new = ["--output", str(tmp_path / f"new{number}"), "--threshold-goal", "precision=0.4"]
        assert main(["calibrate", *verified, *new, *more]) == 0, capsys.readouterr().err
        assert f"from {len(rows)} verified detections" in capsys.readouterr().out
    read = read_annotations(folder, folder / "annotations.csv")
    assert len(read.recordings) == len(rows)


def test_only_one_server_has_a_sample(folder: Path, capsys: pytest.CaptureFixture) -> None:
    with reviewing(folder) as server:
        assert main(["review", str(folder), "--no-browser", "--reviewer", "ben"]) == 1
        assert "is being reviewed by another dawnchorus review" in capsys.readouterr().err
        assert server.mark(0, "right") == 200
        server.process.kill()
        server.process.wait()
        with reviewing(folder) as next_one:  # What the dead one held is free.
            next_one.end()


def test_ports(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["review", str(folder), "--no-browser", "--port", port]) == 1
        assert f"The port {port} is taken" in capsys.readouterr().err
    with reviewing(folder, "--port", port) as server:
        assert str(server.port) == port
        # Nobody but this machine is listened to.
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", server.port), timeout=5)
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        with reviewing(other) as second:
            assert second.port != server.port


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:PORT", "Origin": "http://localhost:PORT"}, 200),
        ({"Host": "localhost:PORT"}, 403),
        ({"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"}, 403),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1:PORT.evil.example"}, 403),
        ({"Host": None}, 400),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://127.0.0.1:PORT"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": None}, 415),
    ],
)
def test_only_its_own_page_may_write(
    shared: Server, headers: dict[str, str | None], status: int
) -> None:
    sample = shared.ask("/sample")[1]["id"]
    told = {k: v and v.replace("PORT", str(shared.port)) for k, v in headers.items()}
    # A reviewer who has nothing to take back: no row changes.
    answer, said, _ = shared.ask("/undo", {"sample": sample, "reviewer": "nobody"}, told)
    assert answer == status, said
    assert status in (200, 400) or said["error"].endswith(".")


@pytest.mark.parametrize("path", ["/", "/review.js", "/sample", "/clips/0.png", "/nothing"])
def test_nobody_else_may_read(shared: Server, path: str) -> None:
    for headers in ({"Host": f"evil.example:{shared.port}"}, {"Origin": "http://evil.example"}):
        assert shared.ask(path, headers=headers)[0] == 403
    status, _, headers = shared.ask(path)
    assert status == (404 if path == "/nothing" else 200)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "data:" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"verdict": "maybe"}, 400, "The verdict must be one of"),
        ({"verdict": ["right"]}, 400, "The verdict must be one of"),
        ({"row": 5}, 400, "The row is none"),
        ({"row": -1}, 400, "The row is none"),
        ({"row": True}, 400, "The row is none"),
        ({"row": "0"}, 400, "The row is none"),
        ({"row": 0.0}, 400, "The row is none"),
        ({"reviewer": ""}, 400, "reviewer's name"),
        ({"reviewer": None}, 400, "reviewer's name is missing"),
        ({"reviewer": "table"}, 400, "kept for verdicts"),
        ({"reviewer": "a\u0000"}, 400, "reviewer's name"),
        ({"comment": "x" * 2001}, 400, "The comment has 2,001"),
        ({"comment": 5}, 400, "must be texts"),
        ({"comment": None}, 400, "must be texts"),
        ({"other_label": "robin", "verdict": "right"}, 400, "Only a wrong"),
        ({"sample": "another"}, 409, "load the page again"),
        ({"comment": "x" * 20000}, 413, ""),
    ],
)
def test_marks_that_are_none(
    shared: Server, changed: dict[str, Any], status: int, said: str
) -> None:
    good = {"sample": shared.ask("/sample")[1]["id"], "row": 0, "verdict": "right"}
    answer, told, _ = shared.ask("/mark", good | {"reviewer": "anna"} | changed)
    assert answer == status and said in told["error"]
    assert shared.ask("/marks?reviewer=anna")[1] == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 10000])
def test_bodies_that_are_none(shared: Server, body: bytes) -> None:
    for path in ("/mark", "/undo"):
        status, said, _ = shared.ask(path, body)
        assert status == 400 and "no JSON" in said["error"]


def test_other_methods_and_places(shared: Server) -> None:
    assert shared.ask("/sample", method="DELETE")[0] == 405
    assert shared.ask("/mark")[0] == 405
    assert shared.ask("/marks")[0] == 400
    for path in ("/../sample.csv", "/clips/../sample.csv", "/sample.csv", "/clips/00001.flac"):
        assert shared.ask(path)[0] == 404
    for path in ("/clips/9.wav", "/clips/9.png", "/clips/-1.wav", "/clips/999999999999.wav"):
        assert shared.ask(path)[0] == 404
    assert "times slower" in shared.ask("/clips/0.wav?slow=3")[1]["error"]


def test_clips_that_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.wav", tone(1))
    (tmp_path / "secret.png").write_bytes(b"secret")
    clips = folder / "clips"
    for number in (1, 2):
        (clips / f"{number:05}.flac").unlink()
    (clips / "00002.flac").symlink_to(secret)
    shutil.copy(clips / "00004.flac", clips / "whole.flac")
    (clips / "00003.flac").write_bytes(b"fLaC nothing")
    damaged = bytearray((clips / "00004.flac").read_bytes())
    damaged[len(damaged) // 2 :] = b"\0" * 1000
    (clips / "00004.flac").write_bytes(damaged)
    (clips / "00002.png").unlink()
    (clips / "00002.png").symlink_to(tmp_path / "secret.png")
    rows: list[dict[str, Any]] = [row_of(number) for number in range(8)]
    rows[4]["clip"] = str(secret)
    rows[5]["clip"] = "../secret.wav"
    rows[6]["clip"] = "clips"
    rows[7] |= {"clip": "clips/whole.flac", "channel": 2}
    rows.append(row_of(8, clip="", clip_start="", problem="the recording ends before"))
    rows.append(row_of(9, clip="clips/\0.wav"))
    write_table(folder, rows)
    with reviewing(folder) as server:
        said = [server.ask(f"/clips/{number}.wav") for number in range(10)]
        assert [status for status, _, _ in said] == [404] * 10
        for (_, told, _), expected in zip(
            said,
            [
                "The file 00001.flac is not there.",
                "outside its folder",
                "cannot be played",
                "cannot be played",
                "outside its folder",
                "outside its folder",
                "is not there",
                "the clip has no channel 2",
                "There is no clip: the recording ends before.",
                "can be no file",
            ],
            strict=True,
        ):
            assert expected in told["error"]
        for number in (1, 4, 5, 9):
            status, told, _ = server.ask(f"/clips/{number}.png")
            assert status == 404 and set(told) == {"error"}
        assert server.ask("/clips/0.png")[1][:4] == b"\x89PNG"
        for number in range(10):
            assert server.mark(number, "unsure") == 200
        server.end()


def test_what_cannot_be_reviewed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def said(text: str | None, *options: str) -> str:
        if text is not None:
            (folder / "sample.csv").write_text(text)
        assert main(["review", str(folder), "--no-browser", *options]) == 1
        return capsys.readouterr().err

    head = "recording,start,end,label,clip\n"
    assert "has no column label" in said("recording,start,end,clip\n")
    assert "without --clips none" in said("recording,start,end,label\na.wav,0,1,wren\n")
    assert "has no rows" in said(head)
    assert "line 2: start is 'x'" in said(head + "a.wav,x,1,wren,\n")
    assert "line 2: the recording or the label is missing" in said(head + "a.wav,0,1,,\n")
    verdict = head.strip() + ",verdict\na.wav,0,1,wren,,maybe\n"
    assert "line 2: the verdict is 'maybe'; write right or wrong" in said(verdict)
    good = head + "a.wav,0,1,wren,\n"
    assert "--port is 80" in said(good, "--port", "80")
    assert "kept for verdicts" in said(good, "--reviewer", "table")
    assert "reviewer's name" in said(good, "--reviewer", "")
    (folder / "marks.jsonl").write_text("nothing\n")
    assert "marks.jsonl, line 1 is no mark" in said(good)
    (folder / "sample.csv").unlink()
    assert "Cannot read" in said(None)
    assert main(["review", "gs://bucket/sample"]) == 1
    assert "copy the folder here first" in capsys.readouterr().err


def test_a_sample_without_starts_of_clips_can_be_reviewed(folder: Path) -> None:
    rows = [{k: v for k, v in row_of(n).items() if k != "clip_start"} for n in range(2)]
    write_table(folder, rows)
    with reviewing(folder) as server:
        assert server.mark(0, "right") == 200
        server.end()
    assert verdicts(folder) == ["right", ""]
    assert table(folder / "annotations.csv") == []
