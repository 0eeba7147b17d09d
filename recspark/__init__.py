"""recspark: a nightly batch recommender on Spark with a fine-tuned language model."""

__version__ = "0.1.0"
