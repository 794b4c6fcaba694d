WITH judged AS (
  SELECT case_pseudonym, min(transaction) AS transaction, min(opened_at) AS opened_at, min(due) AS due,
    min(judged_at) AS judged_at, min(judged_by) AS judged_by
  FROM cases
  WHERE day BETWEEN '{first}' AND '{last}' AND state = 'concluding' AND kind = 'alert'
  GROUP BY case_pseudonym
),
{segments}
SELECT
  days.day AS day,
  coalesce(segments.segment, 'none') AS segment,
  judged.judged_at - judged.opened_at AS took
FROM judged
JOIN (VALUES {days}) AS days (day, begins, ends) ON judged.judged_at >= days.begins AND judged.judged_at < days.ends
LEFT JOIN segments ON segments.transaction = judged.transaction
WHERE judged.judged_by = 'person'
