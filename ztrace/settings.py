"""What the agent can be told, by arguments or by ZTRACE_* variables; arguments win.

The full list is in docs/reference/settings.md.
"""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ztrace.errors import SettingsError

#: Where the collector listens unless told otherwise; `ztrace up` binds the same.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:4710"

#: Transports that ZeroMQ can reach another process by.
_TRANSPORTS = ("tcp://", "ipc://")


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process publishes.

    Attributes:
        service: the name its spans carry.
        endpoint: the collector's ZeroMQ address.
        host: this machine's name.
        disabled: record nothing at all.
    """

    service: str
    endpoint: str
    host: str
    disabled: bool


def read_settings(
    service: str | None = None, endpoint: str | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Combine arguments, environment and defaults.

    Raises:
        SettingsError: the endpoint is not one ZeroMQ can connect to.
    """
    endpoint = endpoint or environ.get("ZTRACE_ENDPOINT") or DEFAULT_ENDPOINT
    if not isinstance(endpoint, str) or not endpoint.startswith(_TRANSPORTS):
        raise SettingsError(
            f"cannot publish to {endpoint!r}", hint=f"give ZTRACE_ENDPOINT as in {DEFAULT_ENDPOINT}"
        )
    return Settings(
        service=str(service or environ.get("ZTRACE_SERVICE") or _program_name()),
        endpoint=endpoint,
        host=socket.gethostname(),
        disabled=environ.get("ZTRACE_DISABLED", "").lower() not in ("", "0", "false", "no"),
    )


def _program_name() -> str:
    """Name the service after its script, or after its package when run with ``python -m``."""
    script = Path(sys.argv[0] if sys.argv else "")
    name = script.parent.name if script.stem == "__main__" else script.stem
    return name if name not in ("", "-c", "-m") else "python"
