"""Trace and span ids in log records, by the filter and by the record factory."""

import logging
import logging.config
import logging.handlers
import queue
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import ztrace
from tests.ztrace.recording import Recorder


class Kept(logging.Handler):
    """Handler that keeps the lines of its records."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s [%(trace_id)s %(span_id)s]"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Format the record; what is missing raises."""
        self.lines.append(self.format(record))


@pytest.fixture
def kept() -> Kept:
    """Return a handler that keeps lines."""
    return Kept()


@pytest.fixture
def log(kept: Kept) -> Iterator[logging.Logger]:
    """Yield a logger of its own, which hands its records to the handler only."""
    logger = logging.Logger("shop")
    logger.addHandler(kept)
    yield logger
    logger.removeHandler(kept)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the factory of records after the test."""
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


def line(text: str, span: ztrace.Span) -> str:
    """Return the line expected of a record made within a span."""
    return f"{text} [{span.trace_id.hex()} {span.span_id.hex()}]"


def test_the_filter_adds_the_ids_of_the_current_span(
    recorder: Recorder, log: logging.Logger, kept: Kept
) -> None:
    """Each record has the ids of the innermost span, and empty ids outside."""
    kept.addFilter(ztrace.logging_filter())
    log.info("before")
    with ztrace.span("order") as order:
        log.info("in %s", "order")
        with ztrace.span("pay") as pay:
            log.warning("in pay")
    assert kept.lines == ["before [ ]", line("in order", order), line("in pay", pay)]
    assert len(order.trace_id.hex()) == 32
    assert len(order.span_id.hex()) == 16


def test_unconfigured_the_ids_are_empty(log: logging.Logger, kept: Kept, restored: None) -> None:
    """A format that names the ids works without `configure`, by filter and by factory."""
    with ztrace.span("order"):
        kept.addFilter(ztrace.logging_filter())
        log.info("filtered")
        ztrace.install_log_record_factory()
        log.info("made")
    assert kept.lines == ["filtered [ ]", "made [ ]"]


def test_a_record_keeps_the_ids_of_its_thread(recorder: Recorder, log: logging.Logger, kept: Kept) -> None:
    """A record that a queue hands to another thread's handler has the ids of where it was made."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(ztrace.logging_filter())
    kept.addFilter(ztrace.logging_filter())
    log.removeHandler(kept)
    log.addHandler(handler)
    with ztrace.span("order") as order:
        log.info("queued")
    kept.handle(records.get())
    assert kept.lines == [line("queued", order)]
    handler.close()


def test_the_filter_can_be_named_in_a_configuration(recorder: Recorder) -> None:
    """A logging configuration names the filter by its factory."""
    stream = _Lines()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "incremental": False,
            "filters": {"ztrace": {"()": "ztrace.logging_filter"}},
            "formatters": {"ids": {"format": "%(trace_id)s"}},
            "handlers": {
                "kept": {
                    "class": "logging.StreamHandler",
                    "stream": stream,
                    "filters": ["ztrace"],
                    "formatter": "ids",
                }
            },
            "loggers": {"tests.logs": {"handlers": ["kept"], "propagate": False}},
        }
    )
    logger = logging.getLogger("tests.logs")
    with ztrace.span("order") as order:
        logger.warning("no")
    logger.handlers.clear()
    assert stream.text == f"{order.trace_id.hex()}\n"


class _Lines:
    text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_the_factory_keeps_the_one_before(
    recorder: Recorder, log: logging.Logger, kept: Kept, restored: None
) -> None:
    """Records are made by the program's factory, once, however often ztrace's is installed."""
    made: list[logging.LogRecord] = []

    class Own(logging.LogRecord):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    logging.setLogRecordFactory(Own)
    ztrace.install_log_record_factory()
    installed = logging.getLogRecordFactory()
    ztrace.install_log_record_factory()
    assert logging.getLogRecordFactory() is installed
    with ztrace.span("order") as order:
        log.info("made")
    assert kept.lines == [line("made", order)]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"trace_id": "mine"}, "said [mine {span_id}]"),
        ({"trace_id": "mine", "span_id": 7, "shelf": 3}, "said [mine 7]"),
        ({"shelf": 3}, "said [{trace_id} {span_id}]"),
    ],
)
def test_ids_of_the_program_take_precedence(
    recorder: Recorder,
    log: logging.Logger,
    kept: Kept,
    restored: None,
    extra: dict[str, object],
    expected: str,
) -> None:
    """A program that passes ids in `extra` has its own, where the factory's would be a KeyError."""
    ztrace.install_log_record_factory()
    given = dict(extra)
    with ztrace.span("order") as order:
        log.info("said", extra=extra)
    ids = {"trace_id": order.trace_id.hex(), "span_id": order.span_id.hex()}
    assert kept.lines == [expected.format(**ids)]
    assert extra == given


def test_names_that_logging_rejects_are_still_rejected(
    recorder: Recorder, log: logging.Logger, restored: None
) -> None:
    """An `extra` that is an error without ztrace is the same error, with the same traceback."""
    ztrace.install_log_record_factory()
    with pytest.raises(KeyError, match="Attempt to overwrite 'message'") as caught:
        log.info("said", extra={"message": "no"})
    names = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not any("ztrace/logs" in name for name in names)


def test_an_exception_of_the_programs_factory_is_unchanged(
    recorder: Recorder, log: logging.Logger, restored: None
) -> None:
    """The program's factory fails as without ztrace."""

    def fail(*args: Any, **kwargs: Any) -> logging.LogRecord:
        raise LookupError("no records")

    logging.setLogRecordFactory(fail)
    ztrace.install_log_record_factory()
    with pytest.raises(LookupError, match="no records") as caught:
        log.info("said")
    assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][-2:] == [
        "makeRecord",
        "fail",
    ]


def test_records_that_take_no_attribute_are_counted(counts: dict[str, int]) -> None:
    """A record without a dictionary passes the filter, and the failure is counted."""
    record: Any = object()
    assert ztrace.logging_filter().filter(record) is True
    assert counts == {"logging": 1}
