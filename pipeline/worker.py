"""`python -m pipeline.worker`: a worker process of a run on this machine.

It is Beam's own worker, with its chatter kept off the screen.
"""

import logging
import os
import sys

from pipeline.cli import DEBUG


def main() -> None:
    """Runs the worker until its runner is done with it."""
    # The harness sets the root logger to INFO; what it hands on is limited by the handler.
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    level = logging.ERROR if os.environ.get(DEBUG) else logging.CRITICAL
    logging.getLogger().handlers[0].setLevel(level)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
