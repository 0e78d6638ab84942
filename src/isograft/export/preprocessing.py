"""The preprocessing as ONNX functions: the pixels that the network sees, to the bit as OpenCV scales them on a CPU.

A network that is handed on must see the pixels that `predict` shows it, and the resize of another library differs from ours by grey levels.
OpenCV scales uint8 images in two ways, written here as arithmetic (tests/unit/export/test_preprocessing.py compares them over many sizes):

- Area average when both sides shrink: each output pixel is the mean of the input pixels that its cell covers, weighted by the part
  covered; a part under a thousandth of a pixel is left out. Horizontally first, in float32, rounded once, half to even. Where both factors
  are whole numbers the sum is a whole number, and is divided at the end (of 2 x 2 pixels half is rounded up).
- Linear otherwise, in whole numbers: weights in 2048ths, horizontally first; the sums lose 4 bits before the vertical step and 16 after it.

The functions are read by onnxscript, which turns them into a graph: `onnx.TensorProto` types are its numbers 2 (uint8), 1 (float32),
11 (float64), 6 (int32), 7 (int64). Images are (N, H, W, 3).
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper
from onnx.inliner import inline_local_functions
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.values import Opset

from isograft.data.preprocess import LONGEST_ASPECT, Preprocess

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

DOMAIN = Opset("isograft", 1)
IR_VERSION = 9
"""Of the ONNX file; ONNX Runtime 1.15 and later know it."""


@script(DOMAIN, default_opset=op)
def cells(size, wanted):
    """Of each of w output cells along one axis: its T input places int64 (w, T), and the share float32 (w, T) each has of it."""
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    scale = op.Cast(size, to=11) / op.Cast(wanted, to=11)
    unit = op.Cast(one, to=11)
    thousandth = unit / op.Cast(op.Constant(value_int=1000), to=11)
    taps = op.Cast(op.Ceil(scale), to=7) + one
    cell = op.Unsqueeze(op.Cast(op.Range(zero, wanted, one), to=11), [1])
    low = cell * scale
    place = op.Floor(low) + op.Unsqueeze(op.Cast(op.Range(zero, taps, one), to=11), [0])
    covered = op.Min(low + scale, place + unit) - op.Max(low, place)
    shares = op.Where(covered > thousandth, covered, covered - covered) / op.Min(scale, op.Cast(size, to=11) - low)
    return op.Min(op.Cast(place, to=7), size - one), op.Cast(shares, to=1)


@script(DOMAIN, default_opset=op)
def area(x, height, width):
    """Area average of uint8 images, both sides of which shrink or stay."""
    zero = op.Constant(value_int=0)
    two = op.Constant(value_int=2)
    black = op.Constant(value_float=0.0)
    white = op.Constant(value_float=255.0)
    channels = op.Constant(value_ints=[3])
    rows = op.Squeeze(op.Shape(x, start=1, end=2))
    columns = op.Squeeze(op.Shape(x, start=2, end=3))
    whole = op.And(rows % height == zero, columns % width == zero)
    per_row = rows / height
    per_column = columns / width
    count = op.Cast(per_row * per_column, to=1)
    across, across_shares = cells(columns, width)
    down, down_shares = cells(rows, height)
    across_weights = op.Where(whole, op.Ceil(across_shares), across_shares)
    down_weights = op.Where(whole, op.Ceil(down_shares), down_shares)
    by_column = op.Transpose(x, perm=[0, 2, 1, 3])
    taken = op.Cast(op.Gather(op.Reshape(by_column, [0, 0, -1]), across, axis=1), to=1)
    across_sums = op.ReduceSum(taken * op.Unsqueeze(across_weights, [2]), [2], keepdims=0)
    unrolled = op.Concat(op.Shape(across_sums, start=0, end=2), op.Unsqueeze(rows, [0]), channels, axis=0)
    by_row = op.Transpose(op.Reshape(across_sums, unrolled), perm=[0, 2, 1, 3])
    tall = op.Gather(op.Reshape(by_row, [0, 0, -1]), down, axis=1)
    rolled = op.ReduceSum(tall * op.Unsqueeze(down_weights, [2]), [2], keepdims=0)
    final = op.Concat(op.Shape(x, start=0, end=1), op.Unsqueeze(height, [0]), op.Unsqueeze(width, [0]), channels, axis=0)
    sums = op.Reshape(rolled, final)
    quarters = op.Floor((sums + op.Constant(value_float=2.0)) / op.Constant(value_float=4.0))
    halved = op.And(per_row == two, per_column == two)
    means = op.Where(halved, quarters, op.Round(sums * op.Reciprocal(count)))
    return op.Cast(op.Clip(op.Where(whole, means, op.Round(sums)), black, white), to=2)


@script(DOMAIN, default_opset=op)
def steps(size, wanted, by_area):
    """Of each of w output pixels along one axis: the input place float64 (w,) to its left, and float32 (w,) how far right of it it lies."""
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    unit = op.Cast(one, to=11)
    half = unit / op.Cast(op.Constant(value_int=2), to=11)
    here = op.Cast(op.Range(zero, wanted, one), to=11)
    back = op.Cast(wanted, to=11) / op.Cast(size, to=11)
    scale = unit / back  # not size / wanted, whose last bit may differ, and with it the place
    left = op.Floor(here * scale)
    part = op.Cast((here + unit) - (left + unit) * back, to=1)
    area_part = op.Where(part <= op.Constant(value_float=0.0), part - part, part - op.Floor(part))
    middle = op.Cast((here + half) * scale - half, to=1)
    plain_left = op.Floor(middle)
    place = op.Where(by_area, left, op.Cast(plain_left, to=11))
    return place, op.Where(by_area, area_part, middle - plain_left)


@script(DOMAIN, default_opset=op)
def linear(x, height, width, by_area):
    """Linear interpolation of uint8 images; `by_area` as OpenCV does when only one of the sides shrinks."""
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    full = op.Constant(value_float=1.0)
    parts = op.Constant(value_float=2048.0)
    black = op.Cast(zero, to=6)
    white = op.Cast(op.Constant(value_int=255), to=6)
    four_bits = op.Cast(op.Constant(value_int=16), to=6)
    sixteen_bits = op.Cast(op.Constant(value_int=65536), to=6)
    two = op.Cast(op.Constant(value_int=2), to=6)
    four = op.Cast(op.Constant(value_int=4), to=6)
    rows = op.Squeeze(op.Shape(x, start=1, end=2))
    columns = op.Squeeze(op.Shape(x, start=2, end=3))
    x_place, x_part = steps(columns, width, by_area)
    y_place, y_part = steps(rows, height, by_area)
    x_left = op.Cast(x_place, to=7)
    y_left = op.Cast(y_place, to=7)
    inside = op.And(x_left >= zero, x_left < columns - one)
    x_share = op.Where(inside, x_part, x_part - x_part)
    x_low = op.Clip(x_left, zero, columns - one)
    x_high = op.Clip(x_low + one, zero, columns - one)
    y_low = op.Clip(y_left, zero, rows - one)
    y_high = op.Clip(y_left + one, zero, rows - one)
    a_low = op.Unsqueeze(op.Cast(op.Round((full - x_share) * parts), to=6), [1])
    a_high = op.Unsqueeze(op.Cast(op.Round(x_share * parts), to=6), [1])
    b_low = op.Unsqueeze(op.Cast(op.Round((full - y_part) * parts), to=6), [1, 2])
    b_high = op.Unsqueeze(op.Cast(op.Round(y_part * parts), to=6), [1, 2])
    whole = op.Cast(x, to=6)
    sums = (op.Gather(whole, x_low, axis=2) * a_low + op.Gather(whole, x_high, axis=2) * a_high) / four_bits
    above = op.Gather(sums, y_low, axis=1) * b_low / sixteen_bits
    below = op.Gather(sums, y_high, axis=1) * b_high / sixteen_bits
    return op.Cast(op.Clip((above + below + two) / four, black, white), to=2)


@script(DOMAIN, default_opset=op)
def resize(x, height, width):
    """`cv2.resize` of uint8 images: INTER_AREA when they lose pixels, INTER_LINEAR when they gain some, themselves when they do neither."""
    rows = op.Squeeze(op.Shape(x, start=1, end=2))
    columns = op.Squeeze(op.Shape(x, start=2, end=3))
    shrinks = height * width < rows * columns
    both = op.And(height <= rows, width <= columns)
    if op.And(height == rows, width == columns):
        scaled = op.Identity(x)
    else:
        if op.And(shrinks, both):  # noqa: SIM108  (onnxscript knows statements only)
            scaled = area(x, height, width)
        else:
            scaled = linear(x, height, width, shrinks)
    return scaled


@script(DOMAIN, default_opset=op)
def preprocessing(image, short, longest, side):
    """`Preprocess.working`, then `Preprocess.fit`: uint8 images (N, H, W, 3) of one size to (N, S, S, 3)."""
    sizes = op.Cast(op.Shape(image, start=1, end=3), to=11)
    scaled = op.Round(sizes * (op.Cast(short, to=11) / op.ReduceMin(sizes, keepdims=0)))
    working = op.Clip(op.Cast(scaled, to=7), op.Constant(value_int=1), longest)
    height = op.Squeeze(op.Slice(working, [0], [1]))
    width = op.Squeeze(op.Slice(working, [1], [2]))
    return resize(resize(image, height, width), side, side)


def preprocessing_graph(preprocess: Preprocess) -> Any:
    """The preprocessing of a model as an ONNX graph.

    Args:
        preprocess: All but its `normalise`, which belongs to the network's graph.

    Returns:
        An `onnx.ModelProto`: `image` uint8 (B, H, W, 3) RGB of any height and width in, `pixels` uint8 (B, S, S, 3) out.
    """
    side = preprocess.image_size
    known = {"short": preprocess.working_size, "longest": LONGEST_ASPECT * preprocess.working_size, "side": side}
    nodes = [helper.make_node("Constant", [], [name], value_int=value) for name, value in known.items()]
    nodes.append(helper.make_node("preprocessing", ["image", *known], ["pixels"], domain=DOMAIN.domain))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3])
    functions = [one.to_function_proto() for one in (cells, area, steps, linear, resize, preprocessing)]
    opsets = [helper.make_opsetid("", op.version), helper.make_opsetid(DOMAIN.domain, DOMAIN.version)]
    graph = helper.make_graph(nodes, "preprocessing", [image], [pixels])
    return inline_local_functions(helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=IR_VERSION))
