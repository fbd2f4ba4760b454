"""Text for the screen: counts, lists of names, and lines of equal columns."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """A number of things, such as "1 row" or "1,200 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 10) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - limit
    return ", ".join(map(printable, names[:limit])) + (f" and {rest:,} more" if rest > 0 else "")


def short(text: str, width: int) -> str:
    """A text cut to a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """A text that stays on its line: quoted, with escapes, if it holds other than printable."""
    return text if text.isprintable() else repr(text)


def align(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of equal columns, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if index < left else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def size(number: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} PB"
