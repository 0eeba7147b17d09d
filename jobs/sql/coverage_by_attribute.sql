-- How much of each genre (brand, year, …) is ever recommended, and how often? A row a value of the attribute.
--   items             of the catalogue with this value
--   items_shown       of them, on at least one list
--   coverage          items_shown / items
--   share_of_events   of all interactions outside the test, this value's share; an item with two genres counts for both
--   share_of_lists    of all list entries, this value's share
-- parameters: run_date, attribute (a name under preprocess.items.attributes), separator (' ' for "Action Sci-Fi"; '' for whole values)
WITH catalogue AS (
  SELECT
    i.item_id,
    i.attributes[p.attribute] AS text,
    p.separator
  FROM items AS i INNER JOIN parameters AS p ON i.run_date = p.run_date
),
labels AS (
  SELECT DISTINCT
    c.item_id,
    CASE WHEN c.separator = '' THEN c.text ELSE split_part(c.text, c.separator, CAST(w.n AS INT)) END AS label
  FROM catalogue AS c CROSS JOIN range(1, 33) AS w(n)
),
shown AS (
  SELECT r.item_id, count(*) AS entries
  FROM recommendations AS r INNER JOIN parameters AS p ON r.run_date = p.run_date
  GROUP BY r.item_id
),
met AS (
  SELECT e.item_id, count(*) AS events
  FROM interactions AS e INNER JOIN parameters AS p ON e.run_date = p.run_date
  WHERE e.split <> 'test'
  GROUP BY e.item_id
),
by_label AS (
  SELECT
    l.label,
    count(*) AS items,
    count(s.item_id) AS items_shown,
    CAST(coalesce(sum(m.events), 0) AS BIGINT) AS events,
    CAST(coalesce(sum(s.entries), 0) AS BIGINT) AS entries
  FROM labels AS l
  LEFT JOIN shown AS s ON l.item_id = s.item_id
  LEFT JOIN met AS m ON l.item_id = m.item_id
  WHERE l.label IS NOT NULL AND l.label <> ''
  GROUP BY l.label
)
SELECT
  label,
  items,
  items_shown,
  round(CAST(items_shown AS DOUBLE) / items, 4) AS coverage,
  round(CAST(events AS DOUBLE) / nullif((SELECT sum(entry.events) FROM met AS entry), 0), 4) AS share_of_events,
  round(CAST(entries AS DOUBLE) / nullif((SELECT sum(entry.entries) FROM shown AS entry), 0), 4) AS share_of_lists
FROM by_label
ORDER BY items DESC, label
