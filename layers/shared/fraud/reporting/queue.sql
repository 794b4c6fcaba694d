WITH ranked AS (
  SELECT days.day AS day, days.seen AS seen, cases.case_pseudonym AS case_pseudonym, cases.transaction AS transaction,
    cases.opened_at AS opened_at, cases.state AS state,
    row_number() OVER (PARTITION BY days.day, cases.case_pseudonym ORDER BY cases.number DESC) AS place
  FROM cases
  JOIN (VALUES {seen}) AS days (day, seen) ON cases.changed_at < days.seen
  WHERE cases.day BETWEEN '{reach}' AND '{last}' AND cases.kind = 'alert'
),
{segments}
SELECT
  ranked.day AS day,
  coalesce(segments.segment, 'none') AS segment,
  ranked.seen - ranked.opened_at AS age
FROM ranked
LEFT JOIN segments ON segments.transaction = ranked.transaction
WHERE ranked.place = 1 AND ranked.state IN ('collecting', 'queued', 'assigned', 'outreach')
