"""Spans of calls, started and ended in one function each, for `ztrace.rpc` and the middlewares.

One idea: most calls are answered, and most of their spans have a parent and no other parts. For these the
steps of `Span.start` and `Span.__exit__` that can apply are written out here, in the same order, with the
same record. All other cases are left to the general methods: a parent that has ended, a span that is current
already, a fork, a failure, an interrupt.

The caller makes the span, so that it has a name for the span before the span starts: an exception may arrive
anywhere, and a started span without a name would never end.
"""
