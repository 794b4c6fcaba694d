"""A Docker engine that runs while a block of code runs, for machines where no engine is running.

It keeps its files in a scratch directory and removes its bridge afterwards. It does not change the firewall or IP
forwarding: the containers only talk to this machine, over the bridge, and that needs neither.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.account.background import background

BRIDGE = "docker0"
PROGRAMS = {"dockerd": "docker.io", "ip": "iproute2"}  # with the Debian packages that have them
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def runs(env: Mapping[str, str]) -> bool:
    """Tell whether the docker client reaches an engine."""
    return subprocess.run(["docker", "info"], env=env, capture_output=True, check=False).returncode == 0


def missing() -> list[str]:
    """Return what this machine lacks to run an engine of our own, in words for the user."""
    lacks = [
        f"`{program}` (Debian: apt-get install {package})"
        for program, package in PROGRAMS.items()
        if not shutil.which(program, path=PATH)
    ]
    return lacks if os.geteuid() == 0 else [*lacks, "a running Docker engine, or root to start one"]


@contextmanager
def own_engine(scratch: Path, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run an engine with its files under `scratch`, an absolute path. Yields `env` with its address for clients."""
    socket = f"unix://{scratch}/docker.sock"
    places = {"host": socket, "data-root": scratch / "data", "exec-root": scratch / "exec", "pidfile": scratch / "pid"}
    flags = [f"--{option}={place}" for option, place in places.items()]
    flags += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    there_before = bridge_address()
    try:
        with background(
            ["dockerd", *flags],
            ready="API listen on",
            log=scratch / "dockerd.log",
            env={**env, "PATH": PATH},
            cwd=scratch,
        ):
            yield {**env, "DOCKER_HOST": socket}
    finally:
        if there_before is None:
            _ip("link", "delete", BRIDGE)


def bridge_address() -> str | None:
    """Return this machine's address on the engine's bridge: containers reach its servers there.

    None where there is no bridge: on Docker Desktop, `host.docker.internal` leads to loopback.
    """
    shown = _ip("-4", "-oneline", "address", "show", BRIDGE)
    return shown.split()[3].partition("/")[0] if shown else None


def _ip(*arguments: str) -> str:
    program = shutil.which("ip", path=PATH)
    if program is None:
        return ""
    return subprocess.run([program, *arguments], capture_output=True, check=False, text=True).stdout
