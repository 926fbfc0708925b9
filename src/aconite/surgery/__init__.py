"""Changes to a finished model, found by running it: `fuse` and `unfuse`. Every change is reported, and so is what was
left alone.

The model's class, attribute tree, Parameter objects and state-dict keys stay as they are.
"""

from aconite.surgery.changes import Changes as Changes
from aconite.surgery.fuse import FuseRow as FuseRow
from aconite.surgery.fuse import fuse as fuse
from aconite.surgery.fuse import unfuse as unfuse
