"""What is stored in other programs' formats, and files of these as what can be stored.

One idea: all that leaves is first made OTLP by `ztrace_collector.otlp`, and every other format is made of
that, so that a span reads the same wherever it is looked at. What comes in goes the same way back.
"""
