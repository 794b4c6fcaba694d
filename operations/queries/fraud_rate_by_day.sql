WITH decided AS (
  SELECT transaction, min(day) AS day, min(amount) AS amount, min(outcome) AS outcome
  FROM decisions
  GROUP BY transaction
),
ranked AS (
  SELECT transaction, counts,
    row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM labels
),
frauds AS (
  SELECT transaction FROM ranked WHERE place = 1 AND counts
)
SELECT
  decided.day AS day,
  count(*) AS payments,
  count(frauds.transaction) AS frauds,
  sum(CASE WHEN decided.outcome <> 'decline' AND frauds.transaction IS NOT NULL THEN 1 ELSE 0 END) AS frauds_not_declined,
  sum(CASE WHEN frauds.transaction IS NOT NULL THEN decided.amount ELSE 0 END) AS fraud_amount,
  CAST(count(frauds.transaction) AS double) / count(*) AS fraud_rate
FROM decided
LEFT JOIN frauds ON frauds.transaction = decided.transaction
GROUP BY decided.day
ORDER BY day
