"""DynamoDB in dictionaries, as far as the hot tables and the fold use it: a `store.Transport` without a network.

It knows the forms of expression that `store` and `folding` send and refuses any other. tests/contract holds it to the
emulator, request by request; so a test of many simulated days may run on it in seconds.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from fraud.wire import Answer, Refused, Request

Payload = Mapping[str, Any]
Attributes = dict[str, dict[str, Any]]

SECTIONS = re.compile(r"\b(SET|ADD|REMOVE)\b")
SET = re.compile(r"(\S+) = (?:if_not_exists\((\S+), (:\w+)\)|(:\w+))(?:, |$)")
ADD = re.compile(r"(\S+) (:\w+)(?:, |$)")
CONDITION = re.compile(r"NOT contains\((\S+), (:\w+)\)|attribute_not_exists\((\S+)\)|(\S+) = (:\w+)")
LONGEST_EXPRESSION = 4096
KEYS_PER_READ = 100
DIGITS = 38
FOLD = "fold"


class InMemoryDynamoDB:
    """Tables come into being when first written to; `page` is how many rows a query returns at most."""

    def __init__(self, page: int = 1000) -> None:
        self.tables: dict[str, dict[tuple[str, ...], Attributes]] = defaultdict(dict)
        self.page = page
        self._index: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)

    def gather(self, requests: Sequence[Request]) -> list[Answer]:
        return [getattr(self, operation)(payload) for operation, payload in requests]

    def get_item(self, payload: Payload) -> Answer:
        item = self.tables[payload["TableName"]].get(key_of(payload["Key"]))
        return {} if item is None else {"Item": projected(item, payload.get("ProjectionExpression"))}

    def batch_get_item(self, payload: Payload) -> Answer:
        assert sum(len(wanted["Keys"]) for wanted in payload["RequestItems"].values()) <= KEYS_PER_READ
        found = {}
        for table, wanted in payload["RequestItems"].items():
            keys = [key_of(key) for key in wanted["Keys"]]
            assert 0 < len(keys) == len(set(keys)), "no key, or one twice"
            items = [self.tables[table][key] for key in keys if key in self.tables[table]]
            found[table] = [projected(item, wanted.get("ProjectionExpression")) for item in items]
        return {"Responses": found, "UnprocessedKeys": {}}

    def put_item(self, payload: Payload) -> Answer:
        assert payload["ConditionExpression"] == "attribute_not_exists(pk)"
        table, key = self.tables[payload["TableName"]], key_of(payload["Item"])
        if key in table:
            return refused(payload, table[key])
        table[key] = dict(payload["Item"])
        return {}

    def update_item(self, payload: Payload) -> Answer:
        table, values = payload["TableName"], payload["ExpressionAttributeValues"]
        names = payload.get("ExpressionAttributeNames", {})
        update, condition = (named(payload[text], names) for text in ("UpdateExpression", "ConditionExpression"))
        assert set(re.findall(r":\w+", f"{update} {condition}")) == values.keys(), "a value unused or unknown"
        key = key_of(payload["Key"])
        before = self.tables[table].get(key, {})
        if not all(holds(term, before, values) for term in condition.split(" AND ")):
            return refused(payload, before)
        item = dict(before or payload["Key"])
        for name, value in changes(update, before, values):
            if value is None:
                item.pop(name, None)
            else:
                item[name] = value
        self.tables[table][key] = item
        if FOLD in item:
            self._index[table, item[FOLD]["S"]].add(key)
        return {"Attributes": dict(item)} if payload.get("ReturnValues") == "ALL_NEW" else {}

    def query(self, payload: Payload) -> Answer:
        assert (payload["IndexName"], payload["KeyConditionExpression"]) == (FOLD, "#fold = :fold")
        assert payload["ExpressionAttributeNames"] == {"#fold": FOLD}
        fold = payload["ExpressionAttributeValues"][":fold"]
        start = key_of(payload.get("ExclusiveStartKey", {}))
        keys = sorted(key for key in self._index[payload["TableName"], fold["S"]] if key > start)
        length = min(payload["Limit"], self.page)
        rows = [{"pk": {"S": pk}, "sk": {"S": sk}, FOLD: fold} for pk, sk in keys[:length]]
        return {"Items": rows, **({"LastEvaluatedKey": rows[-1]} if keys[length:] else {})}

    def scan(self, payload: Payload) -> Answer:
        assert (payload["IndexName"], payload["Limit"]) == (FOLD, 1)
        for (table, fold), keys in self._index.items():
            if table == payload["TableName"]:
                pk, sk = min(keys)
                row = {"pk": {"S": pk}, "sk": {"S": sk}, FOLD: {"S": fold}}
                return {"Items": [row], "LastEvaluatedKey": row}
        return {"Items": []}


def refused(payload: Payload, item: Attributes) -> Refused:
    return Refused(dict(item) if payload.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else {})


def key_of(attributes: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(attributes[name]["S"] for name in ("pk", "sk") if name in attributes)


def named(expression: str, names: Mapping[str, str]) -> str:
    assert len(expression) <= LONGEST_EXPRESSION
    return re.sub(r"#\w+", lambda match: names[match[0]], expression)


def projected(item: Attributes, expression: str | None) -> Attributes:
    if expression is None:
        return dict(item)
    assert len(expression) <= LONGEST_EXPRESSION
    return {name: item[name] for name in expression.split(", ") if name in item}


def holds(term: str, item: Attributes, values: Attributes) -> bool:
    match = CONDITION.fullmatch(term)
    assert match, term
    container, element, absent, name, value = match.groups()
    if container is not None:
        return not contains(item.get(container, {}), values[element])
    if absent is not None:
        return absent not in item
    return name in item and item[name] == values[value]


def contains(container: Mapping[str, Any], element: Mapping[str, Any]) -> bool:
    """As DynamoDB has it: a set contains scalars of its own type, never a set."""
    return any(value in container.get(f"{type_}S", ()) for type_, value in element.items())


def changes(expression: str, item: Attributes, values: Attributes) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(name, new value, None for none) of each clause; every clause sees the item as it was."""
    _, *parts = SECTIONS.split(expression)
    seen = set()
    for section, text in zip(parts[::2], map(str.strip, parts[1::2]), strict=True):
        for name, value in clauses(section, text, item, values):
            assert name not in seen, f"{name} twice"
            seen.add(name)
            yield name, value


def clauses(
    section: str, text: str, item: Attributes, values: Attributes
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if section == "REMOVE":
        yield from ((name, None) for name in text.split(", "))
        return
    pattern, position = {"SET": SET, "ADD": ADD}[section], 0
    for match in pattern.finditer(text):
        assert match.start() == position, text
        position = match.end()
        if section == "ADD":
            yield match[1], added(item.get(match[1], {}), values[match[2]])
        else:
            kept = item.get(match[2]) if match[2] else None
            yield match[1], kept or values[match[3] or match[4]]
    assert position == len(text), text


def added(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    ((type_, value),) = new.items()
    if type_ == "N":
        total = int(old.get("N", "0")) + int(value)
        assert len(Decimal(total).as_tuple().digits) <= DIGITS
        return {"N": str(total)}
    return {type_: sorted({*old.get(type_, ()), *value})}
