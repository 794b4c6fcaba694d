"""A stand-in for the Lambda base image that `sam local` needs, for machines that cannot reach a container registry.

The image has this machine's interpreter, standard library, C library and shell. AWS's own runtime interface client and
SDK are added, both locked in requirements/runtime.txt. So the runtime's contract is the genuine one; the operating
system and Python's patch level are not. Files are streamed to the engine, without a copy on disk.
"""

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePath
from re import findall
from typing import IO

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
INTERPRETER = f"/var/lang/bin/{PYTHON}"
SHELL = tuple(Path("/bin", name) for name in ("sh", "mv", "cp", "rm", "chmod"))  # for the layers that sam puts on top
MANYLINUX = (  # libraries that a wheel may expect of the system (PEP 599), even if the interpreter does not need them
    "libgcc_s.so.1", "libstdc++.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1",
    "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
LEFT_OUT = (  # parts of the standard library; these names are left out anywhere in the image
    "site-packages", "dist-packages", "test", "idlelib", "tkinter", "_tkinter*", "turtledemo", "ensurepip", "config-*",
    "*.opt-?.pyc",
)  # fmt: skip
BOOTSTRAP = f"""\
#!/bin/sh
export AWS_EXECUTION_ENV=AWS_Lambda_{PYTHON}
export PYTHONPATH=/opt/python/lib/{PYTHON}/site-packages:/opt/python:/var/runtime
cd "$LAMBDA_TASK_ROOT"
exec {INTERPRETER} -m awslambdaric "$_HANDLER"
"""
CONFIG = (
    "ENV LANG=C.UTF-8",
    "ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
    (
        "ENV LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:"
        "/var/task:/var/task/lib:/opt/lib"
    ),
    "ENV LAMBDA_TASK_ROOT=/var/task",
    "ENV LAMBDA_RUNTIME_DIR=/var/runtime",
    "WORKDIR /var/task",
)
PROOF = "import awslambdaric, boto3, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib"


def build(tag: str, *, python: Path, lock: Path, env: Mapping[str, str]) -> None:
    """Import the image into the engine, and check in a container that it has the modules that functions need.

    tag     name of the image
    python  an interpreter with pip and of this interpreter's version
    lock    the locked packages that go to /var/runtime
    env     environment in which the docker client finds the engine

    Raises CalledProcessError.
    """
    with tempfile.TemporaryDirectory() as runtime:
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock), "--target", runtime], check=True)
        command = ["docker", "import", *(f"--change={line}" for line in CONFIG), "-", tag]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env) as engine:
            assert engine.stdin is not None
            _write_filesystem(engine.stdin, Path(runtime))
    if engine.returncode:
        raise subprocess.CalledProcessError(engine.returncode, command)
    container = ["docker", "run", "--rm", "--network=none", "--env=PYTHONPATH=/var/runtime", tag]
    subprocess.run([*container, INTERPRETER, "-c", PROOF], check=True, env=env)


def _write_filesystem(stream: IO[bytes], runtime: Path) -> None:
    """Write the image's files as a tar archive. Shell and libraries keep their paths, so that they find each other."""
    interpreter, stdlib = Path(sys.base_prefix, "bin", PYTHON), Path(sysconfig.get_path("stdlib"))
    extensions = [path for path in stdlib.glob("lib-dynload/*.so") if not _left_out(path)]
    needed = _libraries([interpreter, *SHELL, *extensions])
    system = next(path.parent for path in needed if path.name == "libc.so.6")
    promised = {system / name for name in MANYLINUX}
    with tarfile.open(fileobj=stream, mode="w|", dereference=True) as image:
        _add(image, tarfile.TarInfo("/tmp"), tarfile.DIRTYPE, 0o1777)  # noqa: S108 - the container's
        for path in (*SHELL, *sorted(needed | promised | _libraries(promised))):
            image.add(path, filter=_owned_by_root)
        image.add(interpreter, INTERPRETER, filter=_owned_by_root)
        image.add(stdlib, f"/var/lang/lib/{PYTHON}", filter=_owned_by_root)
        image.add(runtime, "/var/runtime", filter=_owned_by_root)
        _add(image, tarfile.TarInfo("/var/runtime/bootstrap"), tarfile.REGTYPE, 0o755, BOOTSTRAP.encode())


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries, the loader included, that `binaries` need at any depth."""
    listing = subprocess.run(["ldd", *map(str, binaries)], check=True, capture_output=True, text=True).stdout
    return {Path(path) for path in findall(r"(/\S+) \(0x", listing)}


def _left_out(path: PurePath) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in LEFT_OUT)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return None if _left_out(PurePath(entry.name)) else entry


def _add(image: tarfile.TarFile, entry: tarfile.TarInfo, kind: bytes, mode: int, content: bytes = b"") -> None:
    entry.type, entry.mode, entry.size = kind, mode, len(content)
    image.addfile(entry, BytesIO(content))
