"""Which BatchNorms are fused, which are left, and the reason given."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aconite.errors import SettingsError
from aconite.nn import AconA, AconB, AconC, MetaAconC
from aconite.surgery import Changes, FuseRow, fuse

IMAGES = torch.randn(4, 8, 5, 6)


class Calls(nn.Module):
    """Modules as attributes, and a forward given as a function of them."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def bn():
    return nn.BatchNorm2d(8)


def rows_of(model, inputs=IMAGES, **options):
    _, changes = fuse(model, inputs, **options)
    return {row.norm: row for row in changes.rows}


def only_row(forward, inputs=IMAGES, **modules):
    model = Calls(forward, **{"bn": bn(), "act": AconC(8), **modules})
    return rows_of(model, inputs)["bn"]


@pytest.mark.parametrize(
    "activation",
    [AconA(8), AconA(learn_beta=False), AconB(8), AconC(8), MetaAconC(8), nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU()],
    ids=lambda module: str(module).partition("\n")[0],
)
def test_every_kind_of_activation(activation):
    row = rows_of(nn.Sequential(nn.Conv2d(8, 8, 1), bn(), activation))["1"]
    assert row == FuseRow(norm="1", activation="2", kind=f"BatchNorm2d + {type(activation).__name__}", action="fused")


@pytest.mark.parametrize(
    ("norm", "shape"),
    [(nn.BatchNorm1d(8), (4, 8)), (nn.BatchNorm1d(8), (4, 8, 5)), (nn.BatchNorm3d(8), (4, 8, 2, 3, 2))],
)
def test_other_dimensions(norm, shape):
    assert rows_of(nn.Sequential(norm, AconC(8)), torch.randn(shape))["0"].action == "fused"


def test_attributes_and_identity_between():
    row = only_row(lambda m, x: m.act(m.identity(m.bn(x))) + x, identity=nn.Identity())
    assert (row.action, row.activation) == ("fused", "act")


def test_looking_at_the_shape_is_no_use():
    def forward(m, x):
        y = m.bn(x)
        assert y.shape[0] == len(y) == y.size(0)
        assert y.dtype == torch.float32
        assert not y.is_cuda
        return m.act(y).flatten(1)

    assert only_row(forward).action == "fused"


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda m, x: (lambda y: m.act(y) + y)(m.bn(x)), "torch.Tensor.add"),
        (lambda m, x: (lambda y: torch.cat([m.act(y), y]))(m.bn(x)), "torch.cat"),
        (lambda m, x: (lambda y: (y.mean(), m.act(y))[1])(m.bn(x)), "torch.Tensor.mean"),
        (lambda m, x: m.act(m.bn(x) + x), "torch.Tensor.add"),
        (lambda m, x: m.act(F.relu(m.bn(x))), "torch.nn.functional.relu"),
        (lambda m, x: m.bn(x).relu_(), "torch.Tensor.relu_"),
        (lambda m, x: torch.ops.aten.silu(m.bn(x)), "silu"),
        (lambda m, x: (lambda y: (m.act(y), {"norm": y}))(m.bn(x)), "the model returns its output"),
        (lambda m, x: (lambda y: (m.act(y), {"norm": y})[0])(m.bn(x)), None),
    ],
)
def test_other_uses_of_the_output(forward, reason):
    row = only_row(forward)
    if reason is None:
        assert row.action == "fused"
    else:
        assert row.action == "norm through kernel"
        assert reason in row.reason


def test_dropout_between_returns_its_input_in_evaluation():
    row = only_row(lambda m, x: m.act(m.drop(m.bn(x))), drop=nn.Dropout())
    assert row.action == "norm through kernel"
    assert "torch.nn.functional.dropout in drop" in row.reason


def test_a_path_taken_in_training_alone_is_seen():
    def forward(m, x):
        y = m.bn(x)
        return m.act(y * 2 if m.training else y)

    for training in (True, False):
        model = Calls(forward, bn=bn(), act=AconC(8)).train(training)
        assert rows_of(model)["bn"].action == "norm through kernel"


def test_a_mode_that_does_not_run_is_noted():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), bn(), nn.ReLU()).eval()
    _, changes = fuse(model, IMAGES[:1])
    assert changes.rows[0].action == "fused"
    assert "paths that only training takes were not seen" in str(changes)
    assert "more than 1 value" in changes.notes[0]


def test_what_a_failing_mode_saw_does_not_count():
    def forward(m, x):
        y = m.bn(x)
        if m.training:
            raise RuntimeError("targets expected")
        return m.act(y)

    _, changes = fuse(Calls(forward, bn=bn(), act=AconC(8)).eval(), IMAGES)
    assert changes.rows[0].action == "fused"
    assert "targets expected" in changes.notes[0]


def test_output_kept_by_the_model():
    def forward(m, x):
        m.kept = m.bn(x)
        return m.act(m.kept)

    assert only_row(forward).reason == "its output is kept after the call"


def test_an_autograd_function_and_numpy_are_seen():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    def forward(m, x):
        y = m.bn(x)
        return m.act(y) + Double.apply(y)

    assert only_row(forward).action == "norm through kernel"
    row = only_row(lambda m, x: (lambda y: (y.data_ptr(), m.act(y))[1])(m.bn(x)))
    assert "data_ptr" in row.reason


def test_in_place_activation_then_used_twice():
    """Both readers see the activated values, fused or not."""
    relu = nn.ReLU(inplace=True)
    row = only_row(lambda m, x: (lambda y: m.act(y) + y)(m.bn(x)), act=relu)
    assert row.action == "fused"
    row = only_row(lambda m, x: (lambda y: y + m.act(y))(m.bn(x)), act=relu)
    assert row.action == "fused"
    row = only_row(lambda m, x: (lambda y: y.mean() + m.act(y))(m.bn(x)), act=relu)
    assert row.action == "norm through kernel"


def test_activation_of_several_norms():
    def forward(m, x):
        return m.act(m.other(m.act(m.bn(x))))

    rows = rows_of(Calls(forward, bn=bn(), other=bn(), act=nn.ReLU()))
    assert [row.action for row in rows.values()] == ["fused", "fused"]


def test_activation_that_also_follows_something_else():
    rows = rows_of(Calls(lambda m, x: m.act(x + m.act(m.bn(x))), bn=bn(), act=nn.ReLU()))
    assert rows["bn"].action == "norm through kernel"
    assert rows["bn"].reason == "act is also called where no norm can be fused with it"


def test_one_norm_that_drops_out_takes_the_others_along():
    """first and second share an activation, second and third are the same kind of pair but for a sum."""

    def forward(m, x):
        x = m.act1(m.first(x))
        y = m.second(x)
        return m.act2(m.third(m.act1(y) + y))

    rows = rows_of(Calls(forward, first=bn(), second=bn(), third=bn(), act1=nn.ReLU(), act2=nn.ReLU()))
    assert [rows[name].action for name in ("first", "second", "third")] == [
        "norm through kernel",
        "norm through kernel",
        "fused",
    ]


def test_norm_called_several_times():
    row = only_row(lambda m, x: m.act(m.bn(m.act(m.bn(x)))))
    assert row.action == "fused"
    row = only_row(lambda m, x: m.other(m.bn(m.act(m.bn(x)))), other=nn.ReLU())
    assert row.action == "norm through kernel"
    assert row.reason == "its calls are followed by different activations: act, other"
    row = only_row(lambda m, x: m.bn(m.act(m.bn(x))))
    assert row.reason == "the model returns its output"


@pytest.mark.parametrize(
    ("norm", "words"),
    [(nn.SyncBatchNorm(8), "SyncBatchNorm exchanges"), (type("OwnNorm", (nn.BatchNorm2d,), {})(8), "OwnNorm may")],
)
def test_other_norms_are_left(norm, words):
    model = nn.Sequential(bn(), nn.ReLU(), norm, nn.ReLU()).eval()
    row = rows_of(model)["2"]
    assert row.action == "left"
    assert words in row.reason


@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
@pytest.mark.parametrize("place", ["1.0", "2", "1"])
def test_hooks(register, place):
    model = nn.Sequential(bn(), nn.Sequential(bn()), nn.ReLU())
    getattr(model.get_submodule(place), register)(lambda *_: None)
    row = rows_of(model)["1.0"]
    assert row.action == "norm through kernel"
    assert f"hooks of {place}" in row.reason


def test_replaced_forward():
    model = nn.Sequential(bn(), nn.ReLU(), bn(), nn.ReLU(), bn(), nn.ReLU())
    model[0].forward = model[0].forward
    model[3].forward = model[3].forward
    assert [row.action for row in rows_of(model).values()] == ["left", "norm through kernel", "fused"]


def test_layers_that_do_not_fit_the_norm():
    square = torch.randn(4, 8, 8, 8)
    row = rows_of(nn.Sequential(bn(), AconC(8, channel_dim=-1)), square)["0"]
    assert row.reason == "1 has channel_dim=-1, where the norm has 1"
    row = rows_of(nn.Sequential(bn(), MetaAconC(8, granularity="pixel")), square)["0"]
    assert "Meta-ACON by pixel" in row.reason


def test_norms_within_meta_acon_are_its_own():
    assert list(rows_of(nn.Sequential(bn(), MetaAconC(8)))) == ["0"]


def test_paired_leaves_single_norms():
    model = nn.Sequential(bn(), nn.ReLU(), bn(), nn.Conv2d(8, 8, 1))
    fused, changes = fuse(model, IMAGES, norms="paired")
    assert [row.action for row in changes] == ["fused", "left"]
    assert type(fused[2]) is nn.BatchNorm2d
    assert "torch.nn.functional.conv2d in 3" in changes.rows[1].reason


def test_a_norm_that_is_not_called():
    row = rows_of(Calls(lambda m, x: m.act(m.bn(x)), bn=bn(), spare=bn(), act=nn.ReLU()))["spare"]
    assert (row.action, row.reason) == ("left", "not called on the example inputs")


def test_nothing_to_fuse_is_an_error():
    with pytest.raises(SettingsError, match=r"looked for nn.BatchNorm1d.*found no BatchNorm"):
        fuse(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()), IMAGES)
    with pytest.raises(SettingsError, match=r"0 \(BatchNorm2d\): its output goes to torch.nn.functional.gelu in 1"):
        fuse(nn.Sequential(bn(), nn.GELU()), IMAGES, norms="paired")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([IMAGES], "a list: expected"),
        (torch.zeros(1, 3, 5, 5), "does not run on the example inputs"),
        (None, "NoneType"),
    ],
)
def test_bad_inputs(inputs, words):
    with pytest.raises(SettingsError, match=words):
        fuse(nn.Sequential(bn(), nn.ReLU()), inputs)


def test_unknown_value_of_norms():
    with pytest.raises(SettingsError, match="write norms='all'"):
        fuse(nn.Sequential(bn(), nn.ReLU()), IMAGES, norms="some")


def test_a_compiled_model_is_refused():
    model = nn.Sequential(bn(), nn.ReLU())
    with pytest.raises(SettingsError, match="compiled already"):
        fuse(torch.compile(model, backend="eager"), IMAGES)


def test_inputs_in_every_form():
    model = Calls(lambda m, x, scale=1.0: m.act(m.bn(x * scale)), bn=bn(), act=nn.ReLU())
    for inputs in (IMAGES, (IMAGES, 2.0), {"x": IMAGES, "scale": 2.0}):
        assert rows_of(model, inputs)["bn"].action == "fused"


def test_the_table():
    model = nn.Sequential(bn(), nn.ReLU(), bn(), nn.Conv2d(8, 8, 1))
    _, changes = fuse(model, IMAGES)
    assert isinstance(changes, Changes)
    assert str(changes).splitlines() == [
        "norm  activation  kind                action               reason",
        "0     1           BatchNorm2d + ReLU  fused",
        "2                 BatchNorm2d         norm through kernel  its output goes to torch.nn.functional.conv2d in 3",
        "2 BatchNorms: 1 fused, 1 norm through kernel",
    ]
    assert dataclasses.asdict(changes.rows[0])["activation"] == "1"


def test_the_model_itself_may_be_a_norm():
    fused, changes = fuse(bn(), IMAGES)
    assert changes.rows[0].norm == ""
    assert type(fused).__name__ == "FusedBatchNorm2d"
