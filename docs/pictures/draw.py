"""Draw the pictures of README from the results of `make sweep`, with Chromium.

    make sweep
    python docs/pictures/draw.py results

first_page.png; the one in the repository is of the 8 LoRA points alone, as `make bench` runs them
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

SIZE = (1180, 1500)
KEPT = (980, 900)  # the verdict and the first figures


def main(results: Path) -> None:
    """Shoot the first page, and keep the part that README shows."""
    out = Path(__file__).with_name("first_page.png")
    page = (results / "report/choice.html").resolve().as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    command = ["chromium", *flags, size, f"--screenshot={out}", page]
    subprocess.run(command, check=True, capture_output=True)
    picture = Image.open(out).crop((0, 0, *KEPT))
    picture.quantize(64).save(out, optimize=True)  # small: it lies in the repository


if __name__ == "__main__":
    main(Path(sys.argv[1]))
