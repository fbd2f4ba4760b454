"""What of a dataset is not there yet, for those who read it."""

import sys

from pipeline.dataset import Dataset, open_dataset
from pipeline.run_record import latest_run
from pipeline.status import read_plan, undone
from pipeline.text import count


def open_warned(output: str) -> Dataset:
    """Opens a dataset; a warning on the error stream says what of it is not there."""
    dataset = open_dataset(output)
    note = unfinished_note(dataset)
    if note is not None:
        print(f"warning: {note}", file=sys.stderr)
    return dataset


def unfinished_note(dataset: Dataset) -> str | None:
    """Sentences that say what of the last run is not committed; None where all of it is."""
    out, commits = dataset.folder, dataset.standing.commits
    run = latest_run(out)
    plan = (read_plan(out, run) if run else None) or {}
    found = {key.path: None if one is None else one.coverage_id for key, one in commits.items()}
    left = undone(run, plan, found)
    torn = sum(one is None for path, one in found.items() if path not in left)
    notes = []
    if left:
        verb = "is" if len(left) == 1 else "are"
        whole = f"{len(left):,} of the last run's {count(len(plan), 'shard')} {verb} not done"
        is_alive = run is not None and run.is_alive
        notes.append(
            f"A run is still writing this dataset: {whole}."
            if is_alive
            else f"The dataset is not whole: {whole}; the same detect command goes on from there."
        )
    if torn:
        notes.append(
            f"{count(torn, 'shard')} of the dataset, whose parts do not belong together, left "
            "out; the same detect command writes them again."
        )
    return " ".join(notes) or None
