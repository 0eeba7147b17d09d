-- Which raw rows were left out and why, and were there more than in the run before? A row a source and reason of either run.
-- parameters: run_date
WITH dates AS (
  SELECT
    p.run_date AS today,
    (SELECT max(i.run_date) FROM items AS i CROSS JOIN parameters AS q WHERE i.run_date < q.run_date) AS before
  FROM parameters AS p
)
SELECT
  r.source,
  r.reason,
  count(*) FILTER (WHERE r.run_date = d.today) AS rows_today,
  count(*) FILTER (WHERE r.run_date = d.before) AS rows_before,
  min(r.row) FILTER (WHERE r.run_date = d.today) AS example
FROM rejects AS r
CROSS JOIN dates AS d
WHERE r.run_date = d.today OR r.run_date = d.before
GROUP BY r.source, r.reason
ORDER BY rows_today DESC, r.source, r.reason
