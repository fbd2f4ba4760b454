"""From a bundle and annotated recordings to a folder of results."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.annotations import AnnotationSet, Unannotated, read_annotations
from model.bundle import Bundle, load_bundle
from model.bundle_document import LOG, RESERVED_LABEL
from model.errors import UserError
from model.evaluation import Level, Sample, evaluate, mean_by_recording
from model.evaluation_files import (
    events_json,
    level_json,
    promises_json,
    write_confusion,
    write_events,
    write_json,
    write_labels,
    write_scores,
)
from model.event_evaluation import EventResult, evaluate_events
from model.events import EventRule
from model.promises import Promises, compare_promises
from model.report import Page, render
from model.runtime import Engine, Precision
from model.scored import ScoredWindows, known_labels, score_windows
from model.split import group_recordings
from model.windows import WindowRule

RESAMPLES = 1000
SEED = 1
PAGE = "report.html"


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` needs, as the command line's options of the same names.

    `hop_s` None is the bundle's window, `group_by` None makes each recording a group, `rule` and
    `overlap` are for events. Raises UserError for values out of range and an output that is taken.
    """

    model: str
    audio: Path
    annotations: Path
    output: Path
    label_column: str | None = None
    label_map: Path | None = None
    unannotated: Unannotated = "skip"
    hop_s: float | None = None
    group_by: str | None = None
    rule: EventRule = field(default_factory=EventRule)
    overlap: float = 0.5
    engine: Engine = "tensorflow"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise UserError(f"The overlap is {self.overlap:g}; it must be above 0 and at most 1.")
        if self.output.exists() and not (self.output.is_dir() and not any(self.output.iterdir())):
            raise UserError(f"{self.output} is not empty; give a new folder for the results.")


@dataclass(frozen=True)
class Evaluation:
    """All that was found; `levels` are the windows' results and, of whole clips, the clips'.

    `promises` is None for a bundle that does not say how its thresholds were chosen.
    """

    bundle: Bundle
    window_rule: WindowRule
    group_by: str | None
    scored: ScoredWindows
    levels: tuple[Level, ...]
    promises: Promises | None
    events: EventResult | None
    warnings: tuple[str, ...]


def evaluate_bundle(
    options: EvaluateOptions, report: Callable[[str], None], show_progress: bool
) -> Evaluation:
    """Scores the annotated recordings and compares; `report` takes lines of progress.

    Raises UserError for whatever the user can set right, before TensorFlow is loaded where that
    is possible.
    """
    bundle = load_bundle(options.model)
    window_s = bundle.front_end.window_s
    rule = WindowRule(window_s, options.hop_s if options.hop_s is not None else window_s)
    every = read_annotations(
        options.audio,
        options.annotations,
        options.label_column,
        options.label_map,
        options.unannotated,
    )
    annotations, strange = known_labels(every, bundle)
    groups = group_recordings(annotations.recordings, annotations.columns, options.group_by)
    warnings = [*every.warnings, *strange, *seen_in_training(bundle, every)]
    for warning in warnings:
        report(f"warning: {warning}")
    scored = score_windows(
        bundle, options.audio, annotations, rule, options.engine, options.precision, show_progress
    )
    for warning in scored.warnings:
        report(f"warning: {warning}")
    report(
        f"{len(scored.recordings)} recordings, {len(scored.scores)} windows of {window_s:g} s, "
        f"{len(bundle.labels)} labels, {bundle.task}"
    )
    group_of = dict(zip(annotations.recordings, groups, strict=True))
    levels = _levels(bundle, annotations, scored, group_of)
    facts = bundle.threshold_facts
    promises = compare_promises(facts, bundle.thresholds, levels[0].sample) if facts else None
    timed = any(not annotation.whole for annotation in annotations.annotations)
    events = (
        evaluate_events(
            scored,
            annotations,
            bundle.labels,
            bundle.thresholds,
            options.rule,
            options.overlap,
            window_s,
            bundle.task == "singlelabel",
        )
        if timed
        else None
    )
    return Evaluation(
        bundle=bundle,
        window_rule=rule,
        group_by=options.group_by,
        scored=scored,
        levels=levels,
        promises=promises,
        events=events,
        warnings=(*warnings, *scored.warnings),
    )


def seen_in_training(bundle: Bundle, annotations: AnnotationSet) -> list[str]:
    """Sentences on recordings that had a part in training: results on them promise too much."""
    log = _log(bundle)
    names = set(annotations.recordings)
    sentences = []
    for key, what in (
        ("training_recordings", "that the bundle was trained on"),
        ("holdout_recordings", "on which the bundle's thresholds were chosen"),
    ):
        shared = sorted(names & set(log.get(key, ())))
        if shared:
            sentences.append(
                f"{len(shared)} of {len(names)} recordings have names of recordings {what} (the "
                f"first: {shared[0]}); the results are not those of unseen sound."
            )
    known = bundle.provenance.get("data", {}).get("annotations_sha256")
    if "training_recordings" not in log and known == annotations.sha256():
        sentences.append(
            "The annotations are those that the bundle was trained with; the results are not "
            "those of unseen sound."
        )
    return sentences


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Writes tables, plots and the page into a new folder; the page's path."""
    from model import plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
        images: dict[str, dict[str, bytes]] = {}
        for level in evaluation.levels:
            sample, result = level.sample, level.result
            prefix = "" if level.noun == "window" else f"{level.noun}-"
            write_labels(folder / f"{prefix}labels.csv", result.labels)
            made = {}
            if result.average_precision is not None:
                made["Precision and recall"] = plots.precision_recall(sample, result)
            if result.top is not None:
                confusion = result.top.confusion
                write_confusion(folder / f"{prefix}confusion.csv", sample, confusion)
                made["Confusion matrix"] = plots.confusion_matrix(
                    confusion, sample.labels, sample.outputs
                )
            if sample.known.any():
                made["Reliability"] = plots.reliability(sample)
            images[level.noun] = made
            for title, content in made.items():
                name = prefix + title.lower().replace(" and ", "-").replace(" ", "-")
                (folder / f"{name}.png").write_bytes(content)
        histories = _histories(evaluation.bundle)
        if histories:
            curves = plots.training_curves(histories)
            (folder / "training.png").write_bytes(curves)
            images["training"] = {"Loss and validation by epoch": curves}
        if evaluation.events is not None:
            write_events(folder / "events.csv", evaluation.events)
        write_json(folder / "metrics.json", _document(evaluation))
        outputs = evaluation.levels[0].sample.outputs
        write_scores(folder / "scores.parquet", evaluation.scored, outputs)
        page = Page(
            title=f"Evaluation of {Path(evaluation.bundle.path).name}",
            about=_about(evaluation),
            warnings=evaluation.warnings,
            levels=evaluation.levels,
            promises=evaluation.promises,
            events=evaluation.events,
            plots=images,
            files=sorted(path.name for path in folder.iterdir()),
        )
        (folder / PAGE).write_bytes(render(page).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(f"Cannot write the results to {folder}: {error.strerror}.") from error
    return folder / PAGE


def _levels(
    bundle: Bundle, annotations: AnnotationSet, scored: ScoredWindows, group_of: dict[str, str]
) -> tuple[Level, ...]:
    names = [group_of[recording] for recording in scored.recordings]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    groups = np.array([number[name] for name in names], np.int64)
    further = scored.scores.shape[1] - len(bundle.labels)
    sample = Sample(
        labels=bundle.labels,
        outputs=(*bundle.labels, *[RESERVED_LABEL] * further),
        scores=scored.scores,
        truth=scored.truth,
        known=scored.known,
        groups=groups[scored.recording],
    )
    samples = {"window": sample}
    whole = all(annotation.whole for annotation in annotations.annotations)
    if whole and len(np.unique(scored.recording)) < len(scored.recording):
        samples["clip"] = mean_by_recording(sample, scored.recording)
    single = "singlelabel" in (bundle.task, annotations.task)
    return tuple(
        Level(noun, each, evaluate(each, bundle.thresholds, single, RESAMPLES, SEED))
        for noun, each in samples.items()
    )


def _log(bundle: Bundle) -> dict[str, Any]:
    log = json.loads(bundle.read_file(LOG)) if LOG in bundle.files else {}
    return log if isinstance(log, dict) else {}


def _histories(bundle: Bundle) -> list[Sequence[dict[str, Any]]]:
    """The epochs of each network that the bundle's log tells of."""
    log = _log(bundle)
    histories = [each.get("epochs") for each in log.get("networks", [log])]
    return [history for history in histories if history]


def _about(evaluation: Evaluation) -> tuple[str, ...]:
    rule, scored = evaluation.window_rule, evaluation.scored
    return (
        f"{len(scored.recordings):,} recordings, {len(scored.scores):,} windows of "
        f"{rule.window_s:g} s every {rule.hop_s:g} s, {len(evaluation.bundle.labels):,} labels, "
        f"{evaluation.bundle.task}; groups are by {evaluation.group_by or 'recording'}.",
        f"Bundle {evaluation.bundle.content_fingerprint[:12]}, scores "
        f"{evaluation.bundle.score_fingerprint[:12]}.",
    )


def _document(evaluation: Evaluation) -> dict[str, Any]:
    bundle, rule = evaluation.bundle, evaluation.window_rule
    document: dict[str, Any] = {
        "bundle": {
            "path": bundle.path,
            "content_fingerprint": bundle.content_fingerprint,
            "score_fingerprint": bundle.score_fingerprint,
            "task": bundle.task,
        },
        "recordings": len(evaluation.scored.recordings),
        "window_s": rule.window_s,
        "hop_s": rule.hop_s,
        "group_by": evaluation.group_by,
        "resamples": RESAMPLES,
        "seed": SEED,
        "warnings": list(evaluation.warnings),
    }
    for level in evaluation.levels:
        document[f"{level.noun}s"] = level_json(level)
    if evaluation.promises is not None:
        document["thresholds"] = promises_json(evaluation.promises)
    if evaluation.events is not None:
        document["events"] = events_json(evaluation.events)
    return document
