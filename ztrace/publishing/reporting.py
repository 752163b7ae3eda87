"""Reports of unfinished spans: messages outside the sequence, sent while the spans run."""

from collections.abc import Callable
from typing import Any

from ztrace.publishing.delivery import Delivery, Send
from ztrace.publishing.encoding import encode
from ztrace.publishing.ports import Source
from ztrace.publishing.unfinished import Unfinished
from ztrace.records import Record


class Reports:
    """Unfinished spans of a publisher, and their messages."""

    def __init__(self, publisher: Source, delivery: Delivery) -> None:
        self._more = False
        self._publisher = publisher
        self._delivery = delivery
        self._unfinished = Unfinished(publisher.open_spans, publisher.watched)

    @property
    def are_due(self) -> bool:
        """Whether there are spans to move out of the register at once."""
        return self._more or self._unfinished.is_crowded

    def look(self) -> None:
        """Detect the spans that the program has dropped."""
        objects: list[Any] = []
        try:
            self._more = self._unfinished.look(objects)
        finally:
            self._give_back(objects)

    def send_due(self, send: Send) -> None:
        """Send the spans that have been open for long, and those that the program has dropped."""
        if self._send(send, self._unfinished.list_abandoned):
            self._unfinished.forget_abandoned()
        self._send(send, self._unfinished.take_due)

    def send_all(self, send: Send) -> None:
        """Send all spans that are open as the program exits."""
        self._send(send, self._unfinished.take_all)

    def _send(self, send: Send, take: Callable[[list[Any]], list[Record]]) -> bool:
        """Send spans, and give back the program's objects; return whether all were sent."""
        sent, objects = True, list[Any]()
        records = take(objects)
        try:
            if records:
                for span_count, body in encode(records, self._publisher.settings.scrub, objects):
                    sent &= self._delivery.send_open(send, span_count, body)
        finally:
            records.clear()
            self._give_back(objects)
        return sent

    def _give_back(self, objects: list[Any]) -> None:
        """Hand over objects for the program's threads to release."""
        if objects:
            self._publisher.give_back(objects)
