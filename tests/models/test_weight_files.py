"""Files of weights: each form that torch and safetensors write, and what is wrong with a file that cannot be read."""

import sys

import pytest
import torch

from aconite.errors import CheckpointError, MissingExtraError
from aconite.models.weight_files import read_weights

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(500)}


def save(path, **options):
    torch.save(STATE, path, **options)
    return path


def assert_is_state(read):
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch(tmp_path, zipped):
    assert_is_state(read_weights(save(tmp_path / "w.pth.tar", _use_new_zipfile_serialization=zipped)))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file(tmp_path, share, zipped):
    path = save(tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"w\.pth is damaged"):
        read_weights(path)


def test_a_flipped_bit(tmp_path):
    path = save(tmp_path / "w.pth")
    content = bytearray(path.read_bytes())
    at = content.index(STATE["a"].numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="the checksum of its part w/data/0 does not fit"):
        read_weights(path)


def test_no_code_in_a_file_is_run(tmp_path):
    ran = tmp_path / "ran"

    class Harmful:
        def __reduce__(self):
            return open, (str(ran), "w")

    torch.save({"a": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*save model\.state_dict\(\) alone"):
        read_weights(tmp_path / "w.pth")
    assert not ran.exists()


def test_what_is_no_file_of_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*absent\.pth"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="there is no file"):
        read_weights(tmp_path)
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(CheckpointError, match=r"text\.pth is damaged"):
        read_weights(tmp_path / "text.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list: expected tensors by name"):
        read_weights(tmp_path / "list.pth")


def test_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    pytest.importorskip("safetensors.torch").save_file(STATE, path)
    assert_is_state(read_weights(path))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"w\.safetensors is damaged"):
        read_weights(path)


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"safetensors, .*aconite\[vision\]"):
        read_weights(tmp_path / "w.safetensors")
