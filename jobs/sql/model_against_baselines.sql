-- How good is every model, how far is it from the best baseline, and from itself in the run before? A row a model and slice.
--   ndcg, low, high   nDCG of the shortest lists that were judged, with its 95 % interval
--   over_baseline     ndcg less the best of the models that learn nothing from texts, on the same slice; null where there is none
--   over_before       ndcg less the same model's in the run before; null where there is none
-- parameters: run_date
WITH dates AS (
  SELECT
    p.run_date AS today,
    (SELECT max(m.run_date) FROM metrics AS m CROSS JOIN parameters AS q WHERE m.run_date < q.run_date) AS before
  FROM parameters AS p
),
measured AS (
  SELECT m.run_date, m.model, m.slice, m.k, m.value, m.low, m.high, m.users FROM metrics AS m WHERE m.metric = 'ndcg'
),
today AS (
  SELECT m.model, m.slice, m.k, m.value, m.low, m.high, m.users
  FROM measured AS m INNER JOIN dates AS d ON m.run_date = d.today
  WHERE m.k = (SELECT min(a.k) FROM measured AS a INNER JOIN dates AS e ON a.run_date = e.today)
),
before AS (
  SELECT m.model, m.slice, m.k, m.value FROM measured AS m INNER JOIN dates AS d ON m.run_date = d.before
),
baseline AS (
  SELECT slice, max(value) AS value
  FROM today
  WHERE model NOT IN ('id_alone', 'factors_alone', 'text_before', 'text_after', 'factors', 'sequence', 'full', 'reranked')
  GROUP BY slice
)
SELECT
  t.slice,
  t.model,
  t.k,
  round(t.value, 4) AS ndcg,
  round(t.low, 4) AS low,
  round(t.high, 4) AS high,
  round(t.value - b.value, 4) AS over_baseline,
  round(t.value - y.value, 4) AS over_before,
  t.users
FROM today AS t
LEFT JOIN baseline AS b ON t.slice = b.slice
LEFT JOIN before AS y ON t.model = y.model AND t.slice = y.slice AND t.k = y.k
ORDER BY t.slice, t.model
