"""Progress of a request for a profile: who was asked, who has answered, and who is gone."""

from typing import NamedTuple

from ztrace.records import DECLINED, FINISHED, STARTED
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore
from ztrace_viewer.trees.states import state_of_publisher


class Process(NamedTuple):
    """A process that a request is for.

    Attributes:
        answer: its last answer, None without one.
        is_live: it sends messages.
        samples: samples of it that are stored.
    """

    answer: int | None
    is_live: bool
    samples: int


class _Row(NamedTuple):
    state: str
    last_seen_ns: int
    samples: int
    answer: int | None


class Progress(NamedTuple):
    """State of a request.

    Attributes:
        sent_ns: when the collector first sent it, Unix; None before.
        processes: those that are live or have answered.
    """

    sent_ns: int | None
    processes: list[Process]

    @property
    def samples(self) -> int:
        """Samples that are stored of these processes."""
        return sum(process.samples for process in self.processes)

    @property
    def running(self) -> int:
        """Number of processes that take samples."""
        return sum(process.answer == STARTED and process.is_live for process in self.processes)

    @property
    def gone(self) -> int:
        """Number of processes that have ended, or have fallen silent, while they took samples."""
        return sum(process.answer == STARTED and not process.is_live for process in self.processes)

    @property
    def taken_part(self) -> int:
        """Number of processes that took samples."""
        return self._count(STARTED, FINISHED)

    @property
    def declined(self) -> int:
        """Number of processes that declined."""
        return self._count(DECLINED)

    @property
    def silent(self) -> int:
        """Number of processes that are live and have not answered."""
        return self._count(None)

    def _count(self, *answers: int | None) -> int:
        return sum(process.answer in answers for process in self.processes)


# Foreign sources, which have no sequence numbers, cannot be asked.
_PROCESSES = f"""
SELECT {
    name_columns(
        _Row,
        samples="samples_stored",
        answer="profile_answers.state",
        state="publishers.state",
    )
}
FROM publishers JOIN instances ON instances.id = publishers.instance
    LEFT JOIN profile_answers ON profile_answers.instance = publishers.instance AND nonce = :nonce
WHERE (:service = '' OR service = :service) AND (next_sequence > 0 OR spans_stored = 0)
    AND (profile_answers.state IS NOT NULL OR publishers.state = 'live')
"""


def read_progress(store: SqliteStore, nonce: bytes, service: str, now_ns: int) -> Progress:
    """Return the state of a request.

    Args:
        store: the file's store.
        nonce: of the request; of none before it is written.
        service: whose processes are asked; empty for all.
        now_ns: present time, by which a process is silent or not.
    """
    sent = store.db.execute("SELECT sent_ns FROM profile_requests WHERE nonce = ?", (nonce,)).fetchone()
    processes = []
    for row in read(store.db, _Row, _PROCESSES, {"nonce": nonce, "service": service}):
        is_live = state_of_publisher(row.state, row.last_seen_ns, now_ns) == "live"
        if is_live or row.answer is not None:
            processes.append(Process(row.answer, is_live, row.samples))
    return Progress(None if sent is None else sent[0], processes)
