"""spark-submit jobs/search.py --config conf/demo.yaml --run-date 2026-01-31 --set search.queries='{path: queries.csv, format: csv}'"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("search")
