"""How the examples of the pages are compared with what they print."""

import doctest
import re

import pytest

# The distance of a right gradient from its finite difference is rounding noise, which differs between machines.
NOISE = re.compile(r"(?P<before>\bright\s+|\bagreement\s+)\d(\.\d+)?e-(0[6-9]|[1-9]\d)\b")


@pytest.fixture(autouse=True)
def noise_is_noise(monkeypatch):
    """A report of the gradient check may print another number where its number is rounding noise."""
    compare = doctest.OutputChecker.check_output

    def check_output(self, want, got, optionflags):
        want, got = (NOISE.sub(r"\g<before>noise", text) for text in (want, got))
        return compare(self, want, got, optionflags)

    monkeypatch.setattr(doctest.OutputChecker, "check_output", check_output)
