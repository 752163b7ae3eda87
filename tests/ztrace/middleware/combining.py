"""A server and a client as programs, each with and without tracing."""

from collections.abc import Mapping
from itertools import product

from tests.ztrace.programs import run_program, started_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S

#: Lines before a program that trace it if it has an endpoint.
TRACING = """
import os, sys
if "ZTRACE_ENDPOINT" in os.environ:
    import ztrace
    ztrace.configure()
    ztrace.instrument()
"""
#: Both traced, the server only, the client only, and neither.
COMBINATIONS = tuple(product((True, False), repeat=2))


def run_combinations(
    server: str, client: str, receiver: Receiver, address: str
) -> Mapping[tuple[bool, bool], str]:
    """Run both programs in each combination, and return what the client prints.

    Args:
        server: code of a program that serves at the address in its argument, prints a line when it is ready,
            and ends when the client has told it to.
        client: code of the client's program.
        receiver: of the spans of traced programs.
        address: beginning of the addresses.
    """
    printed = {}
    for number, (server_traced, client_traced) in enumerate(COMBINATIONS):
        served_at = f"{address}{number}"
        traced = {"ZTRACE_ENDPOINT": receiver.endpoint}
        of_server = {**traced, "ZTRACE_SERVICE": f"server{number}"} if server_traced else {}
        of_client = {**traced, "ZTRACE_SERVICE": f"client{number}"} if client_traced else {}
        with started_program(TRACING + server, served_at, **of_server) as process:
            done = run_program(TRACING + client, served_at, expect=0, **of_client)
            _, errors = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 0, errors
        assert "ztrace" not in done.stderr + errors
        printed[server_traced, client_traced] = done.stdout
    return printed
