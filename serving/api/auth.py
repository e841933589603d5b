"""Who may ask for what: keys where any are configured, and this machine alone where none is."""

import hmac
import re
from collections.abc import Mapping

from serving.api.errors import Forbidden, KeyRequired
from serving.settings import Settings

WATCHED = frozenset({"/livez", "/healthz", "/readyz", "/metrics"})
"""What probes of a cluster and collectors of metrics ask for, without a key and from anywhere."""

PUBLIC = WATCHED | {"/", "/docs.json", "/schema.json"}
"""What needs no key: nothing in it depends on the registry or the model's answers."""

ADMINISTRATION = frozenset(
    {
        ("POST", "/v1/steering/vectors"),
        ("DELETE", "/v1/steering/vectors"),
        ("PUT", "/v1/steering/default"),
        ("DELETE", "/v1/steering/default"),
    }
)
_LOCAL = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")


def require_allowed(settings: Settings, method: str, path: str, headers: Mapping[str, str], client: str | None) -> None:
    """Raise ``KeyRequired`` or ``Forbidden``. ``headers`` have lower-case names; ``client`` is the peer's address.

    Without API keys only this machine is answered, and no page of another site that a browser here has open: its
    requests carry another origin, or another name for this machine.
    """
    if path in WATCHED:
        return
    key = _bearer(headers.get("authorization", ""))
    if settings.admin_key is not None and _equal(key, settings.admin_key):
        return
    if not settings.api_keys:
        _require_local(headers, client)
    administers = (method, path.rstrip("/")) in ADMINISTRATION
    if administers and not settings.is_open:
        if key and settings.admin_key is not None:
            raise Forbidden("this key does not administer; use the admin key")
        if settings.admin_key is None:
            raise Forbidden("vectors and defaults cannot be changed here; start the service with TRUSTTRACE_ADMIN_KEY")
        raise KeyRequired("an admin key is needed: Authorization: Bearer <key>")
    public = path in PUBLIC or path.startswith("/playground/")
    if settings.api_keys and not public and not any(_equal(key, one) for one in settings.api_keys):
        raise KeyRequired(
            "this key is not known; send another" if key else "a key is needed: Authorization: Bearer <key>"
        )


def _require_local(headers: Mapping[str, str], client: str | None) -> None:
    host, origin = headers.get("host", ""), headers.get("origin")
    if client is not None and not _LOOPBACK.match(client):
        raise Forbidden(
            "without keys the service answers this machine alone; start it with TRUSTTRACE_API_KEYS to answer others"
        )
    if not _LOCAL.fullmatch(host):
        raise Forbidden(f"the host {host[:100]!r} is not this machine's; ask for localhost, or set TRUSTTRACE_API_KEYS")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Forbidden(f"pages of {origin[:100]!r} may not use this service; set TRUSTTRACE_API_KEYS and send a key")


def _bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _equal(given: str, key: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), key.encode())
