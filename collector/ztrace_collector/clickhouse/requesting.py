"""Pins, resolutions of exception groups and live profiles that people ask for in a ClickHouse database.

One idea: a request is a row, and of several the last one counts. Readers merge the rows with those that
journals sent, and thinning keeps pinned traces; no journal is changed. Requests for profiles are handed to
every journal, whose collector asks its publishers.
"""

from ztrace.errors import NotFoundError, SettingsError
from ztrace.wire import Request
from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import check_tables
from ztrace_collector.storing.requesting import MAX_RUNNING

_PIN = "INSERT INTO pins (trace_id, pinned, at) VALUES (unhex('{}'), {:d}, now64(9))"
_RESOLVE = (
    "INSERT INTO resolutions (fingerprint, is_resolved, at_ns, at) VALUES"
    " ({{fingerprint:String}}, {:d}, {}, now64(9))"
)
#: A journal tells each few seconds that it is there.
_SENDING = "SELECT max(seen) > now64(3) - toIntervalSecond(30) FROM journals"
_RUNNING = (
    "SELECT count() FROM profile_requests FINAL"
    " WHERE NOT withdrawn AND asked + toIntervalSecond(seconds) > now64(3)"
)
_ASK = (
    "INSERT INTO profile_requests (nonce, service, hz, seconds, withdrawn, asked, at) VALUES"
    " (unhex('{}'), {{service:String}}, {:d}, {:d}, 0, now64(3), now64(9))"
)
_WITHDRAW = (
    "INSERT INTO profile_requests (nonce, service, hz, seconds, withdrawn, asked, at) VALUES"
    " (unhex('{}'), '', 1, 1, 1, now64(3), now64(9))"
)


def pin(address: ClickHouseAddress, trace_id: bytes, *, undo: bool = False) -> None:
    """Pin a trace, or undo that.

    Raises:
        NotFoundError: no span of the trace is stored.
        EngineError: the database cannot be used; nothing has been changed.
    """
    with open_engine(address) as client:
        check_tables(client, address)
        known = f"SELECT 1 FROM traces WHERE trace_id = unhex('{trace_id.hex()}') LIMIT 1"
        if not client.query(known).result_rows:
            raise NotFoundError(f"no span of trace {trace_id.hex()} has ended", hint="pin it once one has")
        client.command(_PIN.format(trace_id.hex(), not undo))


def resolve(address: ClickHouseAddress, fingerprint: str, now_ns: int, *, reopen: bool = False) -> None:
    """Mark an exception group as resolved; an occurrence after that marks it as regressed.

    Args:
        address: the database.
        fingerprint: the full id of the group.
        now_ns: the time of resolution, Unix.
        reopen: mark the group as open instead.

    Raises:
        NotFoundError: there is no such group.
        EngineError: the database cannot be used; nothing has been changed.
    """
    with open_engine(address) as client:
        check_tables(client, address)
        known = {"fingerprint": fingerprint}
        ((last_ns, count),) = client.query(
            "SELECT max(last_ns), count() FROM exception_groups FINAL"
            " WHERE fingerprint = {fingerprint:String}",
            parameters=known,
        ).result_rows
        if not count:
            raise NotFoundError(f"no exception group {fingerprint}", hint="'ztrace errors' lists them")
        # An occurrence that is stored already does not come after, whatever its clock says.
        client.command(_RESOLVE.format(not reopen, max(now_ns, last_ns)), parameters=known)


def has_collector(address: ClickHouseAddress) -> bool:
    """Return whether a collector has sent to a database lately.

    Raises:
        EngineError: the database cannot be used.
    """
    with open_engine(address) as client:
        check_tables(client, address)
        return bool(client.query(_SENDING).result_rows[0][0])


def ask_for_profile(address: ClickHouseAddress, request: Request) -> None:
    """Write a request for a profile, which every collector that sends to the database hands on.

    Raises:
        SettingsError: too many requests run.
        EngineError: the database cannot be used; nothing has been changed.
    """
    with open_engine(address) as client:
        check_tables(client, address)
        ((running,),) = client.query(_RUNNING).result_rows
        if running >= MAX_RUNNING:
            raise SettingsError(f"{running} profiles are being taken", hint="wait until one ends")
        client.command(
            _ASK.format(request.nonce.hex(), request.hz, request.seconds), {"service": request.service}
        )


def withdraw_profile(address: ClickHouseAddress, nonce: bytes) -> None:
    """Withdraw a request, written or not, so that it is repeated no more; publishers that have it continue.

    Raises:
        EngineError: the database cannot be used; nothing has been changed.
    """
    with open_engine(address) as client:
        client.command(_WITHDRAW.format(nonce.hex()))
