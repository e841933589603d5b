"""Hub calls: tried again after a 429, a 5xx or a cut connection; what remains is said by its true cause."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined] # documented there, and not in its __all__
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from registry.counts import counted
from registry.errors import NotFound, TrustTraceError, Unavailable

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

ATTEMPTS = 5
LONGEST_WAIT = 300
"""Seconds: the hub counts requests over five minutes."""
ENDLESS = 10**9
"""Seconds: of a wait beyond, so much is told."""
SILENCE = 30
"""Seconds without a byte after which a listing counts as unanswered."""
LOCAL = "go online, or use model=smollm2, model=tiny or a directory of checkpoints"


class AccessRefused(Unavailable):
    """The hub answered, and does not give what is asked for to whoever asks."""


def pages(path: str, **parameters: str) -> Iterator[Any]:
    """The JSON answers of the hub below ``/api``: one, or as many pages as its ``Link`` headers lead to.

    Of a link its parameters are followed, never its host: a mirror may name the hub that it copies, and the user's
    token is for the one that was asked.
    """
    address, read = f"{constants.ENDPOINT}/api/{path}", list[dict[str, str]]()
    while parameters not in read:
        read.append(parameters)
        response = get_session().get(address, params=parameters, headers=build_hf_headers(), timeout=SILENCE)
        hf_raise_for_status(response)
        yield response.json()
        if "next" not in response.links:
            return
        parameters = dict(httpx2.URL(response.links["next"]["url"]).params)
    raise ValueError(f"the pages of {address} lead back to one that was read")


def tried(call: Callable[[], Answer], repo: str, revision: str = "") -> Answer:
    """What ``call`` returns, tried again where that may help. Raises a sentence with the true cause otherwise."""
    name = f"{repo}@{revision}" if revision else repo
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = _cause(error)
            wait = _wait(cause, attempt)
            if attempt + 1 == ATTEMPTS or wait > LONGEST_WAIT or not _is_passing(cause):
                raise in_words(cause, repo, name) from error
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
    stays = (_is_of_address, _is_local, _is_of_certificate)
    if isinstance(error, OfflineModeIsEnabled | FileMetadataError) or any(of(error) for of in stays):
        return False
    if isinstance(error, HfHubHTTPError):
        return _status(error) in (408, 429) or _status(error) >= 500
    return isinstance(error, httpx2.HTTPError | OSError)


def _is_of_address(error: BaseException) -> bool:
    """Whether ``HF_ENDPOINT`` is no address at all."""
    return isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL)


def _is_of_certificate(error: BaseException) -> bool:
    return isinstance(error, httpx2.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def _is_local(error: BaseException) -> bool:
    """Whether a file of this machine is the trouble: such errors name it."""
    return isinstance(error, OSError) and not isinstance(error, httpx2.HTTPError) and error.filename is not None


def _wait(error: BaseException, attempt: int) -> float:
    """Seconds until the next try, which the hub tells by ``Retry-After`` or by its own ``RateLimit``."""
    if not isinstance(error, HfHubHTTPError):
        return 0.5 * 2.0**attempt
    asked = _seconds(error.response.headers.get("Retry-After", "").strip())
    if asked is None and (limit := parse_ratelimit_headers(error.response.headers)) and limit.remaining == 0:
        asked = float(min(limit.reset_in_seconds, ENDLESS))
    return 0.5 * 2.0**attempt if asked is None else asked


def _seconds(after: str) -> float | None:
    """Of a ``Retry-After``: a number of seconds, or the date until which to wait."""
    if after.isdecimal():
        return min(float(after), ENDLESS)
    try:
        date = parsedate_to_datetime(after)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


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
    if isinstance(error, DisabledRepoError):
        return AccessRefused(f"the hub has disabled {repo}, for everybody: see {page}, or {LOCAL}")
    if status := _status(error):
        return _status_in_words(error, status, name, page)
    if _is_of_address(error):
        return Unavailable(
            f"HF_ENDPOINT is {constants.ENDPOINT!r}, which is no address ({_brief(error)}); write it as "
            "https://huggingface.co, or unset it"
        )
    if _is_of_certificate(error):
        return Unavailable(
            f"the certificate of {constants.ENDPOINT} is not trusted here ({_brief(error)}); set SSL_CERT_FILE to the "
            "certificates of your network"
        )
    if isinstance(error, UnicodeEncodeError):
        return AccessRefused("your token for the hub holds characters that no token has; run `hf auth login`")
    if isinstance(error, OSError) and _is_local(error):
        return Unavailable(
            f"{error.filename} cannot be written ({error.strerror}); set HF_HUB_CACHE to a directory that can"
        )
    if isinstance(error, FileMetadataError) or not isinstance(error, httpx2.HTTPError | OSError):
        return Unavailable(
            f"{constants.ENDPOINT} does not answer as the hub does when asked for {name} ({_brief(error)}); log in to "
            "the network, or mend HF_ENDPOINT"
        )
    return _unreached(error, name)


def _status_in_words(error: BaseException, status: int, name: str, page: str) -> TrustTraceError:
    if status == 401:
        return AccessRefused(f"the hub refuses your token for {name}: it has expired or is wrong; run `hf auth login`")
    if status == 403:
        return AccessRefused(f"the hub forbids {name} to your token; see {page}")
    wait = _wait(error, 0)
    if status == 429 or wait > LONGEST_WAIT:
        minutes = math.ceil(max(wait, LONGEST_WAIT) / 60)
        return Unavailable(
            f"the hub asks to wait before {name} is asked for again ({status}); start again in "
            f"{counted(minutes, 'minute')}"
        )
    if _is_passing(error):
        return _unreached(error, name)
    return Unavailable(
        f"{constants.ENDPOINT} refuses {name} ({_brief(error)}); see {page}, or mend HF_ENDPOINT if it is set"
    )


def _unreached(error: BaseException, name: str) -> Unavailable:
    return Unavailable(
        f"the hub could not be reached for {name} in {ATTEMPTS} tries ({_brief(error)}); {LOCAL}, or set "
        "HF_HUB_OFFLINE=1 to use what is cached"
    )
