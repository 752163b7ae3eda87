"""Figures by call path: settled trees, added up by the names from the root to each span.

One idea: a tree is counted once no more of it is expected, from the rows that are stored then. A span that
comes later has its tree taken back and counted again. So the figures equal one pass over all trees, in
whatever order their spans came, and a profile of any stretch of time reads no span.
"""
