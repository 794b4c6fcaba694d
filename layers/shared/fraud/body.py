"""The bodies of requests: what all of them refuse, and a list in one whose elements are refused one by one.

The bodies of the scoring path stand beside what they ask for (`fraud.transaction`, `fraud.decisions.resolution`), so it
loads no module for them.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from fraud.transaction import MAX_BODY_BYTES, faults_of, parse_body


class RequestBody(BaseModel):
    """A body whose fields are all known, each of its own JSON type.

    most_bytes  a longer body is refused unread
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    most_bytes: ClassVar[int] = MAX_BODY_BYTES

    @classmethod
    def parse(cls, body: str | bytes, context: object = None) -> Self:
        """Parse a request body. Raises InvalidRequestError with every fault at once.

        context  passed to the model's validators: the present where times may not lie ahead of it
        """
        return parse_body(cls, body, context, cls.most_bytes)


def refused_alone(
    request: type[BaseModel], name: str, refusal: Callable[..., BaseModel], most: int
) -> GetPydanticSchema:
    """Let a body have a list of 1 to `most` requests of one model, parsed one by one: a faulty one becomes its refusal.

    name     the field by which a request is known
    refusal  makes the refusal from that field, which is None when it is faulty itself, and from `errors`
    """

    def parse(value: Any, parse_one: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - JSON
        try:
            return parse_one(value)
        except ValidationError as error:
            faults = faults_of(error)
            known = isinstance(value, dict) and name not in {fault.field for fault in faults}
            return refusal(**{name: value[name] if known else None}, errors=list(faults))

    requests = Annotated[
        list[Annotated[request, WrapValidator(parse)]],  # type: ignore[valid-type]
        Field(min_length=1, max_length=most),
    ]
    return GetPydanticSchema(lambda _, schema_of: schema_of(requests))
