"""Decorated objects that are traced: each behaves as it does undecorated, and each call has a span."""

import functools
import pickle

import pytest

import ztrace
from tests.ztrace.decorating import descriptors, functions
from tests.ztrace.decorating.comparing import Case, add, bare
from tests.ztrace.recording import Recorder


@ztrace.trace
@functools.lru_cache
def cached_at_top(key: str) -> str:
    """Return the key in capitals."""
    return key.upper()


@ztrace.trace
def plain_at_top(key: str) -> str:
    """Return the key in capitals."""
    return key.upper()


add_two = ztrace.trace(functools.partial(add, second=2))

#: Cases that are traced, by the names of their spans.
TRACED: dict[Case, list[str]] = {
    descriptors.case_classmethod: ["case_classmethod.Base.make"] * 3,
    descriptors.case_staticmethod: ["case_staticmethod.Holder.work"] * 3,
    descriptors.case_property: ["case_property.Holder.total"] * 3,
    descriptors.case_cached_property: ["case_cached_property.Holder.total"] * 2,
    descriptors.case_cached_property_set_later: ["case_cached_property_set_later.Holder.total"],
    descriptors.case_partialmethod: ["case_partialmethod.Holder.work", "case_partialmethod.Holder.<lambda>"],
    descriptors.case_partial: ["partial"] * 3,
    descriptors.case_partial_coroutine_function: ["partial"],
    descriptors.case_partial_of_coroutine_method: ["partial"],
    descriptors.case_compiled_function: ["compiled"] * 2,
    descriptors.case_bound_method: ["case_bound_method.Holder.work"] * 2,
    descriptors.case_lru_cache: ["case_lru_cache.work"] * 2,
    descriptors.case_cached_method: ["case_cached_method.Holder.work"],
    functions.case_singledispatch: ["case_singledispatch.work"] * 3,
    functions.case_contextmanager: ["case_contextmanager.block"] * 2,
    functions.case_asynccontextmanager: ["case_asynccontextmanager.block"],
    functions.case_abstract_method: [],
    functions.case_sync_wrapper_of_a_coroutine_function: ["add_later"],
    functions.case_sync_wrapper_that_runs_a_coroutine_function: ["add_later"],
    functions.case_awaitable_generator: ["case_awaitable_generator.pause"],
    functions.case_marked_coroutine_function: ["case_marked_coroutine_function.work"],
    functions.case_special_methods: [
        f"case_special_methods.Base.__{name}__"
        for name in ("init_subclass", "new", "init", "len", "new", "init", "len", "class_getitem")
    ],
    functions.case_enum_method: ["case_enum_method.Color.work"],
    functions.case_overridden: ["case_overridden.Base.work", "case_overridden.Sub.work"],
}


@pytest.mark.parametrize("case", TRACED)
def test_a_traced_object_behaves_as_it_does_undecorated(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    """The program sees the same values with and without the decorator, and each call has a span."""
    seen = case(ztrace.trace)
    assert seen == case(bare)
    assert [span.name for span in recorder.spans] == TRACED[case]
    assert caplog.messages == []


def test_pickling_by_name_finds_the_traced_function(recorder: Recorder) -> None:
    """A traced function and a traced cache are pickled by their name."""
    for function in (plain_at_top, cached_at_top):
        assert pickle.loads(pickle.dumps(function)) is function
    assert cached_at_top("a") == plain_at_top("a") == "A"


def test_a_partial_function_is_pickled_as_the_plain_one(recorder: Recorder) -> None:
    """A traced partial function can be sent to a process pool, whose workers call the plain one."""
    loaded = pickle.loads(pickle.dumps(add_two))
    assert (type(loaded), loaded(1), add_two(1)) == (functools.partial, 3, 3)
    assert recorder.span.name == "partial"
