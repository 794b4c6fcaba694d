"""The acceptance of the KPIs at a small size: `python -m tests.acceptance.kpis` runs it at full size."""

from tests.acceptance import kpis


def test_figures_of_a_run_are_those_of_a_plain_sql_over_the_archive_and_exports():
    result = kpis.run(payments=14, days=0)
    assert result.failures == [], result.table()
    assert result.compared > len(kpis.kpis.KPIS)


def test_intervals_of_rare_rates_cover_and_show_an_upper_end_only_where_enough_frauds_were_found():
    covers = list(kpis.coverage(days=150))
    assert all(each.covered >= kpis.LEAST_COVER for each in covers), covers
    for each in covers:
        if each.volume * kpis.RATE < 1:
            assert each.determinable == 0
        if each.volume * kpis.RATE > 15:
            assert each.determinable > 0.99
