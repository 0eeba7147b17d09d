"""spark-submit jobs/index.py --config conf/demo.yaml --run-date 2026-01-31"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("index")
