"""More than there is room or time for: high rates, a full window and a flooded queue, a full disk."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.faults import identity, rubbish
from tests.faults.disk import Disk, small_disk
from tests.faults.making import Plan
from tests.faults.running import Length, Outcome, Scene, compare, finish, let_be, set_scene, suffer
from tests.faults.stage import Stage, wait_for
from tests.faults.table import Row


def rush(length: Length) -> Row:
    """Send at a high rate, encrypted, with collector and publisher on the same two processors."""
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


def flood(length: Length) -> Row:
    """Make spans as fast as it goes with no collector, until neither window nor queue hold more."""
    seconds = length.of(20.0, 2.0)
    small = {"ZTRACE_WINDOW_BYTES": str(1 << 20), "ZTRACE_QUEUE_SPANS": "20000"}
    plan = Plan("", rate=0, seconds=seconds, timed=True, closing_s=60.0)

    def fault(scene: Scene) -> None:
        wait_for(lambda: scene.maker.board["done"], "the flood is over")
        scene.server.start()

    outcome = suffer(plan, fault, started=False, environment=small if length.short else {})
    assert outcome.by_reason.get("window full"), outcome
    timings = outcome.seen.timings
    rate = outcome.seen.made / outcome.seen.seconds
    return Row(
        f"outage longer than the window, and a flood, for {seconds:.0f} s",
        "at 400,000/s: identity exact, no call blocked over 1 ms, memory bounded",
        f"at {rate:,.0f}/s identity exact ({_describe(outcome)}); of {timings['calls']:,} trees"
        f" {timings['long']:,} took over 1 ms, {timings['long_waits']:,} of them by waiting in the process"
        f" (at most {timings['max_wait'] / 1e3:.1f} ms); grows {outcome.seen.grown_kb / 1024:.0f} MB",
        outcome.lost,
        not timings["long_waits"] and rate >= 400_000,
        compare(length, plan, fault, started=False),
    )


def _describe(outcome: Outcome) -> str:
    stored = outcome.seen.made - outcome.lost
    parts = [f"{stored:,} stored", *(f"{count:,} {reason}" for reason, count in outcome.by_reason.items())]
    return ", ".join(parts)


def fill_disk(length: Length, kind: Callable[[Stage], AbstractContextManager[Disk]] = small_disk) -> Row:
    """Fill the disk, free it; fill it again and kill the collector there, free it and start it again."""
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
    """Let strangers connect by the thousand, with rubbish or with nothing at all, while a publisher sends."""
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
