"""spark-submit jobs/ratings.py --config conf/ml-100k-stratified.yaml --run-date 2026-01-31"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("ratings")
