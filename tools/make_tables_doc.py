"""Write docs/tables.md, the SQL contract, from recspark/tables/: python tools/make_tables_doc.py"""

from pathlib import Path

from recspark.tables import TABLES

HEAD = """# The tables

What each table of the lake holds; written from `recspark/tables/` by `python tools/make_tables_doc.py`, and a test holds
the two together.

Every table is a folder of plain Parquet, `<lake>/<table>/run_date=YYYY-MM-DD/`, with a `_manifest.json` beside the files
(folder, rows, fingerprint, schema, settings, inputs, code version). A run date appears whole, and a second run of the date
replaces it in one step; who reads meanwhile, or from an object store, goes by the folder that the manifest names
([how a table takes its place](nights.md#how-a-table-takes-its-place)). `id` stands for the type that the raw data gave: string, any integer, or decimal(p,0). Reading all dates at
once, `run_date` is one more column. Consumers read `recommendations`; all others are open to them, too, but are the
stages' own.

`recspark.sql` registers all tables as views in Spark or DuckDB; `jobs/sql/` has queries that run unchanged in both.
"""


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for table in TABLES.values():
        key = f" Key: {', '.join(table.key)}." if table.key else ""
        constant = f" One value a run date: {', '.join(table.constant)}." if table.constant else ""
        folders = f" Sub-folders by {', '.join(table.folders)}." if table.folders else ""
        parts.append(
            f"\n## {table.name}\n\n{table.meaning}{key}{constant}{folders}\n\n| column | type | meaning |\n|---|---|---|\n"
        )
        for column in table.columns:
            null = " (may be null)" if column.nullable else ""
            parts.append(f"| {column.name} | {column.type} | {column.meaning}{null} |\n")
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent.parent / "docs" / "tables.md").write_text(document(), encoding="utf-8")
