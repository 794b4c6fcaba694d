WITH ranked AS (
  SELECT action, transaction, undo, row_number() OVER (PARTITION BY action ORDER BY number DESC) AS place
  FROM actions
  WHERE day >= '{reach}'
),
deactivated AS (
  SELECT action, min(day) AS day
  FROM actions
  WHERE day BETWEEN '{reach}' AND '{last}' AND state = 'deactivated'
  GROUP BY action
  HAVING min(day) >= '{first}'
),
{segments}
SELECT
  deactivated.day AS day,
  coalesce(segments.segment, 'none') AS segment,
  CASE WHEN ranked.undo = 'reinstatement' THEN 1 ELSE 0 END AS is_reinstated
FROM deactivated
JOIN ranked ON ranked.action = deactivated.action AND ranked.place = 1
LEFT JOIN segments ON segments.transaction = ranked.transaction
