WITH events AS (
  SELECT event_id, min(day) AS day, min(segment) AS segment, min(outcome) AS outcome, any_value(hits) AS hits
  FROM decisions
  GROUP BY event_id
),
days AS (
  SELECT day, segment, count(*) AS payments FROM events GROUP BY day, segment
),
found AS (
  SELECT events.day, events.segment, hit.source, count(*) AS hits
  FROM events CROSS JOIN UNNEST(events.hits) AS hit(source)
  WHERE events.outcome <> 'approve'
  GROUP BY events.day, events.segment, hit.source
)
SELECT found.day, found.segment, found.source, found.hits, days.payments,
  CAST(found.hits AS double) / days.payments AS friction
FROM found
JOIN days ON days.day = found.day AND days.segment = found.segment
ORDER BY found.day, found.hits DESC, found.segment, found.source
