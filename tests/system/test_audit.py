"""Attacks on a small audit trail; `python -m tests.acceptance.audit` attacks a larger one, several times."""

from tests.acceptance import audit


def test_every_attack_on_the_trail_is_located_and_what_no_root_protects_is_named():
    figures = audit.run(accounts=2, hours=4, seeds=1, each=0)
    assert figures.failures == [], figures.text()
    assert (figures.chains, figures.roots) == (6, 5)
    assert len(figures.attacks) > 20
    assert "swap: two accounts' chains  " in figures.text()
