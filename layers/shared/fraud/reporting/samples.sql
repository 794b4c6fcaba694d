WITH drawn AS (
  SELECT transaction, min(day) AS day, min(segment) AS segment
  FROM decisions
  WHERE day BETWEEN '{first}' AND '{last}' AND outcome = 'decline' AND sample IS NOT NULL
  GROUP BY transaction
),
{blind_findings}
SELECT
  drawn.day AS day,
  coalesce(drawn.segment, 'none') AS segment,
  CASE WHEN blind_findings.finding = 'fraud' THEN 1 ELSE 0 END AS is_fraud,
  CASE WHEN blind_findings.finding IN ('fraud', 'legitimate', 'dispute') THEN 1 ELSE 0 END AS is_judged
FROM drawn
LEFT JOIN blind_findings ON blind_findings.transaction = drawn.transaction AND blind_findings.place = 1
