"""How a fault is done: a maker sends while it happens, and then the spans are counted.

One idea: what is done is one function of a scene, with ztrace's collector in it or with the OpenTelemetry
SDK's receiver, so that what is compared has suffered the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults import identity
from tests.faults.making import Plan, Seen
from tests.faults.peer import Receiver
from tests.faults.proxy import Proxy
from tests.faults.stage import NOTHING, Collector, MakerProcess, Server, Stage

#: Spans a second of the OpenTelemetry SDK's maker at most: with one processor of these two it makes no more.
PEER_RATE = 15_000


class Length(NamedTuple):
    """How long a fault goes on.

    Attributes:
        short: much shorter than the figures ask for: enough to see that nothing is lost.
        peer: do the same to the OpenTelemetry SDK.
    """

    short: bool = False
    peer: bool = True

    def of(self, full: float, short: float) -> float:
        """Choose a number of seconds, or of anything else."""
        return short if self.short else full


@dataclass
class Scene:
    """What a fault is done to.

    Attributes:
        proxy: between the maker and the server; None if there is none.
        noted: what the fault measures, by name.
    """

    stage: Stage
    server: Server
    maker: MakerProcess
    proxy: Proxy | None
    stored: Callable[[], int]
    noted: dict[str, float] = field(default_factory=dict)


def set_scene(stage: Stage, collector: Collector, maker: MakerProcess, proxy: Proxy | None = None) -> Scene:
    """Return the scene of ztrace's collector."""
    return Scene(stage, collector, maker, proxy, lambda: identity.count_stored(collector.database))


class Outcome(NamedTuple):
    """What is left.

    Attributes:
        lost: spans made that are not stored.
        by_reason: these, as the collector accounts for them.
        noted: what the fault measured.
    """

    seen: Seen
    lost: int
    by_reason: Mapping[str, int]
    noted: Mapping[str, float]

    def share(self) -> str:
        """Say how much is lost."""
        if not self.lost:
            return "0 lost"
        return f"{self.lost:,} lost ({100 * self.lost / self.seen.made:.1f}%)"


Fault = Callable[[Scene], None]


def suffer(
    plan: Plan,
    fault: Fault,
    *,
    proxied: bool = False,
    ack_loss: float = 0.0,
    started: bool = True,
    environment: Mapping[str, str] = NOTHING,
) -> Outcome:
    """Do a fault while ztrace's maker sends, and see that the identity holds.

    Args:
        plan: what the maker does; its endpoint is filled in.
        fault: what is done once it sends.
        proxied: have a proxy between the two.
        ack_loss: which part of the acknowledgements the proxy drops.
        started: whether the collector is there from the beginning.
        environment: settings of the maker.
    """
    with Stage() as stage:
        collector = stage.collector(started=started)
        proxy = stage.proxy(collector.endpoint, ack_loss) if proxied else None
        endpoint = proxy.endpoint if proxy else collector.endpoint
        maker = stage.maker(plan._replace(endpoint=endpoint), environment)
        return finish(set_scene(stage, collector, maker, proxy), collector, fault)


def let_be(scene: Scene) -> None:
    """Do nothing: what the maker does is the fault."""


def finish(scene: Scene, collector: Collector, fault: Fault, others: int = 0) -> Outcome:
    """Do the fault, let the maker come to its end, and account for everything.

    Args:
        scene: the processes.
        collector: the scene's server.
        fault: what is done once the maker sends.
        others: spans that others have made.
    """
    scene.maker.go()
    fault(scene)
    seen = scene.maker.wait()
    collector.stop()
    accounts = identity.check(collector.database, seen.made + others)
    by_reason = {
        reason: sum(account.lost[reason] for account in accounts)
        for reason in accounts[0].lost
        if any(account.lost[reason] for account in accounts)
    }
    return Outcome(seen, identity.lost(accounts), by_reason, scene.noted)


def suffer_peer(plan: Plan, fault: Fault, *, proxied: bool = False, started: bool = True) -> Outcome:
    """Do a fault while the OpenTelemetry SDK's maker sends; its receiver counts what arrives."""
    with Stage() as stage:
        receiver = Receiver(stage)
        if started:
            receiver.start()
        endpoint = receiver.endpoint
        proxy = stage.proxy(endpoint) if proxied else None
        if proxy is not None:
            endpoint = f"http{proxy.endpoint.removeprefix('tcp')}/v1/traces"
        plan = plan._replace(endpoint=endpoint, rate=min(plan.rate, PEER_RATE), tracer="opentelemetry")
        maker = stage.maker(plan)
        scene = Scene(stage, receiver, maker, proxy, lambda: receiver.stored)
        maker.go()
        fault(scene)
        seen = maker.wait()
        return Outcome(seen, seen.made - receiver.stored, {}, scene.noted)


def compare(length: Length, plan: Plan, fault: Fault, *, proxied: bool = False, started: bool = True) -> str:
    """Return what becomes of the OpenTelemetry SDK's spans, for the table."""
    if not length.peer:
        return ""
    outcome = suffer_peer(plan, fault, proxied=proxied, started=started)
    return f"{outcome.share()} at {outcome.seen.made / outcome.seen.seconds:,.0f}/s"
