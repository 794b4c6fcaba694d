segments AS (
  SELECT transaction, min(segment) AS segment
  FROM decisions
  WHERE day BETWEEN '{reach}' AND '{last}'
  GROUP BY transaction
)
