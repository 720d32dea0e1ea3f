"""What is built is whole: the wheel, made from the source archive, holds rules and story."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_rules_and_the_story(tmp_path: Path) -> None:
    """Built from the sdist, as an index would: equal to the checkout, and not empty."""
    for target in ("sdist", "wheel"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(tmp_path)],
            cwd=ROOT if target == "sdist" else unpacked(tmp_path),
            check=True,
            capture_output=True,
        )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    shipped = {Path(n).name for n in names if n.startswith("zdd_migrate/rules/")}
    assert shipped == {p.name for p in (ROOT / "rules").glob("*.md")}
    assert len(shipped) >= 15
    assert "zdd_migrate/story/migration.sql" in names
    assert "zdd_deploy/__init__.py" in names
    assert any(n.endswith("entry_points.txt") for n in names)


def unpacked(directory: Path) -> Path:
    """The source archive, unpacked."""
    import tarfile

    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory / "source", filter="data")
    (inner,) = (directory / "source").iterdir()
    return inner
