"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from quant.affine import QParams
from quant.hessian import Hessian, Rounding


def accumulate(hessian: Hessian | None, x: Tensor) -> Hessian:
    """Return the Hessian of the inputs so far and of a batch ``x`` (..., cols); ``hessian`` is None for the first.

    The mean is float32 on the device of ``x`` and does not depend on how the stream is cut. Raises TypeError for
    integers, ValueError for no inputs, another number of columns, NaN or inf, in ``x`` or because its squares overflow.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): the running mean of x x^T")


def gptq(
    weight: Tensor, hessian: Hessian, bits: int = 4, group: int = 32, damping: float = 0.01
) -> tuple[Tensor, QParams]:
    """Round a weight to codes of ``bits`` bits so that the layer's output changes little.

    ``weight`` is (rows, cols) float, ``hessian`` of its inputs. Returns codes, (rows, cols) int8, and their maps
    ((rows, groups); float32 scales that bfloat16 holds). ``damping`` times the mean of the Hessian's diagonal, where
    there was input, is added to it. A column whose input was always 0 is rounded to nearest and moves nothing. Raises
    ValueError for bits outside 2 to 8, a group that is not positive, negative damping, shapes that do not fit, NaN or
    inf, and a Hessian that is not positive definite even with the damping; TypeError for integers. Source: Frantar et
    al. 2022, arXiv:2210.17323, algorithm 1.
    """
    raise NotImplementedError("TODO 2 (core, about 25 lines): round a column, move the rest")


def gptq_act_order(
    weight: Tensor, hessian: Hessian, bits: int = 4, group: int = 32, damping: float = 0.01
) -> tuple[Tensor, QParams]:
    """Round as ``gptq`` does, the columns with the largest diagonal of the Hessian first (equal ones from the left).

    The maps of all groups are chosen beforehand from the weight as it comes, and codes stay in their columns: whoever
    reads them need not know the order. Arguments, results and errors are those of ``gptq``. Source: the authors'
    code of GPTQ, ``--act-order`` with ``--static-groups``.
    """
    raise NotImplementedError("TODO 3 (stretch, about 6 lines): the same in another order")


def retarget(weight: Tensor, hessian: Hessian, drift: Tensor, damping: float = 0.3) -> Tensor:
    """Return the weight that gives on the inputs x what ``weight`` gives on ``y``, as nearly as one can, float32.

    ``hessian`` is that of x, (cols, cols), and ``drift`` (cols, cols) is ``2/n * sum of (y - x) x^T``. The result is
    ``weight + weight @ drift @ inverse(H)``, H damped as in ``gptq`` but more, since nothing later makes up for what is
    fitted to few inputs: the ridge regression. Of tinylm's calibration text three quarters were fitted to and one
    judged by: 0.3 beat 0.1 in six of eight comparisons (4 and 3 bits, each quarter), and 0.03 in both on the one where
    it was tried. Raises ValueError for shapes that do not fit, negative damping and a Hessian that is not positive
    definite. Source: the normal equations; the idea is Li et al. 2025, GPTAQ, arXiv:2504.02692.
    """
    raise NotImplementedError("TODO 4 (stretch, about 4 lines): solve the normal equations")


def gptq_model(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    bits: int = 4,
    group: int = 32,
    rounding: Rounding = gptq,
    logits: Callable[[Any], Tensor] | None = None,
) -> dict[str, tuple[Tensor, QParams]]:
    """Quantize the linear layers of a model, in place, in the order in which they run; return codes and maps by name.

    Each layer is rounded for the inputs that the layers before it, quantized already, give on ``batches``
    (``model(**batch)``), and aimed at what the float model computes there (``retarget``). Layers that get the same
    tensor share a Hessian. The weights become what their codes stand for. A layer that never runs and a weight shared
    with an embedding stay. Costs two partial runs of the model for each different input and batch. Layers are rounded
    by ``rounding``; where ``logits`` takes a model's predictions from what it returns, by ``gptq_both`` instead, with
    the ``output_hessians`` of the float model. Raises ValueError for no batches and for a model without linear
    layers.
    """
    raise NotImplementedError("TODO 5 (stretch, about 40 lines): layer after layer, on what quantized layers give")


def search_qparams(weight: Tensor, hessian: Hessian, bits: int = 4, group: int = 32) -> QParams:
    """Choose each group's map among narrower ones than its range needs, so that the output changes least.

    Candidates are the asymmetric map of ``choose_qparams`` and it with the scale times each of ``SHRINK``, rounded to
    bfloat16; what lies outside is clipped. Kept is the one whose sum over the group's columns of ``H_jj * error**2`` is
    least, the widest of equal ones. Arguments and errors are those of ``gptq``. Source: Frantar et al.'s code of GPTQ,
    ``Quantizer(mse=True)``; the weights of the squares are the diagonal of Lin et al. 2023, arXiv:2306.00978, eq. 4.
    """
    raise NotImplementedError("TODO 6 (stretch, about 10 lines): which range costs the output least")


def gptq_both(
    weight: Tensor,
    hessian: Hessian,
    outputs: Hessian,
    bits: int = 4,
    group: int = 32,
    damping: float = 0.01,
    at_once: int = 16,
) -> tuple[Tensor, QParams]:
    """Round so that the loss changes little, where ``outputs`` tells how it depends on the layer's outputs together.

    ``outputs`` is the Hessian, (rows, rows), of the loss's gradients at the outputs. With it the error of a row can be
    made up for by other rows, as that of a column by other columns: the loss changes by the trace of ``G E H E^T``, E
    the error of the weight. Rows go from the largest diagonal of G to the smallest (equal ones from the top),
    ``at_once`` of them together: those are rounded as ``gptq_act_order`` does, but with maps of ``search_qparams``, and
    all later rows move to where the rest is least. G is damped as H is. Arguments, results and errors are otherwise
    those of ``gptq``. Source: Tseng et al. 2025, arXiv:2505.22988 (YAQA), section 3.
    """
    raise NotImplementedError("TODO 7 (stretch, about 15 lines): some rows at a time, the later ones move")


def output_hessians(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    logits: Callable[[Any], Tensor],
    seed: int = 0,
) -> dict[str, Hessian]:
    """Return for each linear layer, by name, the Hessian (out, out) of the gradients at its outputs.

    The loss is the summed cross entropy of one answer for each row of ``logits(model(**batch))``, (..., classes), drawn
    from the model's own prediction: the mean outer product of its gradients is then the Hessian of the KL divergence
    (the Fisher information), which the true answers give only where the model is right. Layers that no gradient reaches
    and those whose weight is an embedding's are left out. Neither weights nor their gradients are touched. Raises
    ValueError for no batches. Source: Martens 2020, arXiv:1412.1193, section 5.
    """
    raise NotImplementedError("TODO 8 (stretch, about 20 lines): gradients of an answer drawn by the model")


def refit_scales(weight: Tensor, hessian: Hessian, codes: Tensor, qparams: QParams, damping: float = 0.01) -> QParams:
    """Return the maps with the scales that change the output least, given codes and zero points.

    ``codes`` (rows, cols) and ``qparams`` are those of ``gptq``. The scales of a row, one for each group, solve least
    squares under the Hessian, damped as in ``gptq`` but for columns without input, which have no say; they are rounded
    to bfloat16. A row where they would not all be positive, or would change its output more than those it has, keeps
    these. Raises ValueError for codes of another shape than the weight or other rows than their maps, and as
    ``gptq`` does for damping and the Hessian's shape. Source: the normal equations.
    """
    raise NotImplementedError("TODO 9 (stretch, about 14 lines): the weight is linear in its scales")


def refit_codes(weight: Tensor, hessian: Hessian, codes: Tensor, qparams: QParams, damping: float = 0.01) -> Tensor:
    """Return codes, (rows, cols) int8, each column chosen once more, from left to right, given all others and the maps.

    A weight takes the code nearest to where the output changes least while the other columns stay as they are by then:
    coordinate descent, no choice makes the (damped) loss greater. Arguments and errors are those of ``refit_scales``.
    Source: Behdin et al. 2023, QuantEase, arXiv:2309.01885.
    """
    raise NotImplementedError("TODO 10 (stretch, about 14 lines): each column once more, given all others")


def gptq_refit(
    weight: Tensor, hessian: Hessian, bits: int = 4, group: int = 32, damping: float = 0.01, rounds: int = 3
) -> tuple[Tensor, QParams]:
    """Round as ``gptq_act_order`` does, but with maps of ``search_qparams``; then refit scales and codes, in turn.

    That is ``rounds`` times ``refit_scales`` and then ``refit_codes``. Arguments, results and errors are otherwise
    those of ``gptq``. Raises ValueError for negative ``rounds``.
    """
    raise NotImplementedError("TODO 11 (stretch, about 5 lines): round, then scales and codes in turn")
