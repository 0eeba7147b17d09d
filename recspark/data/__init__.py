"""Spark DataFrames in and out: reading raw data, cleaning, splits, text. Knows nothing of torch."""
