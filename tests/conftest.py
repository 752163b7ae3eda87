"""What holds for all folders of tests."""

import signal

import pytest

# Here, because several folders look at trees and origins by the same functions.
pytest.register_assert_rewrite(
    "tests.ztrace.middleware.zerorpc.trees", "tests.ztrace.middleware.zerorpc.origins"
)

# Shells have what they start in the background ignore Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
