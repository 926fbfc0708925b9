"""python -m aconite"""

import sys

from aconite.cli import main

sys.exit(main())
