"""The process that sends to ClickHouse, beside the collector."""

import os
import sys
import threading

from ztrace_collector.clickhouse.messages import Orders
from ztrace_collector.clickhouse.shipping import Shipper
from ztrace_collector.forwarding.child import FINISH, prepare


def main() -> None:
    """Run the process; its argument is the number of a log level."""
    output = prepare()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    shipper = Shipper(Orders.from_line(line), output)
    shipper.start()
    threading.Thread(target=_listen, args=(shipper,), daemon=True).start()
    shipper.join()
    os._exit(0)


def _listen(shipper: Shipper) -> None:
    """Read the collector's lines until it ends."""
    for line in sys.stdin.buffer:
        if line == FINISH:
            shipper.finish()
        else:
            shipper.confirm()
    os._exit(0)


if __name__ == "__main__":
    main()
