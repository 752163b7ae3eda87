"""Overload: high rates, a full window with a flooded queue, and a full disk."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.faults import identity, rubbish
from tests.faults.disk import Disk, small_disk
from tests.faults.making import Plan
from tests.faults.running import (
    Fault,
    Length,
    Outcome,
    Scene,
    compare,
    finish,
    let_be,
    set_scene,
    suffer,
    suffer_peer,
)
from tests.faults.stage import Stage, wait_for
from tests.faults.table import Row


def rush(length: Length) -> Row:
    """Send encrypted at a high rate, with collector and publisher on the same two processors."""
    plan = Plan("", rate=int(length.of(50_000, 5_000)), seconds=length.of(60.0, 2.0))
    with Stage() as stage:
        keys = stage.name("keys")
        stage.command("keys", "init", "--keys", str(keys))
        key = stage.command("keys", "add", "maker", "--keys", str(keys)).strip()
        collector = stage.collector("--keys", str(keys))
        maker = stage.maker(plan._replace(endpoint=collector.endpoint), {"ZTRACE_KEY": key})
        outcome = finish(set_scene(stage, collector, maker), collector, let_be)
    grown_mb = outcome.seen.grown_kb / 1024
    return Row(
        f"{plan.rate:,} spans/s for {plan.seconds:.0f} s over CURVE",
        "0 lost, publisher's memory grows at most 30 MB",
        f"{outcome.share()} of {outcome.seen.made:,} at {outcome.seen.made / outcome.seen.seconds:,.0f}/s,"
        f" grows {grown_mb:.0f} MB, the rest delivered in {outcome.seen.closing_s:.1f} s",
        outcome.lost,
        not outcome.lost and grown_mb <= 30,
        compare(length, plan, let_be),
    )


#: Settings for shorter pauses of calls: encoding a batch holds the interpreter for less than half a
#: millisecond, and a smaller queue gives the garbage collector less to scan.
CALM = {"ZTRACE_BATCH_SPANS": "256", "ZTRACE_QUEUE_SPANS": "20000"}


def flood(length: Length) -> Row:
    """Make spans at the maximum rate without a collector, until window and queue are full."""
    return _flood(length, {})


def flood_calmly(length: Length) -> Row:
    """Run the flood with settings for shorter pauses of calls."""
    return _flood(length, CALM)


def _flood(length: Length, settings: dict[str, str]) -> Row:
    seconds = length.of(20.0, 2.0)
    small = {"ZTRACE_WINDOW_BYTES": str(1 << 20), "ZTRACE_QUEUE_SPANS": "20000"} if length.short else {}
    plan = Plan("", rate=0, seconds=seconds, timed=True, closing_s=60.0)

    def fault(scene: Scene) -> None:
        wait_for(lambda: scene.maker.board["done"], "the flood is over")
        scene.server.start()

    outcome = suffer(plan, fault, started=False, environment={**small, **settings})
    assert outcome.by_reason.get("window full"), outcome
    told = "".join(f", {name}={value}" for name, value in settings.items())
    return Row(
        f"outage longer than the window, and a flood, for {seconds:.0f} s{told}",
        "at 400,000/s: identity exact, no call blocked over 1 ms, memory bounded",
        f"identity exact: {_describe(outcome)}; {_tell_calls(outcome)}; memory grows"
        f" {outcome.seen.grown_kb / 1024:.0f} MB",
        outcome.lost,
        not outcome.seen.timings["long_waits"] and outcome.seen.made / outcome.seen.seconds >= 400_000,
        _flood_peer(length, plan, fault) if not settings else "",
    )


def _flood_peer(length: Length, plan: Plan, fault: Fault) -> str:
    if not length.peer:
        return ""
    outcome = suffer_peer(plan, fault, started=False)
    return f"{outcome.share()}; {_tell_calls(outcome)}"


def _tell_calls(outcome: Outcome) -> str:
    timings = outcome.seen.timings
    return (
        f"at {outcome.seen.made / outcome.seen.seconds:,.0f}/s, of {timings['calls']:,} trees of five"
        f" {timings['long']:,} took over 1 ms (at most {timings['max'] / 1e3:.1f} ms),"
        f" {timings['long_waits']:,} by waiting in the process (at most {timings['max_wait'] / 1e3:.1f} ms)"
    )


def _describe(outcome: Outcome) -> str:
    stored = outcome.seen.made - outcome.lost
    parts = [f"{stored:,} stored", *(f"{count:,} {reason}" for reason, count in outcome.by_reason.items())]
    return ", ".join(parts)


def fill_disk(length: Length, kind: Callable[[Stage], AbstractContextManager[Disk]] = small_disk) -> Row:
    """Fill and free the disk twice, the second time killing the collector while the disk is full."""
    full_s = length.of(5.0, 0.5)
    plan = Plan("", rate=2_000, seconds=600.0, closing_s=60.0)
    with Stage() as stage, kind(stage) as disk:
        collector = stage.collector(folder=disk.folder)
        maker = stage.maker(plan._replace(endpoint=collector.endpoint))

        def fault(scene: Scene) -> None:
            wait_for(scene.stored, "spans are stored")
            time.sleep(full_s)
            disk.fill(collector)
            wait_for(lambda: "holding" in collector.log(), "the collector holds")
            time.sleep(full_s)
            made = scene.maker.made
            disk.free(collector)
            begun_s = time.monotonic()
            wait_for(lambda: scene.stored() >= made, "it resumes")
            scene.noted["resumed_s"] = time.monotonic() - begun_s
            disk.fill(collector)
            wait_for(lambda: collector.log().count("holding") > 1, "the collector holds again")
            stored = scene.stored()
            collector.kill()
            disk.free(collector)
            collector.start()
            assert identity.count_stored(collector.database) >= stored
            time.sleep(full_s)
            maker.board["stop"] = 1

        outcome = finish(set_scene(stage, collector, maker), collector, fault)
        name = disk.name
    return Row(
        f"disk full ({name}), then freed, twice, once with kill -9",
        "0 acknowledged spans lost, resumes within 5 s",
        f"{outcome.share()} of {outcome.seen.made:,}; {outcome.noted['resumed_s']:.1f} s after there is room,"
        " all that waited is stored",
        outcome.lost,
        not outcome.lost and outcome.noted["resumed_s"] <= 5,
    )


def besiege(length: Length) -> Row:
    """Open thousands of idle and garbage connections while a publisher sends."""
    connections, idle = int(length.of(10_000, 500)), int(length.of(2_000, 100))
    with Stage() as stage:
        outcome = rubbish.suffer(connections, idle, keyed=True, folder=stage.folder)
    share = outcome.rate_during / outcome.rate_before
    left = int(outcome.attack["left"] + outcome.attack["idle left"])
    return Row(
        f"{connections:,} connections of rubbish and {idle:,} idle ones",
        "all refused or cut, a good publisher keeps at least 95% of its rate",
        f"{left} left, the publisher keeps {share:.1%}",
        0,
        not left and share >= 0.95,
    )
