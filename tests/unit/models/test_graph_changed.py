"""What has changed, in words."""

import csv
import itertools
import json
import re
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.stats import fisher_exact

from models.datasets.history import TRANSACTIONS
from models.graph import changed, report
from models.graph.attributes import ACCOUNTS, ATTRIBUTES, Period, known, period
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.report import Changed, Picture, SentenceAccount, Told
from models.graph.views import VIEWS, HistoryTables
from tests.support.histories import Histories, day


@pytest.mark.parametrize(("window", "baseline"), [(3, 10), (12, 10), (40, 20), (0, 5)])
def test_a_shape_is_tested_as_fisher_would_when_shapes_are_rare(window, baseline):
    exact = fisher_exact([[window, 50_000 - window], [baseline, 200_000 - baseline]], alternative="greater").pvalue
    assert changed.more(window, 50_000, baseline, 200_000) == pytest.approx(exact, rel=0.01)


def test_a_shape_alarms_only_when_it_has_become_more_frequent():
    usual = np.array([660, 300, 40]) * 20
    assert changed.alarms(usual // 4, usual) == []
    assert changed.alarms(usual // 4 * 3, usual) == []  # three times as many of all
    fewer, more = usual // 4, usual // 4
    fewer[2] //= 2
    more = more + np.array([0, 0, 100])
    assert changed.alarms(fewer, usual) == []
    assert [place for place, _ in changed.alarms(more, usual)] == [2]


def test_quiet_weeks_alarm_as_seldom_as_promised():
    rng = np.random.default_rng(5)
    shares = [0.66, 0.21, 0.1, 0.02, 0.01]
    quiet = sum(
        bool(changed.alarms(rng.multinomial(5_000, shares), rng.multinomial(20_000, shares))) for _ in range(300)
    )
    assert quiet <= 5


def test_every_shape_and_typology_has_words():
    assert {*SHAPES, *TYPOLOGIES} - {"none", "chain"} <= ATTRIBUTES.keys()
    assert changed.said(["young"]) == "accounts younger than 7 days"
    assert changed.said(["scatter_gather"]) == "accounts that sit in scatter gathers"


def relay(made: Histories, name: str, at: float, *, card: bool, cashes: bool) -> None:
    """Add a chain of seven that forks in the middle; they may share a card, and may cash out."""
    ids = [f"{name}-{number}" for number in range(7)]
    for one, other in ((0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (4, 6)):
        made.invite(ids[one], ids[other], at + other / 10)
    for each in ids:
        own = name if card else each
        made.pay(each, "m1", at + 1, type="merchant", instrument_id=f"card-{own}")
        if cashes:
            made.pay(each, None, at + 1, type="cash_out", instrument_id=f"bank-{own}")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Five weeks of pairs and of groups with two of three attributes, and a last one in which some have all three."""
    made = Histories()
    made.pay("early", "m1", 0.5, type="merchant")
    for week, number in itertools.product(range(5), range(60)):
        made.invite(f"a{week}-{number}", f"b{week}-{number}", week * 7 + 1 + number / 20)
    for week, number in itertools.product(range(5), range(3)):
        relay(made, f"r{week}-{number}", week * 7 + 1 + number, card=True, cashes=False)
        relay(made, f"s{week}-{number}", week * 7 + 1 + number, card=False, cashes=True)
    for week, number in itertools.product(range(5), range(4)):  # a couple that shares an account at a bank
        made.invite(f"c{week}-{number}", f"d{week}-{number}", week * 7 + 2)
        for each in (f"c{week}-{number}", f"d{week}-{number}"):
            made.pay(each, None, week * 7 + 3, type="cash_out", instrument_id=f"e{week}-{number}")
            made.pay(each, "m1", week * 7 + 3, type="merchant", instrument_id=f"f{week}-{number}")
    for number in range(20):
        relay(made, f"p{number}", 29 + number / 10, card=True, cashes=True)
    return made.write(tmp_path_factory.mktemp("grown"))


def test_a_conjunction_that_has_multiplied_is_named_with_its_accounts(grown):
    with HistoryTables(grown) as tables:
        window, baseline = changed.periods(tables, VIEWS["invite"], (day(0), day(28)), (day(28), day(35)))
    found = changed.change(window, baseline)
    (sentence,) = found.sentences
    assert sentence.attributes == ("cash_out", "forked_chain", "instrument")
    assert len(sentence.accounts) == 140
    assert sentence.words.endswith("sit in relay chains that fork: 140 in the window, 0 expected")
    (alarm,) = found.alarms
    assert (alarm.shape, alarm.components) == ("forked_chain", 26)
    assert alarm.share > 0.2
    assert alarm.without == pytest.approx(alarm.baseline)  # without these accounts the week is as the others
    assert found.psi > 0.1


def test_quiet_weeks_have_no_sentence(grown):
    with HistoryTables(grown) as tables:
        window, baseline = changed.periods(tables, VIEWS["invite"], (day(0), day(21)), (day(21), day(28)))
    assert changed.change(window, baseline)[:2] == ([], [])


def test_chance_makes_no_sentence():
    rng = np.random.default_rng(3)

    def drawn(components: int) -> Period:
        cluster = np.repeat(np.arange(components), 5)
        holds = {name: rng.random(components)[cluster] < 0.1 for name in ATTRIBUTES}  # a component shares its fate
        return Period(cluster.astype(str).astype(object), holds, cluster, np.zeros(components, np.int64), ())

    assert [changed.sentences(drawn(300), drawn(1_200)) for _ in range(5)] == [[]] * 5


def test_the_command_says_what_has_changed(grown, tmp_path, capsys):
    arguments = [str(grown), "--baseline", "2026-03-01", "2026-03-29", "--window", "2026-03-29", "2026-04-05"]
    assert changed.main([*arguments, "--report", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["shape"] for row in found["alarms"]] == ["forked_chain"]
    assert len(found["sentences"][0]["accounts"]) == 140
    assert found["pictures"] == [f"change-1-{number}.png" for number in (1, 2, 3)]
    assert all((tmp_path / name).exists() for name in found["pictures"])
    assert changed.main(arguments) == 0
    assert "in relay chains that fork: 140 in the window, 0 expected" in capsys.readouterr().out
    assert (
        changed.main([str(grown), "--baseline", "2026-03-01", "2026-03-29", "--window", "2026-03-05", "2026-03-12"])
        == 2
    )
    assert "before the window" in capsys.readouterr().err
    assert changed.main([str(grown), "--baseline", "2026-03-01", "2026-03-29", *["--window", *["2026-04-05"] * 2]]) == 2
    assert "at least as long" in capsys.readouterr().err
    nothing = ["--baseline", "2020-03-01", "2020-03-29", "--window", "2026-03-29", "2026-04-05"]
    assert changed.main([str(grown), *nothing]) == 2
    assert "no accounts in the baseline" in capsys.readouterr().err


def words_of(page: str) -> str:
    """Return what a reader sees of a page."""
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_the_page_says_what_has_changed_with_pictures_and_the_list_of_accounts(grown, tmp_path, capsys):
    arguments = [str(grown), "--baseline", "2026-03-01", "2026-03-29", "--window", "2026-03-29", "2026-04-05"]
    assert changed.main([*arguments, "--report", str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = (tmp_path / "new" / "index.html").read_text()
    said = words_of(page)
    assert "the 7 days until 2026-04-05 00:00 UTC. It is compared with 4 earlier windows of the same length" in said
    assert "from 2026-03-01 00:00 UTC to 2026-03-29 00:00 UTC" in said
    assert "The history is too short to tell which accounts are older than 30 days." in said
    assert "relay chains that fork 26 7.7 28.9 % 8.6 % 8.6 %" in said
    (sentence,) = found["sentences"]
    assert sentence["words"][1:] in said
    assert "There are 140 such accounts in the window, where 0.0 were expected." in said
    assert "They are in 20 components, 22.2 % of all; were the window like those before it, it would be 0.0 %." in said
    assert re.findall('<img src="([^"]*)"', page) == found["pictures"]
    assert said.count("of 20: 7 accounts, 6 edges") == 3
    assert "The first 100 of its 140 accounts" in said
    assert len(re.findall("<code>", page)) == 100
    assert '<a href="change-1.csv">' in page
    with (tmp_path / "new" / "change-1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["account"] for row in rows) == sentence["accounts"]
    assert [int(row["component"]) for row in rows] == [1 + place // 7 for place in range(140)]
    assert re.findall("<code>([^<]*)", page) == [row["account"] for row in rows[:100]]


def test_the_page_of_a_quiet_window_says_that_nothing_has_changed(grown, tmp_path):
    window = ["2026-03-22T09:00+09:00", "2026-03-29T09:00+09:00"]
    arguments = [str(grown), "--baseline", "2026-03-01", "2026-03-22", "--window", *window]
    for old in ("change-1.csv", "change-1-1.png"):
        (tmp_path / old).touch()
    assert changed.main([*arguments, "--report", str(tmp_path)]) == 0
    said = words_of((tmp_path / "index.html").read_text())
    assert "until 2026-03-29 00:00 UTC" in said
    assert "Nothing has changed." in said
    assert "None" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    ("before", "first", "missing"), [(0, 728, "window"), (-60, -7, "baseline"), (-60, 0, "baseline")]
)
def test_the_page_of_a_view_without_accounts_says_that_nothing_was_compared(grown, tmp_path, before, first, missing):
    with HistoryTables(grown) as tables:
        both = (day(before), day(before + 28)), (day(first), day(first + 14))
        window, baseline = changed.periods(tables, VIEWS["invite"], *both)
    report.write_changed(tmp_path, "invite", changed.page(tmp_path, window, baseline, None))
    said = words_of((tmp_path / "index.html").read_text())
    assert f"Nothing was compared: the view has no accounts in the {missing}." in said
    assert "Nothing has changed" not in said


def test_ids_of_accounts_are_no_part_of_the_pages_code(tmp_path):
    id_ = "<script>alert('1')</script>"
    alarm = {"words": id_, "components": 2, "expected": 1.0, "share": 0.5, "baseline": 0.1, "without": 0.1}
    told = Told(
        id_, [SentenceAccount(id_, 1)], 1.0, 1, 0.5, 0.1, [Picture("change-1-1.png", f'">{id_}')], "change-1.csv"
    )
    report.write_changed(tmp_path, id_, Changed(day(7), 7.0, day(-7), day(0), 1, (), "", [alarm], [told]))
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert 'alt="&#34;&gt;&lt;' in page
    assert page.count("&lt;script&gt;alert(&#39;1&#39;)") >= 5


def test_an_account_is_as_old_as_its_hours_say_and_not_as_the_hours_on_the_clock(tmp_path):
    made = Histories()
    made.pay("young", "other", 20 - 7 + 1 / 48)
    made.pay("old", "other", 20 - 7 - 1 / 48)
    with HistoryTables(made.write(tmp_path)) as tables:
        rows = tables.rows(ACCOUNTS.format(payments=tables.arrived), {"first": day(13), "at": day(20)}).to_pylist()
    assert {row["account"]: row["days"] < 7 for row in rows} == {"young": True, "old": False, "other": False}


def test_a_window_sees_no_payment_before_it_has_arrived(tmp_path):
    made = Histories()
    for number in range(8):
        made.pay(f"a{number}", f"b{number}", 20 + number / 10, device_id="shared" if number > 5 else f"d{number}")
    found = []
    for hours in (12, 40 * 24):  # the second time the last payments are not in the file at all
        made.write(tmp_path)
        table = pyarrow.parquet.read_table(tmp_path / TRANSACTIONS)
        late = pa.array([day(21.5) if at > day(20.5) else at for at in table["occurred_at"].to_pylist()])
        late = late.cast(table.schema.field("occurred_at").type)
        pyarrow.parquet.write_table(table.append_column("arrived_at", late), tmp_path / TRANSACTIONS)
        with HistoryTables(tmp_path) as tables:
            each = period(tables, VIEWS["p2p_7d"], [day(21)], timedelta(days=7), 50, known(timedelta(days=99)))
        found.append((each.accounts.tolist(), {name: held.tolist() for name, held in each.holds.items()}))
        made.payments = made.payments[: hours // 12 + 5]
    assert found[0] == found[1]


def test_attributes_for_which_a_history_is_too_short_are_left_out(tmp_path):
    made = Histories()
    for number in range(200):
        made.pay(f"a{number % 40}", f"b{number}", number / 2)
    with HistoryTables(made.write(tmp_path)) as tables:
        names = [
            set(
                changed.periods(tables, VIEWS["p2p_7d"], (day(end - 35), day(end - 7)), (day(end - 7), day(end)))[
                    0
                ].holds
            )
            for end in (36, 90)
        ]
    assert names[1] - names[0] == {"old"}
    assert "young" in names[0]


@pytest.mark.parametrize(("days", "holds"), [(6.99, {"young"}), (7, set()), (30, set()), (30.01, {"old"})])
def test_the_ages_of_accounts_are_what_their_words_say(days, holds):
    columns = {"days": np.array([days])}
    assert {name for name in ("young", "old") if ATTRIBUTES[name].holds(columns)[0]} == holds


def test_a_baseline_of_countless_windows_is_refused(grown, capsys):
    asked = ["--baseline", "1971-01-01", "2026-03-29", "--window", "2026-03-29", "2026-03-29T00:01"]
    assert changed.main([str(grown), *asked]) == 2
    assert "at most" in capsys.readouterr().err


def test_a_baseline_of_before_the_history_has_no_windows(tmp_path):
    made = Histories()
    for number in range(40):
        made.pay(f"a{number}", f"b{number}", number / 2)
    with HistoryTables(made.write(tmp_path)) as tables:
        window, baseline = changed.periods(tables, VIEWS["p2p_7d"], (day(-24), day(4)), (day(4), day(11)))
    assert len(window.accounts) > 0
    assert len(baseline.accounts) == 0
