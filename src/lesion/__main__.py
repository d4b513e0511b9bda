"""`python -m lesion` is the `lesion` command."""

import sys

from lesion.cli.app import main

sys.exit(main())
