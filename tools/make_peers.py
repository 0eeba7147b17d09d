""".venv-peers: an environment that sees what is in .venv and has, beside it, what only the benchmarks' peers need (benchmarks/peers.txt)."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER, WANTED = ROOT / ".venv-peers", ROOT / "benchmarks" / "peers.txt"


def main() -> None:
    """Raises CalledProcessError if something cannot be installed."""
    venv.create(FOLDER, clear=True)
    python = FOLDER / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    theirs = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    # addsitedir, and not the folder alone: recspark itself is there by a file of the same kind.
    ours = sysconfig.get_paths()["purelib"]
    (Path(theirs) / "recspark-environment.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*map(str, pip), "-r", str(WANTED)], check=True)
    (FOLDER / ".ready").touch()  # last, so that what was interrupted is done again


if __name__ == "__main__":
    main()
