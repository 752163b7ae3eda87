"""Spans of calls, started and ended in one function each.

One idea: most calls are answered, and most of their spans have a parent and no other parts. For these the
steps of `Span.start` and `Span.__exit__` that can apply are written out here, in the same order, with the
same record. All other cases are left to the general methods: a parent that has ended, a fork, a failure, an
interrupt.
"""
