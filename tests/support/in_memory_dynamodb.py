"""DynamoDB in dictionaries, as far as the hot tables and the fold use it: an `aws.transport.Transport` without network.

It knows the forms of expression that `decisions.store` and `counters.worker` send, and refuses any other. Contract
tests compare it with the emulator, request by request. So a test of many simulated days can run on it in seconds.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from fraud.aws.transport import ConditionFailed, Request, Response, Result

Payload = Mapping[str, Any]
Value = Mapping[str, Any]
Item = Mapping[str, Value]

LONGEST_EXPRESSION = 4096
KEYS_PER_READ = 100
LARGEST_NUMBER = 10**38
FOLD = "fold"


class InMemoryDynamoDB:
    """The tables of DynamoDB in memory. A table exists from its first use; `page` is the most rows of a query."""

    def __init__(self, page: int = 1000) -> None:
        self.tables: dict[str, dict[tuple[str, ...], Item]] = defaultdict(dict)
        self.page = page
        self._index: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [getattr(self, operation)(payload) for operation, payload in requests]

    def get_item(self, payload: Payload) -> Response:
        item = self.tables[payload["TableName"]].get(key_of(payload["Key"]))
        return {} if item is None else {"Item": projected(item, payload.get("ProjectionExpression"))}

    def batch_get_item(self, payload: Payload) -> Response:
        assert sum(len(wanted["Keys"]) for wanted in payload["RequestItems"].values()) <= KEYS_PER_READ
        found = {}
        for table, wanted in payload["RequestItems"].items():
            keys = [key_of(key) for key in wanted["Keys"]]
            assert 0 < len(keys) == len(set(keys)), "no key, or one twice"
            items = [self.tables[table][key] for key in keys if key in self.tables[table]]
            found[table] = [projected(item, wanted.get("ProjectionExpression")) for item in items]
        return {"Responses": found, "UnprocessedKeys": {}}

    def put_item(self, payload: Payload) -> Response:
        table, key = self.tables[payload["TableName"]], key_of(payload["Item"])
        if not holds(payload["ConditionExpression"], table.get(key, {}), {}, {}):
            return refused(payload, table[key])
        table[key] = dict(payload["Item"])
        return {}

    def update_item(self, payload: Payload) -> Response:
        table = payload["TableName"]
        names = payload.get("ExpressionAttributeNames", {})
        values = payload.get("ExpressionAttributeValues", {})
        update, condition = payload["UpdateExpression"], payload.get("ConditionExpression", "")
        assert max(len(update), len(condition)) <= LONGEST_EXPRESSION
        assert placeholders(":", update) | placeholders(":", condition) == values.keys(), "a value unused or unknown"
        assert placeholders("#", update) | placeholders("#", condition) == names.keys(), "a name unused or unknown"
        key = key_of(payload["Key"])
        before = self.tables[table].get(key, {})
        if not holds(condition, before, values, names):
            return refused(payload, before)
        after = changed(before or payload["Key"], update, values, names)
        self.tables[table][key] = after
        if FOLD in after:
            self._index[table, after[FOLD]["S"]].add(key)
        return {"Attributes": dict(after)} if payload.get("ReturnValues") == "ALL_NEW" else {}

    def delete_item(self, payload: Payload) -> Response:
        table, key = self.tables[payload["TableName"]], key_of(payload["Key"])
        before, values = table.get(key, {}), payload.get("ExpressionAttributeValues", {})
        names = payload.get("ExpressionAttributeNames", {})
        if not holds(payload.get("ConditionExpression", ""), before, values, names):
            return refused(payload, before)
        table.pop(key, None)
        return {}

    def query(self, payload: Payload) -> Response:
        if "IndexName" not in payload:
            return self._partition(payload)
        assert (payload["IndexName"], payload["KeyConditionExpression"]) == (FOLD, "#fold = :fold")
        assert payload["ExpressionAttributeNames"] == {"#fold": FOLD}
        fold = payload["ExpressionAttributeValues"][":fold"]
        start = key_of(payload.get("ExclusiveStartKey", {}))
        keys = sorted(key for key in self._index.get((payload["TableName"], fold["S"]), ()) if key > start)
        length = min(payload["Limit"], self.page)
        rows = [{"pk": {"S": pk}, "sk": {"S": sk}, FOLD: fold} for pk, sk in keys[:length]]
        return {"Items": rows, **({"LastEvaluatedKey": rows[-1]} if keys[length:] else {})}

    def _partition(self, payload: Payload) -> Response:
        assert payload["KeyConditionExpression"] == "pk = :pk"
        pk, start = payload["ExpressionAttributeValues"][":pk"]["S"], key_of(payload.get("ExclusiveStartKey", {}))
        keys = sorted(key for key in self.tables[payload["TableName"]] if key[0] == pk and key > start)
        rows = [self.tables[payload["TableName"]][key] for key in keys[: self.page]]
        last = {name: rows[-1][name] for name in ("pk", "sk")} if keys[self.page :] else None
        return {"Items": rows, **({"LastEvaluatedKey": last} if last else {})}

    def scan(self, payload: Payload) -> Response:
        assert payload.keys() == {"TableName", "IndexName", "Limit"}
        assert payload["IndexName"] == FOLD
        listed = (
            {"pk": {"S": pk}, "sk": {"S": sk}, FOLD: {"S": fold}}
            for (table, fold), keys in self._index.items()
            if table == payload["TableName"]
            for pk, sk in keys
        )
        rows = list(islice(listed, payload["Limit"]))
        return {"Items": rows, **({"LastEvaluatedKey": rows[-1]} if len(rows) == payload["Limit"] else {})}


def refused(payload: Payload, item: Item) -> ConditionFailed:
    return ConditionFailed(dict(item) if payload.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" else {})


def key_of(attributes: Item) -> tuple[str, ...]:
    return tuple(attributes[name]["S"] for name in ("pk", "sk") if name in attributes)


def projected(item: Item, expression: str | None) -> Item:
    if expression is None:
        return dict(item)
    assert len(expression) <= LONGEST_EXPRESSION
    return {name: item[name] for name in expression.split(", ") if name in item}


# --- expressions -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def placeholders(sign: str, expression: str) -> frozenset[str]:
    return frozenset(re.findall(rf"{sign}\w+", expression))


VERBS = re.compile(r"\b(SET|ADD|REMOVE|DELETE)\b")
CLAUSES: Mapping[str, re.Pattern[str]] = {
    "SET": re.compile(r"(?P<name>#?\w+) = (?:if_not_exists\((?P<kept>#?\w+), (?P<default>:\w+)\)|(?P<value>:\w+))"),
    "ADD": re.compile(r"(?P<name>#?\w+) (?P<value>:\w+)"),
    "REMOVE": re.compile(r"(?P<name>#?\w+)"),
    "DELETE": re.compile(r"(?P<name>#?\w+) (?P<value>:\w+)"),
}


class Clause(NamedTuple):
    """One change of an update: `kept` is the attribute of an if_not_exists, `value` the placeholder of the value."""

    verb: str
    name: str
    kept: str | None
    value: str


@lru_cache(maxsize=10_000)
def clauses(update: str) -> tuple[Clause, ...]:
    _, *parts = VERBS.split(update)
    found = []
    for verb, text in zip(parts[::2], map(str.strip, parts[1::2]), strict=True):
        for clause in re.split(r", (?!:)", text):
            match = CLAUSES[verb].fullmatch(clause)
            assert match, f"unknown form {clause!r}"
            groups = match.groupdict()
            value = groups.get("value") or groups.get("default") or ""
            found.append(Clause(verb, groups["name"], groups.get("kept"), value))
    assert len({clause.name for clause in found}) == len(found), "an attribute twice"
    return tuple(found)


def changed(item: Item, update: str, values: Item, names: Mapping[str, str]) -> Item:
    """Return the item after an update. Every clause sees the item as it was before.

    names  ExpressionAttributeNames: the names of attributes by placeholder

    >>> changed({"n": {"N": "1"}}, "ADD n :one SET m = :one", {":one": {"N": "1"}}, {})
    {'n': {'N': '2'}, 'm': {'N': '1'}}
    """
    after = dict(item)
    for verb, given, given_kept, value in clauses(update):
        name, kept = names.get(given, given), names.get(given_kept or "", given_kept or "")
        if verb == "REMOVE":
            after.pop(name, None)
        elif verb == "ADD":
            after[name] = added(item.get(name, {}), values[value])
        elif verb == "DELETE":
            ((type_, gone),) = values[value].items()
            if left := [each for each in item.get(name, {}).get(type_, ()) if each not in gone]:
                after[name] = {type_: left}
            else:
                after.pop(name, None)
        else:
            after[name] = item[kept] if kept in item else values[value]
    return after


def added(old: Value, new: Value) -> Value:
    ((type_, value),) = new.items()
    if type_ == "N":
        total = int(old.get("N", "0")) + int(value)
        assert abs(total) < LARGEST_NUMBER
        return {"N": str(total)}
    return {type_: sorted({*old.get(type_, ()), *value})}


def lacks(item: Item, values: Item, name: str, placeholder: str) -> bool:
    """Tell whether NOT contains(name, placeholder) holds. A set contains scalars of its own type, never a set.

    >>> lacks({"tokens": {"BS": [b"a"]}}, {":token": {"B": b"b"}}, "tokens", ":token")
    True
    """
    ((type_, value),) = values[placeholder].items()
    return value not in item.get(name, {}).get(f"{type_}S", ())


def begins(item: Item, values: Item, key: str, name: str, value: str) -> bool:
    return key not in item or item.get(name) == values[value]


TESTS: tuple[tuple[re.Pattern[str], Callable[..., bool]], ...] = (
    (re.compile(r"NOT contains\((#?\w+), (:\w+)\)"), lacks),
    (re.compile(r"contains\((#?\w+), (:\w+)\)"), lambda *found: not lacks(*found)),
    (re.compile(r"attribute_not_exists\((#?\w+)\)"), lambda item, _, name: name not in item),
    (re.compile(r"attribute_exists\((#?\w+)\)"), lambda item, _, name: name in item),
    (re.compile(r"\(attribute_not_exists\((#?\w+)\) OR (#?\w+) = (:\w+)\)"), begins),
    (re.compile(r"(#?\w+) = (:\w+)"), lambda item, values, name, value: item.get(name) == values[value]),
)


@lru_cache(maxsize=10_000)
def tests(condition: str) -> tuple[tuple[Callable[..., bool], tuple[str, ...]], ...]:
    """Return each term of a condition as a test with its arguments."""
    found = []
    for term in condition.split(" AND ") if condition else ():
        ((match, test),) = ((match, test) for form, test in TESTS if (match := form.fullmatch(term)))
        found.append((test, match.groups()))
    return tuple(found)


def holds(condition: str, item: Item, values: Item, names: Mapping[str, str]) -> bool:
    """Tell whether an item meets a condition; an empty condition always holds.

    >>> holds("attribute_not_exists(pk)", {"pk": {"S": "a"}}, {}, {})
    False
    """
    return all(
        test(item, values, *(names.get(each, each) for each in arguments)) for test, arguments in tests(condition)
    )
