"""Process-wide setup shared by all test folders."""

import signal

import pytest

# Registered here because several folders use the assertions of these two modules.
pytest.register_assert_rewrite(
    "tests.ztrace.middleware.zerorpc.trees", "tests.ztrace.middleware.zerorpc.origins"
)

# A shell starts background jobs with SIGINT ignored, and every program that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
