"""Settings of a client, the same for asyncio and for threads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypedDict

from ztrace.enrolment import Enrolment
from ztrace.errors import SettingsError
from ztrace.rpc import failures
from ztrace.rpc.hooks import Hook, Hooks, make_hooks

#: Seconds that a call waits for its answer.
TIMEOUT_S: Final = 30.0
#: Period of heartbeats, zerorpc's default.
HEARTBEAT_S: Final = 5.0


class Named(TypedDict, total=False):
    """Settings that a client takes by name; see `ztrace.rpc.Client`."""

    timeout_s: float | None
    heartbeat_s: float | None
    raises: Iterable[type[BaseException]]
    key: str | None
    before_call: Hook | None
    after_call: Hook | None


class Settings(NamedTuple):
    """Settings as the connections of a client take them, in their order."""

    endpoints: Sequence[str]
    timeout_s: float | None
    heartbeat_s: float | None
    allowed: Mapping[str, type[BaseException]]
    key: Enrolment | None
    hooks: Hooks | None


def read_settings(
    endpoints: Sequence[str],
    timeout_s: float | None,
    heartbeat_s: float | None,
    raises: Iterable[type[BaseException]],
    key: str | None,
    before_call: Hook | None,
    after_call: Hook | None,
) -> Settings:
    """Validate the settings of a client, given as its parameters.

    Raises:
        SettingsError: there is no address, or the key is damaged.
    """
    if not endpoints:
        raise SettingsError("a client needs an endpoint", hint="as tcp://127.0.0.1:4242")
    return Settings(
        endpoints,
        timeout_s,
        heartbeat_s,
        failures.name_classes(raises),
        None if key is None else Enrolment.parse(key),
        make_hooks(before_call, after_call),
    )
