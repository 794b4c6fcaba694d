WITH drawn AS (
  SELECT transaction, min(day) AS day, min(segment) AS segment
  FROM decisions
  WHERE day BETWEEN '{first}' AND '{last}' AND outcome = 'decline' AND sample IS NOT NULL
  GROUP BY transaction
),
judged AS (
  SELECT transaction, finding, row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM cases
  WHERE day >= '{before}' AND kind = 'sample' AND finding IS NOT NULL
)
SELECT
  drawn.day AS day,
  coalesce(drawn.segment, 'none') AS segment,
  CASE WHEN judged.finding = 'fraud' THEN 1 ELSE 0 END AS is_fraud,
  CASE WHEN judged.finding IN ('fraud', 'legitimate', 'dispute') THEN 1 ELSE 0 END AS is_judged
FROM drawn
LEFT JOIN judged ON judged.transaction = drawn.transaction AND judged.place = 1
