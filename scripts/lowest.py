"""Print the oldest minor versions of the dependencies that pyproject.toml allows, as constraints for pip."""

import tomllib
from pathlib import Path

for requirement in tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["dependencies"]:
    print(requirement.replace(">=", "==") + ".*")
