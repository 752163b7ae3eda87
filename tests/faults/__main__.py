"""Fault injection into real processes, with a table of results: ``python -m tests.faults [--short] [NAME
...]``.

Without a name, all faults are run; ``--short`` runs them for seconds instead of minutes, and ``--alone``
without
the comparison with the OpenTelemetry SDK. Docs: docs/faults.md.
"""

import argparse
import sys
import time
from collections.abc import Callable

from tests.faults import (
    attacks,
    calls,
    collector_faults,
    cost,
    hostile,
    pressure,
    publisher_faults,
    readers,
    surroundings,
    trouble,
)
from tests.faults.running import Length
from tests.faults.table import Row, draw

#: Faults in the order of the table.
FAULTS: dict[str, Callable[[Length], Row]] = {
    "rush": pressure.rush,
    "kill": collector_faults.kill,
    "come_late": collector_faults.come_late,
    "black_hole": collector_faults.black_hole,
    "stop": collector_faults.stop,
    "lose_acknowledgements": collector_faults.lose_acknowledgements,
    "cut": collector_faults.cut,
    "mix": collector_faults.mix,
    "stand_still": cost.stand_still,
    "flood": pressure.flood,
    "flood_calmly": pressure.flood_calmly,
    "kill_spooled": publisher_faults.kill_spooled,
    "fork": publisher_faults.fork,
    "gevent": publisher_faults.run_gevent,
    "asyncio": publisher_faults.run_asyncio,
    "fill_disk": pressure.fill_disk,
    "besiege": pressure.besiege,
    "carry_liars": trouble.carry_liars,
    "raise_odd_texts": trouble.raise_odd_texts,
    "decorate_anything": trouble.decorate_anything,
    "interrupt": trouble.interrupt,
    "run_out": surroundings.run_out,
    "collect_garbage": surroundings.collect_garbage,
    "terminate_pools": surroundings.terminate_pools,
    "fork_by_c": surroundings.fork_by_c,
    "end_children": surroundings.end_children,
    "hot_path": cost.hot_path,
    "bomb": attacks.bomb,
    "never_end": attacks.never_end,
    "half_ask": attacks.half_ask,
    "push_out": attacks.push_out,
    "make_up_code": attacks.make_up_code,
    "hold_log": readers.hold_log,
    "ask_huge": readers.ask_huge,
    "besiege_program": hostile.besiege_program,
    "kill_server": calls.kill_server,
    "freeze_server": calls.freeze_server,
    "stop_servers": calls.stop_servers,
    "pause_client": calls.pause_client,
    "slow_server": calls.slow_server,
    "block_server": calls.block_server,
    "hop_on": calls.hop_on,
    "hold_calls": calls.hold_calls,
}


def main() -> int:
    """Run the faults, and print the table; return 1 if the identity is broken or a figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--alone", action="store_true", help="without the OpenTelemetry SDK")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    length = Length(short=arguments.short, peer=not arguments.alone)
    rows = []
    for name in arguments.names or FAULTS:
        begun_s = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            row = FAULTS[name](length)
        except AssertionError as error:
            row = Row(name, "the identity", f"FAILED: {error}", 0, False)
        print(f"{name}: {row.seen} ({time.monotonic() - begun_s:.0f} s)", file=sys.stderr, flush=True)
        rows.append(row)
    print(draw(rows))
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
