"""`python -m lora.cli`."""

import sys

from lora.cli.main import main

sys.exit(main())
