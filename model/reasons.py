"""Why a window was not scored: the fixed codes of the errors table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """`curable`: whether the next run tries again without being asked."""

    curable: bool
    meaning: str


REASONS = {
    "empty": Reason(False, "the file has no bytes, or a header and no samples"),
    "not_audio": Reason(False, "the content is of no known audio format"),
    "unsupported": Reason(False, "an audio format that is not supported (such as WAC)"),
    "damaged": Reason(False, "the decoder failed, or gave fewer samples than the header says"),
    "truncated": Reason(False, "the file ends before the samples that its header promises"),
    "not_finite": Reason(False, "samples that are infinite or not a number"),
    "silent": Reason(False, "digital silence: every sample of the window has the same value"),
    "tail": Reason(False, "the partial last window, left out by --tail drop"),
    "no_channel": Reason(False, "the recording does not have the channel asked for"),
    "triggered": Reason(False, "amplitude-triggered recording, whose times are not those of sound"),
    "permission": Reason(True, "the file may not be read"),
    "vanished": Reason(True, "the file was there when listed, and is not now"),
    "changed": Reason(True, "the file changed between the plan and the reading"),
    "memory": Reason(True, "there was not enough memory to decode it"),
    "crash": Reason(True, "the decoder crashed on it, twice"),
    "timeout": Reason(True, "the decoder gave nothing for as long as --decode-timeout"),
}
"""Every reason code that the errors table may hold."""
