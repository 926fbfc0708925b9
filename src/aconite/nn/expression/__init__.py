"""Activations as formulas: a small grammar, one form for each function, and the layer that computes it."""

from aconite.nn.expression.canonical import canonical as canonical
from aconite.nn.expression.module import Expression as Expression
from aconite.nn.expression.native import known_name as known_name
from aconite.nn.expression.parse import parse as parse
from aconite.nn.expression.tree import Call as Call
from aconite.nn.expression.tree import Number as Number
from aconite.nn.expression.tree import Symbol as Symbol
from aconite.nn.expression.tree import Tree as Tree
from aconite.nn.expression.tree import depends_on_x as depends_on_x
from aconite.nn.expression.tree import parameters as parameters
from aconite.nn.expression.tree import substitute as substitute
