#!/bin/sh
# Run a command with JAVA_HOME set to a Java that Spark 4.0 runs on, 17 or 21:
#     sh tools/java.sh COMMAND...
# Without a command, only make sure that there is one. Looks at JAVA_HOME, then at PATH, then where systems keep theirs.
# If there is none, root on Debian gets a headless one installed; anyone else is told what to do.
set -eu

major_of() { # the major version of the Java under folder $1, or nothing
    "$1/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1
}

fits() {
    [ -x "$1/bin/java" ] || return 1
    case "$(major_of "$1")" in 17 | 21) return 0 ;; *) return 1 ;; esac
}

find_java() { # print the first folder that fits
    on_path=$(command -v java || true)
    if [ -n "$on_path" ]; then
        on_path=$(readlink -f "$on_path" 2>/dev/null || echo "$on_path")
        on_path=${on_path%/bin/java}
    fi
    for home in "${JAVA_HOME:-}" "$on_path" /usr/lib/jvm/*17* /usr/lib/jvm/*21* \
        /Library/Java/JavaVirtualMachines/*/Contents/Home; do
        if [ -n "$home" ] && fits "$home"; then
            echo "$home"
            return 0
        fi
    done
    return 1
}

install_java() { # Debian 12 has 17, Debian 13 has 21
    log=$(mktemp)
    echo "installing a Java runtime (openjdk headless) ..." >&2
    if apt-get update -q >"$log" 2>&1 &&
        { DEBIAN_FRONTEND=noninteractive apt-get install -y -q openjdk-17-jre-headless >>"$log" 2>&1 ||
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q openjdk-21-jre-headless >>"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    tail -n 15 "$log" >&2
    echo "set-up: apt-get could not install Java 17 or 21; its log is $log" >&2
    return 1
}

if ! home=$(find_java); then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        install_java
        home=$(find_java)
    else
        found=$(command -v java >/dev/null && java -version 2>&1 | head -n 1 || echo none)
        echo "set-up: Spark needs Java 17 or 21; found $found:" \
            "install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to it" >&2
        exit 1
    fi
fi
if [ -n "${JAVA_HOME:-}" ] && [ "$home" != "$JAVA_HOME" ]; then
    echo "note: JAVA_HOME=$JAVA_HOME is no Java 17 or 21; using $home" >&2
fi
if [ $# -gt 0 ]; then
    JAVA_HOME=$home exec "$@"
fi
