"""The table `links`: links, lists of neighbours and timelines, on the hot path's own client; and what is suggested.

pk is an entity (`account#<id>`, device, instrument or ip). sk is the other end of a link (`payee#<id>`), NEIGHBOURS, or
a part of a timeline. What a snapshot of the graph suggests has SUGGESTED as its pk and an account as its sk. Every item
is joined from single payments or snapshots, and is written only if it is still as it was read. So redelivery, order and
kills change nothing (D-099, D-100, D-182). A hundred decisions need hundreds of requests, which `gather` sends
together; so the table has no PynamoDB model.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial, reduce
from itertools import chain, islice
from typing import Any, NamedTuple

from fraud.activity.columns import packed, unpacked
from fraud.activity.links import (
    Edge,
    Entity,
    Link,
    Neighbour,
    days_unchanged,
    edges,
    nearest,
    other_end,
    weeks_listed,
)
from fraud.activity.page import AccountPage, InferredView, LinkView
from fraud.activity.suggested import LASTS, SUGGESTED, Common, InferredLink, Suggestions
from fraud.activity.timeline import APPROVED, MOST, RecentDecision, Timeline, latest
from fraud.aws.dynamodb import (
    batch_read,
    malformed_as_unavailable,
    optional_field,
    read_all,
    required_field,
    split_by_call,
    typed_key,
)
from fraud.aws.failures import pause_s
from fraud.aws.transport import ConditionFailed, Request, Result, Transport, all_or_raise, binary
from fraud.counters.codec import profile_of, snapshot_of
from fraud.counters.layout import MARKS
from fraud.decisions.record import Contents
from fraud.errors import ServiceError, UnavailableError
from fraud.marks.mark import mark_of
from fraud.outcome import Outcome
from fraud.transaction import Transaction, instant, utc

NEIGHBOURS = "others"
"""The sort key of an entity's list of neighbours, and the attribute that holds it. STOPPED and APPROVED, the parts of a
timeline, are both, too. The sort key of a link has a `#`.
"""

REMEMBERED = 50_000
"""Most meetings that an environment remembers: some 20 MB."""

WRITES_PER_STEP = 200
"""Most writes that are sent together, because each step has the same time limit."""

ATTEMPTS, PAUSE_S, LONGEST_PAUSE_S = 12, 0.02, 0.3
"""How often a change that met another writer is tried, and the pauses between. Each time at least one writer succeeds.
"""

Row = Mapping[str, Any]
"""An item by attribute; each value has its type. It is empty when there is no item."""

Place = tuple[str, str]
"""pk and sk of an item."""

Additions = Mapping[Place, Collection[Any]]
"""What is joined to each item: days of a link, neighbours, decisions or suggestions, as its key says."""


class Meeting(NamedTuple):
    """An edge and a day on which it had a payment: written once, however many payments there are."""

    edge: Edge
    day: date


class Traces(NamedTuple):
    """The links and the timeline entry of one payment. `timeline`: the place of the entry; None if it is not listed."""

    meetings: Sequence[Meeting]
    entry: RecentDecision
    timeline: Place | None


class Form(NamedTuple):
    """How items of one form are read, joined with additions, and written. `ends`: the day on which an item expires."""

    read: Callable[[Row], Any]
    join: Callable[[Any, Collection[Any]], Any]
    write: Callable[[Any], Row]
    ends: Callable[[Any], date]


def link_of(row: Row) -> Link | None:
    """Read a link; None if there is no item."""
    if not row:
        return None
    first, last = (date.fromisoformat(row[name]["S"]) for name in ("first", "last"))
    return Link(first, last, int(row["days"]["N"]))


def _link_row(link: Link) -> Row:
    first, last = link.first.isoformat(), link.last.isoformat()
    return {"first": {"S": first}, "last": {"S": last}, "days": {"N": str(link.days)}}


def _link_joined(link: Link | None, days: Collection[date]) -> Link:
    return reduce(Link.joined, [*([link] if link else []), *map(Link.on, days)])


def neighbours_of(row: Row) -> tuple[Neighbour, ...]:
    """Read a list of neighbours; it is empty if there is no item."""
    return tuple(Neighbour(*line) for line in unpacked(binary(row[NEIGHBOURS]["B"]))) if row else ()


def timeline_of(part: str, row: Row) -> Timeline:
    """Read a part of a timeline; it is empty if there is no item."""
    lines = unpacked(binary(row[part]["B"])) if row else ()
    return tuple(RecentDecision(epoch, id_, Outcome(outcome), *rest) for epoch, id_, outcome, *rest in lines)


def suggestions_of(row: Row) -> Suggestions | None:
    """Read what is suggested for an account; None if there is no item."""
    if not row:
        return None
    links = tuple(
        InferredLink(other, score, tuple(Common(*each) for each in evidence))
        for _, other, score, evidence in unpacked(binary(row[SUGGESTED]["B"]))
    )
    return Suggestions(int(row["snapshot"]["N"]), instant(row["as_of"]["S"]), links)


def _suggestions_row(given: Suggestions) -> Row:
    lines = [(place, *link) for place, link in enumerate(given.links)]
    said = {"snapshot": {"N": str(given.snapshot)}, "as_of": {"S": utc(given.as_of)}}
    return said | {SUGGESTED: {"B": packed(lines)}}


def _suggestions_joined(before: Suggestions | None, added: Collection[Suggestions]) -> Suggestions:
    return reduce(Suggestions.joined, [*([before] if before else []), *added])


def _timeline_form(part: str, retention: timedelta) -> Form:
    return Form(
        partial(timeline_of, part),
        lambda before, added: latest(part, [*before, *added]),
        lambda timeline: {part: {"B": packed(timeline)}},
        lambda timeline: datetime.fromtimestamp(timeline[-1].epoch, UTC).date() + retention,
    )


LINKS = "#"
"""The name of the form of links: every sort key that names no other form has it."""


def forms(retention_days: int) -> Mapping[str, Form]:
    """Return the form of items by their sort key; a link's is LINKS. A link is kept so long after its last payment.

    The items of one partition have a form by their partition key: SUGGESTED.
    """
    retention, unchanged = timedelta(days=retention_days), timedelta(days=days_unchanged(retention_days))
    weeks = weeks_listed(retention_days)
    return {
        LINKS: Form(link_of, _link_joined, _link_row, lambda link: link.last + retention),
        NEIGHBOURS: Form(
            neighbours_of,
            lambda before, added: nearest([*before, *added], weeks),
            lambda neighbours: {NEIGHBOURS: {"B": packed(neighbours)}},
            lambda neighbours: neighbours[0].last_day + unchanged,
        ),
        SUGGESTED: Form(
            suggestions_of, _suggestions_joined, _suggestions_row, lambda given: given.as_of.date() + LASTS
        ),
        **{part: _timeline_form(part, retention) for part in MOST},
    }


class Activity:
    """The store of links and timelines. Every call may be repeated."""

    def __init__(self, transport: Transport, links: str, profiles: str, *, retention_days: int, approved: bool) -> None:
        """Build the store.

        links, profiles  names of the tables
        retention_days   days for which a link is kept after its last payment, and a timeline after its last decision
        approved         whether timelines list approved payments, too
        """
        self._transport = transport
        self._table, self._profiles = links, profiles
        self._forms = forms(retention_days)
        self._approved = approved
        self._met: dict[Meeting, None] = {}

    # --- remembering -------------------------------------------------------------------------------------------------

    def remember(self, decided: Sequence[Contents]) -> list[ServiceError | None]:
        """Write the links and the timelines of decided payments.

        Return for each payment None, or the error because of which it must be given again.
        """
        traces = list(map(self._traces, decided))
        meetings = dict.fromkeys(one for each in traces for one in each.meetings if one not in self._met)
        entries = _grouped((each.timeline, each.entry) for each in traces if each.timeline)
        try:
            failed = self._write(meetings, entries)
        except ServiceError as error:
            return [error] * len(traces)
        self._met |= dict.fromkeys(one for one in meetings if one not in failed)
        for oldest in list(islice(self._met, max(len(self._met) - REMEMBERED, 0))):
            del self._met[oldest]
        return [
            next((failed[one] for one in (*each.meetings, each.timeline) if one in failed), None) for each in traces
        ]

    def suggest(self, suggested: Mapping[str, Suggestions]) -> None:
        """Write what a snapshot suggests, by account. What a younger one suggests stays. Raises ServiceError."""
        added = {(SUGGESTED, account): [given] for account, given in suggested.items() if given.links}
        for error in self._settle(added, self._read(added)).values():
            raise error

    def _traces(self, contents: Contents) -> Traces:
        payment = Transaction.model_validate_json(contents.transaction)
        entry = RecentDecision.of(payment, contents.answer)
        listed = self._approved or entry.part is not APPROVED
        met = [Meeting(edge, payment.occurred_at.date()) for edge in edges(payment)]
        return Traces(met, entry, (Entity("account", payment.payer_id).pk, entry.part) if listed else None)

    def _write(self, meetings: Iterable[Meeting], entries: Additions) -> dict[Any, ServiceError]:
        """Write what is missing of meetings and timelines. Return the errors by meeting and by place of a timeline.

        The link at the other end is written last, after the link at the payer and the neighbours of both. So whatever
        it has, they all have, and a meeting takes one read. Raises ServiceError when the reads fail.
        """
        ends = {meeting: meeting.edge.ends for meeting in meetings}
        known = self._read([*(there for _, there in ends.values()), *entries])
        with malformed_as_unavailable():
            links = {meeting: link_of(known.get(there, {})) for meeting, (_, there) in ends.items()}
        missing = {one: ends[one] for one in ends if links[one] != _link_joined(links[one], [one.day])}
        near = {one: [*_neighbours(one, links[one])] for one in missing}
        known |= self._read([place for pairs in near.values() for place, _ in pairs])
        known |= {here: known[there] for here, there in missing.values() if there in known}  # both ends mostly agree
        first = {one: [(here, one.day), *near[one]] for one, (here, _) in missing.items()}
        failed = self._settle({**_grouped(pair for pairs in first.values() for pair in pairs), **entries}, known)
        errors: dict[Any, ServiceError] = {place: error for place, error in failed.items() if place in entries}
        errors |= {one: failed[place] for one, pairs in first.items() for place, _ in pairs if place in failed}
        last = {one: there for one, (_, there) in missing.items() if one not in errors}
        failed = self._settle(_grouped((there, one.day) for one, there in last.items()), known)
        return errors | {one: failed[there] for one, there in last.items() if there in failed}

    def _settle(self, added: Additions, known: Mapping[Place, Row]) -> dict[Place, ServiceError]:
        """Join additions to items; return the errors by place.

        known  items as they were read. A write on an item that has changed is refused, and tried on what it is now
        """
        failed: dict[Place, ServiceError] = {}
        rows: Mapping[Place, Row] = {place: known.get(place, {}) for place in added}
        for attempt in range(ATTEMPTS):
            writes: dict[Place, Request] = {}
            for place, row in rows.items():
                try:
                    with malformed_as_unavailable():
                        if request := self._change(place, row, added[place]):
                            writes[place] = request
                except ServiceError as error:
                    failed[place] = error
            results = dict(zip(writes, self._send([*writes.values()]), strict=True))
            failed |= {place: result for place, result in results.items() if isinstance(result, ServiceError)}
            rows = {place: result.item for place, result in results.items() if isinstance(result, ConditionFailed)}
            if not rows:
                return failed
            time.sleep(pause_s(attempt, PAUSE_S, LONGEST_PAUSE_S))
        return failed | dict.fromkeys(rows, UnavailableError("WriteConflict"))

    def _change(self, place: Place, row: Row, additions: Collection[Any]) -> Request | None:
        """Return the write that joins additions to an item; None if the item has them."""
        form = self._forms[SUGGESTED if place[0] == SUGGESTED else place[1] if place[1] in self._forms else LINKS]
        before = form.read(row)
        after = form.join(before, additions)
        if after == before:
            return None
        expires = datetime.combine(form.ends(after), datetime.min.time(), UTC)
        return self._update(place, row, {**form.write(after), "ttl": {"N": str(int(expires.timestamp()))}})

    def _update(self, place: Place, before: Row, after: Row) -> Request:
        """Return the write of an item's attributes, on condition that they still are as they were read."""
        unchanged = [f"#{name} = :old_{name}" if before else f"attribute_not_exists(#{name})" for name in after]
        old = {f":old_{name}": before[name] for name in after} if before else {}
        payload = {
            "TableName": self._table,
            "Key": typed_key(*place),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in after),
            "ConditionExpression": " AND ".join(unchanged),
            "ExpressionAttributeNames": {f"#{name}": name for name in after},
            "ExpressionAttributeValues": {f":{name}": value for name, value in after.items()} | old,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return Request("update_item", payload)

    # --- reading -----------------------------------------------------------------------------------------------------

    def page(self, account_id: str, now: datetime) -> AccountPage:
        """Return an account's page of facts at a time, in three calls. An account without traces has an empty page.

        Raises UnavailableError when a table does not respond, and ServiceError when it refuses.
        """
        own = Entity("account", account_id)
        asked = {
            self._profiles: {"Keys": [typed_key(own.pk), typed_key(MARKS)]},
            self._table: {"Keys": [*(typed_key(own.pk, part) for part in MOST), typed_key(SUGGESTED, account_id)]},
        }
        (answer,) = all_or_raise(self._transport.gather([batch_read(asked)]))
        found = read_all(self._transport, answer)
        with malformed_as_unavailable():
            rows = {row["pk"]["S"]: profile_of(row) for row in found.get(self._profiles, ())}
            profile = rows.get(own.pk, {})
            snapshot = snapshot_of(rows.get(MARKS, {}))
            own_rows = {(row["pk"]["S"], row["sk"]["S"]): row for row in found.get(self._table, ())}
            suggested = suggestions_of(own_rows.pop((SUGGESTED, account_id), {}))
            parts = [timeline_of(sk, row) for (_, sk), row in own_rows.items()]
        inferred = [InferredView.of(link, suggested.as_of) for link in suggested.at(snapshot, now)] if suggested else []
        views, known = self._near(own, now.date(), [name for link in inferred for name in _paid(link.account_id)])
        shown = [link for link in inferred if known.isdisjoint(_paid(link.account_id))]
        mark = mark_of(profile, snapshot, now)
        return AccountPage.of(account_id, profile, mark, chain(*parts), views, shown)

    def latest(self, account_id: str) -> RecentDecision | None:
        """Return the latest decision on the timeline of an account as payer; None when there is none.

        Raises UnavailableError when a table does not respond, and ServiceError when it refuses.
        """
        own = Entity("account", account_id)
        rows = self._read([(own.pk, part) for part in MOST])
        with malformed_as_unavailable():
            return max(chain(*(timeline_of(sk, row) for (_, sk), row in rows.items())), default=None)

    def links(self, own: Entity, today: date) -> list[LinkView]:
        """Return the latest links of an entity and what lies beyond them: two calls, and at most 59 items.

        However many links the entity or a neighbour has, only its MOST_NEIGHBOURS latest are read. Raises what `page`
        raises.
        """
        return self._near(own, today)[0]

    def _near(self, own: Entity, today: date, asked: Collection[str] = ()) -> tuple[list[LinkView], set[str]]:
        """Return the latest links of an entity, and which of the asked ones it has, by their names."""
        with malformed_as_unavailable():
            near = neighbours_of(self._read([(own.pk, NEIGHBOURS)]).get((own.pk, NEIGHBOURS), {}))
            beyond = {name: (Entity.listed_as(name).pk, NEIGHBOURS) for _, name in near}
            rows = self._read([*((own.pk, name) for name in (*beyond, *asked)), *beyond.values()])
            found = {name: link_of(rows.get((own.pk, name), {})) for name in beyond}
            views = [
                LinkView.of(own, name, link, neighbours_of(rows.get(beyond[name], {})), today)
                for name, link in found.items()
                if link
            ]
        known = {name for name in asked if (own.pk, name) in rows}
        return sorted(views, key=lambda view: view.last, reverse=True), known

    # --- erasing -----------------------------------------------------------------------------------------------------

    def erase(self, own: Entity) -> None:
        """Delete all that the table holds of an entity: suggested links, and links at both ends. It may be repeated.

        It works page by page, so the number of links has no bound. What is at the entity's own key goes after the other
        end, so it says what is left to do after a failure: the next run goes on there. The entity's list of neighbours
        comes first, because it may tell of links of which a killed writer left nothing at the entity's own key. Raises
        UnavailableError when the table does not respond or a neighbour's list changes every time, and ServiceError when
        it refuses.
        """
        if own.kind == "account":
            self._unsuggest(own.value)
        place = own.pk, NEIGHBOURS
        with malformed_as_unavailable():
            near = neighbours_of(self._read([place], consistent=True).get(place, {}))
        self._unlink(own, [each.name for each in near])
        for page in self._pages(own.pk, ProjectionExpression="sk"):
            links = [row["sk"]["S"] for row in page if "#" in row["sk"]["S"]]
            for start in range(0, len(links), WRITES_PER_STEP):
                self._unlink(own, links[start : start + WRITES_PER_STEP])
        all_or_raise(self._send([self._delete((own.pk, name)) for name in (NEIGHBOURS, *MOST)]))

    def _unlink(self, own: Entity, names: Sequence[str]) -> None:
        """Delete links of an entity, by their names, at both ends and in the neighbours' lists. Raises ServiceError."""
        ends = [other_end(own, name) for name in names]
        for attempt in range(ATTEMPTS):
            lists = self._read([(pk, NEIGHBOURS) for pk, _ in ends], consistent=True)
            with malformed_as_unavailable():
                changes = [self._without(pk, sk, lists.get((pk, NEIGHBOURS), {})) for pk, sk in ends]
            results = all_or_raise(self._send([change for change in changes if change]))
            if not any(isinstance(result, ConditionFailed) for result in results):
                break
            time.sleep(pause_s(attempt, PAUSE_S, LONGEST_PAUSE_S))
        else:
            raise UnavailableError("WriteConflict")
        for places in (ends, [(own.pk, name) for name in names]):
            all_or_raise(self._send([self._delete(place) for place in places]))

    def _unsuggest(self, account: str) -> None:
        """Delete what is suggested for an account, and every suggested link that names it. Raises ServiceError.

        Neither the account's own item nor its links need to say where it is named: all items are read.
        """
        for page in self._pages(SUGGESTED):
            rows = {row["sk"]["S"]: row for row in page}
            for attempt in range(ATTEMPTS):
                with malformed_as_unavailable():
                    changes = {sk: self._unnamed(row, sk, account) for sk, row in rows.items()}
                writes = {sk: change for sk, change in changes.items() if change}
                results = dict(zip(writes, all_or_raise(self._send([*writes.values()])), strict=True))
                rows = {
                    sk: each.item for sk, each in results.items() if isinstance(each, ConditionFailed) and each.item
                }
                if not rows:
                    break
                time.sleep(pause_s(attempt, PAUSE_S, LONGEST_PAUSE_S))
            else:
                raise UnavailableError("WriteConflict")

    def _unnamed(self, row: Row, own: str, account: str) -> Request | None:
        """Return the write after which an item of suggestions does not name an account; None if it does not now."""
        given = suggestions_of(row)
        left = given and given.without(account)
        if own == account or left is None:
            return self._delete((SUGGESTED, own))
        if left == given:
            return None
        return self._shrunk((SUGGESTED, own), row, SUGGESTED, _suggestions_row(left) if left.links else {})

    def _pages(self, pk: str, **more: str) -> Iterator[Sequence[Row]]:
        """Yield the items of a partition, page by page: each page is read when it is asked for."""
        start: Row = {}
        while True:
            payload = {
                "TableName": self._table,
                "KeyConditionExpression": "pk = :pk",
                "ExpressionAttributeValues": {":pk": {"S": pk}},
                "ConsistentRead": True,
                **more,
                **start,
            }
            (answer,) = all_or_raise(self._transport.gather([Request("query", payload)]))
            with malformed_as_unavailable():
                rows = required_field(answer, "Items")
                last = optional_field(answer, "LastEvaluatedKey")
            yield rows
            if not last:
                return
            start = {"ExclusiveStartKey": last}

    def _without(self, pk: str, name: str, row: Row) -> Request | None:
        """Return the write that takes a name off a list of neighbours; None if it is not there."""
        before = neighbours_of(row)
        after = tuple(each for each in before if each.name != name)
        if after == before:
            return None
        left = {NEIGHBOURS: {"B": packed(after)}} if after else {}
        return self._shrunk((pk, NEIGHBOURS), row, NEIGHBOURS, left)

    def _shrunk(self, place: Place, before: Row, held: str, after: Row) -> Request:
        """Return the write of what is left of an item, or its deletion, on condition that it holds what was read."""
        if after:
            return self._update(place, before, after)
        unchanged = {
            "ConditionExpression": "#held = :old",
            "ExpressionAttributeNames": {"#held": held},
            "ExpressionAttributeValues": {":old": before[held]},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._delete(place, unchanged)

    def _delete(self, place: Place, condition: Mapping[str, Any] | None = None) -> Request:
        return Request("delete_item", {"TableName": self._table, "Key": typed_key(*place), **(condition or {})})

    def _read(self, places: Collection[Place], *, consistent: bool = False) -> dict[Place, Row]:
        """Return the items that there are; each place is read once. Raises ServiceError."""
        parts = split_by_call(list(dict.fromkeys(places)))
        keys = [[typed_key(*place) for place in part] for part in parts]
        requests = [batch_read({self._table: {"Keys": part, "ConsistentRead": consistent}}) for part in keys]
        rows: dict[Place, Row] = {}
        for answer in all_or_raise(self._transport.gather(requests) if requests else ()):
            for row in read_all(self._transport, answer).get(self._table, ()):
                rows[row["pk"]["S"], row["sk"]["S"]] = row
        return rows

    def _send(self, writes: Sequence[Request]) -> Iterator[Result]:
        for start in range(0, len(writes), WRITES_PER_STEP):
            yield from self._transport.gather(writes[start : start + WRITES_PER_STEP])


def _neighbours(meeting: Meeting, known: Link | None) -> Iterator[tuple[Place, Neighbour]]:
    """Yield the places of the lists that may lack a meeting, and what they lack: none in a week that is known.

    known  the link as it was before, at the other end
    """
    added = [Neighbour.on(meeting.day, name) for _, name in meeting.edge.ends]
    if known is None or added[0].week > Neighbour.on(known.last, "").week:
        yield from (((pk, NEIGHBOURS), one) for (pk, _), one in zip(meeting.edge.ends, added, strict=True))


def _paid(other: str) -> tuple[str, str]:
    """Return the names of the links that payments between an account and another one leave."""
    return f"payee#{other}", f"payer#{other}"


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    grouped: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        grouped[key].append(value)
    return grouped
