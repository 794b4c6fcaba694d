WITH decided AS (
  SELECT transaction, min(day) AS day, min(outcome) AS outcome
  FROM decisions
  GROUP BY transaction
),
ranked AS (
  SELECT transaction, outcome_now, status,
    row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM resolutions
),
latest AS (
  SELECT transaction, outcome_now, status FROM ranked WHERE place = 1
)
SELECT
  decided.day AS day,
  decided.outcome AS outcome,
  coalesce(latest.outcome_now, decided.outcome) AS outcome_now,
  coalesce(latest.status, 'as decided') AS status,
  count(*) AS payments
FROM decided
LEFT JOIN latest ON latest.transaction = decided.transaction
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
