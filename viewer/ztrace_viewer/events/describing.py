"""Documents of events: their line of text, and their link to the page."""

from urllib.parse import urlencode

from ztrace_viewer.documents.events import EventDocument, SlowerMethod
from ztrace_viewer.queries.events import NEW_GROUP, GroupEvent
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.durations import format_duration

#: Characters of an event's text.
MAX_TEXT = 500


def describe_group(event: GroupEvent, page: str | None, now_ns: int) -> EventDocument:
    """Return the event of an exception group.

    Args:
        event: the group.
        page: address of the page, without a path; None if it is not served.
        now_ns: time at which the group was found.
    """
    group = event.group
    which = "new" if event.event == NEW_GROUP else "regressed"
    text = f"{which} error in {group['service']}.{group['name']}: {group['type']}: {group['message']}"
    return {
        "event": event.event,
        "at_ns": now_ns,
        "text": clean(text)[:MAX_TEXT],
        "link": None if page is None else f"{page}/error/{group['group']}",
        "group": group,
        "method": None,
        "left_out": 0,
    }


def describe_slower(method: SlowerMethod, page: str | None, now_ns: int) -> EventDocument:
    """Return the event of a method that became slower; the arguments are those of `describe_group`."""
    change = method["change"]
    before, after = (
        format_duration(None if each is None else round(each))
        for each in (change["each_before_ns"], change["each_after_ns"])
    )
    text = f"{method['service']}.{method['name']} became slower: {after} of its own a call, {before} before"
    if method["root"] != f"{method['service']}.{method['name']}":
        text += f", in trees of {method['root']}"
    return {
        "event": "slower_method",
        "at_ns": now_ns,
        "text": clean(text)[:MAX_TEXT],
        "link": None if page is None else f"{page}/compare?{_select(method)}",
        "group": None,
        "method": method,
        "left_out": 0,
    }


def _select(method: SlowerMethod) -> str:
    before, after = (
        "..".join(_write_moment(each) for each in method[side]) for side in ("before_ns", "after_ns")
    )
    return urlencode({"root": method["root"], "before": before, "after": after})


def _write_moment(moment_ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
