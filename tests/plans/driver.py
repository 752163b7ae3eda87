"""Process of the plans: ``python -m tests.plans.driver COLLECTOR FOLDER``.

It reads the addresses of the services and the plans, one line of JSON each, and prints the trace of each
plan.
"""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ztrace
from tests.plans import pool
from tests.plans.logs import Log
from tests.plans.planning import POOL
from tests.plans.working import Worker

#: Service of the driver, and the name of its spans.
DRIVER, PLAN = "driver", "plan"


def main(collector: str, folder: str) -> None:
    """Run the plans."""
    addresses = json.loads(sys.stdin.readline())
    plans = json.loads(sys.stdin.readline())
    ztrace.configure(DRIVER, collector)
    ztrace.instrument()
    from tests.plans.clients import make_clients  # Imports the libraries.

    context = multiprocessing.get_context("spawn")
    given = (collector, folder, addresses)
    with ProcessPoolExecutor(1, context, pool.start, given) as processes:

        def call_pool(name: str, argument: str) -> None:
            processes.submit(getattr(pool, name), argument).result()

        worker = Worker(Log(Path(folder), DRIVER), {**make_clients(addresses), POOL: call_pool})
        for number, steps in enumerate(plans):
            print(_run(worker, str(number), steps), flush=True)


def _run(worker: Worker, token: str, steps: list[Any]) -> str:
    """Run a plan, and return the id of its trace."""
    trace_id = ""
    try:
        with ztrace.span(PLAN, work=token) as span:
            trace_id = span.trace_id.hex()
            worker.run(token, PLAN, steps)
    except Exception:
        pass  # Logged by the worker.
    return trace_id


if __name__ == "__main__":
    main(*sys.argv[1:])
