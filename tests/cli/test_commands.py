"""The commands, run against a data directory whose node is not running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import COMMANDS, atoll
from cli.mirror import mirrors_table
from cli.repositories import repositories_table
from cli.settings import config
from store.errors import ConflictError, NotFoundError, RejectedError


def run(*arguments: str, text: str | None = None) -> Result:
    result = CliRunner().invoke(atoll, list(arguments), input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("cli") / "node")
    assert run("init", "--data", folder).exit_code == 0
    return folder


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_helps_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    commands = getattr(atoll.get_command(None, name), "commands", {})  # type: ignore[arg-type]  # click takes None here
    for each in commands:
        assert "Example: atoll" in run(name, each, "--help").output
    assert commands or "Example: atoll" in result.output


def test_init_makes_a_directory_that_is_ours_alone(data: str) -> None:
    assert (Path(data) / "node.key").stat().st_mode & 0o077 == 0
    assert (Path(data) / "admin.password").stat().st_mode & 0o077 == 0


def test_a_directory_without_a_node_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="atoll init"):
        run("token", "list", "--data", str(tmp_path))


def test_tokens_come_and_go(data: str) -> None:
    secret = run("token", "create", "--data", data, "--name", "ci", "--scope", "write").output
    assert secret.startswith("atoll_")
    assert secret.count("\n") == 1
    (found,) = json.loads(run("token", "list", "--data", data, "--json").output)
    assert (found["name"], found["scopes"]) == ("ci", ["write"])
    assert secret.strip() not in json.dumps(found)
    assert run("token", "revoke", "--data", data, found["id"]).exit_code == 0
    assert json.loads(run("token", "list", "--data", data, "--json").output) == []
    with pytest.raises(RejectedError, match="unknown scope"):
        run("token", "create", "--data", data, "--name", "x", "--scope", "everything")


def test_repositories_come_and_go(data: str) -> None:
    url = run("repo", "create", "--data", data, "wheels", "--format", "pypi").output
    assert url.strip().endswith("/pypi/wheels/")
    shown = json.loads(run("repo", "show", "--data", data, "wheels").output)
    assert (shown["is_public"], shown["home"]) == (False, "default")
    items = json.loads(run("repo", "list", "--data", data, "--json").output)
    assert {"wheels", "pypi", "npm", "docker", "maven", "debian", "generic"} <= {
        each["key"] for each in items
    }
    assert repositories_table(items).row_count == len(items)
    with pytest.raises(ConflictError):
        run("repo", "create", "--data", data, "wheels", "--format", "pypi")
    assert run("repo", "delete", "--data", data, "wheels").exit_code == 0


def test_users_get_rights(data: str) -> None:
    created = run("user", "create", "--data", data, "ann", "--password", "correct horse")
    assert created.exit_code == 0
    grant = run("user", "grant", "--data", data, "ann", "pypi", "--action", "write")
    assert len(grant.output.strip()) == 32
    names = {
        each["username"]
        for each in json.loads(run("user", "list", "--data", data, "--json").output)
    }
    assert names == {"admin", "ann"}
    assert run("user", "delete", "--data", data, "ann").exit_code == 0


def test_client_settings_name_the_repository(data: str) -> None:
    assert "pip" in run("client", "--data", data).output.split()
    text = run(
        "client", "pip", "--data", data, "--url", "http://n:1", "--repository", "pypi"
    ).output
    assert "http://n:1/pypi/pypi/simple/" in text
    assert "{url}" not in text
    with pytest.raises(NotFoundError, match="known:"):
        run("client", "nonsense", "--data", data)


def test_effective_settings_say_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[mesh]\nsite = "harbour"\n')
    result = CliRunner().invoke(config, ["--config", str(file), "--json"])
    found = {each["key"]: each for each in json.loads(result.output)}
    assert found["mesh.site"] == {"key": "mesh.site", "value": "harbour", "origin": str(file)}


def test_generic_files_go_there_and_back(data: str, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(bytes(range(256)) * 5000)
    run("publish", "--data", data, str(source), "generic/x/a")
    target.with_name("b.part").write_bytes(source.read_bytes()[:1000])  # resumed from here
    run("get", "--data", data, "generic/x/a", str(target))
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(NotFoundError):
        run("get", "--data", data, "generic/x/none", str(target))


def test_mirrors_are_laid_out() -> None:
    rows = {"name": "requirements.txt", "running": False, "done": 3, "failed": 0, "left": 0}
    table = mirrors_table([{**rows, "every_seconds": 7200.0, "troubles": []}])
    assert [list(each.cells) for each in table.columns][-1] == ["2 h"]
