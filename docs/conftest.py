"""What the examples in the documentation may warn of, though warnings are errors in tests."""

import pytest

SLOW_CLUSTER = "ignore:An evaluation on the cluster takes:UserWarning"  # a matter of how busy the machine is


def pytest_collection_modifyitems(items):
    """Let the page on clusters run on a machine that is busy."""
    for item in items:
        if item.path.name == "cluster.rst":
            item.add_marker(pytest.mark.filterwarnings(SLOW_CLUSTER))
