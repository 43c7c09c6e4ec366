"""What importing the backbones does to the rest of the process."""

from __future__ import annotations

import subprocess
import sys

CODE = "from PIL import ImageFile; import cyclemlp.dense.det; print(ImageFile.LOAD_TRUNCATED_IMAGES)"


def test_it_leaves_pillow_strict_and_says_nothing() -> None:
    """PaddleDetection tells Pillow to take images that are cut short, and misses trackers aloud."""
    command = [sys.executable, "-W", "ignore:No ccache", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
