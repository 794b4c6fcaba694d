"""The account in a box: emulator, execution environments and gateway as one context manager, all of it from template.yaml."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from botocore.credentials import Credentials

from local.authorisers import Authorisers, Issuer
from local.client import Client
from local.clock import EventClock
from local.emulator import KEY_ID, LOCAL, SECRET, TEMPLATE, Emulator
from local.environments import Environments
from local.gateway import Gateway


class Box:
    """A template, up and running while the block lasts.

    api_url       where the template's routes are served
    endpoint_url  every AWS service, by the emulator
    credentials   the one key that the API accepts and the functions hold
    issuer        signs tokens that the API's JWT authorizers accept
    clock         the event clock; real time until it is set
    logs          directory with one log file per function, and the emulator's
    """

    credentials = Credentials(KEY_ID, SECRET)

    def __init__(self, template: Path = TEMPLATE, parameters: Mapping[str, str] | None = None, port: int = 0) -> None:
        self._template = template
        self._parameters = {**LOCAL, **(parameters or {})}
        self._port = port
        self.clock = EventClock()
        self.issuer = Issuer()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.logs = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="box-")))
            emulator = undo.enter_context(Emulator(self.logs / "emulator.log", self._template, self._parameters))
            keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(self.logs)}
            environments = undo.enter_context(Environments(emulator.stack.functions, keys, self.logs))
            authorisers = Authorisers(self.credentials, self.issuer)
            gateway = Gateway(emulator.stack.routes, authorisers, environments.invoke, self.clock, self._port)
            self.api_url = undo.enter_context(gateway).url
            self.endpoint_url = emulator.url
            self.client = emulator.client
            self.stack = emulator.stack
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def connect(self) -> Client:
        """A caller of the API who holds the box's key."""
        return Client(self.api_url, self.credentials)
