"""Execution of a fault: a maker sends during the fault, and all spans are accounted for afterwards.

One idea: a fault is a function of a scene, with ztrace's collector or with a receiver of the OpenTelemetry
SDK's
spans, so both are compared under the same fault.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults import identity
from tests.faults.making import Plan, Seen
from tests.faults.peer import Receiver
from tests.faults.proxy import Proxy
from tests.faults.stage import NOTHING, Collector, MakerProcess, Server, Stage

#: Largest rate of the OpenTelemetry SDK's maker: its maximum on one of two processors.
PEER_RATE = 15_000


class Length(NamedTuple):
    """Duration and scope of a fault.

    Attributes:
        short: run far shorter than the figures require, enough to detect a lost span.
        peer: run the fault with the OpenTelemetry SDK too.
    """

    short: bool = False
    peer: bool = True

    def of(self, full: float, short: float) -> float:
        """Choose the full or the short value."""
        return short if self.short else full


@dataclass
class Scene:
    """Processes that a fault acts on.

    Attributes:
        proxy: the proxy between maker and server, if any.
        noted: the fault's measurements, by name.
    """

    stage: Stage
    server: Server
    maker: MakerProcess
    proxy: Proxy | None
    stored: Callable[[], int]
    noted: dict[str, float] = field(default_factory=dict)


def set_scene(stage: Stage, collector: Collector, maker: MakerProcess, proxy: Proxy | None = None) -> Scene:
    """Return a scene with ztrace's collector."""
    return Scene(stage, collector, maker, proxy, lambda: identity.count_stored(collector.database))


class Outcome(NamedTuple):
    """Results of a fault.

    Attributes:
        lost: the number of spans made and not stored.
        by_reason: the losses by the collector's accounts.
        noted: the fault's measurements.
    """

    seen: Seen
    lost: int
    by_reason: Mapping[str, int]
    noted: Mapping[str, float]

    def share(self) -> str:
        """Format the number and share of lost spans."""
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
    """Run a fault while ztrace's maker sends, and assert the identity.

    Args:
        plan: the maker's parameters; the endpoint is filled in.
        fault: the function to run once the maker sends.
        proxied: whether to put a proxy between maker and collector.
        ack_loss: the share of acknowledgements that the proxy drops.
        started: whether the collector runs from the start.
        environment: settings of the maker.
    """
    with Stage() as stage:
        collector = stage.collector(started=started)
        proxy = stage.proxy(collector.endpoint, ack_loss) if proxied else None
        endpoint = proxy.endpoint if proxy else collector.endpoint
        maker = stage.maker(plan._replace(endpoint=endpoint), environment)
        return finish(set_scene(stage, collector, maker, proxy), collector, fault)


def let_be(scene: Scene) -> None:
    """Do nothing: the maker's load is the fault."""


def finish(scene: Scene, collector: Collector, fault: Fault, others: int = 0) -> Outcome:
    """Run the fault, wait for the maker's end, and account for every span.

    Args:
        scene: the processes.
        collector: the scene's server.
        fault: the function to run once the maker sends.
        others: the number of spans made by other processes.
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
    """Run a fault while the OpenTelemetry SDK's maker sends; its receiver counts the spans received."""
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
    """Return the loss of the OpenTelemetry SDK under the same fault, for the table."""
    if not length.peer:
        return ""
    outcome = suffer_peer(plan, fault, proxied=proxied, started=started)
    return f"{outcome.share()} at {outcome.seen.made / outcome.seen.seconds:,.0f}/s"
