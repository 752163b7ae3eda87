"""Address of the running page, in a file beside the database, for links from the terminal.

One idea: the server holds a lock on the file while it runs. The kernel releases the lock however the process
ends, so an address that is left behind is known to be stale, and no port has to be asked.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ztrace.addresses import Address

#: Suffix of the file, after the database's name.
SUFFIX = ".page"
#: Address of a page: it is served on loopback alone.
_URL = re.compile(r"http://(127\.\d+\.\d+\.\d+|\[::1\]|localhost):\d{1,5}", re.ASCII)
_MOST_BYTES = 256


@contextmanager
def announced(database: Path, address: Address) -> Iterator[None]:
    """Leave the page's address beside a database during the block.

    Where the file cannot be written, or another server has written its own, nothing is left: links are a
    convenience.

    Args:
        database: the file that is served.
        address: where it is served.
    """
    path = database.with_name(database.name + SUFFIX)
    with ExitStack() as stack:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"http://{address}\n".encode())
            stack.callback(path.unlink, missing_ok=True)
        except OSError:
            pass
        yield


def find_page(database: Path) -> str | None:
    """Return the URL of the page that serves a database, without a token; None if none is known to run."""
    path = database.with_name(database.name + SUFFIX)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        url = os.read(descriptor, _MOST_BYTES).decode("ascii", "replace").strip()
        return url if _URL.fullmatch(url) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None
