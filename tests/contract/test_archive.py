"""The archive has one schema: Glue's tables, the box's Parquet files and the queries follow fraud.archive.schema."""

import sys
from pathlib import Path

import pytest

from fraud.archive import schema
from local import archive
from local.account.emulator import TEMPLATE
from local.account.stack import deliveries, expand

RESOURCES = expand(TEMPLATE, {})["Resources"]
NAMES = [table.name for table in schema.TABLES]
GLUE = {name: f"Archived{name.capitalize()}" for name in NAMES}
DELIVERIES = {name: f"{name[:-1].capitalize()}Delivery" for name in NAMES}
QUERIES = {"fraud_rate_by_day": "FraudRateByDay", "friction_by_rule_and_day": "FrictionByRuleAndDay"}
QUERIES |= {"outcomes_by_day": "OutcomesByDay"}
PERSONAL = ("name", "ip", "metadata", "campaign_id", "text", "id")


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_glue_has_the_columns_of_the_schema_in_their_order(table: schema.ArchiveTable):
    declared = RESOURCES[GLUE[table.name]]["Properties"]["TableInput"]
    columns = declared["StorageDescriptor"]["Columns"]
    assert [(column["Name"], column["Type"]) for column in columns] == [each[:2] for each in table.columns]
    assert declared["Name"] == table.name
    assert declared["PartitionKeys"] == [{"Name": schema.PARTITION, "Type": schema.TEXT}]
    assert declared["StorageDescriptor"]["Location"] == {"Fn::Sub": f"s3://${{DecisionArchive}}/{table.name}/"}


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_firehose_converts_by_that_table_and_partitions_by_the_day_in_the_row(table: schema.ArchiveTable):
    stream = RESOURCES[DELIVERIES[table.name]]["Properties"]["ExtendedS3DestinationConfiguration"]
    assert stream["Prefix"] == f"{table.name}/{schema.PARTITION}=!{{partitionKeyFromQuery:{schema.PARTITION}}}/"
    query = stream["ProcessingConfiguration"]["Processors"][1]["Parameters"][0]["ParameterValue"]
    assert query == f"{{{schema.PARTITION}:.{schema.PARTITION}}}"
    conversion = stream["DataFormatConversionConfiguration"]
    assert conversion["SchemaConfiguration"]["TableName"] == {"Ref": GLUE[table.name]}
    assert deliveries({"Resources": RESOURCES})[DELIVERIES[table.name]] == ("DecisionArchive", table.name)


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_parquet_has_the_columns_of_the_schema(table: schema.ArchiveTable):
    assert archive.arrow_schema(table).names == list(table.names)
    assert {column.type for column in table.columns} <= set(schema.TYPES) == set(archive.ARROW)


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_columns_have_a_meaning_and_no_personal_name(table: schema.ArchiveTable):
    assert table.dated_by in table.names
    assert len(set(table.names)) == len(table.names)
    assert not [name for name in table.names if name in PERSONAL or name.endswith(("_name", "_ip"))]
    assert all(column.meaning.endswith(".") for column in table.columns)


@pytest.mark.parametrize("name", QUERIES)
def test_athena_has_the_text_that_duckdb_runs(name: str, tmp_path: Path):
    text = (archive.QUERIES / f"{name}.sql").read_text(encoding="utf-8")
    assert RESOURCES[QUERIES[name]]["Properties"]["QueryString"] == text
    assert archive.query(tmp_path, name) == []


def test_no_door_loads_arrow_or_duckdb():
    layer = (TEMPLATE.parent / "layers" / "dependencies" / "requirements.txt").read_text(encoding="utf-8")
    assert "pyarrow" not in layer
    assert "duckdb" not in layer
    assert "pyarrow" in sys.modules  # of the box, which this test imports
