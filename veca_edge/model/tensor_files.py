"""Files of tensors, `.pt` and `.safetensors`, read without believing them.

Code is refused, nothing is allocated that the file does not hold, and every fault is one `EdgeError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError, MissingDependency
from ..base.files import check_name, open_regular
from ..base.json_files import parse_json
from ..base.text import first_line

if TYPE_CHECKING:
    import torch

CHECKPOINT_HINT = "A VECA checkpoint is a dict with 'student' and 'config', or a bare state dict."
STATE_DICT_HINT = "Save the state dict alone: torch.save({'student': model.state_dict(), 'config': {...}}, path)."
NO_CHECKPOINT_HINT = "Give a file written by torch.save or safetensors; if it is one, copy or download it again."
DAMAGED_HINT = "Copy or download the file again."


def check_file(path: Path) -> None:
    """Raises `EdgeError` where there is no such file."""
    try:
        if path.is_dir():
            raise EdgeError(f"{path} is a directory, not a checkpoint file.", "Give the .pt or .safetensors file.")
        if not path.is_file():
            raise EdgeError(f"There is no file {path}.", "Give the path of a .pt or .safetensors checkpoint.")
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror}.", "Give another file.") from error


def read_tensors(path: Path) -> Mapping[str, Any]:
    """What `torch.save` or safetensors wrote: a mapping of tensors and plain values.

    Raises:
        EdgeError: there is no such file, or it is damaged, or asks to run code.
    """
    check_file(path)
    try:
        with open_regular(path) as file:
            start = file.read(4)
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror}.", "Give another file.") from error
    if not start:
        raise EdgeError(f"{path} is empty.", DAMAGED_HINT)
    check_name(path)
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise MissingDependency(package, "export", "Reading a checkpoint")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, start)
    if not isinstance(content, Mapping):
        raise EdgeError(f"{path} holds a {type(content).__name__}, not a checkpoint.", CHECKPOINT_HINT)
    return content


def _read_torch(path: Path, start: bytes) -> Any:
    import pickle
    import warnings
    import zipfile

    import torch

    mappable = False
    if start == b"PK\3\4":
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except Exception as error:
            raise EdgeError(
                f"{path} is truncated or damaged: the directory at the end of the archive can't be read.", DAMAGED_HINT
            ) from error
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise EdgeError(f"{path} is a TorchScript archive: it holds code, and was not run.", STATE_DICT_HINT)
        mappable = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated ways of writing files, which this user did not choose
            # Mapped, so that optimizer state is never read; a compressed archive can't be.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except pickle.UnpicklingError as error:
        # Of the first protocols, which torch.save never wrote, plain text may be a pickle too.
        if start[:1] in (b"P", b"\x80") and (code := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise EdgeError(
                f"{path} is a pickle that asks to load code ({code[1]}); it was refused, nothing of it was run.",
                STATE_DICT_HINT,
            ) from error
        if start[:1] == b"\x80" and start != b"\x80\2\x8a\n":  # a pickle, but not with torch's magic number
            raise EdgeError(
                f"{path} is a pickle that torch.save did not write; it was refused, nothing of it was run.",
                STATE_DICT_HINT,
            ) from error
        raise EdgeError(
            f"{path} is not a checkpoint: torch.save did not write it, or it is damaged.", NO_CHECKPOINT_HINT
        ) from error
    except Exception as error:  # a damaged file makes the reader fail in every way there is
        raise EdgeError(
            f"{path} is not a checkpoint, or is truncated or damaged: torch can't read it.", NO_CHECKPOINT_HINT
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    """A safetensors file: tensors under their own keys, and JSON metadata `config`, `classes` and `head_facts`."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content: dict[str, Any] = {"student": {key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118
    except Exception as error:  # as for torch files
        raise EdgeError(
            f"{path} is not a safetensors file, or is truncated or damaged: {first_line(error)[:120]}.", DAMAGED_HINT
        ) from error
    for key in ("config", "classes", "head_facts"):
        if key in metadata:
            try:
                content[key] = parse_json(metadata[key])
            except ValueError as error:
                raise EdgeError(
                    f"{path}: the metadata '{key}' is not JSON.", "Save the file again, with that metadata as JSON."
                ) from error
    return content


def check_plain(path: Path | str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Every element must be a real number that the file holds: none sparse, none one number repeated without end."""
    import torch

    def plain(value: torch.Tensor) -> bool:
        return (
            not value.is_nested
            and value.layout == torch.strided
            and value.device.type == "cpu"
            and value.is_floating_point()
            and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
        )

    if odd := [f"'{key}' ({value.dtype})" for key, value in tensors.items() if not plain(value)]:
        raise EdgeError(
            f"{path} has tensors that are not dense floating point numbers: {listed(odd)}.",
            "Save the float weights; quantization is this tool's work.",
        )


def finite_floats(path: Path | str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32 copies: the file may be overwritten by a training that still runs, and would take a mapping with it."""
    import torch

    floats = {
        key: value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
    if bad := [f"'{key}'" for key, value in floats.items() if not torch.isfinite(value).all()]:
        raise EdgeError(f"{path} has NaN or Inf in {listed(bad)}.", "The training diverged, or the file is damaged.")
    return floats


def listed(items: list[str], most: int = 6) -> str:
    """The first few of a list, and how many more there are."""
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
