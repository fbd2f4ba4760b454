"""`python -m pipeline`: the job alone, as a cloud launcher starts it."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
