"""Decoding of compressed images, by pydicom's decoders; by those that may end the process, in a process of their own.

GDCM is the one decoder under a permissive licence for lossless JPEG and JPEG-LS. Over some damaged images it throws
what no ``except`` catches, and the process ends: a service would go down with one bad file. JPEG 2000 and run lengths
have decoders that do not, and are decoded here.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder

RUN_LENGTHS = "1.2.840.10008.1.2.5"
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
TAME = frozenset({RUN_LENGTHS, *JPEG_2000})  # transfer syntaxes whose decoder, of pylibjpeg, leaves the process alone
PLUGINS = ("pylibjpeg", "gdcm")  # in this order
LONGEST_S = 60.0  # for one image
ENDING_S = 5.0  # for a process whose pipes are closed
KILLED = -9  # status of a process
SIZES = struct.Struct(">LL")  # before each message: bytes of its JSON, bytes of its data

Options = Mapping[str, Any]


class DecodingError(Exception):
    """An image cannot be decoded. Says no more than what kind of error it was: a decoder's words may quote the file."""


def decoder_of(uid: str) -> Decoder | None:
    """The decoder of a transfer syntax, if there is one and what it needs is installed."""
    try:
        decoder = get_decoder(uid) if uid in UID_dictionary else None
    except NotImplementedError:
        return None
    return decoder if decoder and decoder.is_available else None


def decode(uid: str, data: bytes, options: Options) -> NDArray[Any]:
    """Decode one compressed image in this process.

    Args:
        uid: transfer syntax.
        data: the image, one fragment or several joined.
        options: pydicom's: rows, columns, bits, …

    Returns:
        ``(rows, cols)``.

    Raises:
        DecodingError: if it cannot be decoded.
    """
    try:
        decoder = get_decoder(uid)
        plugin = next((name for name in PLUGINS if name in decoder.available_plugins), "")
        decoded, _ = decoder.as_array(
            encapsulate([data]), index=0, raw=True, decoding_plugin=plugin, **{**options, "number_of_frames": 1}
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each decoder has its own kinds; the panic of one in Rust is no Exception
        raise DecodingError(type(error).__name__) from None
    return decoded


class Decoding:
    """Decodes images one after the other; a context that ends the process that it may have started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoding:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def decode(self, uid: str, data: bytes, options: Options) -> NDArray[Any]:
        """Decode one compressed image: as :func:`decode`, wherever it can do no harm.

        Raises:
            DecodingError: if it cannot be decoded, takes longer than a minute, or ends the process.
            OSError: if the machine has no process left for it, or kills it to get memory.
        """
        if uid in TAME:
            return decode(uid, data, options)
        self._process = self._process or _start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        began, watch = time.monotonic(), _watch(self._process)
        try:
            _send(stdin, {"uid": uid, "options": dict(options)}, data)
            answer, pixels = _receive(stdout)
        except (OSError, EOFError):
            in_time = time.monotonic() - began < LONGEST_S  # else it is we who end it
            killed = in_time and _was_killed(self._process)
            self.__exit__()
            if killed:  # for want of memory, perhaps another's
                raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD)) from None
            raise DecodingError("the decoder ended its process") from None
        finally:
            watch.cancel()
        if "error" in answer:
            raise DecodingError(answer["error"])
        return np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"])


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Decode what comes until nothing does.

    Args:
        source: messages of transfer syntax, options and data.
        sink: messages of data type, shape and pixels, or of an error.
    """
    while True:
        try:
            asked, data = _receive(source)
        except EOFError:
            return
        try:
            decoded = decode(asked["uid"], data, asked["options"])
        except DecodingError as error:
            _send(sink, {"error": str(error)}, b"")
        else:
            _send(sink, {"dtype": decoded.dtype.str, "shape": decoded.shape}, decoded.tobytes())


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pipeline.dicom.decoding"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )


def _watch(process: subprocess.Popen[bytes]) -> threading.Timer:
    """Ends the process if it takes too long."""
    watch = threading.Timer(LONGEST_S, process.kill)
    try:
        watch.start()
    except RuntimeError:  # Python's word for a machine that starts no further thread
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return watch


def _was_killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process whose pipes are closed was ended from outside; a crash of its own has other signals."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(ENDING_S) == KILLED
    return False


def _send(stream: IO[bytes], message: Mapping[str, Any], data: bytes) -> None:
    said = json.dumps(message).encode()
    stream.write(SIZES.pack(len(said), len(data)) + said)
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """One message.

    Raises:
        EOFError: if there is none, or not the whole of it.
    """
    sizes = stream.read(SIZES.size)
    if len(sizes) < SIZES.size:
        raise EOFError
    said_size, data_size = SIZES.unpack(sizes)
    said, data = stream.read(said_size), stream.read(data_size)
    if len(said) + len(data) < said_size + data_size:
        raise EOFError
    return json.loads(said), data


def _main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
