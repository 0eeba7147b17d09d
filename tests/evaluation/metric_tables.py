"""Small tables of metrics and comparisons, by hand."""

import pandas as pd

from recspark.tables import COMPARISONS


def metric_table(**values: tuple[float, float, float] | float) -> pd.DataFrame:
    """ndcg@10 on all items; (value, low, high), or a value with an interval of ±0.01."""
    rows = []
    for model, given in values.items():
        value, low, high = given if isinstance(given, tuple) else (given, given - 0.01, given + 0.01)
        rows.append(
            {
                "model": model,
                "slice": "all",
                "metric": "ndcg",
                "k": 10,
                "value": value,
                "low": low,
                "high": high,
                "users": 1234,
            }
        )
    return pd.DataFrame(rows)


NOT_COMPARED = pd.DataFrame(columns=COMPARISONS.column_names)


def comparison_table(*rows: tuple, slice_name: str = "all") -> pd.DataFrame:
    """ndcg@10 of (model, other, difference, low, high, adjusted p); p itself would call any two apart."""
    made = [(model, other, slice_name, "ndcg", 10, *ends, 0.0001, p, 1234) for model, other, *ends, p in rows]
    return pd.DataFrame(made, columns=COMPARISONS.column_names)
