"""What `atoll client NAME` prints, put where its comments say: as a user would paste it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.nodes import NodeProcess

# "# ~/.pypirc, then: …", "// build.gradle", "<!-- ~/.m2/settings.xml -->": a block for that file.
HEADING = re.compile(
    r"(?:#|//|<!--) (?P<file>(?:~/|/etc/)[^\s,]+|\.[a-z]+rc(?:\.yml)?|[a-z.]+\.(?:toml|gradle))\b"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Printed settings: the text of each file they name, and the rest, which is for a shell."""

    files: dict[str, str]
    shell: str

    def write(self, home: Path, folder: Path) -> None:
        """Write the files of HOME, and those without a folder into a project's folder."""
        for name, text in self.files.items():
            target = home / name[2:] if name.startswith("~/") else folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")

    def beneath(self, root: Path) -> Settings:
        """The same for a system that lives in a folder: every path in /etc is there."""
        files = {
            name.replace("/etc/", f"{root}/etc/"): text.replace("/etc/", f"{root}/etc/")
            for name, text in self.files.items()
        }
        return Settings(files, self.shell.replace("/etc/", f"{root}/etc/"))

    def exports(self) -> dict[str, str]:
        """Read the variables that the shell part exports."""
        return dict(re.findall(r"^export (\w+)='?(.*?)'?$", self.shell, re.MULTILINE))


def printed(node: NodeProcess, client: str, token: str, *, repository: str = "") -> Settings:
    """Ask a node for a client's settings.  One question has one answer: it is asked once."""
    return _printed(node, client, token, repository)


@cache
def _printed(node: NodeProcess, client: str, token: str, repository: str) -> Settings:
    chosen = ["--repository", repository] if repository else []
    text = node.command("client", client, "--data", str(node.data), "--token", token, *chosen)
    files: dict[str, str] = {}
    shell: list[str] = []
    for name, block in _blocks(text):
        if name:
            files[name] = files.get(name, "") + block
        else:
            shell.append(block)
    return Settings(files, "".join(shell))


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Split at blank lines; a block that begins without a comment continues the one before."""
    name = ""
    for block in re.split(r"\n{2,}", text.strip()):
        found = HEADING.match(block)
        if found:
            name = found["file"]
        elif block.startswith(("#", "<!--", "//")):
            name = ""
        yield name, f"{block}\n\n"
