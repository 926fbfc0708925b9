"""A study: one question put to several networks, activations, inits and seeds, answered with its uncertainty.

It is a set of comparisons (`aconite.lab.compare`), run seed by seed, and what their rows say together. The named one,
"cifar", tests the paper's claim that Meta-ACON > ACON-C > Swish > ReLU with about twice SE's gain, asks which init is
the best default, and whether Swish gains in deeper networks.
"""

from aconite.lab.study.contrasts import Arm as Arm
from aconite.lab.study.contrasts import Contrast as Contrast
from aconite.lab.study.findings import Findings as Findings
from aconite.lab.study.findings import find as find
from aconite.lab.study.running import Study as Study
from aconite.lab.study.running import run_study as run_study
from aconite.lab.study.running import study_jobs as study_jobs
from aconite.lab.study.settings import StudySettings as StudySettings
from aconite.lab.study.settings import study_settings as study_settings
from aconite.lab.study.tables import print_study as print_study
