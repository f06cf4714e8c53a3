"""Plays a boot to a lab host's TPM: run in the host's network namespace, where the TPM listens, and nowhere else of it.

`python -m hostward.lab.boot TCTI FOLDER FILE…`
"""

from __future__ import annotations

import sys
from pathlib import Path

from hostward.lab.tpm import software_boot

if __name__ == "__main__":
    software_boot(sys.argv[1], Path(sys.argv[2]), [Path(file) for file in sys.argv[3:]])
