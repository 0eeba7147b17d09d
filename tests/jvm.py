"""What the tests tell their JVMs, which live for a minute or less."""

import sys
from pathlib import Path

ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"  # class_archive.py makes it
SHORT_LIVED = "-XX:TieredStopAtLevel=1"  # what the second compiler makes would not pay
ARCHIVED = f"-XX:SharedArchiveFile={ARCHIVE} -Xlog:disable"  # a JVM with other classes would say that it cannot use it
# Compiling a plan takes longer than running it on ten rows.
UNCOMPILED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
OPTIONS = f"{SHORT_LIVED} {ARCHIVED}" if ARCHIVE.exists() else SHORT_LIVED
