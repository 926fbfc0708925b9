"""The exceptions: one family, messages that teach, and pickling (a worker process sends them home)."""

import pickle

import pytest

from aconite import errors
from aconite.errors import AconiteError, MissingExtraError, UnknownNameError

FAMILY = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", FAMILY)
def test_all_belong_to_one_family(kind):
    assert issubclass(kind, AconiteError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("ShapeError", ValueError),
        ("SettingsError", ValueError),
        ("UnknownNameError", ValueError),
        ("StateDictError", ValueError),
        ("MissingExtraError", ImportError),
        ("KernelUnavailableError", RuntimeError),
    ],
)
def test_generic_code_may_catch_the_builtin(kind, builtin):
    assert issubclass(getattr(errors, kind), builtin)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("meta-acn", "meta-acon"),
        ("Meta_Acon", "meta-acon"),
        ("RELU", "relu"),
        ("shufflenetv2_x05", "shufflenetv2_x0_5"),
    ],
)
def test_nearest_name_is_suggested(name, near):
    known = ["relu", "relu6", "meta-acon", "acon-c", "shufflenetv2_x0_5"]
    error = UnknownNameError("activation", name, known)
    assert f"did you mean {near!r}?" in str(error)
    assert str(error).endswith("known: " + ", ".join(known))


def test_no_suggestion_for_something_else():
    assert str(UnknownNameError("network", "zzzz", ["relu"])) == "unknown network 'zzzz'; known: relu"


@pytest.mark.parametrize(
    "error",
    [UnknownNameError("activation", "x", ["relu"]), MissingExtraError("lightning", "lab"), errors.DataError("a.png")],
)
def test_pickle(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
