"""Run the account in a box until Ctrl-C or SIGTERM (`make up`)."""

import argparse
import socket
import sys

from fraud import packaged
from fraud.errors import UndecidableError
from local.account.boto import REGION
from local.account.emulator import told_to_end
from local.box import Box

PORT = 8080
LAST_PORT = 65_000
PEOPLE = {"ANALYST_TOKEN": ("hana", "analyst"), "LEAD_TOKEN": ("mio", "lead")}
"""The people whose tokens are printed: the variable, the name and the group of each."""


def main() -> int:
    """Start the box, print its addresses, its key and two tokens, and wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port of the API; the next one is for people")
    parser.add_argument("--currency", default="JPY", help="the one that the box decides in; default: %(default)s")
    arguments = parser.parse_args()
    if (
        fault := _fault_of(arguments.port)
        or (arguments.port and _fault_of(arguments.port + 1))
        or _fault_in(arguments.currency)
    ):
        print(fault, file=sys.stderr)
        return 2
    ended = told_to_end()
    with Box(parameters={"Currency": arguments.currency}, port=arguments.port) as box:
        box.environments.invoke("Tick", {}, None)  # else decisions are degraded until the first tick, as on AWS
        key_id, secret = box.credentials.access_key, box.credentials.secret_key
        tokens = " ".join(f"{variable}={box.token(*person)}" for variable, person in PEOPLE.items())
        print(
            f"API       {box.api_url}",
            f"people    {box.people_url}",
            f"emulator  {box.endpoint_url}",
            f"logs      {box.logs}",
            f"export AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={REGION}",
            f"export {tokens}",
            "up: end it with Ctrl-C",
            sep="\n",
            flush=True,
        )
        ended.wait()
    return 0


def _fault_in(currency: str) -> str:
    """Return why no box decides in a currency, with the way out; empty if one does."""
    try:
        packaged.require(currency)
    except UndecidableError as error:
        return str(error)
    return ""


def _fault_of(port: int) -> str:
    """Return why no API can be served on a port, with the way out; empty if one can."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return ""
    except (OSError, OverflowError) as error:
        return f"port {port}: {error}; another one: make up PORT={port + 10 if 0 < port < LAST_PORT else PORT + 10}"


if __name__ == "__main__":
    sys.exit(main())
