"""Process of the collector: ``python -m ztrace_viewer.demo.collector FILE``.

The collector is the one of ``ztrace collect``, on a free port.
"""

import sys
from pathlib import Path

from ztrace.errors import ZtraceError
from ztrace_collector.service import Collector, Options
from ztrace_viewer import lifeline
from ztrace_viewer.terminal.saying import complain


def main() -> int:
    """Collect until the demo ends.

    Returns:
        The exit status: 2 after an error, whose line on standard error the demo prints as its own.
    """
    options = Options("tcp://127.0.0.1:0", Path(sys.argv[1]))
    collector = Collector(options, ready=lifeline.report)
    lifeline.hold(collector.stop)
    try:
        collector.run()
    except ZtraceError as error:
        complain(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
