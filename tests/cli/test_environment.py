"""The environment that a clean clone makes for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import environment

PREPARE = "import sys; from pathlib import Path; from cli import environment as e; "
PREPARE += "print(e.prepare(Path(sys.argv[1])))"


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "requirements.txt"
    file.write_text("# nothing\n", "utf-8")
    return file


def _start(requirements: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(requirements)],
        cwd=environment.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_callers_share_one_environment_and_a_half_made_one_is_made_anew(
    requirements: Path,
) -> None:
    first, second = _start(requirements), _start(requirements)
    (out, errors), (other_out, other_errors) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0), errors + other_errors
    python = Path(out.strip())
    assert out == other_out
    assert (errors + other_errors).count("preparing Python libraries") == 1
    assert os.access(python.parent / "atoll", os.X_OK)

    (python.parent.parent / environment.READY).unlink()  # as a killed installation leaves it
    python.unlink()
    again = _start(requirements)
    assert "preparing" in again.communicate()[1]
    assert subprocess.run([python, "-m", "pip", "--version"], check=False).returncode == 0


def test_a_ready_environment_is_used_as_it_is(requirements: Path) -> None:
    python = _pretend_ready(requirements)
    assert environment.prepare(requirements) == python
    launcher = python.parent / "atoll"
    assert str(environment.ROOT) in launcher.read_text("utf-8")
    before = launcher.stat().st_ino
    environment.prepare(requirements)
    assert launcher.stat().st_ino == before


def _pretend_ready(requirements: Path) -> Path:
    target = environment._environment(requirements)
    (target / "bin").mkdir(parents=True)
    (target / environment.READY).touch()
    return target / "bin" / "python"


def test_other_pins_make_another_environment(requirements: Path) -> None:
    before = environment._environment(requirements)
    requirements.write_text("trio==0.35.0\n", "utf-8")
    assert environment._environment(requirements) != before


def test_pins_follow_inclusions_and_see_conditions(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# note\none==1.0\ntwo==2.0 ; python_version < '3'\n", "utf-8")
    (tmp_path / "b.txt").write_text("-r a.txt\nthree==3.0.post1\n", "utf-8")
    assert list(environment.pins(tmp_path / "b.txt")) == [
        ("one", "1.0", False),
        ("two", "2.0", True),
        ("three", "3.0.post1", False),
    ]


@pytest.mark.parametrize(
    ("text", "satisfied"),
    [
        ("", True),
        ("trio==0.0.1", False),
        ("surely-not-installed==1", False),
        ("surely-not-installed==1 ; python_version < '3'", True),
    ],
)
def test_whether_the_own_environment_will_do(
    requirements: Path, text: str, *, satisfied: bool
) -> None:
    requirements.write_text(text + "\n", "utf-8")
    assert environment._satisfied(requirements) is satisfied


def test_a_failed_installation_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="failed with status 3"):
        environment._run(["sh", "-c", "echo the reason; exit 3"])
    assert "the reason" in capsys.readouterr().err


def test_without_venv_and_root_the_one_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match=r"run once: sudo apt-get install .* python3\.\d+-venv"):
        environment._ensure_venv()


SEEN = "import sys; from cli import environment as e; e.keep_bytecode(); import cli.output; "
SEEN += "print(sys.pycache_prefix or '-', cli.output.__cached__)"


@pytest.mark.parametrize("forbidden", ["1", ""])
def test_bytecode_that_may_not_lie_beside_its_source_is_kept_in_the_cache(
    tmp_path: Path, forbidden: str
) -> None:
    """Compiling everything takes twice as long as the rest of a start."""
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    shutil.copytree(environment.ROOT / "cli", tree / "cli", ignore=lambda *_: ["__pycache__"])
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": forbidden, "XDG_CACHE_HOME": str(cache)}
    variables.pop("PYTHONPYCACHEPREFIX", None)
    command = [sys.executable, "-c", SEEN]
    ran = subprocess.run(
        command, cwd=tree, env=variables, capture_output=True, text=True, check=True
    )
    prefix, cached = ran.stdout.split()
    assert Path(cached).exists()
    beside = bool(list(tree.rglob("*.pyc")))
    assert (prefix, beside) == (
        (str(cache / "atoll" / "bytecode"), False) if forbidden else ("-", True)
    )


def test_a_library_is_known_by_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, version in (("first", "1.0"), ("second", "2.0")):
        (tmp_path / place / f"Some_Thing.x-{version}.dist-info").mkdir(parents=True)
    monkeypatch.setattr("sys.path", [str(tmp_path / "first"), str(tmp_path / "second"), "/nowhere"])
    assert environment._named() == {"some_thing_x": "1.0"}
    (tmp_path / "pins.txt").write_text("some-thing.X==1.0\n", "utf-8")
    assert environment._satisfied(tmp_path / "pins.txt")


def test_who_has_no_home_starts_all_the_same(tmp_path: Path) -> None:
    """As a container does under a user id that nobody knows, from a checkout it may not write."""
    code = f"import pathlib\ndef no(): raise RuntimeError\npathlib.Path.home = no\n{SEEN}"
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    variables.pop("XDG_CACHE_HOME", None)
    variables.pop("PYTHONPYCACHEPREFIX", None)
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, cwd=environment.ROOT, env=variables, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[0] == "-"
