"""spark-submit jobs/pretrain.py --config conf/from_scratch.yaml --run-date 2026-01-31"""

from recspark.runner import submit

if __name__ == "__main__":
    submit("pretrain")
