"""The AsyncAPI 3 document of the events on the bus."""

from typing import Any

from fraud.decisions.events import SOURCE, DecisionMade
from operations.contract import examples, schemas

_ENVELOPE = {
    "type": "object",
    "description": "An event of EventBridge. Its own fields are those that readers use; AWS documents the others.",
    "properties": {
        "source": {"type": "string", "const": SOURCE},
        "detail-type": {"type": "string", "const": "DecisionMade"},
        "time": {"type": "string", "format": "date-time"},
        "detail": {"$ref": f"{schemas.REF}DecisionMade"},
    },
    "required": ["source", "detail-type", "detail"],
}


def asyncapi() -> dict[str, Any]:
    """Return the events of the bus as plain data.

    >>> list(asyncapi()["channels"]["bus"]["messages"])
    ['DecisionMade']
    """
    name = "DecisionMade"
    payload = {"source": SOURCE, "detail-type": name, "time": "2026-03-04T12:00:00Z", "detail": examples.EVENT}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Serverless fraud: events",
            "version": "1.0.0",
            "description": "The events that the system publishes. A reader ignores fields that it does not know.",
            "tags": [{"name": "Decisions", "description": "What was decided."}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "eventbridge": {
                "host": "events.{region}.amazonaws.com",
                "protocol": "https",
                "description": "Amazon EventBridge. A rule on the bus sends the events to a reader's own target.",
                "variables": {"region": {"default": "ap-northeast-1", "description": "AWS region"}},
            }
        },
        "channels": {
            "bus": {
                "address": "events",
                "title": "The stack's event bus (Amazon EventBridge)",
                "description": "At least once, in no order: drop an event_id that was seen. No name, address or"
                " metadata is in any event. The bus is the resource Events of template.yaml.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            }
        },
        "operations": {
            "publishDecisionMade": {
                "action": "send",
                "summary": "A payment was decided.",
                "description": "Sent for each new decision, by API or by stream; never for a repeat.",
                "channel": {"$ref": "#/channels/bus"},
                "messages": [{"$ref": f"#/channels/bus/messages/{name}"}],
            }
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "title": "A payment was decided",
                    "contentType": "application/json",
                    "payload": _ENVELOPE,
                    "examples": [{"name": "challenge", "payload": payload}],
                }
            },
            "schemas": schemas.of([], [DecisionMade]),
        },
    }
