"""boto3 for the emulated account: it reads nothing of the user's environment or configuration.

A profile, a proxy or an endpoint that is set for AWS must not reach the box, and the box needs none of them.
"""

import os
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.session import Session

REGION = "us-east-1"

KEY_ID, SECRET = "local", "local"
"""The box's one key: that of its API, and of the emulated account's owner."""

PRIVATE = {
    name: (None, None, os.devnull if name in ("config_file", "credentials_file") else default, conversion)
    for name, (_, _, default, conversion) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
}
"""botocore's variables with their defaults, without the files and environment variables that would change them."""


@cache
def session() -> boto3.Session:
    """Return the boto3 session of the box."""
    return boto3.Session(KEY_ID, SECRET, region_name=REGION, botocore_session=Session(PRIVATE))


def client(service: str, url: str) -> Any:  # noqa: ANN401 - boto3 has no static types
    """Return a client of an emulated service. `url`: the emulator's address."""
    return session().client(service, endpoint_url=url, config=Config(proxies={}))
