WITH decided AS (
  SELECT transaction, min(day) AS day, min(segment) AS segment, min(outcome) AS outcome, min(type) AS type,
    min(amount) AS amount,
    max(CASE WHEN degraded <> ARRAY[] THEN 1 ELSE 0 END) AS is_degraded,
    max(CASE WHEN estimated <> ARRAY[] THEN 1 ELSE 0 END) AS is_estimated
  FROM decisions
  WHERE day BETWEEN '{first}' AND '{last}'
  GROUP BY transaction
),
resolved AS (
  SELECT transaction, outcome_now, status,
    row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM resolutions
  WHERE day >= '{before}'
),
labelled AS (
  SELECT transaction, counts, row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM labels
  WHERE day >= '{before}'
),
reported AS (
  SELECT report, transaction, status, row_number() OVER (PARTITION BY report ORDER BY changed_at DESC, status) AS place
  FROM reports
  WHERE day >= '{before}'
),
complained AS (
  SELECT transaction, count(*) AS complaints, sum(CASE WHEN status = 'dispute' THEN 1 ELSE 0 END) AS disputes
  FROM reported
  WHERE place = 1
  GROUP BY transaction
)
SELECT
  decided.day AS day,
  coalesce(decided.segment, 'none') AS segment,
  decided.outcome AS outcome,
  decided.amount AS amount,
  decided.is_degraded AS is_degraded,
  decided.is_estimated AS is_estimated,
  CASE decided.type {units} END AS nano_usd,
  CASE
    WHEN coalesce(resolved.outcome_now, decided.outcome) <> 'approve' THEN 0
    WHEN coalesce(resolved.status, 'approved') IN ('failed', 'reversed') THEN 0
    ELSE 1
  END AS is_carried_out,
  CASE WHEN labelled.counts THEN 1 ELSE 0 END AS is_fraud,
  CASE WHEN labelled.transaction IS NULL THEN 0 ELSE 1 END AS is_labelled,
  coalesce(complained.complaints, 0) AS complaints,
  coalesce(complained.disputes, 0) AS disputes
FROM decided
LEFT JOIN resolved ON resolved.transaction = decided.transaction AND resolved.place = 1
LEFT JOIN labelled ON labelled.transaction = decided.transaction AND labelled.place = 1
LEFT JOIN complained ON complained.transaction = decided.transaction
