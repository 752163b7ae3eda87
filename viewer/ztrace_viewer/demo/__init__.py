"""``ztrace demo``: a small shop of real services, and a report of their traces.

Read `shop` first, which has ordinary services, and then `service`, which has the lines that trace them.

    shop         four services on zerorpc
    mail         service on raw ZeroMQ, with a pool of threads
    loyalty      service on rpyc
    courier      service on ztrace.rpc
    service      process of one service
    shopper      process of the customers
    collector    process that stores the spans of all others
    processes    start and stop of these processes
    opening      the shop from its opening to its closing
    report       the traces
"""

from importlib.util import find_spec
from pathlib import Path

from ztrace.errors import ZtraceError

#: Packages that the extra ``demo`` installs; the first one missing is reported before anything starts.
NEEDED = ("zerorpc", "gevent", "rpyc", "sqlite_utils", "rich")


def run(seconds: float, database: Path | None) -> None:
    """Run the shop under load, stop it, and print a report of its traces.

    Args:
        seconds: duration of the load.
        database: file for the spans; None for a new file in a temporary folder, which is kept.

    Raises:
        ZtraceError: a package is missing, a process did not start or died, or the file cannot be used.
    """
    for library in NEEDED:
        if not find_spec(library):
            raise ZtraceError(f"{library} is not installed", hint="pip install 'ztrace[demo]'")
    # Imported here, since each of the shop's processes imports this package.
    from ztrace_viewer.demo.opening import run_shop
    from ztrace_viewer.demo.report import print_findings

    print_findings(run_shop(seconds, database))
