"""Export of trees to files and receivers, and import of files.

One idea: every span that leaves is first converted to OTLP by `ztrace_collector.otlp`, and other formats are
made from OTLP, so a span is the same in each. Import takes the same way back.
"""
