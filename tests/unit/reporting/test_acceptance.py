"""The acceptance of precision and recall, small: some days and months of known populations."""

from tests.acceptance.precision import LEAST_MONTHS, MOST_WIDTH, WORLDS, day, drawn, month, needed, share


def test_intervals_of_precision_have_the_truth_of_their_day_and_are_narrow():
    days = [day(seed) for seed in range(60)]
    assert 0.9 <= share(days) <= 1
    assert max(each.widths for each in days) <= MOST_WIDTH


def test_intervals_of_recall_have_the_truth_of_their_month_at_any_base_rate():
    for world in WORLDS:
        assert share([month(world, seed) for seed in range(12)]) >= LEAST_MONTHS


def test_recall_needs_so_many_reviews_and_is_not_determinable_before():
    number, said = needed(WORLDS[0])
    assert 10_000 < number < 200_000
    assert [words == "not determinable" for words in said.values()] == [True, True, True, False, False]


def test_the_acceptance_draws_by_the_products_own_function():
    (*_, declined) = WORLDS[0].sampling.strata
    assert 400 < drawn(declined, "some", 1_000) < 600
