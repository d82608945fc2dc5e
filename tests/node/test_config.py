"""Configuration: origins in rising order, typos with the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import KEYS, ConfigError, load, split_address


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "atoll.toml"
    file.write_text('data = "f"\n[http]\nlisten = "1.2.3.4:1"\ndrain = 3\n[mesh]\nsite = "s"\n')
    config, settings = load(
        file=file,
        environment={"ATOLL_HTTP_LISTEN": "1.2.3.4:2", "ATOLL_MESH_SITE": "e", "PATH": "x"},
        flags={"http.listen": "1.2.3.4:3", "mesh.site": None},
    )
    assert (config.data, config.http.listen, config.mesh.site) == ("f", "1.2.3.4:3", "e")
    assert config.http.drain == 3.0
    origins = {each.key: each.origin for each in settings}
    assert origins["http.listen"] == "flag"
    assert origins["mesh.site"] == "environment"
    assert origins["data"] == str(file)
    assert origins["log.level"] == "default"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("[http]\nlistn = 1", "http.listen"), ("[mehs]\nsite='x'", "mesh.site")],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, hint: str) -> None:
    file = tmp_path / "atoll.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=hint):
        load(file=file, environment={}, flags={})
    with pytest.raises(ConfigError, match="ATOLL_HTTP_LISTEN"):
        load(environment={"ATOLL_HTTP_LISTEM": "x"}, flags={})


def test_values_are_typed() -> None:
    config, _ = load(
        environment={
            "ATOLL_HTTP_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
            "ATOLL_ACCESS_ANONYMOUS_READ": "off",
            "ATOLL_HTTP_DRAIN": "2.5",
        },
        flags={},
    )
    assert config.http.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert config.access.anonymous_read is False
    assert config.http.drain == 2.5
    with pytest.raises(ConfigError, match=r"http\.drain"):
        load(environment={"ATOLL_HTTP_DRAIN": "soon"}, flags={})
    with pytest.raises(ConfigError, match=r"http\.tls"):
        load(environment={"ATOLL_HTTP_TLS": "maybe"}, flags={})


def test_secrets_are_not_printed() -> None:
    _, settings = load(environment={"ATOLL_ADMIN_PASSWORD": "hunter22"}, flags={})
    found = {each.key: each.value for each in settings}
    assert found["access.admin_password"] == "(set)"


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("localhost:0") == ("localhost", 0)
    for text in ("localhost", ":80", "a:b", "a:70000"):
        with pytest.raises(ConfigError):
            split_address(text)


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    assert [key for key in KEYS if f"`{key}`" not in text] == []
