"""gradle/libs.versions.toml for the shell: one variable a version, and ``versions``, the -D options for Maven."""

import tomllib
from pathlib import Path

catalogue = tomllib.loads((Path(__file__).parents[1] / "gradle" / "libs.versions.toml").read_text())["versions"]
for name, version in catalogue.items():
    print(f"{name.replace('-', '_')}={version}")
print("versions=(" + " ".join(f"-Dv.{name}={version}" for name, version in catalogue.items()) + ")")
