SELECT
  count(score) AS asked,
  sum(CASE WHEN shadow_version = '{version}' THEN 1 ELSE 0 END) AS scored,
  sum(CASE WHEN shadow_version = '{version}' AND shadow_score >= {lowest} THEN 1 ELSE 0 END) AS alerts,
  sum(CASE WHEN shadow_version = '{version}' AND score >= {lowest_of_champion} THEN 1 ELSE 0 END) AS alerts_of_champion
FROM (
  SELECT DISTINCT event_id, score, shadow_version, shadow_score
  FROM decisions
  WHERE day BETWEEN '{first}' AND '{last}' AND decided_at >= {since} AND decided_at < {until}
    AND model_version = '{champion}'
) AS decided
