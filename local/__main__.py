"""`make up`: the account in a box on fixed ports, until Ctrl-C or SIGTERM."""

import argparse
import signal
import sys
import threading

from local.box import Box
from local.stack import REGION

PORT = 8080


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="of the API")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Box(port=arguments.port) as box:
        print(
            f"API       {box.api_url}",
            f"emulator  {box.endpoint_url}",
            f"logs      {box.logs}",
            f"export AWS_ACCESS_KEY_ID={box.credentials.access_key} AWS_SECRET_ACCESS_KEY={box.credentials.secret_key} AWS_REGION={REGION}",
            "up: end it with Ctrl-C",
            sep="\n",
            flush=True,
        )
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
