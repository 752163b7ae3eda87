"""Sealed traces: the spans of a finished trace as one compressed row, and how it is read.

One idea: a trace is sealed and unsealed as a whole, so its spans are either rows of ``spans`` or in one row
of ``sealed_traces``, never in both. ``all_spans`` is a view of both that readers have on their connections.
"""
