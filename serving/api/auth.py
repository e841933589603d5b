"""Access: API keys and an admin key where they are configured, localhost alone where none is."""

import hashlib
import hmac
import re
from collections.abc import Mapping

from serving.api.errors import Forbidden, KeyRequired
from serving.settings import Settings

WATCHED = frozenset({"/livez", "/healthz", "/health", "/readyz", "/metrics"})
"""Paths for a cluster's probes and metric collectors: without a key and from anywhere."""

PUBLIC = WATCHED | {"/", "/docs", "/docs.json", "/schema.json"}
"""Paths that need no key: nothing in them depends on the registry or on the model's answers."""

WEBHOOK = "/v1/webhooks/mlflow"
"""Path whose requests carry a signature in place of a key; they may come from anywhere."""

ADMINISTRATION = frozenset(
    {
        ("POST", "/v1/steering/vectors"),
        ("DELETE", "/v1/steering/vectors"),
        ("PUT", "/v1/steering/default"),
        ("DELETE", "/v1/steering/default"),
        ("POST", "/v1/hidden_states"),
    }
)
_FORWARDING = re.compile(
    r"via|cdn-loop|x-scheme|remote-user|(.*-)?forward(ed)?(-.*)?|(.*-)?(client|connection|connecting|real|remote|socket)-?"
    r"(ip|addr)|x-(originating|proxyuser|cluster-client|appengine-user)-ip|(cf|fly|ngrok|tailscale|x-amzn|x-appengine|"
    r"x-auth-request|x-azure|x-envoy|x-goog|x-original)-.*"
)
"""Headers by which a proxy says that the client is another machine, or that it is a proxy."""

_LOCAL = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")


def require_allowed(
    settings: Settings, method: str, path: str, headers: Mapping[str, str], client: str | None, version: str = "1.1"
) -> None:
    """Raise ``KeyRequired`` or ``Forbidden``. ``headers`` have lower-case names; ``client`` is the peer's address and
    ``version`` that of HTTP.

    Without API keys the service accepts requests from localhost only. It refuses pages of other sites that a browser on
    this machine has open, which carry another origin or another name of this machine, and whatever a proxy forwards.
    """
    if path in WATCHED or path == WEBHOOK:
        return
    key = _bearer(headers)
    if _is_admin_key(settings, key):
        return
    if not settings.api_keys:
        _require_local(settings, headers, client, version)
    administers = (method, path.rstrip("/")) in ADMINISTRATION
    if administers and not settings.is_open:
        if key and settings.admin_key is not None:
            raise Forbidden("this key is not the admin key, which this route needs: send the admin key")
        if settings.admin_key is None:
            raise Forbidden("this route needs an admin key, and there is none here; start with TRUSTTRACE_ADMIN_KEY")
        raise KeyRequired("an admin key is needed: Authorization: Bearer <key>")
    public = path in PUBLIC or path.startswith("/playground/")
    if settings.api_keys and not public and not _is_api_key(settings, key):
        raise KeyRequired(
            "this key is not known; send another" if key else "a key is needed: Authorization: Bearer <key>"
        )


def is_trusted(settings: Settings, headers: Mapping[str, str], client: str | None, version: str = "1.1") -> bool:
    """Whether a client may read messages that name paths and hosts: it holds a key, or is local where none is set."""
    key = _bearer(headers)
    if _is_admin_key(settings, key):
        return True
    if settings.api_keys:
        return _is_api_key(settings, key)
    try:
        _require_local(settings, headers, client, version)
    except Forbidden:
        return False
    return True


def client_name(settings: Settings, headers: Mapping[str, str], client: str | None) -> str:
    """A name of the client for its share: a digest of its key, or its address where that key was not given out here,
    so that nobody is many clients by inventing keys.
    """
    key = _bearer(headers)
    if _is_admin_key(settings, key) or _is_api_key(settings, key):
        return f"key {hashlib.sha256(key.encode()).hexdigest()[:12]}"
    return client or "unknown"


def _require_local(settings: Settings, headers: Mapping[str, str], client: str | None, version: str) -> None:
    host, origin = headers.get("host", ""), headers.get("origin")
    sign = next((f"header {name}" for name in headers if _FORWARDING.fullmatch(name.replace("_", "-"))), None)
    if version == "1.0":  # all that nginx shows of itself where nobody tells it otherwise
        sign = "HTTP/1.0"
    if sign is not None:
        raise Forbidden(
            f"this request came through a proxy ({sign}), and without API keys the service accepts requests from "
            "localhost only; start it with TRUSTTRACE_API_KEYS"
        )
    if client is not None and not _LOOPBACK.match(client):
        raise Forbidden(
            "without API keys the service accepts requests from localhost only; start it with TRUSTTRACE_API_KEYS"
        )
    if not _LOCAL.fullmatch(host):
        raise Forbidden(f"the host {host[:100]!r} is not this machine; use localhost, or set TRUSTTRACE_API_KEYS")
    own = origin is None or origin.partition("://")[2].lower() == host.lower()
    if not own and origin not in settings.allowed_origins:
        raise Forbidden(
            f"pages of {str(origin)[:100]!r} may not use this service; set TRUSTTRACE_API_KEYS and send a key, or add "
            "the origin to TRUSTTRACE_ALLOWED_ORIGINS"
        )


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _is_admin_key(settings: Settings, key: str) -> bool:
    return settings.admin_key is not None and _equal(key, settings.admin_key)


def _is_api_key(settings: Settings, key: str) -> bool:
    return any(_equal(key, known) for known in settings.api_keys)


def _equal(given: str, key: str) -> bool:
    """Equality in a time that does not tell how much of the key is right."""
    return hmac.compare_digest(given.encode(errors="replace"), key.encode())
