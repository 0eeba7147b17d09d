"""The stages: tables in, tables out. `recspark.pipeline` has them in order."""
