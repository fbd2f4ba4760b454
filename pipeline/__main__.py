"""`python -m pipeline`: the job alone, as a cloud launcher starts it."""

import sys

from pipeline.cli import main
from pipeline.flex_template import as_options

if __name__ == "__main__":
    sys.exit(main(["detect", *as_options(sys.argv[1:])]))
