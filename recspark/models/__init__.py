"""The maths: encoder, adaptation and objectives in torch, closed-form factors in numpy. Knows nothing of Spark."""
