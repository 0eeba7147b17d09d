-- What is one user recommended? A row an item, best first.
-- parameters: run_date, user_id
SELECT
  r.rank,
  r.item_id,
  i.title,
  r.score,
  i.attributes
FROM recommendations AS r
CROSS JOIN parameters AS p
LEFT JOIN items AS i ON i.run_date = r.run_date AND i.item_id = r.item_id
WHERE r.run_date = p.run_date AND r.user_id = p.user_id
ORDER BY r.rank
