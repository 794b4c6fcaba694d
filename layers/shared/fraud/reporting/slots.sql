SELECT day, 'none' AS segment, number, cap, row_number() OVER (PARTITION BY day ORDER BY number DESC) AS place
FROM interventions
WHERE day BETWEEN '{first}' AND '{last}'
