"""``ztrace demo``: a small shop of real services, traced, and what the traces tell.

Read `shop` first: services as anybody writes them, and `service`: the lines that trace them.

    shop         the five services
    service      the process of one of them
    shopper      the process of the people who use the shop
    collector    the process that stores what all the others send
    lifeline     ends these processes when the demo ends, however it ends
    processes    starts and stops them
    opening      the shop from its opening to its closing
    report       what was found
"""

from importlib.util import find_spec
from pathlib import Path

from ztrace.errors import ZtraceError

#: Packages that the extra ``demo`` installs; the first one missing is reported before anything starts.
NEEDED = ("zerorpc", "gevent", "sqlite_utils", "rich")


def run(seconds: float, database: Path | None) -> None:
    """Run the shop under load, stop it, and print what its traces tell.

    Args:
        seconds: how long people use the shop.
        database: where to store the spans; None is a new file in a temporary folder, which is kept.

    Raises:
        ZtraceError: a library is missing, a process did not start or died, or the file cannot be used.
    """
    for library in NEEDED:
        if not find_spec(library):
            raise ZtraceError(f"{library} is not installed", hint="pip install 'ztrace[demo]'")
    # Imported here, since each of the shop's processes imports this package.
    from ztrace_viewer.demo.opening import run_shop
    from ztrace_viewer.demo.report import print_findings

    print_findings(run_shop(seconds, database))
