"""The packaged policies and models, one of each for a currency: without it their amounts mean nothing. And triage."""

from pathlib import Path

from fraud.errors import UndecidableError

LIBRARY = Path(__file__).parent
POLICIES, MODELS = LIBRARY / "rules" / "policies", LIBRARY / "scoring" / "models"
ROUTING = LIBRARY / "cases" / "routing.json"
DEACTIVATION = LIBRARY / "accounts" / "deactivation.json"
RETRAINING_PLAN, GATE = LIBRARY / "retraining" / "plan.json", LIBRARY / "retraining" / "gate.json"
GRAPH_PLAN = LIBRARY / "graph" / "plan.json"
PRICES = LIBRARY / "reporting" / "prices.json"
INFERENCE = LIBRARY / "scoring" / "inference.txt"
"""The script of an endpoint's container: models/serving/inference.py, copied by `operations.documents`."""

TRIAGE_RULES, CLASSIFIER = LIBRARY / "cases" / "triage.json", LIBRARY / "cases" / "classifier.json"


def currencies() -> list[str]:
    """Return the currencies that have a policy and a model.

    >>> "JPY" in currencies()
    True
    """
    return sorted({path.stem for path in POLICIES.glob("*.json")} & {path.name for path in MODELS.iterdir()})


def require(currency: str) -> None:
    """Raise UndecidableError, which says what to do, for a currency without a policy or without a model."""
    if currency not in currencies():
        raise UndecidableError(
            f"no policy and model for amounts in {currency}, only for {', '.join(currencies())}: write the policy"
            f" layers/shared/fraud/rules/policies/{currency}.json, train its model (python -m models.training.train"
            f" --currency {currency}), and add {currency} to template.yaml: README.md, Another currency"
        )


def policy(currency: str) -> Path:
    """Return the file of a currency's policy. Raises UndecidableError as `require`."""
    require(currency)
    return POLICIES / f"{currency}.json"


def model(currency: str) -> Path:
    """Return the directory of a currency's model. Raises UndecidableError as `require`."""
    require(currency)
    return MODELS / currency


def agree(part: str, declared: str, currency: str) -> None:
    """Raise UndecidableError when a part, policy or model, declares another currency than the stack's."""
    if declared != currency:
        raise UndecidableError(f"{part}: its amounts are in {declared}, and this stack decides in {currency}")
