"""What holds for all folders of tests."""

import pytest

# Here, because several folders look at trees and origins by the same functions.
pytest.register_assert_rewrite("tests.ztrace.zerorpc.trees", "tests.ztrace.zerorpc.origins")
