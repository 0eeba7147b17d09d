-- Which items came onto lists since the run before, and which left? A row an item that did either, the greatest change first.
--   lists_entered and lists_left count only users who have a list in both runs: a new user's list is no change of taste.
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
    item_id,
    t.rank AS rank_today,
    b.rank AS rank_before
  FROM today AS t FULL JOIN before AS b USING (user_id, item_id)
),
stayed AS (
  SELECT user_id FROM entries GROUP BY user_id HAVING count(rank_today) > 0 AND count(rank_before) > 0
),
changes AS (
  SELECT
    e.item_id,
    count(*) FILTER (WHERE rank_before IS NULL) AS lists_entered,
    count(*) FILTER (WHERE rank_today IS NULL) AS lists_left,
    count(rank_today) AS lists_today
  FROM entries AS e
  INNER JOIN stayed AS s ON e.user_id = s.user_id
  GROUP BY e.item_id
),
titles AS (
  SELECT i.item_id, max(i.title) AS title
  FROM items AS i
  INNER JOIN dates AS d ON i.run_date = d.today OR i.run_date = d.before
  GROUP BY i.item_id
)
SELECT
  c.item_id,
  t.title,
  c.lists_entered,
  c.lists_left,
  c.lists_today
FROM changes AS c
LEFT JOIN titles AS t ON c.item_id = t.item_id
WHERE c.lists_entered > 0 OR c.lists_left > 0
ORDER BY c.lists_entered + c.lists_left DESC, c.item_id
