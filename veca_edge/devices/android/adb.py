"""Phones through the system's `adb`: which one is meant, commands in its shell, and files that are put on it.

A phone is not trusted: what it says is bounded in bytes and time, and nothing that it or the user names reaches a shell
unquoted.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import EdgeError
from ...base.files import sha256_of
from ..answers import Reader, shown
from ..process import Completed, TooLong, TooSlow, run_bounded

SCHEME = "adb"
PHONE_ROOT = "/data/local/tmp/veca-edge"
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\[\]%-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LISTED = re.compile(r"(\S+)\s+(no permissions|[a-z]+)\b.*")
_SECONDS = 60.0
_MOST_BYTES = 256 << 10
# A file moves at no less than 1 MB/s, also over Wi-Fi.
_SLOWEST_BYTES_PER_S = 1e6
_SPARE_BYTES = 16 << 20
_RESUME = "Connect it again and run the same command: it goes on where it stopped."


class PhoneLost(EdgeError):
    """The phone does not answer any more; what else was asked of it would fail too."""


def serial_of(device: str) -> str | None:
    """The serial in `adb:SERIAL`, or None for `adb`. Raises `EdgeError` for anything else."""
    scheme, colon, serial = device.partition(":")
    if scheme != SCHEME:
        raise EdgeError(f"'{device}' is not a phone.", "Give --device adb, or adb:SERIAL (see: adb devices).")
    if colon and not _SERIAL.fullmatch(serial):
        raise EdgeError(
            f"{serial!r:.140} is not the serial of a phone.", "Give --device adb:SERIAL, as `adb devices` lists it."
        )
    return serial or None


def adb_executable() -> str:
    """The path of `adb`: on the PATH, or in the Android SDK. Raises `EdgeError` where there is none."""
    sdk = [
        Path(root, "platform-tools") for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if (root := os.environ.get(name))
    ]
    found = shutil.which("adb") or next((at for folder in sdk if (at := shutil.which("adb", path=str(folder)))), None)
    if found is None:
        raise EdgeError(
            "There is no `adb` on this machine, which reaches phones.",
            "Install the Android SDK Platform-Tools (Debian: apt install adb), or set ANDROID_HOME.",
        )
    return found


@dataclass(frozen=True)
class Adb:
    """One phone.

    Attributes:
        executable: of adb.
        serial: as `adb devices` lists the phone.
    """

    executable: str
    serial: str

    @property
    def name(self) -> str:
        return f"{SCHEME}:{self.serial}"

    @property
    def reader(self) -> Reader:
        return Reader(
            self.name, "Is it an Android phone, and does `adb shell` work? Run the command again with --debug."
        )

    def shell(self, script: str, seconds: float = _SECONDS, most_bytes: int = _MOST_BYTES) -> tuple[int, str]:
        """Runs lines in the phone's shell.

        Returns:
            The exit code of the last one, and what they wrote to standard output.

        Raises:
            PhoneLost: it is gone, or did not come to an end; UnreadableAnswer: it said too much.
        """
        # The last line tells an answer from half of one: adb's own exit code is the same for both.
        asked = f'(\n{script}\n)\ncode=$?\necho\necho "@exit $code"'
        said = self._run(["shell", "-T", asked], seconds, most_bytes)
        body, mark, code = said.text.replace("\r\n", "\n").rstrip("\n").rpartition("\n@exit ")
        if not mark or not re.fullmatch(r"[0-9]{1,3}", code):
            raise self._lost(said)
        return int(code), body

    def answer(self, script: str, seconds: float = _SECONDS, most_bytes: int = _MOST_BYTES) -> str:
        """What lines in the phone's shell wrote. Raises `EdgeError` where the last one failed, or as `shell` does."""
        code, said = self.shell(script, seconds, most_bytes)
        if code:
            raise EdgeError(
                f"{self.name} could not do what it was asked (exit code {code}): {shown(said.strip())}.",
                "Is it Android, with room in /data/local/tmp? Run the same command again.",
            )
        return said

    def put(self, path: Path, name: str, executable: bool = False) -> str:
        """Copies a file to the phone, unless it is there already, and compares the digests.

        Returns:
            Where it is on the phone: below a folder that is named after its digest.

        Raises:
            EdgeError: no space, or it arrived damaged; PhoneLost: the phone is gone.
        """
        assert _NAME.fullmatch(name)
        digest, size = sha256_of(path), path.stat().st_size
        folder = f"{PHONE_ROOT}/{digest[:16]}"
        there, part = f"{folder}/{name}", f"{folder}/{name}.part"
        if self.digest_of(there) == digest:
            return there
        self.answer(f"mkdir -p {folder} && chmod 755 {PHONE_ROOT} {folder}")
        free = self._free_bytes(folder)
        if free < size + _SPARE_BYTES:
            raise EdgeError(
                f"{self.name} has {free / 1e6:,.0f} MB of free space, but {path.name} takes {size / 1e6:,.0f} MB.",
                f"Make space on it, for example: adb -s {self.serial} shell rm -r {PHONE_ROOT}",
            )
        said = self._run(["push", str(path.resolve()), part], _SECONDS + size / _SLOWEST_BYTES_PER_S, _MOST_BYTES)
        if said.exit_code:
            if "No space left" in said.error_text + said.text:
                raise EdgeError(f"{self.name} has no space left for {path.name}.", "Make space on the phone.")
            raise self._lost(said)
        if self.digest_of(part) != digest:
            raise EdgeError(f"{path.name} arrived damaged on {self.name}.", "Try another cable, and run it again.")
        self.answer(f"chmod {'755' if executable else '644'} {part} && mv -f {part} {there}")
        return there

    def digest_of(self, path: str, before: str = "") -> str | None:
        """The sha256 of a file on the phone, or None where there is none. `before` stands before the command."""
        code, said = self.shell(f"{before}sha256sum {shlex.quote(path)} 2>/dev/null", seconds=_SECONDS * 5)
        if code:
            return None
        return self.reader.digest("the digest of a file", said.strip().partition(" ")[0])

    def _free_bytes(self, folder: str) -> int:
        lines = self.answer(f"df -k {folder}").strip().splitlines()
        fields = lines[-1].split() if lines else []
        if len(fields) < 6:
            raise self.reader.refused("the free space", " ".join(fields))
        return 1024 * self.reader.whole("the free space", fields[3])

    def _run(self, arguments: list[str], seconds: float, most_bytes: int) -> Completed:
        try:
            return run_bounded([self.executable, "-s", self.serial, *arguments], seconds=seconds, most_bytes=most_bytes)
        except TooSlow as error:
            raise PhoneLost(f"{self.name} did not answer within {seconds:.0f} s.", _RESUME) from error
        except TooLong as error:
            raise self.reader.refused("its answer", "too long") from error
        except OSError as error:
            raise EdgeError(
                f"{self.executable} could not be started: {error.strerror or error}.",
                "Install Android's platform tools, for example with: sudo apt install adb",
            ) from error

    def _lost(self, said: Completed) -> PhoneLost:
        why = (said.error_text.splitlines() or said.text.strip().splitlines() or [""])[-1]
        if "unauthorized" in why:
            return PhoneLost(f"{self.name} does not allow this computer.", _ALLOW)
        return PhoneLost(f"The connection to {self.name} broke off: {shown(why)}.", _RESUME)


_ALLOW = "Unlock the phone, and allow USB debugging for this computer in the dialog that it shows."
_STATES = {
    "unauthorized": _ALLOW,
    "authorizing": "Wait a moment, and run it again.",
    "offline": "Unplug it and plug it in again, or run: adb reconnect",
    "no permissions": "Install the udev rules for Android (Debian: apt install android-sdk-platform-tools-common).",
}


def open_phone(device: str) -> Adb:
    """The phone that `--device` names: `adb`, where one is connected, or `adb:SERIAL`.

    Raises:
        EdgeError: no adb, no phone, several and no serial, or it does not allow this computer.
    """
    serial, executable = serial_of(device), adb_executable()
    states = connected(executable)
    listed = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
    if serial is None:
        if not states:
            raise EdgeError(
                "No phone is connected.", "Turn on USB debugging in its developer options, and connect it by cable."
            )
        ready = [name for name, state in states.items() if state == "device"]
        if len(ready) > 1:
            raise EdgeError(
                f"{len(ready)} phones are connected: {', '.join(ready)}.", f"Say which: --device adb:{ready[0]}"
            )
        serial = ready[0] if ready else next(iter(states))
    if serial not in states:
        raise EdgeError(f"The phone {serial} is not connected.", f"Connected: {listed}.")
    state = states[serial]
    if state != "device":
        hint = _STATES.get(state, "Start Android on it, and run it again.")
        raise EdgeError(f"The phone {serial} is connected, but adb calls it '{state}'.", hint)
    return Adb(executable, serial)


def connected(executable: str) -> dict[str, str]:
    """The states of all phones that adb knows of, by serial. Raises `EdgeError` where adb does not tell."""
    try:
        said = run_bounded([executable, "devices"], seconds=_SECONDS, most_bytes=_MOST_BYTES)
    except (TooSlow, TooLong, OSError) as error:
        raise EdgeError(f"{executable} did not list the phones.", "Try: adb kill-server, then adb devices") from error
    _, heading, body = said.text.partition("List of devices attached")
    if said.exit_code or not heading:
        why = shown((said.error_text or said.text).strip())
        raise EdgeError(f"{executable} did not list the phones: {why}.", "Try: adb kill-server, then adb devices")
    found = {}
    for line in body.splitlines():
        if not line.strip():
            continue
        match = _LISTED.fullmatch(line.strip())
        if match is None or not _SERIAL.fullmatch(match[1]):
            raise Reader("adb devices").refused("a line", line)
        found[match[1]] = match[2]
    return found
