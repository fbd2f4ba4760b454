"""Names of what a label means."""

import re

_BINOMIAL = re.compile(r"[A-Z][a-z]+ [a-z-]+(?: [a-z-]+)?")


def names_of(label: str) -> tuple[str, str | None]:
    """The scientific and the common name of a label.

    BirdNET's labels hold both, `Genus species_Common Name`, or twice the same (`Engine_Engine`).
    Any other label, also one with `_` in it, stands for the scientific name alone.
    """
    first, underscore, second = label.partition("_")
    if underscore and second and (_BINOMIAL.fullmatch(first) or first == second):
        return first, second
    return label, None
