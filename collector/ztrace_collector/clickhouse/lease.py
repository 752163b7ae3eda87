"""Lease of a ClickHouse database: of the processes that send there, one works on what all of them sent.

One idea: the engine has no compare-and-set, so a process inserts a claim, waits until claims of the same
moment are visible, and reads: the earliest live claim holds. Claims are dated and expire by the engine's
clock alone, and a holder trusts its claim for a shorter time by its own clock. Where an insert takes longer
than the wait, two processes may hold for a moment. So nothing may depend on the lease but the absence of
double work: see `ztrace_collector.clickhouse.tasks` for the rules of what is done under it.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Time after which a claim that is not renewed expires, and the part of it for which its holder trusts it.
LEASE_S, TRUST_S = 30.0, 20.0
#: Interval of renewing a claim, or of looking whether another's has expired.
RENEW_S = 5.0
#: Time from a claim to the first look at it: longer than an insert takes.
WAIT_S = 3.0
#: Table of claims.
CLAIMS = "claims"

_EXPIRED = f"now64(3) - toIntervalSecond({LEASE_S:.0f})"
_LIVE = f"SELECT id FROM {CLAIMS} FINAL WHERE renewed > {_EXPIRED} ORDER BY since, id"
_CLAIM = (
    f"INSERT INTO {CLAIMS} (id, journal, since, renewed, revision) SELECT {{id:String}}, {{journal:String}},"
)
_SINCE = f"(SELECT min(since) FROM {CLAIMS} WHERE id = {{id:String}})"


class Claims(Protocol):
    """Claims on one lease, as every process sees them."""

    def read(self) -> Sequence[str]:
        """Return the ids of the live claims, the earliest first."""
        ...

    def make(self, claim: str) -> None:
        """Insert a new claim, dated by the engine's clock."""
        ...

    def renew(self, claim: str, revision: int) -> None:
        """Renew a claim, which keeps its date."""
        ...

    def withdraw(self, claim: str, revision: int) -> None:
        """Let a claim expire at once."""
        ...


class EngineClaims:
    """Table ``claims`` of a ClickHouse database."""

    def __init__(self, client: "Client", journal: str) -> None:
        """Use a connection, for the process that sends a journal."""
        self._client, self._journal = client, journal

    def read(self) -> list[str]:
        """Return the ids of the live claims, the earliest first."""
        return [claim for (claim,) in self._client.query(_LIVE).result_rows]

    def make(self, claim: str) -> None:
        """Insert a new claim, dated by the engine's clock."""
        self._write(claim, "now64(3), now64(3), 0")

    def renew(self, claim: str, revision: int) -> None:
        """Renew a claim, which keeps its date."""
        self._write(claim, f"{_SINCE}, now64(3), {revision}")

    def withdraw(self, claim: str, revision: int) -> None:
        """Let a claim expire at once."""
        self._write(claim, f"{_SINCE}, {_EXPIRED}, {revision}")

    def _write(self, claim: str, values: str) -> None:
        settings = {"async_insert": 0}
        parameters = {"id": claim, "journal": self._journal}
        self._client.command(f"{_CLAIM} {values}", parameters, settings=settings)


class Lease:
    """Part of one process in the lease of a database; it outlives connections."""

    def __init__(
        self,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Begin without a claim.

        Args:
            clock_s: the process's own clock.
            make_id: returns the id of a new claim.
        """
        self._clock_s, self._make_id = clock_s, make_id
        self._claim: str | None = None
        self._revision = 0
        #: End of the own claim if it is not renewed, at the earliest, and of the trust in it.
        self._alive_s = self._held_s = 0.0
        self._next_s = clock_s()

    def held(self) -> bool:
        """Return whether this process holds the lease."""
        return self._claim is not None and self._clock_s() < self._held_s

    def keep(self, claims: Claims) -> None:
        """Claim the lease, renew it, or look for its holder, if it is time; call it at least once a second.

        Args:
            claims: the claims of all processes.

        Raises:
            Exception: an error of the engine; the claim stays as it is.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        live = claims.read()
        if self._claim is None:
            self._next_s = now_s + RENEW_S
            if not live:
                self._claim, self._revision = self._make_id(), 0
                self._held_s, self._alive_s = 0.0, now_s + LEASE_S
                claims.make(self._claim)
                self._next_s = self._clock_s() + WAIT_S
        elif not live or live[0] != self._claim:
            # Expired, or another one is earlier. A new claim would be later than any that is there.
            self._drop()
        else:
            self._next_s = now_s + RENEW_S
            self._revision += 1
            claims.renew(self._claim, self._revision)
            if self._clock_s() >= self._alive_s:
                # It may have expired before it was renewed, and another process may hold by now.
                self._drop()
            else:
                self._held_s, self._alive_s = now_s + TRUST_S, now_s + LEASE_S

    def withdraw(self, claims: Claims) -> None:
        """Give the claim back, so that another process need not wait until it expires."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claims.withdraw(claim, self._revision + 1)

    def _drop(self) -> None:
        self._claim = None
        self._next_s = self._clock_s() + RENEW_S
