"""spark-submit jobs/tune.py --config conf/demo.yaml --run-date 2026-01-31 --set tune.trials=30"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("tune")
