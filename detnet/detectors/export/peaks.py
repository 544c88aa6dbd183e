"""The highest places of keypoints' heatmaps, each stretched over its box, as a graph of ONNX's.

torch resizes every heatmap to the size of its own box, bicubically, and looks for the largest
value. Here each axis is a matrix of cubic weights, so that a heatmap is resized by two products,
and `Scan` goes over the boxes, whose sizes differ.
"""

from typing import Any

# Of one box: its (K, M + 4, M + 4) heatmaps, repeated two cells beyond their edges, to (K, 3).
# Cubic convolution with a = -0.75, torch's: 1.25 x³ - 2.25 x² + 1 within a cell,
# -0.75 x³ + 3.75 x² - 6 x + 3 in the next.
_ONE_BOX = """
peak (float[K, P, P] heatmap, float[4] box) => (float[K, 3] found) {
  zero = Constant <value_ints: ints = [0]> ()
  one = Constant <value_ints: ints = [1]> ()
  two = Constant <value_ints: ints = [2]> ()
  three = Constant <value_ints: ints = [3]> ()
  four = Constant <value_ints: ints = [4]> ()
  first = Constant <value_int: int = 0> ()
  step = Constant <value_int: int = 1> ()
  half = Constant <value_float: float = 0.5> ()
  shortest = Constant <value_float: float = 1.0> ()
  far = Constant <value_float: float = 2.0> ()
  nothing = Constant <value_float: float = 0.0> ()
  a3 = Constant <value_float: float = 1.25> ()
  a2 = Constant <value_float: float = -2.25> ()
  b3 = Constant <value_float: float = -0.75> ()
  b2 = Constant <value_float: float = 3.75> ()
  b1 = Constant <value_float: float = -6.0> ()
  b0 = Constant <value_float: float = 3.0> ()
  corner = Slice (box, zero, two)
  opposite = Slice (box, two, four)
  apart = Sub (opposite, corner)
  sides = Max (apart, shortest)
  pixels = Ceil (sides)
  sizes = Cast <to: int = 7> (pixels)
  wide = Slice (sizes, zero, one)
  shape = Shape (heatmap)
  padded_shape = Slice (shape, two, three)
  cells = Sub (padded_shape, four)
  cells_f = Cast <to: int = 1> (cells)
  scale = Div (cells_f, pixels)
  longest = ReduceMax <keepdims: int = 0> (sizes)
  places_i = Range (first, longest, step)
  places = Cast <to: int = 1> (places_i)
  middle = Add (places, half)
  column = Unsqueeze (middle, one)
  stretched = Mul (column, scale)
  centred = Sub (stretched, half)
  columns = Squeeze (padded_shape)
  cell_i = Range (first, columns, step)
  cell_f = Cast <to: int = 1> (cell_i)
  cell = Sub (cell_f, far)
  position = Unsqueeze (centred, two)
  signed = Sub (position, cell)
  x = Abs (signed)
  inner_a = Mul (a3, x)
  inner_b = Add (inner_a, a2)
  inner_c = Mul (inner_b, x)
  inner_d = Mul (inner_c, x)
  inner = Add (inner_d, shortest)
  outer_a = Mul (b3, x)
  outer_b = Add (outer_a, b2)
  outer_c = Mul (outer_b, x)
  outer_d = Add (outer_c, b1)
  outer_e = Mul (outer_d, x)
  outer = Add (outer_e, b0)
  is_inner = Less (x, shortest)
  is_outer = Less (x, far)
  beyond = Where (is_outer, outer, nothing)
  weights = Where (is_inner, inner, beyond)
  across_all = Gather <axis: int = 1> (weights, first)
  down_all = Gather <axis: int = 1> (weights, step)
  high = Slice (sizes, one, two)
  across = Slice (across_all, zero, wide, zero)
  down = Slice (down_all, zero, high, zero)
  rows = MatMul (down, heatmap)
  turned = Transpose <perm: ints = [1, 0]> (across)
  large = MatMul (rows, turned)
  flat_shape = Constant <value_ints: ints = [0, -1]> ()
  flat = Reshape (large, flat_shape)
  value = ReduceMax <keepdims: int = 1> (flat, one)
  place = ArgMax <axis: int = 1, keepdims: int = 1> (flat)
  row = Div (place, wide)
  before = Mul (row, wide)
  along = Sub (place, before)
  xy_i = Concat <axis: int = 1> (along, row)
  xy_f = Cast <to: int = 1> (xy_i)
  xy_middle = Add (xy_f, half)
  pixel = Div (sides, pixels)
  xy_stretched = Mul (xy_middle, pixel)
  xy = Add (xy_stretched, corner)
  found = Concat <axis: int = 1> (xy, value)
}
"""


def one_box() -> Any:
    """Gives the body of the `Scan`, as a graph of onnx_ir's, with names that no others have."""
    import onnx.parser
    import onnx_ir

    graph: Any = onnx_ir.from_proto(onnx.parser.parse_graph(_ONE_BOX))
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        value.name = f"peak_{value.name}"
    return graph
