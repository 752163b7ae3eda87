"""Temporary faults of the collector and of the network to it, after which no span may be missing."""

import random
import time

from tests.faults.making import Plan
from tests.faults.running import Length, Scene, compare, suffer
from tests.faults.stage import wait_for
from tests.faults.table import Row


def kill(length: Length) -> Row:
    """Kill the collector repeatedly, and restart it at once."""
    kills = int(length.of(20, 3))
    plan = Plan("", rate=int(length.of(20_000, 5_000)), seconds=600.0)

    def fault(scene: Scene) -> None:
        for _ in range(kills):
            before = scene.stored()
            # Killed while it stores, not while it starts.
            wait_for(lambda before=before: scene.stored() > before, "spans are stored")  # type: ignore[misc]
            time.sleep(0.3)
            scene.server.kill()
            scene.server.start(wait=False)
        scene.maker.board["stop"] = 1

    outcome = suffer(plan, fault)
    return Row(
        f"collector kill -9 {kills} times at {plan.rate:,} spans/s",
        "0 lost, 0 duplicate rows",
        f"{outcome.share()} of {outcome.seen.made:,}, 0 duplicate rows",
        outcome.lost,
        not outcome.lost,
        compare(length, plan, fault),
    )


def come_late(length: Length) -> Row:
    """Start the collector long after the first span."""
    late_s = length.of(60.0, 2.0)
    plan = Plan("", rate=5_000, seconds=late_s + length.of(2.0, 0.5))

    def fault(scene: Scene) -> None:
        time.sleep(late_s)
        scene.server.start()

    outcome = suffer(plan, fault, started=False)
    return Row(
        f"collector {late_s:.0f} s late at {plan.rate:,} spans/s",
        "0 lost",
        f"{outcome.share()} of {outcome.seen.made:,}",
        outcome.lost,
        not outcome.lost,
        compare(length, plan, fault, started=False),
    )


def black_hole(length: Length) -> Row:
    """Drop all traffic for a while without closing connections."""
    hole_s = length.of(10.0, 2.5)
    plan = Plan("", rate=5_000, seconds=hole_s + length.of(8.0, 1.5))

    def fault(scene: Scene) -> None:
        proxy = scene.proxy
        assert proxy is not None
        wait_for(scene.stored, "spans are stored")
        time.sleep(0.5)
        proxy.hole = True
        begun_s = time.monotonic()
        while time.monotonic() < begun_s + hole_s:
            if "noticed_s" not in scene.noted and proxy.is_called():
                scene.noted["noticed_s"] = time.monotonic() - begun_s
            time.sleep(0.01)
        made = scene.maker.made
        proxy.hole = False
        ended_s = time.monotonic()
        while scene.stored() < made and time.monotonic() < ended_s + 8:
            time.sleep(0.02)
        scene.noted["drained_s"] = time.monotonic() - ended_s

    outcome = suffer(plan, fault, proxied=True)
    noticed_s = outcome.noted.get("noticed_s", float("inf"))
    drained_s = outcome.noted["drained_s"]
    return Row(
        f"black hole of {hole_s:.0f} s",
        "noticed within 3 s, 0 lost, drained within 5 s",
        f"noticed after {noticed_s:.1f} s, {outcome.share()} of {outcome.seen.made:,},"
        f" drained after {drained_s:.1f} s",
        outcome.lost,
        noticed_s <= 3 and drained_s <= 5 and not outcome.lost,
        compare(length, plan, fault, proxied=True),
    )


def stop(length: Length) -> Row:
    """Stop the collector for a while, with its connections open."""
    stopped_s = length.of(10.0, 2.0)
    plan = Plan("", rate=5_000, seconds=stopped_s + length.of(4.0, 1.0))

    def fault(scene: Scene) -> None:
        wait_for(scene.stored, "spans are stored")
        scene.server.pause()
        time.sleep(stopped_s)
        scene.server.resume()

    outcome = suffer(plan, fault)
    return Row(
        f"collector stopped for {stopped_s:.0f} s",
        "0 lost",
        f"{outcome.share()} of {outcome.seen.made:,}",
        outcome.lost,
        not outcome.lost,
        compare(length, plan, fault),
    )


def lose_acknowledgements(length: Length) -> Row:
    """Drop half of the collector's acknowledgements."""
    plan = Plan("", rate=5_000, seconds=length.of(20.0, 3.0))
    dropped = 0

    def fault(scene: Scene) -> None:
        nonlocal dropped
        assert scene.proxy is not None
        time.sleep(plan.seconds)
        dropped = scene.proxy.dropped_acks
        scene.proxy.ack_loss = 0.0

    outcome = suffer(plan, fault, proxied=True, ack_loss=0.5)
    assert dropped
    return Row(
        "half of the acknowledgements dropped",
        "0 lost, 0 duplicate rows",
        f"{outcome.share()} of {outcome.seen.made:,}, 0 duplicate rows, {dropped:,} acknowledgements dropped",
        outcome.lost,
        not outcome.lost,
    )


def cut(length: Length) -> Row:
    """Cut the connection repeatedly, over a network with latency."""
    plan = Plan("", rate=5_000, seconds=length.of(15.0, 3.0))

    def fault(scene: Scene) -> None:
        proxy = scene.proxy
        assert proxy is not None
        proxy.delay_s = 0.05
        end_s = time.monotonic() + plan.seconds
        while time.monotonic() < end_s:
            time.sleep(0.5)
            proxy.cut()

    outcome = suffer(plan, fault, proxied=True)
    return Row(
        "connection cut twice a second, 50 ms each way",
        "0 lost, 0 duplicate rows",
        f"{outcome.share()} of {outcome.seen.made:,}, 0 duplicate rows",
        outcome.lost,
        not outcome.lost,
        compare(length, plan, fault, proxied=True),
    )


def mix(length: Length) -> Row:
    """Apply these faults in random order, some of them concurrently."""
    count = int(length.of(35, 5))
    drawn = random.Random(4710)
    plan = Plan("", rate=10_000, seconds=600.0, closing_s=90.0)

    def fault(scene: Scene) -> None:
        proxy, server = scene.proxy, scene.server
        assert proxy is not None
        for _ in range(count):
            kind = drawn.choice(("kill", "stop", "hole", "cut", "deaf"))
            pause_s = drawn.uniform(0.1, length.of(3.0, 0.5))
            if kind == "kill":
                server.kill()
            elif kind == "stop":
                server.pause()
            elif kind == "hole":
                proxy.hole = True
            elif kind == "cut":
                proxy.cut()
            else:
                proxy.ack_loss = drawn.choice((0.1, 0.5, 1.0))
            time.sleep(pause_s)
            if kind == "kill":
                server.start(wait=False)
            elif kind == "stop":
                server.resume()
            if drawn.random() < 0.7:
                proxy.hole, proxy.ack_loss = False, 0.0
            time.sleep(drawn.uniform(0.0, 1.0))
        proxy.hole, proxy.ack_loss = False, 0.0
        scene.maker.board["stop"] = 1

    outcome = suffer(plan, fault, proxied=True, ack_loss=0.001)
    return Row(
        f"{count} of these by lot at {plan.rate:,} spans/s",
        "0 lost, 0 duplicate rows",
        f"{outcome.share()} of {outcome.seen.made:,}, 0 duplicate rows",
        outcome.lost,
        not outcome.lost,
    )
