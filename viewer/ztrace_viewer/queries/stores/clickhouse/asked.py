"""Requests for profiles in ClickHouse, which every collector hands to its publishers."""

from ztrace_viewer.queries.stores.asked import AskedRow
from ztrace_viewer.queries.stores.clickhouse.arriving import Arriving
from ztrace_viewer.queries.stores.clickhouse.reading import write_id


class Asked(Arriving):
    """Answers about requests for profiles."""

    def request_sent(self, nonce: bytes) -> int | None:
        """Return when a collector first sent a request to publishers, None before."""
        query = f"SELECT min(sent_ns) FROM sent_requests FINAL WHERE nonce = {write_id(nonce)}"
        ((sent_ns,),) = self.reader.query(query)
        return None if sent_ns is None else int(sent_ns)

    def asked_processes(self, nonce: bytes, service: str) -> list[AskedRow]:
        """Return the processes of a service, or of all if empty, that are live or have answered."""
        answers = (
            "SELECT instance, toNullable(max(state)) AS answer FROM profile_answers FINAL"
            f" WHERE nonce = {write_id(nonce)} GROUP BY instance"
        )
        # A process that moved has an account with each of its collectors, of which the latest says how it is.
        columns = (
            "argMax(p.state, p.last_seen_ns) AS state, max(p.last_seen_ns) AS last_seen_ns,"
            " sum(p.samples_stored) AS samples, max(p.next_sequence) AS sequence,"
            " sum(p.spans_stored) AS stored"
        )
        processes = f"SELECT instance, {columns} FROM publishers AS p FINAL GROUP BY instance"
        return self.reader.rows(
            AskedRow,
            f"FROM ({processes}) AS p INNER JOIN (SELECT id, service FROM instances FINAL) AS i"
            f" ON i.id = p.instance LEFT JOIN ({answers}) AS a ON a.instance = p.instance"
            " WHERE ({service:String} = '' OR service = {service:String})"
            " AND NOT (sequence = 0 AND stored > 0) AND (answer IS NOT NULL OR state = 'live')",
            {"service": service},
        )
