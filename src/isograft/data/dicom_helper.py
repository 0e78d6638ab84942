"""Decoding in processes of their own: a broken image can bring a decoder down, and with it the process that it runs in.

GDCM, the only free decoder of JPEG Lossless, JPEG-LS and JPEG with 12 bits, ends its process at many broken images; that of JPEG 2000
is as complex, and prints what it dislikes. So each thread that decodes such an image has a helper. An image that ends it is
unusable, and the next one gets a new helper.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from isograft.extras import needed

SECONDS = 60.0
"""Longest time an image may take."""

_SIZES = struct.Struct("<II")
_START = "import sys; sys.path[:] = sys.argv[1:]; from isograft.data.dicom_helper import serve; serve()"
_idle: queue.SimpleQueue[Helper] = queue.SimpleQueue()


class HelperError(Exception):
    """A helper could not decode an image, or did not survive it."""


def decode(syntax: str, plugin: str, coded: bytes, options: dict[str, Any]) -> NDArray[Any]:
    """Decode one compressed image.

    Args:
        syntax: UID of the transfer syntax.
        plugin: The plugin of pydicom to use.
        coded: The image.
        options: The decoding options of pydicom that describe it.

    Returns:
        Integers of `bits_allocated` bits: (H, W), or (H, W, 3) RGB.

    Raises:
        HelperError: It cannot be decoded.
    """
    helper = _any_helper()
    pixels = helper.ask(json.dumps([syntax, plugin, options]).encode(), coded)
    _idle.put(helper)
    if not pixels:
        raise HelperError
    kind = f"<{'i' if options['pixel_representation'] else 'u'}{options['bits_allocated'] // 8}"
    shape = (options["rows"], options["columns"], options["samples_per_pixel"])
    return np.frombuffer(pixels, kind).reshape(shape if shape[2] > 1 else shape[:2])


class Helper:
    """A helper process."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _START, *sys.path]
        self.owner = os.getpid()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, description: bytes, coded: bytes) -> bytes:
        """The decoded bytes of an image; none where it cannot be decoded.

        Raises:
            HelperError: The helper did not survive it.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101  (both are pipes)
        patience = threading.Timer(SECONDS, self._process.kill)
        patience.start()
        try:
            self._process.stdin.write(_SIZES.pack(len(description), len(coded)) + description)
            self._process.stdin.write(coded)
            self._process.stdin.flush()
            return _exactly(self._process.stdout, _SIZES.unpack(_exactly(self._process.stdout, _SIZES.size))[0])
        except (OSError, EOFError):
            self.close()
            raise HelperError from None
        finally:
            patience.cancel()

    def close(self) -> None:
        """End the helper."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not sent is lost
                if pipe is not None:
                    pipe.close()
        self._process.wait()


def _any_helper() -> Helper:
    """An idle helper, or a new one."""
    try:
        while (helper := _idle.get_nowait()).owner != os.getpid():
            pass  # this process was forked from the one that talks to it
    except queue.Empty:
        helper = Helper()
    return helper


@atexit.register
def _close_all() -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            if (helper := _idle.get_nowait()).owner == os.getpid():
                helper.close()


def serve() -> None:
    """Be a helper: decode what comes on stdin until it ends. What decoders print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    requests = sys.stdin.buffer
    while len(sizes := requests.read(_SIZES.size)) == _SIZES.size:
        described, coded = (_exactly(requests, size) for size in _SIZES.unpack(sizes))
        try:
            syntax, plugin, options = json.loads(described)
            pixels = _decoded(syntax, plugin, options, coded)
        except BaseException:  # what the decoder in Rust raises is no Exception
            pixels = b""
        answers.write(_SIZES.pack(len(pixels), 0))
        answers.write(pixels)
        answers.flush()


def _exactly(stream: Any | BinaryIO, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _decoded(syntax: str, plugin: str, options: dict[str, Any], coded: bytes) -> bytes:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    if syntax == JPEGExtended12Bit:
        return _extended(syntax, coded, options)
    array = get_decoder(syntax).as_array(encapsulate([coded], has_bot=False), index=0, decoding_plugin=plugin, **options)[0]
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _extended(syntax: str, coded: bytes, options: dict[str, Any]) -> bytes:
    """Decode a grey JPEG of 12 bits, which pydicom's way to GDCM refuses."""
    gdcm = needed("gdcm", "dicom")
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(coded)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((options["columns"], options["rows"], 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    stored, signed = options["bits_stored"], options["pixel_representation"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, stored, stored - 1, signed))
    samples: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    return samples
