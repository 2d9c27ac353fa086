"""Fail if a wheel or an sdist lacks what it needs or holds what it should not: check_archives.py FILE [FILE ...]."""

import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

ROOTS = {
    ".whl": {"sk_analytic"},
    ".gz": {
        "sk_analytic",
        "tests",
        "benchmarks",
        "examples",
        "docs",
        "scripts",
        ".gitignore",
        "PKG-INFO",
        "pyproject.toml",
    }
    | {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md"}
    | {"CITATION.cff", "CODE_OF_CONDUCT.md", "SECURITY.md"},
}
NEEDED = {"sk_analytic/__init__.py", "sk_analytic/py.typed"}
JUNK = {
    "__pycache__",
    "_build",
    "auto_examples",
    "generated",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".DS_Store",
}


def names(path):
    """Return the names of the files in an archive, as they stand in the repository."""
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def complaints(path):
    """Return what is wrong with an archive, a line each."""
    files = names(path)
    roots = ROOTS[PurePosixPath(path).suffix]
    unexpected = {name for name in files if name.split("/")[0] not in roots or JUNK & set(name.split("/"))}
    return [f"{path} lacks {name}" for name in sorted(NEEDED - files)] + [
        f"{path} should not hold {name}" for name in sorted(unexpected)
    ]


if __name__ == "__main__":
    found = [line for path in sys.argv[1:] for line in complaints(path)]
    sys.exit("\n".join(found) or 0)
