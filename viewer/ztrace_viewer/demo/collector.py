"""The collector's process: ``python -m ztrace_viewer.demo.collector FILE``.

One idea: it is the collector of ``ztrace collect``, at a port that is free.
"""

import sys
from pathlib import Path

from ztrace.errors import ZtraceError
from ztrace_collector.service import Collector, Options
from ztrace_viewer import lifeline


def main() -> int:
    """Collect until the demo ends.

    Returns:
        2 if an error was told on standard error, for the demo to pass on as it is.
    """
    options = Options("tcp://127.0.0.1:0", Path(sys.argv[1]))
    collector = Collector(options, ready=lifeline.report_ready)
    lifeline.hold(collector.stop)
    try:
        collector.run()
    except ZtraceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
