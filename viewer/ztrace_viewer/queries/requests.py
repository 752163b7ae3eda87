"""Progress of a request for a profile: who was asked, who has answered, and who is gone."""

from typing import NamedTuple

from ztrace.records import DECLINED, FINISHED, STARTED
from ztrace_viewer.queries.stores.store import Store
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


class Progress(NamedTuple):
    """State of a request.

    Attributes:
        sent_ns: when a collector first sent it, Unix; None before.
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


def read_progress(store: Store, nonce: bytes, service: str, now_ns: int) -> Progress:
    """Return the state of a request.

    Args:
        store: the store.
        nonce: of the request; of none before it is written.
        service: whose processes are asked; empty for all.
        now_ns: present time, by which a process is silent or not.
    """
    processes = []
    for row in store.asked_processes(nonce, service):
        is_live = state_of_publisher(row.state, row.last_seen_ns, now_ns) == "live"
        if is_live or row.answer is not None:
            processes.append(Process(row.answer, is_live, row.samples))
    return Progress(store.request_sent(nonce), processes)
