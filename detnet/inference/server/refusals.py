"""What a server answers where it gives no objects: a status, a reason in words, never a trace."""

import json
import math

# Of every answer. Nothing may be loaded but the server's own page and its own files.
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class RefusedRequest(Exception):
    """A request that gets a reason instead of objects.

    Args:
        status: HTTP's.
        reason: in words, for whoever sent it.
        retry_after_s: when to come again, where that may help.
    """

    def __init__(self, status: int, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> bytes:
        """As JSON."""
        return json.dumps({"status": self.status, "reason": self.reason}).encode()

    @property
    def headers(self) -> dict[str, str]:
        """Those that belong to it, besides everyone's."""
        found = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            found["retry-after"] = str(min(60, max(1, math.ceil(self.retry_after_s))))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found
