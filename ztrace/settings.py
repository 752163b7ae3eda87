"""What the agent can be told, by arguments or by ZTRACE_* variables; arguments win.

The full list is in docs/reference/settings.md.
"""

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from ztrace.errors import SettingsError

#: Where the collector listens unless told otherwise; `ztrace up` binds the same.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:4710"

#: Characters of a name that is sent with each message.
_MAX_NAME = 256
#: Bytes of a Unix socket's path, by the system's definition.
_MAX_PATH = 107


class Settings(NamedTuple):
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
    if not isinstance(endpoint, str) or not _is_endpoint(endpoint):
        raise SettingsError(
            f"cannot publish to {endpoint!r}", hint=f"give ZTRACE_ENDPOINT as in {DEFAULT_ENDPOINT}"
        )
    return Settings(
        service=_fit(service or environ.get("ZTRACE_SERVICE") or _program_name()),
        endpoint=endpoint,
        host=_fit(os.uname().nodename),
        disabled=environ.get("ZTRACE_DISABLED", "").lower() not in ("", "0", "false", "no"),
    )


def _is_endpoint(endpoint: str) -> bool:
    """Tell whether ZeroMQ could connect to it; told here, it is known before there are spans."""
    transport, _, address = endpoint.partition("://")
    if transport == "ipc":
        return 0 < len(os.fsencode(address)) <= _MAX_PATH
    host, _, port = address.rpartition(":")
    return transport == "tcp" and bool(host) and port.isdecimal() and 0 < int(port) < 1 << 16


def _fit(name: object) -> str:
    """Return the name as each message can carry it: environments and file names need not be UTF-8."""
    return str(name)[:_MAX_NAME].encode("utf-8", "replace").decode("utf-8")


def _program_name() -> str:
    """Name the service after its script, or after its package when run with ``python -m``."""
    folder, script = os.path.split(sys.argv[0] if sys.argv else "")
    name = os.path.splitext(script)[0]
    if name == "__main__":
        name = os.path.basename(folder)
    return name if name not in ("", "-c", "-m") else "python"
