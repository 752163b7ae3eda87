"""The root among the open spans of one trace."""

from collections.abc import Sequence

from ztrace_viewer.trees.spans import SpanRow


def find_root(spans: Sequence[SpanRow]) -> SpanRow:
    """Return the root among open spans of one trace, or the earliest span if there is none.

    Args:
        spans: the spans, at least one, those reported first before others.
    """
    roots = [span for span in spans if span.parent_id is None]
    # The service that has a root first keeps it.
    candidates = [span for span in roots if span.service == roots[0].service] or spans
    return min(candidates, key=lambda span: (span.start_ns, span.span_id))
