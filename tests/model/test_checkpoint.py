"""Reading checkpoints: every form that must load, and every file that must be refused in one clear message."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.base.tasks import HeadFile
from veca_edge.model.checkpoint import Checkpoint, expected_shapes, load_checkpoint, random_checkpoint, save_safetensors
from veca_edge.model.config import FAMILIES, ModelConfig

CONFIG = ModelConfig(8, 1, 2, 12, 2, 4, 2, 8, 0.5, "high", "tiny")


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    return random_checkpoint(CONFIG, classes=3)


def content_of(checkpoint: Checkpoint, **config) -> dict:
    """What a training saves."""
    said = {
        "num_heads": checkpoint.config.heads,
        "rope_p_zero_freqs": checkpoint.config.rope_zero_fraction,
        "rope_zero_freqs_from": checkpoint.config.rope_zero_from,
        "model_family": checkpoint.config.family,
    }
    return {"student": dict(checkpoint.tensors), "config": {**said, **config}, "epoch": 3}


def with_head(checkpoint: Checkpoint) -> dict:
    (own,) = checkpoint.heads
    head = {"weight": torch.from_numpy(own.terms[0].weight), "bias": torch.from_numpy(own.bias)}
    return {**content_of(checkpoint), "head": head, "classes": list(checkpoint.labels)}


def saved(tmp_path: Path, content: object, **options) -> Path:
    path = tmp_path / "model.pt"
    torch.save(content, path, **options)
    return path


def assert_same(loaded: Checkpoint, expected: Checkpoint, atol: float = 0.0) -> None:
    assert loaded.config == expected.config
    assert set(loaded.tensors) == set(expected.tensors)
    for key, value in loaded.tensors.items():
        assert value.dtype == torch.float32
        assert value.is_contiguous()
        torch.testing.assert_close(value, expected.tensors[key], rtol=0, atol=atol)


def refused(path: Path, *parts: str, **options) -> EdgeError:
    """The one error: exit code 2, and a message with every part in it."""
    with pytest.raises(EdgeError) as caught:
        load_checkpoint(path, **options)
    assert caught.value.exit_code == 2
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in caught.value.message
    return caught.value


# --------------------------------------------------------------------------------------- what loads


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_file(tmp_path, small, legacy):
    path = saved(tmp_path, with_head(small), _use_new_zipfile_serialization=not legacy)
    loaded = load_checkpoint(path)
    assert_same(loaded, small)
    assert loaded.name == "model"
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.labels == ("class 0", "class 1", "class 2")
    assert np.array_equal(loaded.heads[0].terms[0].weight, small.heads[0].terms[0].weight)


def test_compressed_archive(tmp_path, small):
    """An archive that somebody packed again can't be mapped, but is read."""
    path, packed = saved(tmp_path, content_of(small)), tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    assert_same(load_checkpoint(packed), small)


def test_safetensors_there_and_back(tmp_path, small):
    path = tmp_path / "model.safetensors"
    save_safetensors(small, path)
    loaded = load_checkpoint(path)
    assert_same(loaded, small)
    assert loaded.labels == small.labels
    assert np.array_equal(loaded.heads[0].bias, small.heads[0].bias)
    again = tmp_path / "again.safetensors"
    save_safetensors(replace(loaded, heads=()), again)
    assert load_checkpoint(again).heads == ()


@pytest.mark.parametrize("prefix", ["module.", "student.", "module.student.", "student.module."])
@pytest.mark.parametrize("bare", [False, True])
def test_prefixes(tmp_path, small, prefix, bare):
    state = {prefix + key: value for key, value in small.tensors.items()}
    content = state if bare else {**content_of(small), "student": state}
    options = {"heads": 1, "rope_zero": 0.0} if bare else {}
    assert load_checkpoint(saved(tmp_path, content), **options).tensors.keys() == small.tensors.keys()


def test_old_files_say_matryoshka(tmp_path, small):
    assert_same(load_checkpoint(saved(tmp_path, content_of(small, matryoshka_chunk_size=2))), small)
    refused(saved(tmp_path, content_of(small, matryoshka_chunk_size=4)), "chunks of 4 cores", "tensors hold 2")
    refused(saved(tmp_path, content_of(small, nested_chunk_size=4, matryoshka_chunk_size=2)), "chunks of 4")


def test_bare_state_dict_needs_what_shapes_do_not_tell(tmp_path, small):
    path = saved(tmp_path, dict(small.tensors))
    refused(path, "number of attention heads", "2 layers, width 8", "--heads")
    refused(path, "rotary frequencies", "--rope-zero", heads=2)
    loaded = load_checkpoint(path, heads=2, rope_zero=0.5)
    assert (loaded.config.heads, loaded.config.rope_zero_fraction, loaded.config.family) == (2, 0.5, "custom")


def test_options_win_over_the_file(tmp_path, small):
    loaded = load_checkpoint(saved(tmp_path, content_of(small)), heads=2, rope_zero=0.0)
    assert (loaded.config.heads, loaded.config.rope_zero_fraction) == (2, 0.0)


def test_bare_state_dict_of_a_family(tmp_path):
    """The family is known by its sizes, and brings heads and rotary settings."""
    family = FAMILIES["small"].config()
    tensors = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in expected_shapes(family).items()}
    assert load_checkpoint(saved(tmp_path, tensors)).config == family


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types(tmp_path, small, dtype):
    content = content_of(small)
    content["student"] = {key: value.to(dtype) for key, value in content["student"].items()}
    assert_same(load_checkpoint(saved(tmp_path, content)), small, atol=0.05)


def test_parameters_and_views(tmp_path, small):
    content = content_of(small)
    content["student"] = {
        key: torch.nn.Parameter(torch.stack([value, value], dim=-1)[..., 0])
        for key, value in content["student"].items()
    }
    loaded = load_checkpoint(saved(tmp_path, content))
    assert_same(loaded, small)
    assert not any(value.requires_grad for value in loaded.tensors.values())


def test_one_layer_may_bring_an_empty_pos_alpha(tmp_path):
    one = random_checkpoint(replace(CONFIG, layers=1))
    content = content_of(one)
    content["student"]["pos_alpha"] = torch.zeros(0)
    assert_same(load_checkpoint(saved(tmp_path, content)), one)


def test_loaded_weights_outlive_the_file(tmp_path, small):
    """A training may overwrite its checkpoint while we work; a mapping would crash the process."""
    path = saved(tmp_path, content_of(small))
    loaded = load_checkpoint(path)
    os.truncate(path, 0)
    assert_same(loaded, small)


def test_progress_counts_the_bytes_once(tmp_path, small):
    content = {**content_of(small), "optimizer": torch.zeros(700_000)}
    calls: list[tuple[str, int, int]] = []
    load_checkpoint(saved(tmp_path, content), progress=lambda *call: calls.append(call))
    assert calls == [("hashing the checkpoint", done, 3) for done in (1, 2, 3)]


def test_optimizer_state_costs_no_memory(tmp_path, small):
    """300 MB of optimizer state beside a tiny model: what loading adds to the process stays far below that."""
    content = {**content_of(small), "optimizer": {"state": {0: {"exp_avg": torch.zeros(75_000_000)}}}}
    path = saved(tmp_path, content)
    assert path.stat().st_size > 290e6
    script = """
        import resource, sys
        import torch
        from veca_edge.model.checkpoint import load_checkpoint
        load_checkpoint(sys.argv[1])  # imports what torch.load imports
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        load_checkpoint(sys.argv[2])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    little = tmp_path / "little.pt"
    torch.save(content_of(small), little)
    added = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(little), str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(added) / 1024 < 60
    path.unlink()


# --------------------------------------------------------------------------------------- heads, labels


def test_head_and_labels_of_the_user(tmp_path, small):
    path = saved(tmp_path, content_of(small))
    head = {"weight": torch.randn(2, 8), "bias": torch.zeros(2)}
    labels = tmp_path / "labels.txt"
    labels.write_text("\ufeffcat\n\n dög \n", encoding="utf-8")
    for content in (head, {"head": head}, {"head.weight": head["weight"], "head.bias": head["bias"]}):
        torch.save(content, tmp_path / "head.pt")
        loaded = load_checkpoint(path, head_files=[HeadFile(tmp_path / "head.pt")], labels={None: labels})
        assert np.array_equal(loaded.heads[0].terms[0].weight, head["weight"].numpy())
        assert loaded.labels == ("cat", "dög")
    from safetensors.torch import save_file

    save_file(head, tmp_path / "head.safetensors")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(["a", "b"]))
    given = [HeadFile(tmp_path / "head.safetensors")]
    assert load_checkpoint(path, head_files=given, labels={None: labels}).labels == ("a", "b")


def test_head_of_the_user_takes_the_place_of_the_own(tmp_path, small):
    torch.save({"weight": torch.ones(3, 8), "bias": torch.zeros(3)}, tmp_path / "head.pt")
    loaded = load_checkpoint(saved(tmp_path, with_head(small)), head_files=[HeadFile(tmp_path / "head.pt")])
    assert (loaded.heads[0].terms[0].weight == 1).all()
    assert loaded.labels is None, "the names are of the head that they came with"


def test_a_head_as_version_0_1_took_it(tmp_path, small):
    torch.save({"weight": torch.ones(2, 8), "bias": torch.zeros(2)}, tmp_path / "head.pt")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    path = saved(tmp_path, content_of(small))
    with pytest.warns(DeprecationWarning, match="head_files"):
        loaded = load_checkpoint(path, head=tmp_path / "head.pt", labels=tmp_path / "labels.txt")
    assert loaded.labels == ("a", "b")
    with pytest.warns(DeprecationWarning, match="head_for"):
        assert (loaded.head.weight == 1).all()


def test_classes_without_a_head_name_nothing(tmp_path, small):
    assert load_checkpoint(saved(tmp_path, {**content_of(small), "classes": ["a"]})).labels is None


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ({"weight": torch.zeros(3, 9), "bias": torch.zeros(3)}, ["takes 9 features", "model gives 8", "--head"]),
        ({"weight": torch.zeros(3, 8), "bias": torch.zeros(4)}, ["[3, 8] and bias [4]"]),
        ({"weight": torch.zeros(8), "bias": torch.zeros(3)}, ["[8] and bias [3]"]),
        ({"weight": torch.zeros(0, 8), "bias": torch.zeros(0)}, ["[0, 8]"]),
        ({"weight": torch.zeros(3, 8)}, ["'weight' and 'bias'"]),
        ({"weight": 1, "bias": 2}, ["'weight' and 'bias'"]),
        ({"weight": torch.full((3, 8), torch.nan), "bias": torch.zeros(3)}, ["NaN or Inf in 'weight'"]),
        ({"weight": torch.zeros(3, 8, dtype=torch.int8), "bias": torch.zeros(3)}, ["floating point"]),
        (torch.zeros(3), ["'weight' and 'bias'"]),
        (3, ["'weight' and 'bias'"]),
    ],
)
def test_wrong_heads(tmp_path, small, head, parts):
    path = saved(tmp_path, {**content_of(small), "head": head})
    refused(path, *parts)
    good = tmp_path / "good.pt"
    torch.save(content_of(small), good)
    torch.save({"head": head}, tmp_path / "head.pt")
    if isinstance(head, dict) and isinstance(head["weight"], torch.Tensor):
        refused(good, *parts, head_files=[HeadFile(tmp_path / "head.pt")])


def test_wrong_labels(tmp_path, small):
    path, labels = saved(tmp_path, with_head(small)), tmp_path / "labels.txt"
    refused(path, "can't be read", labels={None: labels})
    labels.write_text("a\nb\n")
    refused(path, "has 2 labels", "head of 3 classes", labels={None: labels})
    labels.write_bytes(b"\xff\xfe\x00")
    refused(path, "can't be read", labels={None: labels})
    labels = tmp_path / "labels.json"
    for text in ("{", "[" * 100_000, '{"a": 1}', "[1, 2, 3]", "3"):
        labels.write_text(text)
        refused(path, "labels.json", labels={None: labels})
    no_head = tmp_path / "no_head.pt"
    torch.save(content_of(small), no_head)
    (tmp_path / "endless").symlink_to("/dev/zero")
    refused(path, "is a device", labels={None: tmp_path / "endless"})
    os.mkfifo(tmp_path / "pipe.json")
    refused(path, "is a named pipe", labels={None: tmp_path / "pipe.json"})
    with open(tmp_path / "sparse.txt", "wb") as file:
        file.truncate(1 << 40)
    refused(path, "larger than", labels={None: tmp_path / "sparse.txt"})
    labels.write_text('["a"]')
    refused(no_head, "no classifier or segmentation head", "--head", labels={None: labels})
    for classes in ("abc", 3, [1, 2, 3], torch.zeros(3)):
        refused(saved(tmp_path, {**with_head(small), "classes": classes}), "not a list of names")


# --------------------------------------------------------------------------------------- what is refused


def test_not_a_file(tmp_path):
    refused(tmp_path / "absent.pt", "There is no file", "absent.pt")
    refused(tmp_path, "is a directory")
    refused(tmp_path / ("x" * 300), "can't be read")
    refused(Path("a\0b"), "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path, small):
    path = saved(tmp_path, content_of(small))
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"PK\x03\x04",
        b"\x80\x02.",
        b"\x80\x02K\x01.",
        bytes(100),
        b"\xff" * 100,
        b"\x08" + bytes(7) + b'{"a": 1}',
        b"[" * 50_000,
    ],
)
def test_something_else(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, name)


def test_text_that_unpickles_is_called_no_pickle(tmp_path):
    """A run file begins with the code of protocol 0 that names a module."""
    path = tmp_path / "run.toml"
    path.write_text('checkpoint = "door.pt"\ncores = [8]\n')
    assert "is not a checkpoint: torch.save did not write it" in refused(path).message


@pytest.mark.parametrize(
    "content",
    [
        [1],
        torch.zeros(3),
        "text",
        {},
        {"model": {}, "epoch": 3},
        {"student": 1},
        {"student": {}},
        {1: torch.zeros(1)},
        {"weight": torch.zeros(3, 3)},
    ],
)
def test_torch_file_of_something_else(tmp_path, content):
    refused(saved(tmp_path, content), "model.pt", "'student'")


def test_keys_that_are_there_help_to_find_the_weights(tmp_path):
    refused(saved(tmp_path, {"model": {}, "epoch": 3}), "holds 'model', 'epoch'")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99, 0.9999])
def test_truncated(tmp_path, small, kind, share):
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pt")
    if kind == "safetensors":
        save_safetensors(small, path)
    else:
        torch.save(content_of(small), path, _use_new_zipfile_serialization=kind == "zip")
    os.truncate(path, int(path.stat().st_size * share))
    refused(path, "truncated" if kind != "legacy" else "not a checkpoint")


class Code:
    """Unpickling it writes a file: the test that nothing was run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_code_is_refused_and_not_run(tmp_path, small, kind):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    content = {**content_of(small), "extra": Code(trace)}
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(Code(trace), protocol=int(kind[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    error = refused(path, "is a pickle", "nothing of it was run", "state_dict()")
    if kind != "pickle 4":
        assert "mkdir" in error.message
    assert not trace.exists()


def test_whole_model_is_code(tmp_path):
    refused(saved(tmp_path, torch.nn.Linear(2, 2)), "Linear", "state_dict()")


def test_torchscript_is_code(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/data.pkl", b"")
    refused(path, "TorchScript")


def test_missing_keys_are_named(tmp_path, small):
    content = content_of(small)
    for key in ("final_norm.bias", "blocks.1.attn.v_proj.weight"):
        del content["student"][key]
    refused(saved(tmp_path, content), "lacks 'blocks.1.attn.v_proj.weight', 'final_norm.bias'.")
    for key in ("patch_embed.proj.weight", "query_token_chunks.0", "blocks.0.fc1.weight"):
        content = content_of(small)
        del content["student"][key]
        refused(saved(tmp_path, content), f"lacks '{key}'")


def test_many_missing_keys_are_counted(tmp_path, small):
    content = content_of(small)
    content["student"] = {key: value for key, value in content["student"].items() if "norm" not in key}
    refused(saved(tmp_path, content), "and 4 more")


@pytest.mark.parametrize("missing", ["blocks.0", "query_token_chunks.0"])
def test_gaps_are_named(tmp_path, small, missing):
    content = content_of(small)
    far = missing.replace(".0", ".9999")
    content["student"] = {key.replace(missing, far): value for key, value in content["student"].items()}
    content["student"]["query_token_chunks.0"] = small.tensors["query_token_chunks.0"]
    content["student"]["blocks.0.fc1.weight"] = small.tensors["blocks.0.fc1.weight"]
    refused(saved(tmp_path, content), "lacks" if "chunks" not in missing else "", "9999")


def test_wrong_shapes_are_named(tmp_path, small):
    content = content_of(small)
    content["student"]["blocks.1.fc2.weight"] = torch.zeros(8, 13)
    content["student"]["final_norm.bias"] = torch.zeros(8, 1)
    refused(
        saved(tmp_path, content),
        "'blocks.1.fc2.weight' is [8, 13] instead of [8, 12]",
        "'final_norm.bias' is [8, 1] instead of [8]",
    )
    content = content_of(small)
    content["student"]["patch_embed.proj.weight"] = torch.zeros(8, 3, 2)
    refused(saved(tmp_path, content), "'patch_embed.proj.weight' should have 4 dimensions, but is [8, 3, 2]")
    content["student"]["patch_embed.proj.weight"] = torch.zeros(8, 3, 2, 4)
    refused(saved(tmp_path, content), "'patch_embed.proj.weight' is [8, 3, 2, 4] instead of [8, 3, 2, 2]")
    content["student"]["patch_embed.proj.weight"] = torch.zeros(8, 4, 2, 2)
    refused(saved(tmp_path, content), "'patch_embed.proj.weight'")


def test_unknown_tensors_are_not_dropped_in_silence(tmp_path, small):
    content = content_of(small)
    content["student"]["blocks.0.attn.q_norm.weight"] = torch.ones(8)
    refused(saved(tmp_path, content), "does not know: 'blocks.0.attn.q_norm.weight'")


def test_the_same_weights_twice(tmp_path, small):
    content = content_of(small)
    content["student"]["module.final_norm.bias"] = torch.ones(8)
    refused(saved(tmp_path, content), "'final_norm.bias' twice")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_are_named(tmp_path, small, value):
    content = content_of(small)
    content["student"]["blocks.1.fc2.weight"] = content["student"]["blocks.1.fc2.weight"].clone()
    content["student"]["blocks.1.fc2.weight"][3, 4] = value
    refused(saved(tmp_path, content), "NaN or Inf in 'blocks.1.fc2.weight'")


def test_too_large_for_float32(tmp_path, small):
    content = content_of(small)
    content["student"]["final_norm.bias"] = torch.full((8,), 1e300, dtype=torch.float64)
    refused(saved(tmp_path, content), "NaN or Inf in 'final_norm.bias'")


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(8, dtype=torch.int8),
        torch.zeros(8, dtype=torch.bool),
        torch.zeros(8, dtype=torch.complex64),
        torch.zeros(8).to_sparse(),
        torch.zeros(8, device="meta"),
        torch.zeros(1).expand(8),
        torch.zeros(1).expand(1 << 50),
    ],
    ids=["int8", "bool", "complex", "sparse", "meta", "expanded", "petabyte"],
)
def test_odd_tensors_are_named(tmp_path, small, value):
    content = content_of(small)
    content["student"]["final_norm.bias"] = value
    refused(saved(tmp_path, content), "not dense floating point", "'final_norm.bias'")


def test_zero_sizes(tmp_path):
    for shape in ((0, 3, 2, 2), (8, 3, 0, 0), (0, 0, 0, 0)):
        state = {
            "patch_embed.proj.weight": torch.zeros(shape),
            "query_token_chunks.0": torch.zeros(1, 0, 8),
            "blocks.0.fc1.weight": torch.zeros(0, 8),
        }
        refused(saved(tmp_path, state), "impossible", heads=1, rope_zero=0.0)


@pytest.mark.parametrize(
    "config",
    [
        {"num_heads": 3},
        {"num_heads": 0},
        {"num_heads": -1},
        {"num_heads": 1.5},
        {"num_heads": "two"},
        {"num_heads": 10**400},
        {"num_heads": float("nan")},
        {"num_heads": True},
        {"num_heads": [1]},
        {"num_heads": torch.zeros(2)},
        {"rope_p_zero_freqs": 2},
        {"rope_p_zero_freqs": "x"},
        {"rope_p_zero_freqs": float("nan")},
        {"rope_zero_freqs_from": "middle"},
        {"rope_zero_freqs_from": None},
        {"nested_chunk_size": "8"},
        {"nested_chunk_size": 0},
        {"nested_chunk_size": -8},
    ],
)
def test_wrong_configs(tmp_path, small, config):
    refused(saved(tmp_path, content_of(small, **config)), "model.pt")


@pytest.mark.parametrize("config", [3, "text", [1], torch.zeros(1), None])
def test_config_of_the_wrong_type(tmp_path, small, config):
    refused(saved(tmp_path, {**content_of(small), "config": config}), "'config' is a")


@pytest.mark.parametrize("metadata", ["{", "[1]", "3", "[" * 100_000, '"x"'])
def test_safetensors_metadata_that_is_no_config(tmp_path, small, metadata):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(dict(small.tensors), path, {"config": metadata})
    refused(path, "config")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_random_damage_never_surprises(tmp_path, small, kind):
    """Whatever bytes change: a valid load or an `EdgeError`, never another exception."""
    good = tmp_path / ("good.safetensors" if kind == "safetensors" else "good.pt")
    if kind == "safetensors":
        save_safetensors(small, good)
    else:
        torch.save(with_head(small), good, _use_new_zipfile_serialization=kind == "zip")
    data, path = good.read_bytes(), tmp_path / f"bad{good.suffix}"
    dice = random.Random(0)
    loads = 0
    for _ in range(400):
        # The structure of the file lies at its ends; its middle is numbers.
        end = dice.randrange(3)
        where = (dice.randrange(len(data)), dice.randrange(6000), len(data) - 1 - dice.randrange(6000))[end]
        damaged = bytearray(data)
        kind_of_damage = dice.randrange(4)
        if kind_of_damage == 0:
            damaged[where] ^= 1 << dice.randrange(8)
        elif kind_of_damage == 1:
            damaged[where : where + 16] = dice.randbytes(16)
        elif kind_of_damage == 2:
            del damaged[where : where + dice.randrange(1, 100)]
        else:
            del damaged[where:]
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except EdgeError:
            continue
        loads += 1
        assert all(torch.isfinite(value).all() for value in loaded.tensors.values())
    assert 10 < loads < 300
