"""spark-submit jobs/ratings.py --config conf/quality/movielens-a.yaml --run-date 2026-01-31"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("ratings")
