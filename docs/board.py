"""Renew docs/tensorboard.png: TensorBoard's page IMAGES of a sweep, in Debian's chromium.

python docs/board.py outputs/sweeps/DATE_TIME
"""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PICTURE = Path(__file__).parent / "tensorboard.png"
OPTIONS = """
    --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --window-size=1280,900
    --virtual-time-budget=60000
"""
START = 60
"""Seconds in which TensorBoard reads the runs."""


def main(sweep: str) -> None:
    """Serve the runs for a while, and take a picture of the page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", sweep, "--port", port]
    with tempfile.TemporaryDirectory() as profile, subprocess.Popen(board) as server:
        try:
            time.sleep(START)
            browser = ["chromium", *OPTIONS.split(), f"--user-data-dir={profile}"]
            page = f"http://127.0.0.1:{port}/#images"
            subprocess.run([*browser, f"--screenshot={PICTURE}", page], check=True)
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
