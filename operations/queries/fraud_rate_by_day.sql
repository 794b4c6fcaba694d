WITH decided AS (
  SELECT transaction, min(day) AS day, min(amount) AS amount, min(outcome) AS outcome
  FROM decisions
  GROUP BY transaction
),
resolved AS (
  SELECT transaction, outcome_now, status,
    row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM resolutions
),
ranked AS (
  SELECT transaction, counts,
    row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM labels
),
ended AS (
  SELECT decided.day AS day, decided.amount AS amount,
    CASE
      WHEN coalesce(resolved.outcome_now, decided.outcome) <> 'approve' THEN 0
      WHEN coalesce(resolved.status, 'approved') IN ('failed', 'reversed') THEN 0
      ELSE 1
    END AS carried_out,
    CASE WHEN ranked.counts THEN 1 ELSE 0 END AS fraud
  FROM decided
  LEFT JOIN resolved ON resolved.transaction = decided.transaction AND resolved.place = 1
  LEFT JOIN ranked ON ranked.transaction = decided.transaction AND ranked.place = 1
)
SELECT
  day,
  count(*) AS payments,
  sum(fraud) AS frauds,
  sum(carried_out) AS carried_out,
  sum(fraud * carried_out) AS frauds_carried_out,
  sum(fraud * carried_out * amount) AS fraud_amount_carried_out,
  CAST(sum(fraud * carried_out) AS double) / nullif(sum(carried_out), 0) AS fraud_rate
FROM ended
GROUP BY day
ORDER BY day
