WITH decided AS (
  SELECT transaction, coalesce(max(sample), min(stratum)) AS stratum,
    max(CASE WHEN sample IS NULL THEN 0 ELSE 1 END) AS is_drawn
  FROM decisions
  WHERE day BETWEEN '{first}' AND '{last}' AND stratum IS NOT NULL
  GROUP BY transaction
),
{blind_findings}
SELECT
  decided.stratum AS stratum,
  count(*) AS decided,
  sum(decided.is_drawn) AS sampled,
  sum(CASE WHEN decided.is_drawn = 1 AND blind_findings.finding = 'fraud' THEN 1 ELSE 0 END) AS frauds,
  sum(CASE WHEN decided.is_drawn = 1 AND blind_findings.finding IN ('legitimate', 'dispute') THEN 1 ELSE 0 END) AS honest
FROM decided
LEFT JOIN blind_findings ON blind_findings.transaction = decided.transaction AND blind_findings.place = 1
GROUP BY decided.stratum
ORDER BY decided.stratum
