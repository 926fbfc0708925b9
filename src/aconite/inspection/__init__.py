"""What a model's activations do on data: dead units, saturation, offsets, β's state, non-linearity, gradients.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU())
>>> with ActivationStatistics(model) as statistics:
...     _ = model(torch.randn(100, 3))
>>> [layer.channels for layer in statistics.layers().values()]
[8]
"""

from aconite.inspection.collector import ActivationStatistics as ActivationStatistics
from aconite.inspection.parameters import ShapeParameters as ShapeParameters
from aconite.inspection.parameters import shape_parameters as shape_parameters
from aconite.inspection.statistics import ACTIVATED as ACTIVATED
from aconite.inspection.statistics import FLAT as FLAT
from aconite.inspection.statistics import LINEAR as LINEAR
from aconite.inspection.statistics import LayerStatistics as LayerStatistics
