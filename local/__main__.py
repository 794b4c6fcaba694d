"""Run the account in a box until Ctrl-C or SIGTERM (`make up`)."""

import argparse
import sys

from local.account.emulator import told_to_end
from local.account.stack import REGION
from local.box import Box

PORT = 8080


def main() -> int:
    """Start the box, print its addresses and its key, and wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port of the API")
    arguments = parser.parse_args()
    ended = told_to_end()
    with Box(port=arguments.port) as box:
        box.environments.invoke("Tick", {}, None)  # else decisions are degraded until the first tick, as on AWS
        key_id, secret = box.credentials.access_key, box.credentials.secret_key
        print(
            f"API       {box.api_url}",
            f"emulator  {box.endpoint_url}",
            f"logs      {box.logs}",
            f"export AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret} AWS_REGION={REGION}",
            "up: end it with Ctrl-C",
            sep="\n",
            flush=True,
        )
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
