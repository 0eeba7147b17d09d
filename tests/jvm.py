"""What the tests tell their JVMs, which live for a minute or less."""

import sys
from pathlib import Path

ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"  # class_archive.py makes it
SHORT_LIVED = "-XX:TieredStopAtLevel=1"  # what the second compiler makes would not pay
ARCHIVED = f"-XX:SharedArchiveFile={ARCHIVE} -Xlog:disable"  # a JVM with other classes would say that it cannot use it
# Spark's settings, which a JVM may be told as well. Compiling a plan takes longer than running it on ten rows.
UNCOMPILED = "-Dspark.sql.codegen.wholeStage=false -Dspark.sql.codegen.factoryMode=NO_CODEGEN"
COMPILED = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
}  # as Spark has it by itself
OPTIONS = " ".join((SHORT_LIVED, UNCOMPILED, *([ARCHIVED] if ARCHIVE.exists() else [])))
