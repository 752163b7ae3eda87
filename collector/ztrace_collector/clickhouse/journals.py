"""Progress of every journal, as the processes that send tell each other: the table ``journals``.

One idea: arrival times of a journal's blocks only grow, and a journal announces a time once everything that
arrived by then is in all tables, copies included. So what is new of a journal is what arrived after the time
that was looked at last, up to the announced one, and nothing is missed, however late a block is.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_ANNOUNCE = (
    "INSERT INTO journals (journal, delivered, seen)"
    " SELECT {journal:String}, fromUnixTimestamp64Milli({at:Int64}, 'UTC'), now64(3)"
)
_DELIVERED = "SELECT toUnixTimestamp64Milli(max(delivered)) FROM journals WHERE journal = {journal:String}"


def announce(client: "Client", journal: str, delivered_ms: int) -> None:
    """Tell that everything of a journal is stored that arrived by a time, Unix."""
    values = {"journal": journal, "at": delivered_ms}
    client.command(_ANNOUNCE, values, settings={"async_insert": 0})


def read_delivered(client: "Client", journal: str) -> int:
    """Return the time that a journal has announced last, 0 before the first."""
    return int(client.query(_DELIVERED, {"journal": journal}).result_rows[0][0])


def read_journals(client: "Client") -> dict[str, int]:
    """Return the time that each journal has announced last."""
    query = "SELECT journal, toUnixTimestamp64Milli(max(delivered)) FROM journals GROUP BY journal"
    return {journal: int(delivered_ms) for journal, delivered_ms in client.query(query).result_rows}
