"""GPTQ: round one column at a time, and let the columns that are left make up for the error.

Rounding every weight to its nearest code is best for the weight and not for the layer: inputs are correlated, and an
error in one column can be undone in its neighbours. With the inputs X of a layer, n of them, the squared error of its
output is a quadratic form of the weight's error, with the Hessian ``H = 2/n * sum of x x^T``; the same for every row.
GPTQ (Frantar et al. 2022) goes through the columns, rounds, and moves all later columns to where the output's error is
least given what is rounded already. One Cholesky factor of the inverse of H has all those moves in it.

What you write:

- ``accumulate``: the Hessian of a stream of inputs, batch by batch.
- ``gptq``: codes and maps of a weight, group by group, asymmetric. A group's scale and zero point are chosen when its
  first column's turn comes, from the weights as moved by then, by ``quant.affine``'s ``choose_qparams``; its scales
  are then rounded to bfloat16, as they are kept, its zero points stay.
- stretch: ``gptq_act_order``: the columns with the largest inputs first, while there are most columns left to make up
  for them; the groups' maps are chosen beforehand, so that the layout stays that of ``gptq``.
- stretch: ``retarget``: a layer behind quantized ones gets inputs that have drifted; move its weight so that it gives
  on them what it gave on the true ones, before rounding it.
- stretch: ``gptq_model``: a whole model, layer after layer.
- stretch: ``search_qparams``: maps narrower than a group's range, where clipping a few weights costs the output less
  than coarse steps for all.
- stretch: ``refit_scales``, ``refit_codes`` and the two in turn, ``gptq_refit``: GPTQ looks at each code and each map
  once; given all others, each can be chosen again.
- stretch: ``gptq_both``: rows make up for each other, too, given how the loss depends on the layer's outputs;
  ``output_hessians`` measures that, with gradients of the model's own predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quant.affine import QParams

SHRINK = tuple(1 - step / 25 for step in range(1, 13))
"""What ``search_qparams`` multiplies a scale by, beside 1: down to 0.52."""


@dataclass(frozen=True, slots=True)
class Hessian:
    """``matrix`` (cols, cols) float32 is ``2 / count * sum of x x^T`` over ``count`` inputs x of a layer."""

    matrix: Tensor
    count: int


Rounding = Callable[[Tensor, Hessian, int, int], tuple[Tensor, QParams]]
"""``gptq`` or one of its kind: from weight, Hessian, bits and group to codes and their maps."""
