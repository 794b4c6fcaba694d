"""Commands on machines as people have them: with proxies, profiles and taken ports."""

import socket
import subprocess
import sys

import pytest

from local.account import boto
from local.account.emulator import Emulator

# Every one of them steers the AWS SDKs (Boto3 documentation, Configuration) or moto (its documentation, Environment).
HOSTILE = {
    "HTTP_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "AWS_PROFILE": "nobody",
    "AWS_DEFAULT_PROFILE": "nobody",
    "AWS_CONFIG_FILE": "/nowhere/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1",
    "AWS_CA_BUNDLE": "/nowhere/ca.pem",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_MAX_ATTEMPTS": "none",
    "MOTO_ACCOUNT_ID": "999999999999",
}


def test_the_emulated_account_depends_on_nothing_in_the_users_environment(tmp_path, monkeypatch):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    boto.session.cache_clear()
    with Emulator(tmp_path / "log") as emulator:
        names = emulator.client("dynamodb").list_tables()["TableNames"]
        assert len(names) >= 5
        account = emulator.client("sts").get_caller_identity()["Account"]
        assert account == "123456789012"


@pytest.mark.parametrize("port", ["taken", "70000"])
def test_a_port_that_cannot_be_had_is_one_line_with_the_way_out(port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asked = str(taken.getsockname()[1]) if port == "taken" else port
        ended = subprocess.run(
            [sys.executable, "-m", "local", "--port", asked], capture_output=True, text=True, check=False, timeout=60
        )
    assert ended.returncode == 2
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
    assert f"port {asked}: " in ended.stderr
    assert "another one: make up PORT=" in ended.stderr
