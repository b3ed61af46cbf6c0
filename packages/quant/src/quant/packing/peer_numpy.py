"""Peer: ``numpy.packbits``, a bit at a time."""

import numpy as np
import torch
from torch import Tensor


def pack(codes: Tensor, bits: int) -> Tensor:
    """Spread the bits of every code and pack them eight to a byte."""
    return pack_dense(codes, bits)


def unpack(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Spread the bits of every byte and join those of each code."""
    return unpack_dense(packed, bits, cols)


def pack_dense(codes: Tensor, bits: int) -> Tensor:
    """Spread the bits of every code and pack them eight to a byte."""
    array = codes.cpu().numpy().view(np.uint8)
    spread = np.unpackbits(array[..., None], axis=2, count=bits, bitorder="little")
    rows, cols = array.shape
    return torch.from_numpy(np.packbits(spread.reshape(rows, cols * bits), axis=1, bitorder="little")).to(codes.device)


def unpack_dense(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Spread the bits of every byte and join those of each code."""
    spread = np.unpackbits(packed.cpu().numpy(), axis=1, count=cols * bits, bitorder="little")
    fields = np.packbits(spread.reshape(len(packed), cols, bits), axis=2, bitorder="little")[..., 0]
    signed = torch.from_numpy(fields).view(torch.int8) << (8 - bits) >> (8 - bits)
    return signed.to(packed.device)
