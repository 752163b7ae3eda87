"""Time whose traces have been thinned, for answers that are computed from spans.

One idea: figures are of all traces, so only answers from spans have to say that some are missing, and only
those that reach into a time that was thinned.
"""

from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Trees


def find_thinned_until(store: Trees, selection: Selection) -> int | None:
    """Return the time until which traces have been thinned; None if those of a selection have not."""
    until_ns = store.thinned_until()
    if until_ns is not None and selection.since_ns is not None and selection.since_ns > until_ns:
        return None
    return until_ns
