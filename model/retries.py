"""Requests to remote storage: tried again where that may help, for a bounded time, and counted."""

import errno
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from model.errors import UserError

PATIENCE = "DAWNCHORUS_STORAGE_PATIENCE_S"
"""In the environment: seconds for which a request is tried again."""
PATIENCE_S = 120.0
FIRST_S = 0.5
MOST_S = 32.0
"""Seconds between two tries: at first, and at most; each by chance from half of it on."""
CODES = frozenset({"408", "429", "500", "502", "503", "504"})
"""HTTP codes of what passes."""
ERRNOS = frozenset(
    {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EBUSY, errno.EAGAIN, errno.EIO}
)
LASTING = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
LOGIN = (
    "no Google credentials were found: run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key"
)
LONGEST = 300
"""Characters of what a server says."""

_lock = threading.Lock()
_retries: Counter[str] = Counter()
_gone: set[str] = set()


class StorageError(OSError):
    """Remote storage did not do what was asked; `strerror` says why, in one sentence.

    `gone`: there is no use in asking for more, for it failed for as long as is waited.
    """

    gone = False


class DeniedError(StorageError, PermissionError):
    """Remote storage does not let this user do it, and will not the next time."""

    gone = True


class HalfError(OSError):
    """An answer that ended before its end."""


def patience_s() -> float:
    """Seconds for which a request is tried again. Raises UserError for what is no such number."""
    told = os.environ.get(PATIENCE, "")
    try:
        seconds = float(told or PATIENCE_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{PATIENCE} is {told!r}; give seconds, such as {PATIENCE_S:g}.")
    return seconds


def ask(fs: Any, verb: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a method of an fsspec file system gives, tried again while its storage fails.

    `verb` is its name, or a function that makes one request of it.

    Raises what can be expected of files as Python does (FileNotFoundError, FileExistsError,
    PermissionError and the like), and StorageError for all else. Once storage was gone, each
    further request is tried once, until one succeeds.
    """
    call = getattr(fs, verb) if isinstance(verb, str) else verb
    place = str(fs.protocol)
    last = time.monotonic() + (0.0 if place in _gone or _is_nobody(fs) else patience_s())
    tries = 0
    while True:
        try:
            answer = call(*args, **kwargs)
        except Exception as error:
            kind = passing(error)
            if kind is None:
                lasting = _lasting(fs, error)
                if lasting is None:
                    raise
                raise lasting from error
            wait = min(MOST_S, FIRST_S * 2**tries) * random.uniform(0.5, 1)
            if time.monotonic() + wait > last:
                _gone.add(place)
                gone = StorageError(errno.ETIMEDOUT, _sentence(fs, error, kind))
                gone.gone = True
                raise gone from error
            with _lock:
                _retries[kind] += 1
            tries += 1
            time.sleep(wait)
        else:
            _gone.discard(place)
            return answer


def take_retries() -> dict[str, int]:
    """How often this process has tried again since this was last asked, by what had happened."""
    with _lock:
        taken = dict(_retries)
        _retries.clear()
    return taken


def passing(error: BaseException) -> str | None:
    """What an error of a file system means that may pass; None if it lasts.

    It is an HTTP code, `timeout`, `half` (an answer) or `connection`.
    """
    if isinstance(error, LASTING):
        return None
    code = getattr(error, "code", None) or getattr(error, "status", None)
    text = str(error).lower()
    if str(code) in CODES or (str(code) == "401" and "invalid credentials" in text):
        return str(code)
    if "rate limit" in text or "ratelimitexceeded" in text:
        return "429"
    if isinstance(code, int) or isinstance(error, ValueError):
        return None
    # By name: libraries that a user may not have need not be imported.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"HalfError", "ClientPayloadError", "ChunkedEncodingError", "IncompleteReadError"}:
        return "half"
    if isinstance(error, TimeoutError) or any("Timeout" in name for name in names):
        return "timeout"
    if "ProxyError" in names:
        return "502"  # So gcsfs calls it.
    hints = {"ClientError", "RequestException", "TransportError", "HTTPClientError"}
    hints |= {"ServiceRequestError", "ServiceResponseError", "ConnectionError"}
    if names & hints or getattr(error, "errno", None) in ERRNOS:
        return "connection"
    return None


def _lasting(fs: Any, error: Exception) -> OSError | None:
    """A lasting error in Python's words; None if it is in these already."""
    code, text = getattr(error, "code", None), str(error)
    if code in (401, 403, "401", "403") or text.startswith("Forbidden"):
        return DeniedError(errno.EACCES, _sentence(fs, error))
    if isinstance(error, LASTING):
        return None
    if type(error).__module__ == "builtins":
        told = isinstance(error, OSError) and error.errno is not None
        if told or not isinstance(error, OSError | ValueError):
            return None
    return StorageError(errno.EINVAL, _sentence(fs, error))


def _sentence(fs: Any, error: Exception, kind: str | None = None) -> str:
    why = " ".join(str(error).split())[:LONGEST].rstrip(".") or kind or type(error).__name__
    if kind is not None and kind not in why:
        why = f"{kind}: {why}"
    if kind is not None and not _is_nobody(fs):
        why = f"the storage gave no good answer for {patience_s():g} s ({why})"
    return f"{why}; {LOGIN}" if _is_nobody(fs) else why


def _is_nobody(fs: Any) -> bool:
    """Whether a file system at Google's found no credentials: it may read what all may."""
    found = getattr(fs, "credentials", None)
    return bool(getattr(fs, "on_google", False)) and getattr(found, "credentials", 1) is None
