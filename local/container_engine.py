"""A Docker engine for the time of a block: the one that runs, else one of our own, started and undone without a trace.

Our own keeps everything in a scratch directory and leaves the firewall and IP forwarding alone: containers only ever talk
to this machine over the bridge, which needs neither.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.background import background

BRIDGE = "docker0"


def runs(env: Mapping[str, str]) -> bool:
    """Tell whether the docker client reaches an engine."""
    return subprocess.run(["docker", "info"], env=env, capture_output=True, check=False).returncode == 0


def missing() -> list[str]:
    """Return what this machine lacks for an engine of our own, in words for the person at the keyboard."""
    programs = {"dockerd": "docker.io", "containerd": "docker.io", "runc": "docker.io", "ip": "iproute2"}
    lacks = [f"`{name}` (Debian: apt-get install {package})" for name, package in programs.items() if not find(name)]
    return lacks if os.geteuid() == 0 else [*lacks, "root, to start an engine"]


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def own_engine(scratch: Path, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run an engine under `scratch` (absolute); yields `env` with the address the docker client finds it at."""
    socket = f"unix://{scratch}/docker.sock"
    command = [find("dockerd") or "dockerd", "--host", socket, "--data-root", scratch / "data", "--exec-root", scratch / "exec"]
    command += ["--pidfile", scratch / "dockerd.pid", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    had_bridge = address_of_bridge() is not None
    try:
        with background(command, ready="API listen on", log=scratch / "dockerd.log", env=env):
            yield {**env, "DOCKER_HOST": socket}
    finally:
        if not had_bridge:
            subprocess.run([find("ip") or "ip", "link", "delete", BRIDGE], capture_output=True, check=False)


def address_of_bridge() -> str | None:
    """Return this machine's address on the engine's bridge, where containers reach its servers.

    None where there is no such bridge: Docker Desktop forwards `host.docker.internal` to loopback instead.
    """
    ip = find("ip")
    shown = subprocess.run([ip, "-4", "-oneline", "address", "show", BRIDGE], capture_output=True, check=False, text=True).stdout if ip else ""
    return shown.split()[3].split("/")[0] if shown else None
