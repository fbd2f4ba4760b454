import struct

import numpy as np
import pytest

from model.ogg import find_gaps
from tests.files import encode

RATE, FRAMES = 8000, 160_000


@pytest.fixture(scope="module")
def pages() -> list[bytes]:
    """The pages of 20 s of noise, the first two with headers."""
    sound = np.random.default_rng(0).normal(0, 0.1, FRAMES).astype(np.float32)
    return [b"OggS" + page for page in encode(sound, RATE, "OGG").split(b"OggS")[1:]]


def gaps(content: bytes, pages: int = 1) -> list[tuple[int, int]]:
    return find_gaps(lambda at, count: content[at : at + count], FRAMES, 1.0, pages)


def end(page: bytes) -> int:
    return int(struct.unpack_from("<q", page, 6)[0])


def test_nothing_is_missing(pages: list[bytes]) -> None:
    assert end(pages[-1]) == FRAMES
    assert gaps(b"".join(pages)) == []
    between = b"".join([*pages[:4], b"junk OggS" * 300, *pages[4:]])
    assert gaps(between) == [], "what was added takes nothing away"


@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_page_that_is_gone_or_changed(pages: list[bytes], k: int) -> None:
    before = end(pages[k - 1]) if k > 2 else 0
    expected = [(before, end(pages[k + 1]))]
    assert gaps(b"".join(pages[:k] + pages[k + 1 :])) == expected
    changed = pages[k][:-1] + bytes([pages[k][-1] ^ 1])
    assert gaps(b"".join([*pages[:k], changed, *pages[k + 1 :]])) == expected
    assert gaps(b"".join(pages[:k] + pages[k + 1 :]), 2) == [(before, end(pages[k + 2]))]


def test_gaps_that_touch_are_one(pages: list[bytes]) -> None:
    left = [page for k, page in enumerate(pages) if k not in (4, 6)]
    assert gaps(b"".join(left)) == [(end(pages[3]), end(pages[7]))]
    left = [page for k, page in enumerate(pages) if k not in (4, 8)]
    assert gaps(b"".join(left)) == [
        (end(pages[3]), end(pages[5])),
        (end(pages[7]), end(pages[9])),
    ]


def test_pages_in_a_wrong_order_leave_nothing_after_them(pages: list[bytes]) -> None:
    swapped = [*pages[:4], pages[6], pages[5], pages[4], *pages[7:]]
    assert gaps(b"".join(swapped)) == [(end(pages[3]), FRAMES)]


def test_what_is_no_ogg() -> None:
    assert gaps(b"") == gaps(b"OggS") == gaps(bytes(5000)) == []
