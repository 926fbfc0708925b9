"""Changes to a finished model, found by running it: `convert`, `fuse` and the ways back. Every change is reported, and
so is what was left alone.

The model's class, attribute tree, weights and their state-dict keys stay as they are.
"""

from aconite.surgery.callsites import Site as Site
from aconite.surgery.changes import Changes as Changes
from aconite.surgery.convert import ConvertChanges as ConvertChanges
from aconite.surgery.convert import ConvertRow as ConvertRow
from aconite.surgery.convert import convert as convert
from aconite.surgery.deconvert import DeconvertRow as DeconvertRow
from aconite.surgery.deconvert import deconvert as deconvert
from aconite.surgery.fuse import FuseRow as FuseRow
from aconite.surgery.fuse import fuse as fuse
from aconite.surgery.fuse import unfuse as unfuse
