-- How many lists changed since the run before, and how much? One row.
--   users_stayed      in both runs; users_new and users_gone are in one only
--   lists_changed     share of those who stayed whose list has another item or another order
--   first_changed     share of those who stayed whose first item is another
--   items_kept        mean share of the earlier list that is still on the list, over those who stayed
-- parameters: run_date
WITH dates AS (
  SELECT
    p.run_date AS today,
    (SELECT max(r.run_date) FROM recommendations AS r CROSS JOIN parameters AS q WHERE r.run_date < q.run_date) AS before
  FROM parameters AS p
),
today AS (
  SELECT r.user_id, r.item_id, r.rank FROM recommendations AS r INNER JOIN dates AS d ON r.run_date = d.today
),
before AS (
  SELECT r.user_id, r.item_id, r.rank FROM recommendations AS r INNER JOIN dates AS d ON r.run_date = d.before
),
entries AS (
  SELECT
    user_id,
    t.rank AS rank_today,
    b.rank AS rank_before
  FROM today AS t FULL JOIN before AS b USING (user_id, item_id)
),
lists AS (
  SELECT
    user_id,
    count(rank_today) > 0 AS here_today,
    count(rank_before) > 0 AS here_before,
    count(*) FILTER (WHERE rank_today = rank_before) < count(*) AS changed,
    count(*) FILTER (WHERE rank_today = 1 AND rank_before = 1) = 0 AS first_changed,
    count(rank_today) FILTER (WHERE rank_before IS NOT NULL) AS kept,
    count(rank_before) AS length_before
  FROM entries
  GROUP BY user_id
)
SELECT
  max(d.today) AS today,
  max(d.before) AS before,
  count(*) FILTER (WHERE here_today AND here_before) AS users_stayed,
  count(*) FILTER (WHERE here_today AND NOT here_before) AS users_new,
  count(*) FILTER (WHERE here_before AND NOT here_today) AS users_gone,
  round(avg(CASE WHEN changed THEN 1e0 ELSE 0e0 END) FILTER (WHERE here_today AND here_before), 4) AS lists_changed,
  round(avg(CASE WHEN first_changed THEN 1e0 ELSE 0e0 END) FILTER (WHERE here_today AND here_before), 4) AS first_changed,
  round(avg(CAST(kept AS DOUBLE) / length_before) FILTER (WHERE here_today AND here_before), 4) AS items_kept
FROM lists
CROSS JOIN dates AS d
