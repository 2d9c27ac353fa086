"""How the examples of the pages are compared with what they print."""

import doctest
import re

import pytest

# Numbers that are rounding noise differ between machines: the error of a right gradient, the distance from an optimum.
SMALL = r"\d(?:\.\d+)?e-(?:0[6-9]|[1-9]\d)\b"
NOISE = re.compile(rf"((?:\bright|\bagreement)\s+){SMALL}|()\b{SMALL}(?=\s+standard\s+errors\s+from\b)")


@pytest.fixture(autouse=True)
def noise_is_noise(monkeypatch):
    """An example may print another number where its number is rounding noise."""
    compare = doctest.OutputChecker.check_output

    def check_output(self, want, got, optionflags):
        want, got = (NOISE.sub(r"\1noise", text) for text in (want, got))
        return compare(self, want, got, optionflags)

    monkeypatch.setattr(doctest.OutputChecker, "check_output", check_output)
