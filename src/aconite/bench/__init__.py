"""Timing of activations and networks against peers. Needs torch alone."""

from aconite.bench.activations import SHAPES as SHAPES
from aconite.bench.activations import Case as Case
from aconite.bench.activations import cases as cases
from aconite.bench.activations import measure as measure
from aconite.bench.memory import saved_bytes as saved_bytes
from aconite.bench.networks import NETWORK_PASSES as NETWORK_PASSES
from aconite.bench.networks import measure_networks as measure_networks
from aconite.bench.norms import NORM_SHAPES as NORM_SHAPES
from aconite.bench.norms import measure_norms as measure_norms
from aconite.bench.timing import Quantiles as Quantiles
from aconite.bench.timing import give_back_freed_memory as give_back_freed_memory
from aconite.bench.timing import keep_freed_memory as keep_freed_memory
from aconite.bench.timing import quantiles as quantiles
from aconite.bench.timing import ratios as ratios
from aconite.bench.timing import take_turns as take_turns
