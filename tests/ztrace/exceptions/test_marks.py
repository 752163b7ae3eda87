"""Memory of exceptions: beside them, and not in what the program sees of them."""

import contextlib
import copy
import gc
import json
import marshal
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import zerorpc

import ztrace
from tests.ztrace.recording import Recorder, record_of, run
from ztrace.exceptions import marks, messages, origins
from ztrace.exceptions.marks import recall, remember
from ztrace.records import PASSED, RAISED


class Shop(Exception):
    """Exception with attributes of its own, by name and by update of its dictionary."""

    def __init__(self, code: int = 0, **more: object) -> None:
        super().__init__(code)
        self.code = code
        self.__dict__.update(more)


class Slotted(KeyError):
    """Exception that can have a dictionary and no weak reference."""

    __slots__ = ("code",)


def with_note() -> Exception:
    """Return an exception of a builtin class with a note, which Python keeps in its dictionary."""
    error = KeyError("a")
    error.add_note("b")
    return error


MAKERS: list[Callable[[], BaseException]] = [
    KeyError,
    lambda: OSError(2, "no"),
    Slotted,
    with_note,
    lambda: Shop(7, article="pen"),
    lambda: Shop(7, **{f"a{number}": number for number in range(50)}),
    lambda: ExceptionGroup("many", [ValueError(), Shop(1)]),
    lambda: zerorpc.RemoteError("ValueError", "no", "Traceback"),
]


@pytest.fixture(autouse=True)
def no_entries() -> Iterator[None]:
    """Forget all exceptions before and after a test."""
    marks.recent.clear()
    marks._older.clear()
    yield
    marks.recent.clear()
    marks._older.clear()


def fail(error: BaseException) -> Callable[[], object]:
    """Return a function that raises the error."""

    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_written_on_an_exception(recorder: Recorder, make: Callable[[], BaseException]) -> None:
    """What a program sees of an exception, serializes and compares is the same with and without spans."""
    plain, error = make(), make()
    run(fail(plain))
    run(fail(error), "outer", "inner")
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, PASSED]
    assert (type(vars(error)), list(vars(error).items())) == (dict, list(vars(plain).items()))
    assert dir(error) == dir(plain)
    for serialize in (json.dumps, marshal.dumps, msgpack.packb):
        assert serialize(vars(error)) == serialize(vars(plain))
    assert error.__reduce__() == plain.__reduce__() or isinstance(error, ExceptionGroup)
    if not isinstance(error, Shop):
        assert vars(copy.copy(error)) == vars(copy.deepcopy(error)) == vars(plain)


def test_a_pickled_exception_is_the_programs_alone(recorder: Recorder) -> None:
    """A pickled exception has nothing but what the program has put into it, and no origin."""
    for make in (Slotted, with_note, lambda: Shop(7, article="pen")):
        error = make()
        run(fail(error), "a")
        kept = pickle.loads(pickle.dumps(error))
        assert (type(kept), kept.args, vars(kept)) == (type(error), error.args, vars(error))
        assert b"ztrace" not in pickle.dumps(error).replace(__name__.encode(), b"")
        assert origins.origin_of(kept) is None


def test_a_message_given_by_a_middleware_is_kept_beside_the_exception() -> None:
    """Messages and remote identities leave an exception's dictionary as it was."""
    error = ValueError("raw")
    messages.describe(error, "better")
    messages.describe_remote(error, "shop.Missing", "no pen")
    entry = recall(error)
    assert entry is not None
    assert (vars(error), entry.described, entry.remote) == ({}, "better", ("shop.Missing", "no pen"))


@pytest.mark.parametrize("make", MAKERS)
def test_an_exception_keeps_its_entry_whatever_is_set_on_it(make: Callable[[], BaseException]) -> None:
    """Attributes that come and go, and a collection of garbage, leave an exception's entry in place."""
    error = make()
    entry = remember(error)
    before = list(vars(error).items())
    for number in range(100):
        setattr(error, f"new{number}", number)
        assert recall(error) is entry
    for number in range(100):
        delattr(error, f"new{number}")
        assert recall(error) is entry
    gc.collect()
    assert recall(error) is entry
    assert list(vars(error).items()) == before


def test_another_exception_at_the_same_address_has_no_entry() -> None:
    """An exception that takes the address of a freed one is not mistaken for it."""
    reused = 0
    for make in MAKERS * 50:
        error = make()
        reused += id(error) in marks.recent
        assert recall(error) is None
        remember(error)
        assert recall(error) is remember(error)
        del error
    assert reused > 100


def test_a_dictionary_with_other_keys_proves_nothing(recorder: Recorder) -> None:
    """Errors in a loop whose dictionaries have keys other than str each have an origin of their own."""
    names = [str(number) for number in range(20)]

    def fail_plainly(name: str) -> None:
        with ztrace.span(name):
            error = ValueError("no")
            vars(error)[b"code"] = 7  # type: ignore[index]
            fail(error)()

    def pass_on(name: str) -> None:
        with ztrace.span(f"{name} passed"):
            fail_plainly(name)

    with ztrace.span("root"):
        for name in names:
            with contextlib.suppress(ValueError):
                pass_on(name)
    assert [record_of(recorder, name).how for name in names] == [RAISED] * 20
    assert [record_of(recorder, f"{name} passed").how for name in names] == [PASSED] * 20


def test_a_loop_of_errors_in_one_function_has_as_many_origins(recorder: Recorder) -> None:
    """Errors that C code raises in one function, one after the other, each have an origin of their own."""
    names = [str(number) for number in range(20)]
    with ztrace.span("root"):
        for name in names:
            try:
                with ztrace.span(name):
                    int("none")
            except ValueError:
                pass
    assert [record_of(recorder, name).how for name in names] == [RAISED] * 20


def test_an_error_after_a_handled_one_begins_in_the_outer_span(recorder: Recorder) -> None:
    """An error that the same line raises after a handled one, in no span of its own, has its own origin."""
    spans = [ztrace.span("inner"), None]

    def work() -> None:
        for span in spans:
            try:
                if span is not None:
                    span.start()
                int("none")
            except ValueError as error:
                if span is None:
                    raise
                span.end(error)

    run(work, "outer")
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, RAISED]


def replace_dictionary(error: BaseException) -> None:
    """Give the error another dictionary."""
    error.__dict__ = dict(vars(error))


def clear_dictionary(error: BaseException) -> None:
    """Empty the dictionary, which frees its table."""
    vars(error).clear()


def update_dictionary(error: BaseException) -> None:
    """Update an empty dictionary, which takes over a copy of the other's table."""
    vars(error).update({"code": 7})


@pytest.mark.parametrize("change", [replace_dictionary, clear_dictionary, update_dictionary])
def test_an_exception_under_way_may_lose_its_dictionary(
    recorder: Recorder, change: Callable[[BaseException], None]
) -> None:
    """An exception that gets a new dictionary on its way is known by its traceback."""

    def work() -> None:
        try:
            run_in_span()
        except ValueError as error:
            change(error)
            raise

    def run_in_span() -> None:
        with ztrace.span("inner"):
            fail(ValueError("no"))()

    run(work, "outer", "middle")
    assert [record_of(recorder, name).how for name in ("inner", "middle", "outer")] == [
        RAISED,
        PASSED,
        PASSED,
    ]


def test_a_dictionary_of_a_subclass_is_left_alone(recorder: Recorder) -> None:
    """A dictionary of a class of the program's runs none of its code, and its exception keeps its origin."""

    class Loud(dict[str, Any]):
        def __setitem__(self, key: str, value: object) -> None:
            raise AssertionError

        __delitem__ = __getitem__ = get = __sizeof__ = __setitem__  # type: ignore[assignment]

    error = ValueError("no")
    error.__dict__ = Loud(code=7)
    run(fail(error), "outer", "inner")
    assert vars(error) == {"code": 7}
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, PASSED]


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of many exceptions is forgotten, and one that is used stays."""
    monkeypatch.setattr(marks, "MAX_ENTRIES", 10)
    errors = [ValueError(number) for number in range(50)]
    for error in errors:
        entry = remember(error)
        entry.message = str(error)
        assert recall(errors[0]) is not None
    assert recall(errors[-1]) is entry
    assert recall(errors[5]) is None
    assert len(marks.recent) + len(marks._older) <= 20


@pytest.mark.slow
def test_tables_of_other_keys_have_sizes_of_their_own() -> None:
    """No dictionary of str keys has the size of one that has held another key."""
    sizes = {sys.getsizeof({str(key): 0 for key in range(count)}) for count in range(5000)}
    sizes |= {sys.getsizeof(vars(Shop(**{str(key): 0 for key in range(count)}))) for count in range(200)}
    base = sys.getsizeof({}) - dict.__sizeof__({})
    assert not {size - base for size in sizes} & marks._GENERAL
