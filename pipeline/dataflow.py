"""What Google's Dataflow must be told before it can take a job."""

import os
from typing import Any

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)

from model.errors import UserError

WORKERS = "--sdk_container_image IMAGE (built from the Dockerfile) or --setup_file ./setup.py"
"""How workers come to have dawnchorus."""


def check_dataflow(options: PipelineOptions) -> None:
    """Raises UserError for all that is missing at once: Beam tells it after the planning."""
    try:
        from apache_beam.runners.dataflow.internal import apiclient  # noqa: F401
    except ImportError as error:
        raise UserError(
            'Dataflow needs libraries of Google\'s: pip install "dawnchorus[dataflow]".'
        ) from error
    google = options.view_as(GoogleCloudOptions)
    missing = [
        name
        for name, value in (
            ("--project PROJECT", google.project),
            ("--region REGION", google.region or _default_region()),
            ("--temp_location gs://BUCKET/FOLDER", google.temp_location),
            (WORKERS, _bring_package(options)),
        )
        if not value
    ]
    if missing:
        raise UserError(f"Dataflow also needs {', '.join(missing)}.")
    for name in ("temp_location", "staging_location", "template_location"):
        place = getattr(google, name)
        if place and not place.startswith("gs://"):
            raise UserError(f"--{name} {place} is no place in a bucket; give gs://BUCKET/FOLDER.")
    setup = options.view_as(SetupOptions).setup_file
    if setup and not os.path.isfile(setup):
        raise UserError(f"--setup_file {setup} does not exist; give that of dawnchorus's sources.")


def _bring_package(options: PipelineOptions) -> Any:
    """What of the options brings dawnchorus to the workers, if any does."""
    setup, worker = options.view_as(SetupOptions), options.view_as(WorkerOptions)
    return (
        worker.sdk_container_image
        or worker.worker_harness_container_image
        or setup.setup_file
        or setup.extra_packages
        or setup.requirements_file
    )


def _default_region() -> str | None:
    """The region that Google's tools are set to."""
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    region: str | None = DataflowRunner().get_default_gcp_region()
    return region
