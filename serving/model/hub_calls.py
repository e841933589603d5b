"""Hub calls: tried again after a 429, a 5xx or a cut connection; what remains is said by its true cause."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is of httpx2, before release 2 of httpx
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from registry.errors import NotFound, TrustTraceError, Unavailable

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

ATTEMPTS = 5
LONGEST_WAIT = 300
"""Seconds: the hub counts requests over five minutes."""
LOCAL = "go online, or use model=smollm2, model=tiny or a directory of checkpoints"


class AccessRefused(Unavailable):
    """The hub answered, and does not give what is asked for to whoever asks."""


def tried(call: Callable[[], Answer], repo: str, revision: str = "") -> Answer:
    """What ``call`` returns, tried again where that may help. Raises a sentence with the true cause otherwise."""
    name = f"{repo}@{revision}" if revision else repo
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except (HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = _cause(error)
            if attempt + 1 == ATTEMPTS or not _is_passing(cause):
                raise in_words(cause, repo, name) from error
            wait = _wait(cause, attempt)
            if wait > 1:
                logger.warning("the hub did not give %s (%s); asked again in %.0f s", name, _brief(cause), wait)
            time.sleep(wait)
    raise AssertionError


def _cause(error: BaseException) -> BaseException:
    """What the library wraps into "not found locally", or the error itself."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int:
    return int(error.response.status_code) if isinstance(error, HfHubHTTPError) else 0


def _is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment."""
    if isinstance(error, OfflineModeIsEnabled | FileMetadataError):
        return False
    if isinstance(error, HfHubHTTPError):
        return _status(error) in (408, 429) or _status(error) >= 500
    return isinstance(error, HTTPError | OSError)


def _wait(error: BaseException, attempt: int) -> float:
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST_WAIT) if asked.isdecimal() else 0.5 * 2**attempt


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def in_words(error: BaseException, repo: str, name: str) -> TrustTraceError:
    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, OfflineModeIsEnabled):
        return Unavailable(f"{name} is not cached and HF_HUB_OFFLINE is set; unset it, or {LOCAL}")
    if isinstance(error, GatedRepoError):
        return AccessRefused(f"{repo} is gated: accept its terms at {page}, then log in with `hf auth login`")
    if isinstance(error, RevisionNotFoundError | RemoteEntryNotFoundError):
        return NotFound(f"the hub no longer has {name}, or a file of it; checkpoints=all lists what it has")
    if isinstance(error, RepositoryNotFoundError):
        return AccessRefused(
            f"the hub has no model {repo!r}, or it is private: check the spelling, or log in with `hf auth login`"
        )
    if _status(error) == 401:
        return AccessRefused(f"the hub refuses your token for {name}: it has expired or is wrong; run `hf auth login`")
    if _status(error) == 403:
        return AccessRefused(f"the hub forbids {name} to your token; see {page}")
    if _status(error) == 429:
        return Unavailable(f"the hub asks to wait before {name} is asked for again (429); start again in five minutes")
    if isinstance(error, FileMetadataError) or not isinstance(error, HTTPError | OSError):
        return Unavailable(
            f"{constants.ENDPOINT} does not answer as the hub does when asked for {name} ({_brief(error)}); log in to "
            "the network, or mend HF_ENDPOINT"
        )
    return Unavailable(
        f"the hub could not be reached for {name} in {ATTEMPTS} tries ({_brief(error)}); {LOCAL}, or set "
        "HF_HUB_OFFLINE=1 to use what is cached"
    )
