"""The account in a box: emulator, functions, pump and gateway, all from template.yaml, while a block of code runs."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.credentials import Credentials

from fraud import packaged
from local.account.boto import KEY_ID, SECRET
from local.account.clock import EventClock
from local.account.emulator import AUDIENCE, DEFAULTS, ISSUER, TEMPLATE, Emulator
from local.account.stack import Function, Template
from local.api.authorisers import Authorisers, Issuer
from local.api.client import Client
from local.api.gateway import Gateway
from local.lambdas.environments import Environments, FunctionError
from local.sagemaker.endpoint import ModelServer, begin
from local.triggers.alarms import LoggedAlarms, alarms
from local.triggers.pump import Pump
from local.workflows.channel import Channel, Invoked
from local.workflows.source import Workflows

API, PEOPLE_API = "Api", "PeopleApi"
"""The logical ids of the two APIs: one for systems, which sign, and one for people, who have tokens."""

GROUPS_CLAIM = "cognito:groups"
"""The claim with a person's groups: the default of the parameter JwtGroupsClaim."""


class Box:
    """The account of a template, running while the block lasts.

    With `watches`, metrics in the functions' logs move the template's alarms when the clock moves: an alarm of drift
    starts a retraining. Without it no test of something else meets a retraining.

    Raises UndecidableError for a currency that has no policy and model.

    urls          address of each API, by its logical id; `api_url` and `people_url` are two of them
    endpoint_url  address of every AWS service in the emulator; `client` makes boto3 clients for it
    stack         functions, routes, mappings and rules, as the template declares them
    environments  the execution environments of the functions
    credentials   the one key that the API for systems accepts, and the emulated account's owner; `connect` makes
                  clients with it
    issuer        signs tokens that JWT authorisers accept; `connect_person` makes clients with them
    model         the model endpoint, when the parameter Scorer is endpoint
    clock         the event clock; real time until it is set
    settle        waits until streams, queues and buses are drained, and every execution of a state machine is at rest
    logs          directory with one log file per function, and the emulator's
    """

    credentials = Credentials(KEY_ID, SECRET)
    model: ModelServer

    def __init__(
        self,
        template: Path = TEMPLATE,
        parameters: Mapping[str, str] = DEFAULTS,
        port: int = 0,
        *,
        watches: bool = False,
    ) -> None:
        if "Currency" in parameters:
            packaged.require(parameters["Currency"])
        self._template = template
        self._parameters = parameters
        self._port = port
        self._watches = watches
        self.clock = EventClock()
        self.issuer = Issuer()
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.logs = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="box-")))
            channel = undo.enter_context(Channel())
            served = ""
            if self.has_endpoint:
                currency = self._parameters.get("Currency", "JPY")
                self.model = undo.enter_context(ModelServer(self.logs / "model.log", currency=currency))
                served = self.model.url
            log = self.logs / "emulator.log"
            account = undo.enter_context(
                Emulator(log, self._template, self._parameters, channel=channel.url, models=served)
            )
            self.endpoint_url, self.stack, self.client = account.url, account.stack, account.client
            functions = self.stack.functions
            if served:
                functions = tuple(_asking(function, served) for function in functions)
                begin(self.client("sagemaker"), functions[0].environment["MODEL_ENDPOINT"], self._packaged())
            self.environments = undo.enter_context(Environments(functions, self.logs))
            invoke = self.environments.invoke
            channel.invoke = self._execute
            watched = self._watched(account.expanded) if self._watches else None
            pump = Pump(self.stack, self.client, invoke, self.clock, Workflows(account.url), watched)
            self.settle = undo.enter_context(pump).settle
            authorisers = Authorisers(self.credentials, self.issuer)
            for name, port in ((API, self._port), (PEOPLE_API, self._port and self._port + 1)):
                if routes := [route for route in self.stack.routes if route.api == name]:
                    gateway = Gateway(routes, authorisers, invoke, self.clock, port)
                    self.urls[name] = undo.enter_context(gateway).url
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def _packaged(self) -> str:
        """Return the version of the model that the endpoint serves at first."""
        manifest = packaged.model(self._parameters.get("Currency", "JPY")) / "manifest.json"
        return str(json.loads(manifest.read_bytes())["version"])

    def _watched(self, expanded: Template) -> LoggedAlarms:
        """Return the alarms for which a rule waits. Those of people's topics tell nobody in the box."""
        wanted = {
            name
            for rule in self.stack.rules
            if rule.pattern is not None and "detail" in rule.pattern
            for name in rule.pattern["detail"].get("alarmName", ())
        }
        return LoggedAlarms([alarm for alarm in alarms(expanded, self._parameters) if alarm.name in wanted], self.logs)

    def _execute(self, function: str, event: Any) -> Invoked:  # noqa: ANN401 - JSON
        """Have a function carry out a state of a state machine."""
        try:
            return self.environments.invoke(function, event, self.clock.instant), False
        except FunctionError as error:
            return error.reported, True

    @property
    def has_endpoint(self) -> bool:
        """Tell whether a model endpoint is asked."""
        return self._parameters.get("Scorer") == "endpoint"

    @property
    def api_url(self) -> str:
        """The address of the API for systems."""
        return self.urls[API]

    @property
    def people_url(self) -> str:
        """The address of the API for people. Raises KeyError when the parameters name no issuer."""
        return self.urls[PEOPLE_API]

    def connect(self) -> Client:
        """Return a client of the API for systems that signs with the box's key."""
        return Client(self.api_url, self.credentials)

    def connect_person(self, name: str, group: str) -> Client:
        """Return a client of the API for people, with a token of a person in a group."""
        return Client(self.people_url, self.token(name, group))

    def token(self, name: str, *groups: str, hours: float = 12, **claims: object) -> str:
        """Return a token of the box's issuer. `claims` stand in place of the usual ones."""
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": name, GROUPS_CLAIM: list(groups)}
        return self.issuer.token(usual | {"exp": datetime.now(UTC) + timedelta(hours=hours)} | claims)


def _asking(function: Function, url: str) -> Function:
    """Return the function with SageMaker's runtime at `url`, because the emulator has no models."""
    return replace(function, environment={**function.environment, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url})
