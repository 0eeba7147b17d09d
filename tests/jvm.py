"""What the tests tell their JVMs, which live for a minute or less."""

import sys
from pathlib import Path

ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"  # class_archive.py makes it
SHORT_LIVED = " ".join(
    (
        "-XX:TieredStopAtLevel=1",  # what the second compiler makes would not pay
        "-XX:ReservedCodeCacheSize=240m",  # which is 48m without that compiler: too little for Spark, and swept all the time
        "-XX:MetaspaceSize=400m",  # or the heap is collected each time that classes have filled a little more
        "-XX:+UseParallelGC",
    )
)
ARCHIVED = f"-XX:SharedArchiveFile={ARCHIVE} -Xlog:disable"  # a JVM with other classes would say that it cannot use it
# Spark's settings, which a JVM may be told as well. Compiling a plan takes longer than running it on ten rows.
UNCOMPILED = "-Dspark.sql.codegen.wholeStage=false -Dspark.sql.codegen.factoryMode=NO_CODEGEN"
COMPILED = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
}  # as Spark has it by itself
OPTIONS = " ".join((SHORT_LIVED, UNCOMPILED, *([ARCHIVED] if ARCHIVE.exists() else [])))
