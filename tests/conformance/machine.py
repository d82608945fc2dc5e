"""A private root for apt and dpkg: their folders, an empty database, nothing of the machine around."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conformance.settings import Settings

FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/auth.conf.d",
    "etc/apt/keyrings",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg/info",
    "var/lib/dpkg/triggers",
    "var/lib/dpkg/updates",
    "var/log/apt",
)


class Machine:
    """A private root: apt's folders, a dpkg database, and nothing of the machine around it."""

    def __init__(
        self, root: Path, run_client: Callable[..., str], run_shell: Callable[..., str]
    ) -> None:
        self.root, self._run, self._shell = root, run_client, run_shell
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        self._env = {"APT_CONFIG": str(root / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
        for file in ("available", "status"):
            (root / "var/lib/dpkg" / file).touch()
        (root / "apt.conf").write_text(
            f'Dir "{root}/";\nDir::State::status "{root}/var/lib/dpkg/status";\n'
            'Dir::Bin::methods "/usr/lib/apt/methods";\nDir::Bin::dpkg "/usr/bin/dpkg";\n'
            'Dir::Bin::apt-key "/usr/bin/apt-key";\nDir::Bin::gpg "/usr/bin/gpgv";\n'
            'APT::Sandbox::User "";\nAcquire::Retries "0";\nAcquire::Languages "none";\n'
            f'DPkg::Options {{ "--root={root}"; "--force-not-root"; "--log={root}/dpkg.log"; }};\n'
        )

    def apt(self, *arguments: str, status: int = 0, cwd: Path | None = None) -> str:
        folder = cwd or self.root
        return self._run("apt-get", "-y", *arguments, status=status, env=self._env, cwd=folder)

    def update_verbosely(self) -> str:
        """Update; give every request and answer."""
        return self._shell("apt-get -o Debug::Acquire::http=true update 2>&1", env=self._env)

    def paste(self, settings: Settings, *, env: Mapping[str, str] | None = None) -> None:
        """Do as the settings say: fetch the key, write the files."""
        ours = settings.beneath(self.root)
        self._shell(ours.shell, env=env)
        ours.write(self.root, self.root)

    def install(self, name: str) -> bytes:
        """Install a package; without root, which dpkg needs, unpack it.  Give its file."""
        if os.geteuid() == 0:
            self.apt("install", name)
            return (self.root / f"usr/share/{name}/data.bin").read_bytes()
        self.apt("install", "--download-only", name)
        (found,) = (self.root / "var/cache/apt/archives").glob(f"{name}_*.deb")
        self._run("dpkg-deb", "-x", found, self.root / "unpacked")
        return (self.root / f"unpacked/usr/share/{name}/data.bin").read_bytes()
