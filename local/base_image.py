"""A stand-in for the Lambda base image that `sam local` asks for, for a machine that reaches no container registry.

It lends the container this machine's interpreter, standard library, C library and shell, next to AWS's own runtime
interface client and the SDK (locked in requirements-runtime.txt). So the runtime's contract is the genuine one; the
operating system and the patch level of Python are not. The image is streamed to the engine: nothing is copied to disk.
"""

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
LANG_BIN, LANG_LIB = Path("/var/lang/bin"), Path("/var/lang/lib")
SHELL = ("sh", "mv", "cp", "rm", "chmod")  # what the Dockerfile that sam puts on top of the image runs
MANYLINUX = (  # what a wheel may expect from the system (PEP 599), beyond what the interpreter itself needs
    "libgcc_s.so.1", "libstdc++.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1",
    "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
LEFT_OUT = re.compile(r"/(site-packages|dist-packages|test|idlelib|tkinter|turtledemo|ensurepip|config-[^/]*)(/|$)|/_tkinter|\.opt-\d\.pyc$")
BOOTSTRAP = f"""\
#!/bin/sh
export AWS_EXECUTION_ENV=AWS_Lambda_{PYTHON}
export PYTHONPATH=/opt/python/lib/{PYTHON}/site-packages:/opt/python:/var/runtime
cd "$LAMBDA_TASK_ROOT"
exec {LANG_BIN / PYTHON} -m awslambdaric "$_HANDLER"
"""
CONFIG = (
    "ENV LANG=C.UTF-8",
    f"ENV PATH={LANG_BIN}:/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "ENV LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "ENV LAMBDA_TASK_ROOT=/var/task",
    "ENV LAMBDA_RUNTIME_DIR=/var/runtime",
    "WORKDIR /var/task",
    'ENTRYPOINT ["/var/runtime/bootstrap"]',
)
PROOF = "import awslambdaric, boto3, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib"


def build(tag: str, *, python: Path, lock: Path, env: Mapping[str, str]) -> None:
    """Import the image into the engine that `env` names, and import in it what functions need of it.

    `python` is of this same version and has pip; `lock` lists what goes to /var/runtime. Raises CalledProcessError.
    """
    with tempfile.TemporaryDirectory() as runtime:
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        subprocess.run([*install, "-r", lock, "--target", runtime], check=True)
        command = ["docker", "import", *(part for line in CONFIG for part in ("--change", line)), "-", tag]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env) as engine:
            assert engine.stdin is not None
            write_filesystem(engine.stdin, Path(runtime))
        if engine.returncode:
            raise subprocess.CalledProcessError(engine.returncode, command)
    sandbox = ["docker", "run", "--rm", "--network", "none", "--env", "PYTHONPATH=/var/runtime", "--entrypoint", LANG_BIN / PYTHON]
    subprocess.run([*sandbox, tag, "-c", PROOF], check=True, env=env)


def write_filesystem(stream: io.BufferedIOBase, runtime: Path) -> None:
    """Write the image's files as a tar archive; libraries keep the path that this machine's linker knows them by."""
    interpreter, stdlib = Path(sys.base_prefix) / "bin" / PYTHON, Path(sysconfig.get_path("stdlib"))
    shell = [Path("/bin") / name for name in SHELL]
    loaded = libraries([interpreter, *shell, *(path for path in (stdlib / "lib-dynload").glob("*.so") if not LEFT_OUT.search(str(path)))])
    system = next(path.parent for path in loaded if path.name == "libc.so.6")
    loaded |= libraries(promised := [system / name for name in MANYLINUX]) | set(promised)
    places = {path: path for path in [*shell, *loaded]} | {
        interpreter: LANG_BIN / PYTHON,
        stdlib: LANG_LIB / PYTHON,
        runtime: Path("/var/runtime"),
    }
    with tarfile.open(fileobj=stream, mode="w|", dereference=True) as image:
        add(image, "/tmp", mode=0o1777, content=None)
        for here, there in sorted(places.items()):
            image.add(here, str(there), filter=owned_by_root)
        add(image, "/var/runtime/bootstrap", mode=0o755, content=BOOTSTRAP.encode())


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries, the loader included, that `binaries` need, at any depth."""
    listing = subprocess.run(["ldd", *binaries], check=True, capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", listing)}


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if LEFT_OUT.search(entry.name):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def add(image: tarfile.TarFile, path: str, *, mode: int, content: bytes | None) -> None:
    """Add a file of `content`, or a directory where it is None."""
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size = (tarfile.DIRTYPE if content is None else tarfile.REGTYPE), mode, len(content or b"")
    image.addfile(entry, io.BytesIO(content or b""))
