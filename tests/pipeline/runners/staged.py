"""Runs a staged pipeline as a worker's machine would: with what is installed, and nothing else.

`python staged.py PIPELINE.pb`, in the environment of which dawnchorus is to be tried. The
stages run in a process that has only the pipeline, as in a container.
"""

import sys
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

pipeline = beam_runner_api_pb2.Pipeline.FromString(Path(sys.argv[1]).read_bytes())
for environment in pipeline.components.environments.values():
    assert environment.urn == "beam:env:docker:v1", environment.urn
    environment.urn = python_urns.SUBPROCESS_SDK
    command = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
    environment.payload = command.encode()
    del environment.dependencies[:]
FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
