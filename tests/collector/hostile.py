"""Message bodies that are small on the wire and large in memory, deeply nested, or lie about their lengths.

One idea: each body has the maximum size and repeats one element, which maximizes the memory that decoding
needs
per byte. ``python -m tests.collector.hostile`` prints the MiB of each.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.collector.messages import Sender, make_span
from ztrace.wire import MAX_FRAME_BYTES
from ztrace_collector.storing.store import Store

#: Limit of the address space: enough for the interpreter, SQLite and the allowed memory.
ADDRESS_SPACE_BYTES = 2 << 30
#: Largest array that decoding accepts.
_MOST = 0xFFFF


def _array(item: bytes, size: int = MAX_FRAME_BYTES) -> bytes:
    """Return an array of arrays of the given size, whose elements are all the item."""
    inner_count = min(_MOST, (size - 3) // len(item))
    inner = b"\xdc" + inner_count.to_bytes(2, "big") + item * inner_count
    outer_count = max(1, min(_MOST, (size - 3) // len(inner)))
    return b"\xdc" + outer_count.to_bytes(2, "big") + inner * outer_count


def _map(size: int = MAX_FRAME_BYTES) -> bytes:
    """Return an array of maps with the maximum number of distinct keys."""
    pairs = b"".join(b"\xa3" + f"{number:03x}"[-3:].encode() + b"\xc0" for number in range(4096))
    one = b"\xde\x10\x00" + pairs
    count = (size - 3) // len(one)
    return b"\xdc" + count.to_bytes(2, "big") + one * count


#: Bodies by the name of their repeated element.
BODIES = {
    "empty maps": _array(b"\x80"),
    "maps of one": _array(b"\x81\xc0\xc0"),
    "maps in maps": _array(b"\x81\xa1a\x81\xa1a\x80"),
    "wide maps": _map(),
    "empty arrays": _array(b"\x90"),
    "arrays of one": _array(b"\x91\xc0"),
    "arrays of three": _array(b"\x93\xc0\xc0\xc0"),
    "deep arrays": b"\x91" * (MAX_FRAME_BYTES - 1) + b"\xc0",
    "arrays 400 deep": _array(b"\x91" * 400 + b"\xc0"),
    "numbers": _array(b"\xcd\x7f\xff"),
    "floats": _array(b"\xca\0\0\0\0"),
    "short texts": _array(b"\xa2\xc4\x80"),
    "texts that are not UTF-8": _array(b"\xa2\xff\xff"),
    "short binaries": _array(b"\xc4\x02ab"),
    "extensions": _array(b"\xd4\x05x"),
    "empty extensions": _array(b"\xc7\x00\x05"),
    "times": _array(b"\xd6\xff\0\0\0\1"),
    "one long text": b"\x91\xdb" + (MAX_FRAME_BYTES - 6).to_bytes(4, "big") + b"x" * (MAX_FRAME_BYTES - 6),
    "one wide text": b"\x91\xdb"
    + (MAX_FRAME_BYTES - 6).to_bytes(4, "big")
    + "𝄞".encode() * ((MAX_FRAME_BYTES - 6) // 4),
    "an array that is not there": b"\xdd\xff\xff\xff\xff",
    "arrays that are not there": b"\xdc\xff\xff" * (MAX_FRAME_BYTES // 3),
    "maps that are not there": b"\xde\xff\xff\xc0" * (MAX_FRAME_BYTES // 4),
    "a text that is not there": b"\x91\xdb\xff\xff\xff\xff",
    "rubbish": bytes(range(256)) * (MAX_FRAME_BYTES // 256),
}


def measure_all() -> dict[str, int]:
    """Return by how many bytes storing each body raises the peak memory of a separate process.

    Raises:
        subprocess.CalledProcessError: a body crashed its process, or was neither stored nor counted.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.collector.hostile"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    measured = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    return {name: int(number) << 20 for name, number in measured}


def _store_and_print(name: str, body: bytes) -> None:
    sender = Sender()
    count = int.from_bytes(body[1:3], "big") if body[:1] == b"\xdc" else 1
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "traces.db") as store:
        store.store([sender.data(make_span())])
        before = _peak_bytes()
        sender.created += count
        messages = [sender.data(body=body, span_count=count), sender.data(make_span(1))]
        acknowledged = store.store(messages).acknowledgements
        after = _peak_bytes()
        assert acknowledged == {sender.incarnation: 3}, acknowledged
        assert (store.span_count, store.refused_count > 0) == (2, True)
    print(f"{name:<28} {(after - before) >> 20}", flush=True)


def main() -> int:
    """Print the MiB that each body needs; return the number of bodies that crashed their process."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    failed = 0
    for name, body in BODIES.items():
        child = os.fork()  # A process's peak never falls.
        if not child:
            status = 1
            try:
                _store_and_print(name, body)
                status = 0
            finally:
                os._exit(status)
        failed += os.waitpid(child, 0)[1] != 0
    return failed


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
