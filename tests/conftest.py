"""Rules of all tests: markers, assertions of shared modules, Ctrl-C, and hypothesis's examples."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.markers", "tests.clickhouse"]

# Here, because several folders look at trees and origins by the same functions.
pytest.register_assert_rewrite(
    "tests.ztrace.middleware.zerorpc.trees", "tests.ztrace.middleware.zerorpc.origins"
)

# Shells have what they start in the background ignore Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests create thousands of databases, and a disk makes each commit wait: their files are in memory where
# there is room for them.
_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2 << 30:
    tempfile.tempdir = str(_MEMORY)

# A few new examples in each run for developers; in continuous integration the same in each run, and many of
# them where `.ci/run` says so. Tests that need more examples, or whose examples take long, multiply or divide
# `settings().max_examples`.
hypothesis.settings.register_profile(
    "few", max_examples=20, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "same",
    hypothesis.settings.get_profile("few"),
    derandomize=True,
    database=None,
    print_blob=True,
)
hypothesis.settings.register_profile("many", hypothesis.settings.get_profile("same"), max_examples=50)
hypothesis.settings.load_profile(os.environ.get("EXAMPLES") or ("same" if os.environ.get("CI") else "few"))


def pytest_collection_finish() -> None:
    """Spare the collector of garbage the thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()
