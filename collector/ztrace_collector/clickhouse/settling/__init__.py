"""Figures by call path from the whole trees in ClickHouse, counted by the process that holds the lease.

One idea: the collector's settler counts the trees of its own file; here the same functions count trees whose
spans came from several files. What a step has counted is written ahead as a batch, so it counts once.
"""
