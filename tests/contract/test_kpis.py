"""Each KPI is defined once: queries, prices, runbook and rights follow from the entries."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from benchmarks import capacity
from fraud import packaged
from fraud.archive import schema
from fraud.reporting import kpis
from fraud.reporting.kpis import KPIS, RELATIONS, Span
from fraud.reporting.worker import PREFIX
from local import archive
from local.account.emulator import TEMPLATE
from local.account.stack import expand

PRICES = json.loads(packaged.PRICES.read_bytes())
SPAN = Span(date(2026, 3, 1), date(2026, 3, 3), datetime(2026, 3, 4, 1, tzinfo=UTC))
RESOURCES = expand(TEMPLATE, {})["Resources"]
ONLY_IN_DUCKDB = re.compile(
    r"\b(FILTER|DISTINCT ON|QUALIFY|arg_max|list_|epoch_|strftime|EXCLUDE|USING|::|\?)", re.IGNORECASE
)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_query_runs_on_an_empty_archive_and_has_a_column_for_each_quantity(relation: str, tmp_path: Path):
    sql = kpis.query(relation, SPAN, PRICES)
    with archive.database(tmp_path) as found:
        result = found.execute(sql)
        assert [column[0] for column in result.description] == ["day", "segment", *RELATIONS[relation].quantities]
        assert result.fetchall() == []
    assert not ONLY_IN_DUCKDB.search(sql)
    assert not re.search(r"[{}]", sql)


@pytest.mark.parametrize("relation", [*RELATIONS, "strata"])
def test_a_query_reads_no_table_without_a_bound_on_its_days(relation: str):
    sql = kpis.strata(SPAN) if relation == "strata" else kpis.query(relation, SPAN, PRICES)
    assert not ONLY_IN_DUCKDB.search(sql)
    read = sum(len(re.findall(rf"FROM {table.name}\b", sql)) for table in schema.TABLES)
    assert 0 < read == len(re.findall(r"WHERE (?:\w+\.)?day (?:BETWEEN|>=) '\d", sql))


def test_names_are_unique_and_every_quantity_is_used_and_known():
    assert len({kpi.name for kpi in KPIS}) == len(KPIS)
    for kpi in KPIS:
        assert set(kpi.quantities) <= RELATIONS[kpi.relation].quantities.keys()
        assert kpi.says.endswith(".")
    used = {(kpi.relation, name) for kpi in KPIS for name in kpi.quantities}
    assert used == {(name, quantity) for name, relation in RELATIONS.items() for quantity in relation.quantities}


def test_every_kpi_has_a_row_in_the_runbook_and_no_other_has_one():
    runbook = (TEMPLATE.parent / "docs" / "runbook.md").read_text(encoding="utf-8")
    table = runbook.partition("## KpisOutOfBounds")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(kpi.name for kpi in KPIS)


def test_the_packaged_prices_are_within_a_percent_of_those_that_the_benchmark_meters():
    metered = capacity.nano_usd()
    assert metered.keys() == PRICES.keys()
    assert all(abs(metered[name] - price) <= price / 100 for name, price in PRICES.items()), metered


def test_the_function_may_write_figures_and_results_and_nothing_else_and_delete_only_what_it_replaces():
    statements = [
        statement
        for policy in RESOURCES["KpisRole"]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    granted = {
        (action, json.dumps(place))
        for statement in statements
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        for place in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
    }
    written = {place for action, place in granted if action == "s3:PutObject"}
    assert written == {
        json.dumps({"Fn::Sub": f"${{DecisionArchive.Arn}}/{name}/*"}) for name in (PREFIX, "results/kpis")
    }
    deleted = {place for action, place in granted if action == "s3:DeleteObject"}
    assert deleted == {json.dumps({"Fn::Sub": f"${{DecisionArchive.Arn}}/{PREFIX}/table/*"})}
    assert not {action for action, _ in granted if action.startswith("dynamodb:")}
    tables = {place for action, place in granted if action == "glue:GetTable" and "table/" in place}
    assert len(tables) == len(schema.TABLES) - 1  # no figure is made of invitations


def test_the_workgroup_bounds_what_a_query_may_read_and_takes_no_wish_of_its_caller():
    configuration = RESOURCES["KpiQueries"]["Properties"]["WorkGroupConfiguration"]
    assert configuration["EnforceWorkGroupConfiguration"]
    assert configuration["BytesScannedCutoffPerQuery"] <= 100 * 2**30
    assert configuration["ResultConfiguration"]["EncryptionConfiguration"]["EncryptionOption"] == "SSE_KMS"


def test_an_unload_has_at_most_the_text_that_athena_takes():
    from fraud.reporting.kpis import Figure  # noqa: PLC0415
    from fraud.reporting.worker import ROWS_AT_ONCE, unload  # noqa: PLC0415

    longest = max((kpi.name for kpi in KPIS), key=len)
    row = Figure("2026-03-04", "s" * 64, longest, 10**18, 10**18, 1 / 3, 1 / 3, 1 / 3, mature=True)
    assert len(unload([row] * ROWS_AT_ONCE, "b" * 63).encode()) < 256 * 1024


if __name__ == "__main__":
    packaged.PRICES.write_text(json.dumps(capacity.nano_usd(), indent=1) + "\n")
