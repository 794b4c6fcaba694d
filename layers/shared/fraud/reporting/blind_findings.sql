blind_findings AS (
  SELECT transaction, finding, row_number() OVER (PARTITION BY transaction ORDER BY number DESC) AS place
  FROM cases
  WHERE day >= '{before}' AND kind = 'sample' AND finding IS NOT NULL
)
