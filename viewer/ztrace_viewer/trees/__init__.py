"""Pure functions from rows of spans to call trees, states, gaps and lanes.

Nothing in here reads a database: `ztrace_viewer.queries` reads the rows, calls these functions, and returns
documents. This folder therefore stands below the queries and imports none of them.
"""
