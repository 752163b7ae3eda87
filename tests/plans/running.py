"""Run of plans: one set of processes for all of them, and a comparison of each tree with the logs."""

import difflib
import json
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests.plans.comparing import Logged, describe
from tests.plans.logs import read_logs
from tests.plans.planning import SERVICES, make_plan
from tests.ztrace.middleware.zerorpc.fleet import Child, Collected


def run_plans(count: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Run random plans.

    Args:
        count: of plans.
        seed: of the plans.
        folder: of the database and the logs.

    Returns:
        The number of spans compared, and a text about each plan whose stored tree is not as logged.
    """
    chance = Random(seed)
    plans = [make_plan(chance) for _ in range(count)]
    errors = folder / "errors.txt"
    collected = Collected(folder)
    try:
        with ExitStack() as stack:

            def start(module: str, *arguments: str) -> Child:
                command = ("-m", f"tests.plans.{module}", *arguments, collected.endpoint, str(folder))
                return stack.enter_context(Child(errors, *command))

            services = {name: start("service", name) for name in SERVICES}
            addresses = {name: child.hear() for name, child in services.items()}
            driver = start("driver")
            for child in (*services.values(), driver):
                child.say(json.dumps(addresses))
            driver.say(json.dumps(plans))
            traces = [driver.hear() for _ in plans]
            assert [child.finish() for child in (driver, *services.values())] == [0] * (len(services) + 1)
    finally:
        collected.stop()
    assert "ztrace: " not in errors.read_text(), errors.read_text()
    logged = Logged(read_logs(folder))
    differences, spans = [], 0
    for number, trace_id in enumerate(traces):
        stored = collected.tree(trace_id)
        spans += stored["span_count"]
        try:
            texts = [json.dumps(each, indent=1) for each in (logged.predict(str(number)), describe(stored))]
        except AssertionError as error:
            differences.append(f"plan {number}, trace {trace_id}: {error}")
            continue
        if texts[0] != texts[1]:
            logs, trees = (text.splitlines() for text in texts)
            lines = difflib.unified_diff(logs, trees, "logged", "stored", n=9, lineterm="")
            differences.append(f"plan {number}, trace {trace_id}:\n" + "\n".join(lines))
    return spans, differences
