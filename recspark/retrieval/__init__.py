"""Kernels over arrays: encoding in batches, exact top-K. Knows nothing of Spark."""
