"""`python -m fewstep.cli`, for launchers such as torchrun."""

import sys

from fewstep.cli import main

sys.exit(main())
