"""Which errors of storage pass, and for how long they are waited out."""

import errno
from typing import Any

import aiohttp
import pytest
import requests
from fsspec.exceptions import FSTimeoutError
from gcsfs.retry import HttpError

from model import retries
from model.errors import UserError
from model.retries import PATIENCE, DeniedError, StorageError, ask, passing, take_retries


class Shop:
    """A file system that raises what it is told, one error after the other."""

    protocol = "shop"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def sell(self, what: str) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return what


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_S", 0.001)
    monkeypatch.setattr(retries, "_gone", set())
    take_retries()


def http(code: int, message: str = "why") -> HttpError:
    return HttpError({"code": code, "message": message})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (http(503), "503"),
        (http(429), "429"),
        (http(408), "408"),
        (http(401, "Invalid Credentials"), "401"),
        (OSError("Forbidden: b/x\nRate Limit Exceeded"), "429"),
        (requests.exceptions.ProxyError(), "502"),
        (aiohttp.ClientPayloadError("not all"), "half"),
        (aiohttp.ServerDisconnectedError(), "connection"),
        (aiohttp.SocketTimeoutError(), "timeout"),
        (FSTimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (OSError(errno.EBUSY, "slow down"), "connection"),
        (http(400), None),
        (http(401, "Anonymous caller"), None),
        (http(501), None),
        (OSError("Forbidden: b/x\nno"), None),
        (ValueError("Bad Request"), None),
        (FileNotFoundError("x"), None),
        (FileExistsError("x"), None),
        (PermissionError(errno.EACCES, "x"), None),
        (OSError(errno.ENOSPC, "full"), None),
        (TypeError("ours"), None),
    ],
)
def test_what_passes(error: Exception, kind: str | None) -> None:
    assert passing(error) == kind


def test_what_passes_is_waited_out_and_counted() -> None:
    shop = Shop(http(503), http(503), TimeoutError(), ConnectionResetError())
    assert ask(shop, "sell", "bread") == "bread"
    assert take_retries() == {"503": 2, "timeout": 1, "connection": 1}
    assert take_retries() == {}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError("Forbidden: b/x\nno right"), DeniedError, "Forbidden: b/x no right"),
        (http(403), PermissionError, "why, 403"),
        (http(412, "a condition"), StorageError, "a condition, 412"),
        (ValueError("Bad Request: b/x"), StorageError, "Bad Request"),
        (OSError("who knows"), StorageError, "who knows"),
        (FileNotFoundError("x"), FileNotFoundError, "x"),
        (OSError(errno.ENOSPC, "full"), OSError, "full"),
        (TypeError("ours"), TypeError, "ours"),
    ],
)
def test_what_lasts_is_told_at_once(error: Exception, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        ask(Shop(error, error), "sell", "bread")
    assert not take_retries()
    if isinstance(caught.value, StorageError):
        assert caught.value.errno and text in caught.value.strerror, "pyarrow's errors have none"


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0.2")
    endless: Any = [http(503)] * 10_000
    with pytest.raises(StorageError, match=r"for 0\.2 s .*503") as caught:
        ask(Shop(*endless), "sell", "bread")
    assert caught.value.gone and take_retries()["503"] > 2
    with pytest.raises(StorageError):
        ask(Shop(http(503)), "sell", "bread")
    assert not take_retries(), "one try, once it is gone"
    assert ask(Shop(), "sell", "bread") == "bread"
    assert ask(Shop(http(503)), "sell", "bread") == "bread"


@pytest.mark.parametrize("told", ["soon", "-1", "inf", "nan"])
def test_patience_is_seconds(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, told)
    with pytest.raises(UserError, match=f"{PATIENCE} is '{told}'"):
        ask(Shop(), "sell", "bread")
