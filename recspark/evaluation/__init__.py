"""Kernels over arrays: metrics, bootstrap; and the report. Knows nothing of Spark."""
