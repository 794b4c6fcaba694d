"""Make the dataset of a HISTORY_DIR: payments replayed as they are decided online, with their labels.

One pass in event order, day by day. A history of any length needs the memory of one day and of the counters, and a run
that was interrupted goes on at the day that is missing.

`python -m models.training.dataset HISTORY_DIR OUT [--from DATE --to DATE --warmup-days N --engine sql]`
"""

import argparse
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.errors import FraudError
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from models.datasets import history
from models.datasets.history import HistoryError
from models.training import marked
from models.training.columns import DAYS, STATED, packaged_rule_book, write_state
from models.training.days import Days, Span
from models.training.engines import Counted, DuckDb, Engine
from models.training.judge import Judge
from models.training.rows import by_engine, by_replay


@dataclass(frozen=True)
class Built:
    """The result of a run.

    rows       rows of the dataset
    replayed   payments that were replayed
    strangers  labels of payments that are not in the history: nothing is known of them but the label's own fields
    seconds    of CPU
    peak_mib   most memory, in MiB
    estimated  payments with a counter that online may estimate, and an engine counts
    """

    rows: int
    replayed: int
    strangers: int
    seconds: float
    peak_mib: float
    estimated: int = 0


def build(  # noqa: PLR0913 - a run
    directory: Path,
    out: Path,
    span: Span,
    rule_book: RuleBook,
    *,
    labels: bool = True,
    quiet: bool = False,
    engine: Engine | None = None,
) -> Built:
    """Replay a HISTORY_DIR and write the dataset of `span` to `out`, day by day; go on with an interrupted run.

    engine  counts the payments, in place of the replay

    Days that are there are counted again and not measured. Raises HistoryError for a history that cannot be read, or
    for an `out` that holds another dataset.
    """
    started = time.process_time()
    stated = _begin(directory, out, span, rule_book, labels=labels)
    days = Days(out, span)
    findings, marks = history.findings(directory), marked.read(directory)
    counted = None
    if engine is None:
        source = by_replay(directory, findings, span, rule_book, days, labels=labels, marks=marks)
    else:
        counted = Counted(engine, directory, span.warmup, span.end, labels=labels, quiet=quiet)
        source = by_engine(directory, findings, span, counted, Judge(rule_book), days, marks=marks)
    with tqdm(total=history.span(directory)[2], unit=" payments", disable=quiet or None, mininterval=1) as bar:
        for rows in source:
            days.add(rows)
            bar.update(rows.payments)
    days.close()
    if not days.within:
        raise HistoryError(f"{directory}: has no payments between --from and --to")
    packaged.agree("policy", rule_book.policy.currency, days.currency)
    write_state(out, stated | {"currency": days.currency})
    strangers = history.labels_without_payment(directory)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    estimated = counted.estimated if counted else 0
    return Built(days.within, days.payments, strangers, time.process_time() - started, peak, estimated)


def _begin(directory: Path, out: Path, span: Span, rule_book: RuleBook, *, labels: bool) -> dict[str, Any]:
    """Prepare the directory, and return what its dataset.json has to say. Refuse one that says something else."""
    stated = _stating(directory, span, rule_book, labels=labels)
    before = out / STATED
    if before.exists():
        try:
            known = json.loads(before.read_bytes())
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise HistoryError(f"{before} is damaged: remove {out} first")
        if {name: known.get(name) for name in stated} != stated or known["fingerprint"] != features.fingerprint():
            raise HistoryError(f"{out} holds a dataset of another history, span, policy or code: remove it first")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HistoryError(f"{out} holds other files: name an empty directory")
    (out / DAYS).mkdir(parents=True, exist_ok=True)
    write_state(out, {"finished": False, **stated})
    return stated


def _stating(directory: Path, span: Span, rule_book: RuleBook, *, labels: bool) -> dict[str, Any]:
    """Return what dataset.json says of a run: policy, labels, span, and digests of the history's files."""
    digests = {}
    marks = (history.MARKS,) if (directory / history.MARKS).exists() else ()
    for name in (history.TRANSACTIONS, history.LABELS, *marks):
        try:
            with (directory / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise HistoryError(f"{directory / name}: cannot be read: {error.strerror}") from None
    return {"policy": rule_book.version, "labels": labels, "span": list(span), "sha256": digests}


def holds(out: Path, directory: Path, span: Span, rule_book: RuleBook, *, labels: bool = True) -> bool:
    """Tell whether `out` is a finished dataset of this history, policy and code whose days include those of the span.

    Its counters were warmed up from the same day on.
    """
    try:
        known = json.loads((out / STATED).read_bytes())
        if not isinstance(known, dict):
            return False
        wanted = _stating(directory, span, rule_book, labels=labels)
    except (OSError, ValueError):
        return False
    warmup, first, end = known.get("span", (0, 0, 0))
    same = all(known.get(name) == wanted[name] for name in ("policy", "labels", "sha256"))
    is_this_codes = known.get("fingerprint") == features.fingerprint()
    covers = warmup == span.warmup and first <= span.first and span.end <= end
    return bool(known.get("finished") and is_this_codes and same and covers)


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine | None]]] = {
    "replay": nullcontext,
    "sql": DuckDb,
    "spark": lambda: import_module("models.training.spark").Spark(),
}
"""What counts the payments, by its name in --engine. Spark is an extra of its own, so it is loaded when asked for."""


def whole_days(directory: Path, first: date | None, end: date | None, warmup_days: int | None) -> Span:
    """Return the span of a run in whole days; by default all of a history. Raises HistoryError."""
    least, most, _ = history.span(directory)
    begins, ends = int(least.timestamp()) // DAY, int(most.timestamp()) // DAY + 1
    start = begins if first is None else _ordinal(first)
    stop = ends if end is None else _ordinal(end)
    warmup = begins if warmup_days is None else max(start - warmup_days, begins)
    if not start < stop:
        raise HistoryError(f"no day is left: --from {_day(start)} must be before --to, which is {_day(stop)}")
    if warmup_days is not None and warmup_days < 0:
        raise HistoryError("--warmup-days must not be negative")
    return Span(min(warmup, start) * DAY, start * DAY, stop * DAY)


def _day(number: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + number)


def _ordinal(day: date) -> int:
    return day.toordinal() - date(1970, 1, 1).toordinal()


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a HISTORY_DIR, and write the dataset that a training job reads as its `train` channel."""
    parser = argparse.ArgumentParser(prog="python -m models.training.dataset", description=main.__doc__)
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DATE", help="first day (UTC)")
    parser.add_argument("--to", dest="end", type=date.fromisoformat, metavar="DATE", help="the day after the last one")
    parser.add_argument(
        "--warmup-days", type=int, metavar="N", help="days before --from that fill the counters; default: all there are"
    )
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), default="replay", help="what counts: replay (default), sql (DuckDB), spark"
    )
    parser.add_argument("--policy", type=Path, help="default: the packaged one of the history's currency")
    options = parser.parse_args(arguments)
    try:
        rule_book = rule_book_of(options.history, options.policy)
        span = whole_days(options.history, options.first, options.end, options.warmup_days)
        with ENGINES[options.engine]() as engine:
            built = build(options.history, options.out, span, rule_book, engine=engine)
    except (ValueError, FraudError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.write(
        f"{options.out}: {built.rows:,} rows; {(span.first - span.warmup) // DAY} days of warm-up;"
        f" {built.replayed / max(built.seconds, 1e-9):,.0f} payments per CPU second;"
        f" {built.peak_mib:,.0f} MiB at most\n"
        + (f"{built.strangers:,} labels name no payment of the history\n" if built.strangers else "")
    )
    if built.estimated:
        sys.stdout.write(f"{built.estimated:,} rows have a counter that online may sample, and that is exact here\n")
    return 0


def rule_book_of(directory: Path, policy: Path | None) -> RuleBook:
    """Load a policy: that file, or the packaged one of the history's currency. Raises FraudError or HistoryError."""
    if policy is not None:
        return RuleBook.load(policy.read_bytes())
    first = next(history.payments(directory), None)
    if first is None:
        raise HistoryError(f"{directory / history.TRANSACTIONS}: has no payments")
    return packaged_rule_book(first.currency)


if __name__ == "__main__":
    sys.exit(main())
