"""The summary of a dataset, from its committed parts."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.errors import UserError
from pipeline.dataset import Dataset, query_line
from pipeline.plan import Standing
from pipeline.shard import NO_DAMAGE
from pipeline.storage import Folder
from pipeline.tally import MICRO, Tally

LABELS_SHOWN = 20


@dataclass(frozen=True)
class Summary:
    """What a dataset holds: totals, predictions per label and errors per reason.

    `labels` have those at or above the threshold (None where they were not counted) and all that
    are written; `errors` recordings, windows and seconds.
    """

    recordings: int
    unreadable: int
    sites: int
    windows_expected: int
    windows_scored: int
    seconds_expected: float
    seconds_scored: float
    labels: tuple[tuple[str, int | None, int], ...]
    errors: tuple[tuple[str, int, int, float], ...]

    @property
    def skipped(self) -> float:
        """The larger fraction of expected seconds skipped and of recordings unreadable."""
        seconds = self.seconds_expected and 1 - self.seconds_scored / self.seconds_expected
        return max(seconds, self.unreadable / self.recordings if self.recordings else 0.0)


def summarise(dataset: Dataset) -> Summary:
    """The summary of the committed shards."""
    totals = dataset.connection.execute(
        """SELECT count(DISTINCT recording), count(DISTINCT recording) FILTER (duration_s IS NULL),
            count(DISTINCT site), coalesce(sum(windows_expected), 0)::BIGINT,
            coalesce(sum(windows_scored), 0)::BIGINT, coalesce(sum(seconds_expected), 0),
            coalesce(sum(seconds_scored), 0) FROM coverage"""
    ).fetchone()
    assert totals is not None
    thresholds = dataset.bundle().output_thresholds
    dataset.connection.execute(
        "CREATE OR REPLACE TEMP TABLE _threshold(label TEXT, threshold REAL)"
    )
    dataset.connection.executemany("INSERT INTO _threshold VALUES (?, ?)", list(thresholds.items()))
    labels = dataset.connection.execute(
        """SELECT label, count(*) FILTER (score >= threshold) AS above, count(*) AS written
            FROM predictions LEFT JOIN _threshold USING (label)
            GROUP BY label ORDER BY above DESC, written DESC, label"""
    ).fetchall()
    errors = dataset.connection.execute(
        """SELECT reason, count(DISTINCT recording), sum(windows_lost)::BIGINT,
            coalesce(sum(to_s - from_s), 0) FROM errors GROUP BY reason
            ORDER BY 3 DESC, 2 DESC, 1"""
    ).fetchall()
    recordings, unreadable, sites, windows, scored, seconds, seconds_scored = totals
    return Summary(
        recordings,
        unreadable,
        sites,
        windows,
        scored,
        seconds,
        seconds_scored,
        tuple(labels),
        tuple(errors),
    )


def tallied(standing: Standing) -> Summary:
    """The summary from the commits alone, without opening a part.

    Predictions above thresholds are not counted, and a recording in several shards counts once for
    each among the errors.
    """
    commits = [commit for commit in standing.commits.values() if commit is not None]
    total = Tally()
    readable: dict[str, bool] = {}
    for commit in commits:
        total.add_json(commit.tally.to_json())
        readable |= {member.recording: member.readable for member in commit.members.values()}
    errors = [(reason, n, windows, us * MICRO) for reason, (n, windows, us) in total.errors.items()]
    return Summary(
        len(readable),
        sum(not one for one in readable.values()),
        len({key.site for key, commit in standing.commits.items() if commit is not None}),
        total.windows_expected,
        total.windows_scored,
        total.expected_us * MICRO,
        total.scored_us * MICRO,
        tuple((label, None, n) for label, n in sorted(total.labels.items(), key=_most_first)),
        tuple(sorted(errors, key=lambda error: (-error[2], -error[1], error[0]))),
    )


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def duration(seconds: float) -> str:
    """A length of audio or time for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def screen(
    out: Folder,
    summary: Summary,
    *,
    done_s: float,
    took_s: float,
    shards: int,
    retries: Mapping[str, int],
) -> str:
    """The one screen at the end of a run: `done_s` seconds of audio took `took_s`.

    `retries` are requests to storage that were made again, by what had happened to them.
    """
    s = summary
    share = f" ({s.seconds_scored / s.seconds_expected:.2%})" if s.seconds_expected else ""
    lines = [
        "",
        f"Audio        {duration(s.seconds_expected)} expected, "
        f"{duration(s.seconds_scored)} scored{share}",
        f"Recordings   {s.recordings:,} at {s.sites:,} site{'s' * (s.sites != 1)}"
        + (f", {s.unreadable:,} of them unreadable" if s.unreadable else ""),
        f"Windows      {s.windows_expected:,} expected = {s.windows_scored:,} scored + "
        f"{s.windows_expected - s.windows_scored:,} skipped",
    ]
    if s.labels:
        wide = max(len(label) for label, _, _ in s.labels[:LABELS_SHOWN])
        lines.append("")
        counted = s.labels[0][1] is not None
        head = f"  {'at threshold':>12}" if counted else ""
        lines.append(f"{'Label':<{max(wide, 5)}}{head}  {'written':>10}")
        for label, above, written in s.labels[:LABELS_SHOWN]:
            at_threshold = f"  {above:>12,}" if above is not None else ""
            lines.append(f"{label:<{max(wide, 5)}}{at_threshold}  {written:>10,}")
        if len(s.labels) > LABELS_SHOWN:
            lines.append(f"and {len(s.labels) - LABELS_SHOWN:,} labels more")
    else:
        lines.append("Predictions  none at or above the minimum score")
    if s.errors:
        lines.append("")
        lines.append(f"{'Not scored':<12}  {'recordings':>10}  {'windows':>10}  {'audio':>10}")
        for reason, recordings, windows, seconds in s.errors:
            lost = duration(seconds) if windows else "unknown"
            lines.append(f"{reason:<12}  {recordings:>10,}  {windows:>10,}  {lost:>10}")
    rate = f", {done_s / took_s:,.0f} x realtime" if done_s and took_s else ""
    work = f"{shards:,} shard{'s' * (shards != 1)} done" if shards else "nothing was left to do"
    lines += [
        "",
        f"This run     {work}: {duration(done_s)} of audio in {duration(took_s)}{rate}",
        *([_storage(retries)] if retries else []),
        f"Dataset      {out.url}",
        f"Look         {query_line(out)}",
    ]
    return "\n".join(lines)


def _storage(retries: Mapping[str, int]) -> str:
    kinds = ", ".join(f"{kind} {times:,}" for kind, times in sorted(retries.items()))
    total = sum(retries.values())
    return f"Storage      {total:,} request{'s' * (total != 1)} made again ({kinds})"


def check_not_empty(summary: Summary) -> None:
    """Raises UserError if no recording could be read at all."""
    reasons = [reason for reason, *_ in summary.errors]
    if summary.recordings and not summary.windows_scored and not NO_DAMAGE.intersection(reasons):
        raise UserError(
            f"None of {summary.recordings} recordings could be read ({', '.join(reasons)})."
        )
