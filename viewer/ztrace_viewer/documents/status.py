"""Documents of ``status`` and ``keys list``."""

from typing import TypedDict

from ztrace_viewer.documents.trees import Loss


class Publisher(TypedDict):
    """One incarnation of a publisher, with the account of its spans.

    Each span created is stored, lost, elsewhere (delivered before this database first heard from the
    publisher) or waiting (in flight, or in a process that fell silent). Extra: the reasons of the losses:
    no room in the queue (dropped) or in the window (tombstoned), never received (missing), undelivered at the
    end of the process (undelivered) or at its crash (crashed), rejected as invalid (refused). Samples of
    stacks have the same account, without reasons.
    """

    service: str
    host: str
    pid: int
    processes: int
    state: str
    spans_created: int
    spans_stored: int
    spans_lost: int
    spans_dropped: int
    spans_tombstoned: int
    spans_missing: int
    spans_undelivered: int
    spans_crashed: int
    spans_refused: int
    spans_elsewhere: int
    spans_waiting: int
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int
    last_seen_ns: int


class ServicePublishers(TypedDict):
    """Sums over the publishers of a service: their number, in all and in each state, and their spans."""

    service: str
    publishers: int
    live: int
    silent: int
    ended: int
    crashed: int
    spans_created: int
    spans_stored: int
    spans_lost: int
    last_seen_ns: int


class Refusal(TypedDict):
    """Number of messages and spans that were refused or corrected for one reason, with the last."""

    reason: str
    count: int
    last_ns: int
    detail: str


class Destination(TypedDict):
    """A destination that spans are forwarded to: sent, refused, deleted before (skipped), and waiting.

    ``state`` is one of up to date, behind, refusing, failing, off.
    """

    url: str
    protocol: str
    state: str
    spans_sent: int
    spans_refused: int
    spans_skipped: int
    spans_waiting: int
    waiting_since_ns: int | None
    since_ns: int
    success_ns: int | None
    failing_since_ns: int | None
    error: str | None
    error_ns: int | None
    refusals: list[Refusal]


class StatusDocument(TypedDict):
    """``status``: what is stored, and what is not and why.

    Extra: the spans created by all publishers, and of these the ones elsewhere, waiting, expired and
    thinned; the traces thinned; the
    unfinished spans that run, that ended with their process, and whose end is lost; the bytes of the file and
    of its log; the number of losses and of publishers, and a page of each, the latest first; the sums of each
    service; the part of ``rejected`` that the collector counted, with the last detail; the destinations.
    """

    spans_created: int
    spans_stored: int
    spans_expired: int
    spans_thinned: int
    traces_stored: int
    traces_thinned: int
    spans_lost: int
    spans_elsewhere: int
    spans_waiting: int
    spans_unsettled: int
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int
    unfinished: int
    unfinished_running: int
    unfinished_ended: int
    unfinished_lost: int
    database_bytes: int
    log_bytes: int
    loss_count: int
    losses: list[Loss]
    publisher_count: int
    publishers: list[Publisher]
    services: list[ServicePublishers]
    rejected: dict[str, int]
    refusals: list[Refusal]
    destinations: list[Destination]


class Key(TypedDict):
    """A service's key; ``state`` is ``active`` or ``revoked``."""

    service: str
    id: str
    state: str
    made_ns: int
    revoked_ns: int | None


class KeysDocument(TypedDict):
    """``keys list``: the oldest key first."""

    keys: list[Key]
