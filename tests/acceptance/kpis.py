"""The KPIs end to end: payments are lived in the box, and the schedule's function counts the figures of their days.

Every count must equal that of a plain SQL, which is written here on its own: over the archive for payments, and over
exports of the tables of cases, accounts, reports and the audit trail for what people did. Then the intervals of the
fraud rate must cover the true rate of 1 in 2.5 million in at least 94 % of simulated days, by count and by value.
`python -m tests.acceptance.kpis [--payments N] [--days N]`.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow.parquet
from boto3.dynamodb.types import TypeDeserializer

from fraud.reporting import kpis
from fraud.reporting.kpis import Figure, Span
from local import account_told, archive, case_told
from local.box import Box
from local.delivered import bucket_of
from models.simulation.simulate import DEFAULT_START, Labelled, simulate

PAYMENTS, SIMULATED = 400, 2_000
RATE = 1 / 2_500_000
VOLUMES = (1_000_000, 12_500_000, 50_000_000, 250_000_000)
"""Payments of a simulated day: at RATE they expect .4, 5, 20 and 100 frauds."""

LARGE = 12
"""One of so many payments has an amount above the limit."""

LEFT = 4
"""Cases that nobody judges, so that there is a queue."""

SIGMA = 1.0
"""Of the logarithm of amounts."""

LEAST_COVER = 0.94


class Cover(NamedTuple):
    """How often the interval of a figure covered the truth, and how often its upper end was determinable."""

    kpi: str
    volume: int
    covered: float
    determinable: float


class Result(NamedTuple):
    """The result of a run.

    payments   that were decided
    figures    that the function wrote as JSON
    compared   counts that were compared with the plain SQL
    differing  counts that differ from it, in words
    parquet    figures that differ between JSON and Parquet
    again      bytes of JSON that differ after the function ran once more
    covers     of the intervals
    shown      the figures of all segments on the last day, as a table
    """

    payments: int
    figures: int
    compared: int
    differing: list[str]
    parquet: int
    again: int
    covers: list[Cover]
    shown: list[str]

    @property
    def failures(self) -> list[str]:
        """The expectations that do not hold."""
        failed = [name for name in ("differing", "parquet", "again") if getattr(self, name)]
        failed += [f"{each.kpi} {each.volume}" for each in self.covers if each.covered < LEAST_COVER]
        return failed + ["compared"] * (self.compared == 0)

    def table(self) -> str:
        """Return the result as lines of text."""
        return "\n".join(
            (
                *self.shown,
                f"figures                  {self.figures:,} of {self.payments:,} payments",
                f"plain SQL                {len(self.differing)} of {self.compared:,} counts differ",
                *self.differing[:20],
                f"Parquet and JSON         {self.parquet} figures differ",
                f"once more                {self.again} days differ",
                *(
                    f"{each.kpi:20} {each.volume:13,} payments a day: {each.covered:.1%} cover,"
                    f" upper end determinable on {each.determinable:.1%}"
                    for each in self.covers
                ),
            )
        )


def run(payments: int = PAYMENTS, days: int = SIMULATED, seed: int = 16) -> Result:
    """Live payments in a box, and compare the figures of their days."""
    lived = list(simulate(seed, DEFAULT_START, days=30, payers=max(20, payments // 20), crime=20))
    first = next(n for n, each in enumerate(lived) if each.label == "fraud")
    world = lived[max(0, first - payments // 2) :][:payments]
    for each in world[7::LARGE]:
        each.transaction["amount"] = 900_000  # above the limit, so that some payments are declined
    with Box(parameters={"SampleShares": "approve=0.1,decline=1"}) as own:
        return _lived(own, world, days)


def _lived(box: Box, world: Sequence[Labelled], days: int) -> Result:
    truth = {str(each.transaction["transaction_id"]): each.label for each in world}
    end = _time(world[-1]) + timedelta(minutes=1)
    _decided(box, world)
    list(case_told.tell(box, truth, end))
    _judged(box, truth, end)
    list(account_told.tell(box, [each.transaction for each in world], truth, end))
    box.settle()
    now = datetime.combine(end.date() + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=1)
    box.environments.invoke("Kpis", {}, now)
    written, table = _written(box), _parquet(box)
    box.environments.invoke("Kpis", {}, now)
    span = Span.ended(35, now)
    compared = _compared(box, written, [str(day) for day in span.days])
    last = max((row["day"] for row in written.values() if row["segment"] == kpis.ALL), default="")
    shown = [Figure(**row) for row in written.values() if (row["day"], row["segment"]) == (last, kpis.ALL)]
    return Result(
        payments=len(world),
        figures=len(written),
        compared=len(compared),
        differing=[f"{key}: {one} is {other} by plain SQL" for key, (one, other) in compared.items() if one != other],
        parquet=sum(table.get(key) != row for key, row in written.items()) + len(table.keys() - written.keys()),
        again=sum(written.get(key) != row for key, row in _written(box).items()),
        covers=list(coverage(days)) if days else [],
        shown=list(kpis.table(shown)),
    )


def _time(each: Labelled) -> datetime:
    return datetime.fromisoformat(each.transaction["occurred_at"])


def _decided(box: Box, world: Sequence[Labelled]) -> None:
    """Have payments decided; challenges pass or fail, payments settle, fail or come back, users report, labels come."""
    with box.connect() as client:
        for n, each in enumerate(world):
            name, now = str(each.transaction["transaction_id"]), _time(each)
            outcome = _post(client, "/decisions", each.transaction, now)["outcome"]
            later = (now + timedelta(seconds=30)).isoformat()
            if outcome == "challenge" and n % 4:
                body = {"passed": each.label != "fraud", "method": "passkey", "at": later}
                _post(client, f"/decisions/{name}/challenge", body, now)
                outcome = "approve" if body["passed"] else "decline"
            if outcome == "approve" and n % 3 == 0:
                body = {"status": ("settled", "settled", "failed", "reversed")[n // 3 % 4], "at": later}
                _post(client, f"/decisions/{name}/result", body, now)
            if each.label == "fraud" or n % 10 == 0:
                category = "account_taken_over" if each.label == "fraud" else "item_not_received"
                said = {"report_id": f"r-{name}", "transaction_id": name, "reporter_id": each.transaction["payer_id"]}
                _post(client, "/reports", {"reports": [said | {"category": category, "reported_at": later}]}, now)
            if each.label == "fraud" or n % 7 == 0:
                label = {"transaction_id": name, "label": each.label, "reported_at": now.isoformat()}
                _post(client, "/labels", {"labels": [label]}, now)
    box.settle()


def _judged(box: Box, truth: Mapping[str, str], now: datetime) -> None:
    """Have a lead judge the cases that wait, but some: by the truth, and one in four as a dispute or not at all."""
    box.settle()
    with box.connect_person(case_told.LEAD, "lead") as people:
        desk = case_told.Desk(people, now)
        waiting = [each for level in case_told.LEVELS for each in desk.get(f"/cases?level={level}")["cases"]]
        for n, each in enumerate(waiting[LEFT:]):
            path = f"/cases/{each['case_id']}"
            case = desk.get(path)["case"]
            version = desk.post(f"{path}/take", version=case["version"])["version"]
            is_fraud = any(truth.get(name) == "fraud" for name in case["alerts"])
            finding = "fraud" if is_fraud else ("legitimate", "legitimate", "dispute", "inconclusive")[n % 4]
            desk.post(f"{path}/verdict", version=version, finding=finding, reason="the truth of the simulation")
        box.settle()


def _post(client: Any, path: str, body: Any, now: datetime) -> Any:
    answer = client.request("POST", path, json.dumps(body).encode(), now)
    assert answer.status == 200, (path, answer)
    return json.loads(answer.body)


def _objects(box: Box, ending: str) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of the objects of figures that end so."""
    s3 = box.client("s3")
    bucket = bucket_of(s3)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="kpis/"):
        for key in (found["Key"] for found in page.get("Contents", ())):
            if key.endswith(ending):
                yield key, s3.get_object(Bucket=bucket, Key=key)["Body"].read()


Key = tuple[str, str, str]
"""Day, segment and KPI."""


def _written(box: Box) -> dict[Key, dict[str, Any]]:
    """Return the figures in JSON."""
    found = {}
    for _, content in _objects(box, ".json"):
        said = json.loads(content)
        for row in said["kpis"]:
            found[said["day"], row["segment"], row["kpi"]] = {"day": said["day"]} | row
    return found


def _parquet(box: Box) -> dict[Key, dict[str, Any]]:
    """Return the figures in Parquet."""
    found = {}
    for key, content in _objects(box, ".parquet"):
        day = key.split("day=")[1].split("/")[0]
        for row in pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist():
            counts = {name: None if row[name] is None else int(row[name]) for name in ("numerator", "denominator")}
            found[day, row["segment"], row["kpi"]] = {"day": day} | row | counts
    return found


# ---- the plain SQL ---------------------------------------------------------------------------------------------------

PLAIN = """
CREATE VIEW d AS SELECT DISTINCT ON (event_id) * FROM archived_decisions;
CREATE VIEW final AS SELECT transaction, arg_max(outcome_now, number) AS o, arg_max(status, number) AS s
  FROM archived_resolutions GROUP BY ALL;
CREATE VIEW lab AS SELECT transaction, arg_max(counts, number) AS f FROM archived_labels GROUP BY ALL;
CREATE VIEW rep AS SELECT transaction_id, count(*) AS c, count(*) FILTER (status = 'dispute') AS x
  FROM export_reports GROUP BY ALL;
CREATE TABLE p AS
  SELECT strftime(make_timestamp(d.occurred_at), '%Y-%m-%d') AS day, d.segment, d.outcome, d.amount, d.type,
    len(d.degraded) > 0 AS deg, len(d.estimated) > 0 AS est,
    coalesce(final.o, d.outcome) = 'approve' AND coalesce(final.s, '') NOT IN ('failed', 'reversed') AS went,
    coalesce(lab.f, false) AS fraud, lab.f IS NOT NULL AS told, coalesce(rep.c, 0) AS c, coalesce(rep.x, 0) AS x,
    names.transaction_id, d.sample IS NOT NULL AS drawn
  FROM d LEFT JOIN final USING (transaction) LEFT JOIN lab USING (transaction)
  LEFT JOIN names ON names.pseudonym = d.transaction LEFT JOIN rep ON rep.transaction_id = names.transaction_id;
INSERT INTO p SELECT * REPLACE ('all' AS segment) FROM p;
CREATE VIEW seg AS SELECT names.transaction_id, d.segment FROM d JOIN names ON names.pseudonym = d.transaction;
CREATE TABLE c AS SELECT k.*, coalesce(seg.segment, 'none') AS segment FROM export_cases k
  LEFT JOIN seg ON seg.transaction_id = k.first_payment;
INSERT INTO c SELECT * REPLACE ('all' AS segment) FROM c;
CREATE TABLE a AS SELECT k.*, coalesce(seg.segment, 'none') AS segment FROM export_actions k
  LEFT JOIN seg ON seg.transaction_id = k.first_payment;
INSERT INTO a SELECT * REPLACE ('all' AS segment) FROM a;
"""
"""Views of the archive and of the exports; of each payment, case and action once more, as one of the segment `all`."""

OF_PAYMENTS = {
    "fraud_rate": ("count(*) FILTER (fraud AND went)", "count(*) FILTER (went)"),
    "fraud_rate_by_value": ("sum(amount) FILTER (fraud AND went)", "sum(amount) FILTER (went)"),
    "complaints": ("sum(c)", "count(*)"),
    "dispute_share": ("sum(x)", "sum(c)"),
    "challenged_share": ("count(*) FILTER (outcome = 'challenge')", "count(*)"),
    "reviewed_share": ("count(*) FILTER (outcome = 'review')", "count(*)"),
    "declined_share": ("count(*) FILTER (outcome = 'decline')", "count(*)"),
    "friction": ("count(*) FILTER (NOT fraud AND outcome <> 'approve')", "count(*) FILTER (NOT fraud)"),
    "decline_precision": (
        "count(*) FILTER (outcome = 'decline' AND fraud)",
        "count(*) FILTER (outcome = 'decline' AND told)",
    ),
    "degraded_share": ("count(*) FILTER (deg)", "count(*)"),
    "estimated_share": ("count(*) FILTER (est)", "count(*)"),
    "cost_per_decision": ("sum(if(type = 'merchant', 8403, 6306))", "count(*)"),
}


def _plain(day: str) -> Iterator[tuple[str, str]]:
    """Yield each KPI with a query of its segments, numerators and denominators on a day."""
    for name, (numerator, denominator) in OF_PAYMENTS.items():
        yield name, f"SELECT segment, {numerator}, {denominator} FROM p WHERE day = '{day}' GROUP BY 1"
    end = f"TIMESTAMPTZ '{day} 00:00:00+00' + INTERVAL 1 DAY"
    opened = f"opened_at < {end} AND coalesce(judged_at, failed_at, TIMESTAMPTZ 'infinity') >= {end}"
    waited = f"epoch_us({end}) - epoch_us(opened_at)"
    of_day = f"judged_by <> 'system' AND judged_at >= TIMESTAMPTZ '{day} 00:00:00+00' AND judged_at < {end}"
    yield "queue_age", f"SELECT segment, sum({waited}), count(*) FROM c WHERE {opened} GROUP BY 1"
    yield "queue_oldest", f"SELECT segment, max({waited}), NULL FROM c WHERE {opened} GROUP BY 1"
    yield "queue_length", f"SELECT segment, count(*), NULL FROM c WHERE {opened} GROUP BY 1"
    took = "epoch_us(judged_at) - epoch_us(opened_at)"
    yield "time_to_verdict", f"SELECT segment, sum({took}), count(*) FROM c WHERE {of_day} GROUP BY 1"
    stopped = f"SELECT segment, count(*) FILTER (undo = 'reinstatement'), count(*) FROM a WHERE stopped_on = '{day}'"
    yield "reinstatement_rate", f"{stopped} GROUP BY 1"
    of_day = f"p LEFT JOIN export_samples USING (transaction_id) WHERE day = '{day}' AND outcome = 'decline' AND drawn"
    known = "count(*) FILTER (finding IN ('fraud', 'legitimate', 'dispute'))"
    yield "sampled_precision", f"SELECT segment, count(*) FILTER (finding = 'fraud'), {known} FROM {of_day} GROUP BY 1"
    yield "cap_used", f"SELECT 'all', taken, 100 FROM export_caps WHERE day = '{day}'"


Counts = tuple[int, int | None]


def _compared(
    box: Box, written: Mapping[Key, Mapping[str, Any]], days: Sequence[str]
) -> dict[Key, tuple[Counts | None, Counts | None]]:
    """Return for each figure of the days its counts as they were written, and by the plain SQL; None: there is none."""
    ours = {key: (row["numerator"], row["denominator"]) for key, row in written.items() if key[0] in days}
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as found:
        archive.collect(box.client("s3"), bucket_of(box.client("s3")), Path(scratch))
        for table in ("decisions", "resolutions", "labels"):
            found.read_parquet(f"{scratch}/{table}/*/*.parquet").create_view(f"archived_{table}")
        _export(box, found)
        found.execute(PLAIN)
        plain: dict[Key, Counts] = {}
        for day in days:
            for name, sql in _plain(day):
                for segment, numerator, denominator in found.execute(sql).fetchall():
                    plain[day, segment, name] = int(numerator or 0), None if denominator is None else int(denominator)
    for day in {day for day, _, _ in plain}:
        for kpi in kpis.KPIS:  # of nothing that was found on a day the figure says so
            plain.setdefault(
                (day, kpis.ALL, kpi.name), (0, None if kpi.name in {"queue_oldest", "queue_length"} else 0)
            )
    return {key: (ours.get(key), plain.get(key)) for key in sorted(ours.keys() | plain.keys())}


def _export(box: Box, found: duckdb.DuckDBPyConnection) -> None:
    """Make tables of what lies in the tables of cases, accounts, reports, decisions and the audit trail."""
    from_dynamodb = TypeDeserializer().deserialize

    def items(table: str) -> Iterator[dict[str, Any]]:
        for page in box.client("dynamodb").get_paginator("scan").paginate(TableName=table):
            yield from ({name: from_dynamodb(value) for name, value in item.items()} for item in page["Items"])

    def table(name: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        found.execute(f"CREATE TABLE {name} ({columns})")
        if rows:
            found.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    said = [(json.loads(row["document"]), row) for row in items("CasesTable") if row["sk"] == "case"]
    samples = [
        (case["alerts"][0], (case["verdict"] or {}).get("finding")) for case, _ in said if case["kind"] == "sample"
    ]
    table("export_samples", "transaction_id VARCHAR, finding VARCHAR", samples)
    said = [(case, row) for case, row in said if case["kind"] == "alert"]
    judged = [(case, case["verdict"] or {"at": None, "by": None}) for case, _ in said]
    table(
        "export_cases",
        "first_payment VARCHAR, opened_at TIMESTAMPTZ, judged_at TIMESTAMPTZ, judged_by VARCHAR, failed_at TIMESTAMPTZ",
        [
            (
                case["alerts"][0],
                case["opened_at"],
                verdict["at"],
                verdict["by"],
                case["changed_at"] if case["state"] == "failed" else None,
            )
            for case, verdict in judged
        ],
    )
    accounts = list(items("AccountsTable"))
    stops = [
        (row["pk"].removeprefix("account#"), row["at"])
        for row in items("AuditTable")
        if row["pk"].startswith("account#") and json.loads(row["document"])["what"] == "deactivated"
    ]
    actions = [json.loads(row["document"]) for row in accounts if row["sk"] == "action"]
    table(
        "export_actions",
        "first_payment VARCHAR, undo VARCHAR, stopped_on VARCHAR",
        [
            (
                next(iter(each["cause"]["transaction_ids"]), None),
                each["undo"],
                min((at for who, at in stops if who == each["account_id"] and at >= each["opened_at"]), default="")[
                    :10
                ],
            )
            for each in actions
        ],
    )
    taken = [(row["pk"][4:], int(row["all"])) for row in accounts if row["sk"] == "cap" and len(row["pk"]) == 14]
    table("export_caps", "day VARCHAR, taken BIGINT", taken)
    reports = [(row["transaction_id"], row["status"]) for row in items("ReportsTable")]
    table("export_reports", "transaction_id VARCHAR, status VARCHAR", reports)
    table("names", "transaction_id VARCHAR, pseudonym VARCHAR", [*_names(items("DecisionsTable"))])


def _names(items: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the id of each payment with its pseudonym: BLAKE2b of kind and id with the box's declared key."""
    from fraud.counters.keys import DECLARED  # noqa: PLC0415 - the one secret that an export needs

    for item in items:
        yield item["pk"], DECLARED.pseudonym("transaction", item["pk"]).hex()


# ---- the intervals ---------------------------------------------------------------------------------------------------


def coverage(days: int, seed: int = 16) -> Iterator[Cover]:
    """Yield how often the intervals of simulated days cover the truth."""
    rng = np.random.default_rng(seed)
    mean = 3_000 * np.exp(SIGMA * SIGMA / 2)
    for volume in VOLUMES:
        shown: dict[str, list[Figure]] = {"fraud_rate": [], "fraud_rate_by_value": []}
        for _ in range(days):
            amounts = np.round(rng.lognormal(np.log(3_000), SIGMA, rng.binomial(volume, RATE))).astype(np.int64)
            largest = int(np.exp(np.log(3_000) + SIGMA * np.sqrt(2 * np.log(volume))))
            for each in _figures(volume, int(volume * mean), amounts, max(largest, int(amounts.max(initial=0)))):
                shown[each.kpi].append(each)
        for name, some in shown.items():
            covered = [_covers(each, RATE * 1e7) for each in some]
            determinable = [each.high is not None for each in some]
            yield Cover(name, volume, sum(covered) / len(some), sum(determinable) / len(some))


def _figures(payments: int, value: int, frauds: np.ndarray, largest: int) -> Iterator[Figure]:
    """Yield the two fraud rates of a day with so many payments and these frauds."""
    counts = dict.fromkeys(kpis.RELATIONS["payments"].quantities, 0) | {
        "payments": payments,
        "carried_out": payments,
        "frauds": len(frauds),
        "value": value,
        "fraud_value": int(frauds.sum()),
        "fraud_squares": int((frauds.astype(object) ** 2).sum()),
        "largest": largest,
    }
    day = date(2026, 3, 4)
    span = Span(day, day, datetime(2026, 5, 1, tzinfo=UTC))
    counted = {name: {} for name in kpis.RELATIONS} | {"payments": {(str(day), kpis.ALL): counts}}
    yield from (each for each in kpis.figures(counted, span) if each.kpi.startswith("fraud_rate"))


def _covers(each: Figure, truth: float) -> bool:
    return each.low is not None and each.low <= truth and (each.high is None or truth <= each.high)


def main() -> int:
    """Run at full size, and print the result. Return 0 if all holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.kpis", description=__doc__)
    parser.add_argument("--payments", type=int, default=PAYMENTS)
    parser.add_argument("--days", type=int, default=SIMULATED, help="simulated days, for the intervals")
    asked = parser.parse_args()
    result = run(asked.payments, asked.days)
    print(result.table())
    print("failed: " + ", ".join(result.failures) if result.failures else "all holds")
    return int(bool(result.failures))


if __name__ == "__main__":
    sys.exit(main())
