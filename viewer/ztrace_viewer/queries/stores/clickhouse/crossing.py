"""Exception groups of several journals: what a group's occurrences did in the spans of other journals.

One idea: a journal counts for the groups of the origins that it has. A span that an exception passed in
another journal names the origin all the same, so it is joined with it here, for the groups that are shown.
"""

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.tables.grouping import widen
from ztrace_viewer.queries.stores.answers import GroupRow
from ztrace_viewer.queries.stores.clickhouse.duplicates import but_duplicates
from ztrace_viewer.queries.stores.clickhouse.reading import Reader

#: Origins of some groups, with the minutes in which they are counted.
_ORIGINS = f"""
SELECT toString(exception_group) AS fingerprint, trace_id, span_id, journal,
    intDiv(at_ns, {MINUTE_NS}) AS minute
FROM exceptions FINAL
WHERE exception_group IN ({{groups}}) AND span_id = origin_span_id AND trace_id = origin_trace_id
    {but_duplicates()}
"""
#: Services in whose spans an exception has no group, as its origin is not in that journal.
_SERVICES = f"""
SELECT o.fingerprint, groupUniqArray(toString(e.service))
FROM (SELECT * FROM exceptions FINAL WHERE exception_group = '') AS e
    INNER JOIN ({_ORIGINS}) AS o ON o.trace_id = e.origin_trace_id AND o.span_id = e.origin_span_id
GROUP BY o.fingerprint
"""
#: Origins that a journal knows to be uncaught, with the members of their exception groups, of any journal.
_ENDED = """
SELECT trace_id, origin_span_id, journal FROM uncaught_exceptions FINAL
UNION ALL
SELECT e.trace_id, toFixedString(unhex(arrayJoin(JSONExtract(e.other_origins, 'Array(String)'))), 8),
    u.journal
FROM (SELECT * FROM exceptions FINAL WHERE other_origins != '') AS e
    INNER JOIN (SELECT * FROM uncaught_exceptions FINAL) AS u
    ON u.trace_id = e.trace_id AND u.origin_span_id = e.origin_span_id
"""
#: Occurrences that are uncaught, which the journal of the origin does not know.
_UNCAUGHT = f"""
SELECT fingerprint, count()
FROM (
    SELECT o.fingerprint AS fingerprint
    FROM ({_ENDED}) AS u
        INNER JOIN ({_ORIGINS}) AS o ON o.trace_id = u.trace_id AND o.span_id = u.origin_span_id
    WHERE {{minutes}}
    GROUP BY o.fingerprint, o.trace_id, o.span_id, o.journal HAVING NOT has(groupArray(u.journal), o.journal)
)
GROUP BY fingerprint
"""
_TEMPLATES = """
SELECT fingerprint, arrayMap(each -> each.2, arraySort(groupArray((first_ns, template))))
FROM exception_groups FINAL WHERE fingerprint IN ({groups}) GROUP BY fingerprint
"""


def join_journals(reader: Reader, groups: Sequence[GroupRow], minutes: str) -> list[GroupRow]:
    """Return groups with what their occurrences did in the spans of other journals.

    Args:
        reader: the store's connection.
        groups: merged groups, as the journals of the origins know them.
        minutes: condition on ``minute``, of the occurrences that are counted.
    """
    if not groups or not reader.query("SELECT uniqExact(journal) > 1 FROM journals")[0][0]:
        return list(groups)
    values: dict[str, object] = {f"group{place}": each.fingerprint for place, each in enumerate(groups)}
    names = ", ".join(f"{{{name}:String}}" for name in values)

    def read(query: str) -> dict[str, Any]:
        return dict(reader.query(query.replace("{groups}", names).replace("{minutes}", minutes), values))

    services, uncaught, templates = read(_SERVICES), read(_UNCAUGHT), read(_TEMPLATES)
    return [
        each._replace(
            services=_join_services(each.services, services.get(each.fingerprint, ())),
            uncaught_counted=each.uncaught_counted + int(uncaught.get(each.fingerprint, 0)),
            template=reduce(widen, templates[each.fingerprint]),
        )
        for each in groups
    ]


def _join_services(known: str, others: Iterable[str]) -> str:
    """Return a JSON array of services with others added."""
    return json.dumps(sorted({*json.loads(known), *others}), ensure_ascii=False, separators=(",", ":"))
