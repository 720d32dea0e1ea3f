"""A real small Django project, read through its own sqlmigrate on a scratch database."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zdd_migrate.cli import cli, options
from zdd_migrate.errors import InputError
from zdd_migrate.integrations.django import reading
from zdd_migrate.integrations.timelines import timelines
from zdd_migrate.postgres.servers import Server

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("django") is None, reason="Django is not installed"
)

MANAGE = """import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """SECRET_KEY = "x"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "not-there", "HOST": "127.0.0.1",
                         "PORT": "1"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
HEAD = "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
MIGRATIONS = {
    "0001_initial": """    initial = True
    operations = [
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("email", models.TextField(unique=True)),
                ("name", models.TextField(null=True)),
            ],
        ),
    ]
""",
    "0002_changes": """    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RenameField("Customer", "name", "full_name"),
        migrations.AddField("Customer", "state", models.TextField(null=True)),
        migrations.AlterField("Customer", "email", models.TextField()),
        migrations.RunSQL("ALTER TABLE shop_customer DROP COLUMN state; SELECT '100%';"),
    ]
""",
    "0003_concurrently": """    atomic = False
    dependencies = [("shop", "0002_changes")]
    operations = [
        # zdd: ignore ZDD901 because it only counts
        migrations.RunPython(lambda apps, editor: None),
        migrations.RunSQL("CREATE INDEX CONCURRENTLY i ON shop_customer (full_name)"),
    ]
""",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_server: Server) -> Path:
    """The project, and we are in it; its own database cannot be reached."""
    (tmp_path / "shop" / "migrations").mkdir(parents=True)
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "zdd-migrate.toml").write_text(f"scratch = '{pg_server.dsn()}'\n")
    for package in ("shop", "shop/migrations"):
        (tmp_path / package / "__init__.py").write_text("")
    for name, body in MIGRATIONS.items():
        (tmp_path / "shop" / "migrations" / f"{name}.py").write_text(HEAD + body)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zdd(*arguments: str) -> Any:
    """A command's JSON."""
    done = CliRunner().invoke(cli, [*arguments, "--format", "json"])
    assert done.stdout, done.output
    options._revisions.cache_clear()  # the next command is another process
    return json.loads(done.stdout)


@pytest.mark.pg
def test_a_migration_is_read_where_it_stands(project: Path) -> None:
    """Its statements at their operations, with everything before it as the schema."""
    statements = zdd("explain", "shop/migrations/0002_changes.py")["statements"]
    kinds = [(s["operations"][0]["kind"], s["line"]) for s in statements]

    assert [k for k in kinds if not k[0].endswith("_index")] == [
        ("rename_column", 7),
        ("add_column", 8),
        ("drop_constraint", 9),
        ("drop_column", 10),
        ("data_statement", 10),
    ]
    assert all(s["in_transaction"] for s in statements)
    found = zdd("check", "shop/migrations/0002_changes.py")["findings"]
    assert {("ZDD201", 7), ("ZDD202", 10)} <= {(f["rule"], f["line"]) for f in found}
    assert {f["path"] for f in found} == {"shop/migrations/0002_changes.py"}


@pytest.mark.pg
def test_atomic_and_python(project: Path) -> None:
    """`atomic = False` is outside a transaction; RunPython is not understood, and can be answered for."""
    found = zdd("check", "shop/migrations/0003_concurrently.py")["findings"]

    assert not any(f["rule"] == "ZDD401" for f in found)
    assert [(f["rule"], f["line"], f["suppressed"]) for f in found if f["rule"] == "ZDD901"] == [
        ("ZDD901", 9, True)
    ]
    atomic = project / "shop/migrations/0003_concurrently.py"
    atomic.write_text(atomic.read_text().replace("atomic = False", "atomic = True"))
    assert any(f["rule"] == "ZDD401" for f in zdd("check", str(atomic))["findings"])


@pytest.mark.pg
def test_a_history_that_does_not_run_is_said(project: Path) -> None:
    """What Django would look up is not there then, so that nothing of it is believed."""
    changes = project / "shop/migrations/0002_changes.py"
    changes.write_text(changes.read_text().replace("DROP COLUMN state", "DROP COLUMN nowhere"))
    (chosen,), before = reading.read(project, ["shop/migrations/0003_concurrently.py"])

    assert [len(m.statements) for m in before] == [2, 6]
    (operation,) = chosen.statements[0].operations
    assert "0002_changes before it does not run" in getattr(operation, "reason", "")
    assert chosen.statements[0].span.line == 1


@pytest.mark.pg
def test_a_whole_project(project: Path) -> None:
    """In the order Django runs them; named or detected."""
    summary = zdd("check", ".")["summary"]
    assert summary["files"] == 3
    assert zdd("check", "shop", "--source", "django")["summary"] == summary
    chosen, before = reading.read(project, ["shop/migrations/0002_changes.py"])
    assert [m.name for m in (*before, *chosen)] == ["shop.0001_initial", "shop.0002_changes"]


@pytest.mark.pg
def test_what_django_says_is_passed_on(project: Path) -> None:
    """A project that does not start, another database, no manage.py: one line."""
    settings = project / "site_settings.py"
    settings.write_text(SETTINGS.replace("postgresql", "sqlite3"))
    with pytest.raises(InputError, match="sqlite, not Postgres"):
        reading.read(project, ["."])
    settings.write_text("raise RuntimeError('no such luck')")
    with pytest.raises(InputError, match=r"manage\.py: Django does not run: .*no such luck"):
        reading.read(project, ["."])
    (project / "manage.py").unlink()
    with pytest.raises(InputError, match=r"no manage\.py"):
        reading.project_of(["shop"], "django")


@pytest.mark.pg
def test_changed_migrations_of_a_branch(project: Path) -> None:
    """Stand in the project's history; none is passed over."""
    (timeline,) = timelines(["shop/migrations/0002_changes.py"], project, None)

    assert [(m.migration.name, m.changed) for m in timeline.moments] == [
        ("shop.0001_initial", False),
        ("shop.0002_changes", True),
    ]


def test_other_python_is_left_alone(tmp_path: Path) -> None:
    """Alembic's revisions, and anything else."""
    file = tmp_path / "migrations" / "a.py"
    file.parent.mkdir()
    file.write_text("revision = 'a'\ndown_revision = None\ndef upgrade(): pass\n")
    assert reading.project_of([str(file)]) is None
    assert reading.project_of([str(file.parent)]) is None
