import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_notes_are_removed_and_other_messages_are_not() -> None:
    done = run(
        "import os; from model.runtime import _notes_removed, limit_threads; limit_threads()\n"
        "import tensorflow as tf\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "tf.constant(1) + 1\n"
        "limit_threads()\n"
        "with _notes_removed(): os.write(2, b'I0000 note\\nE0000 trouble\\n')\n"
    )
    assert (done.returncode, done.stderr) == (0, "E0000 trouble\n")
