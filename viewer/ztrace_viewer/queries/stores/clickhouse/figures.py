"""Figures of methods in ClickHouse, added up by the server from those of its blocks."""

import json
from collections.abc import Collection, Iterator

from ztrace_viewer.queries.stores.answers import FiguresRow
from ztrace_viewer.queries.stores.clickhouse.errors import Errors
from ztrace_viewer.queries.stores.clickhouse.reading import write_numbers


class Figures(Errors):
    """Answers about figures of methods."""

    def figure_edges(self, resolution_s: int, first: int, end: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures, of those from the first to below the end."""
        rows = self.reader.query(
            f"SELECT min(bucket), max(bucket) FROM method_figures WHERE resolution_s = {resolution_s}"
            f" AND bucket >= {first} AND bucket < {end} HAVING count() > 0"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def figures(
        self, resolution_s: int, first: int, end: int, methods: Collection[int] | None
    ) -> Iterator[FiguresRow]:
        """Return the figures of methods in the buckets from the first to below the end."""
        wanted = "" if methods is None else f" AND method IN {write_numbers(methods)}"
        rows = self.reader.query(
            "SELECT f.method, f.bucket, sumMap(f.histogram), sum(f.calls), sum(f.errors), sum(f.total_ns),"
            f" sum(f.self_ns) FROM method_figures AS f WHERE resolution_s = {resolution_s}"
            f" AND bucket >= {first} AND bucket < {end}{wanted} GROUP BY f.method, f.bucket"
        )
        known = self.named({row[0] for row in rows})
        for method, bucket, histogram, *sums in rows:
            if method in known:
                yield FiguresRow(method, bucket, json.dumps(histogram), *sums)
