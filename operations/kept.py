"""What is kept where: the generated parts of docs/archive.md, from the template, its roles and the archive's schema.

The words of KEPT are written here. Which function may read a place follows from the roles in template.yaml.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

from fraud.archive import schema
from fraud.reporting.kpis import KPIS, RELATIONS
from local.account.emulator import TEMPLATE
from local.account.stack import DELIVERY, deliveries, expand
from operations import diagrams

READS = re.compile(
    r"[a-z0-9]+:(\*|Get|BatchGet|TransactGet|PartiQLSelect|Query|Scan|Receive)(?!ShardIterator|QueueAttributes)"
)
WRITES = re.compile(r"[a-z]+:(Put|Update|Delete(?!Message)|Send)")


class Kept(NamedTuple):
    """A place: its logical id in the template, what it holds, how long, and what erasure of an account does there."""

    place: str
    holds: str
    time: str
    erasure: str


PERIODS = "until no window reaches it, 34 to 66 days"
LEFT = "nothing"
KEPT = (
    Kept("CountersTable", "counts and sums of an account's attempts by day or hour, under its id", PERIODS, LEFT),
    Kept(
        "ProfilesTable",
        "folded history of an account, device or instrument, list entries, status, marks; the stack's secret keys",
        "33 days of history; entries until they end; marks until the next snapshot but one",
        "**the account's marks are deleted**, nothing else",
    ),
    Kept(
        "DecisionsTable",
        "each payment as it was sent, names and address included, its answer and its snapshot",
        "DecisionRetentionDays (400 days)",
        "nothing: the payment of another party is the same row, and a repeat needs its answer",
    ),
    Kept(
        "ReportsTable",
        "each report of a user with its text, and what triage said",
        "ReportRetentionDays (400 days)",
        "**the account's own reports are deleted**",
    ),
    Kept("LabelsTable", "labels of a payment, with the ids of its parties and who gave them", "for good", LEFT),
    Kept(
        "AuditTable",
        "changes of list entries, cases and accounts: what, who, why; no note, no appeal",
        "for good",
        LEFT,
    ),
    Kept(
        "AuditRoots",
        "hashes of audit rows; a chain is named by a hash, from which only who knows the name finds it",
        "for good, under lock for AuditRootDays (1,096 days)",
        "nothing: nobody can",
    ),
    Kept(
        "PseudonymsTable",
        "the id of each account that has a decision or an invitation, under its pseudonym",
        "until it is erased",
        "**the row is deleted**: nothing leads from a pseudonym to the id any more",
    ),
    Kept(
        "LinksTable",
        "links of an account, device, instrument or address in both directions; a payer's latest decisions; links that"
        " are suggested for an account",
        "ActivityRetentionDays (400 days) from the last payment; lists of neighbours end before their links;"
        " suggestions 14 days",
        "**links and timeline are deleted**, on both sides, and each suggestion that names the account",
    ),
    Kept(
        "CasesTable",
        "cases with their accounts, payments, notes and verdicts, and who looked; the tokens of waiting executions",
        "CaseRetentionDays (400 days) after the end",
        "nothing: a case tells who judged an account and why",
    ),
    Kept(
        "AccountsTable",
        "accounts that were held or deactivated; actions with their appeals; orders; the numbers of the cap",
        "AccountRetentionDays (730 days) after the end; an action that keeps an account deactivated: while it does",
        "nothing: an action tells who stopped an account and why",
    ),
    Kept("TalliesTable", "numbers of decisions and of rule hits by minute", "DecisionRetentionDays", "has no ids"),
    Kept(
        "DecisionArchive",
        "decisions, their changes, labels, reports, cases and actions under pseudonyms (tables below); results of"
        " queries; the KPIs, which are numbers",
        "ArchiveDays (1,096 days), cool after ArchiveCoolDays (90); results 30 days",
        "no row is rewritten: the rows stay, under a pseudonym that leads to no account",
    ),
    Kept(
        "Archive",
        "records that are too large for a queue, events that a mapping gave up, and the longest evidence of cases",
        "DecisionRetentionDays; evidence CaseRetentionDays after the end of its case",
        "nothing: empty it by the runbook before",
    ),
    Kept("Transactions", "payments as they were sent", "StreamRetentionHours (72 hours)", "nothing: it passes"),
    Kept("Undecidable", "payments that no retry can decide", "14 days", "nothing: it passes"),
    Kept("FoldQueue", "keys of counters that are to be folded, with ids", "4 days", "nothing: it passes"),
    Kept("FoldFailures", "keys of counters that could not be folded, with ids", "14 days", "nothing: it passes"),
    Kept("CaseQueue", "alerts on their way to a case, with ids", "4 days", "nothing: it passes"),
    Kept("CaseFailures", "alerts that became no case, with ids", "14 days", "nothing: it passes"),
    Kept(
        "RetrainingTable",
        "retrainings: why, what the gate has found, what a lead has decided; the tokens of waiting executions",
        "for good: which model decided when, and who let it",
        "nothing: there is no account in it",
    ),
    Kept(
        "ModelsBucket",
        "models with their evaluations; datasets of retrainings, and snapshots of the graph with their marks, under"
        " pseudonyms",
        "models for good; what a retraining or a run of the graph has read and written 90 days",
        "nothing: nothing leads from a pseudonym to the id any more",
    ),
    Kept("RetrainingQueue", "alarms and ends of executions, without ids of accounts", "4 days", "nothing: it passes"),
    Kept("RetrainingFailures", "those that failed five times", "14 days", "nothing: it passes"),
    Kept("AccountQueue", "findings and holds on their way to an account, with ids", "4 days", "nothing: it passes"),
    Kept("AccountFailures", "findings and holds that led to nothing, with ids", "14 days", "nothing: it passes"),
    Kept(
        "Events", "events on their way to readers: ids, no names; a reader keeps them by its own rules", "a day", LEFT
    ),
    Kept("DecisionDelivery", "rows on their way to the archive", "15 minutes, a day at most", "as the archive"),
    Kept("ResolutionDelivery", "rows on their way to the archive", "15 minutes, a day at most", "as the archive"),
    *(
        Kept(f"{kind}Delivery", "rows on their way to the archive", "15 minutes, a day at most", "as the archive")
        for kind in ("Label", "Report", "Case", "Action", "Intervention", "Invitation")
    ),
    Kept("Logs", "transaction ids, scores, reasons; no account, name or address", "LogRetentionDays (30 days)", LEFT),
)


@cache
def resources() -> Mapping[str, Any]:
    """Return the template's resources, expanded."""
    found: Mapping[str, Any] = expand(TEMPLATE, {})["Resources"]
    return found


def kept() -> str:
    """Return the table of all places in Markdown."""
    rows = [
        f"| {each.place} | {each.holds} | {each.time} | {', '.join(readers(each.place)) or '-'} | {each.erasure} |"
        for each in KEPT
    ]
    return "\n".join(
        (
            "| place | holds | how long | functions that may read it | erasure of an account |",
            "|---|---|---|---|---|",
            *rows,
        )
    )


def readers(place: str) -> list[str]:
    """Return the functions whose roles may read a place, or that a mapping hands its records.

    >>> readers("PseudonymsTable"), "Fold" in readers("ProfilesTable")
    (['Graph'], True)
    """
    return sorted({function for function, action, where in _rights() if where == place and READS.match(action)})


def diagram() -> str:
    """Return the way of a decision and of a label into the archive, as a Mermaid flowchart."""
    edges = [f"  {source} -- stream --> {function}" for source, function in _streams()]
    for function in dict.fromkeys(function for _, function in _streams()):
        targets = {where for name, action, where in _rights() if name == function and WRITES.match(action)}
        edges += [f"  {function} --> {target}" for target in sorted(targets)]
    for name, (bucket, folder) in sorted(deliveries({"Resources": resources()}).items()):
        edges += [f"  {name} -- {folder}, Parquet by day --> {bucket}"]
    edges += [f"  {each['DatabaseName']['Ref']} -. schema .-> {name}" for name, each in _glue()]
    edges += [
        f"  DecisionArchive --> {reader}" for reader in ("ArchiveQueries", "KpiQueries", "models.training.archived")
    ]
    for function, folder in (("Kpis", "kpis"), ("Drift", "drift")):
        edges += [f"  KpiQueries --> {function}", f"  {function} -- {folder} --> DecisionArchive"]
    return "\n".join(("```mermaid", "flowchart LR", *dict.fromkeys(edges), "```"))


def columns(table: schema.ArchiveTable) -> str:
    """Return the columns of a table of the archive in Markdown."""
    rows = [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in table.columns]
    return "\n".join(("| column | type | meaning |", "|---|---|---|", *rows))


def kpi_table() -> str:
    """Return the definitions of the KPIs in Markdown."""
    rows = [
        f"| `{kpi.name}` | {kpi.says} | {' / '.join(f'`{name}`' for name in (kpi.numerator, kpi.denominator) if name)}"
        f" | {RELATIONS[kpi.relation].clock} | {f'{kpi.matures_days} days' if kpi.matures_days else 'at once'}"
        f" | {kpi.unit.name or '-'} | {kpi.better}{'' if kpi.bound is None else f', at most {kpi.bound:g}'} |"
        for kpi in KPIS
    ]
    head = (
        "| figure | what it says | numerator / denominator | day of | mature after | unit | better |",
        "|---|---|---|---|---|---|---|",
    )
    return "\n".join((*head, *rows))


def quantity_table() -> str:
    """Return what the quantities of the KPIs count in Markdown."""
    used = {name for kpi in KPIS for name in (kpi.numerator, kpi.denominator)}
    rows = [
        f"| `{name}` | {quantity.words} |"
        for relation in RELATIONS.values()
        for name, quantity in relation.quantities.items()
        if name in used
    ]
    return "\n".join(("| number | what it counts |", "|---|---|", *rows))


PARTS: Mapping[str, Callable[[], str]] = {
    **diagrams.PARTS,
    "kpis": kpi_table,
    "quantities": quantity_table,
    "kept": kept,
    "diagram": diagram,
    **{f"columns of {table.name}": partial(columns, table) for table in schema.TABLES},
}
"""The generated parts of pages by name: those of docs/archive.md, and those of `diagrams`."""


def filled(page: str) -> str:
    """Return a page with its generated parts written anew, each between `<!-- name -->` and `<!-- end -->`.

    Raises KeyError for a part that is not known.
    """

    def part(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n\n{PARTS[found[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- (?!end -->)(.+?) -->.*?<!-- end -->", part, page, flags=re.DOTALL)


def _rights() -> Iterator[tuple[str, str, str]]:
    """Yield function, action and logical id for each right of a function's role on a resource of the template."""
    for function, resource in resources().items():
        if resource["Type"] != "AWS::Lambda::Function":
            continue
        for policy in resources()[f"{function}Role"]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                actions, places = (
                    value if isinstance(value, list) else [value]
                    for value in (statement["Action"], statement["Resource"])
                )
                for action in actions:
                    yield from ((function, action, where) for place in places if (where := _named(place)))


def _named(place: Any) -> str | None:  # noqa: ANN401 - an intrinsic function
    """Return the resource of the template that an ARN names. The stream of a table holds what the table holds."""
    text = place.get("Fn::Sub") or "${" + ".".join(place.get("Fn::GetAtt", ["-"])) + "}"
    found = re.search(r"\$\{(\w+)(\.Arn|\.StreamArn)?\}(?!.*/stream/)[^$]*$", text)
    return found[1] if found is not None and found[1] in resources() else None


def _streams() -> list[tuple[str, str]]:
    """Return table and function for each mapping of a table's stream."""
    return [
        (
            each["Properties"]["EventSourceArn"]["Fn::GetAtt"][0],
            each["Properties"]["FunctionName"]["Ref"][: -len("Aliaslive")],
        )
        for each in resources().values()
        if each["Type"] == "AWS::Lambda::EventSourceMapping"
        and each["Properties"]["EventSourceArn"]["Fn::GetAtt"][1] == "StreamArn"
    ]


def _glue() -> Iterator[tuple[str, Any]]:
    for name, each in resources().items():
        if each["Type"] == DELIVERY:
            destination = each["Properties"]["ExtendedS3DestinationConfiguration"]
            yield name, destination["DataFormatConversionConfiguration"]["SchemaConfiguration"]
