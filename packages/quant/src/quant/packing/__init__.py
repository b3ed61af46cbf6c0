"""Packing: two or four codes to a byte, and what a weight really costs.

A 4-bit code kept in an int8 saves nothing. Packed, two share a byte, and the memory that decoding waits for halves.
What a weight costs is then its code *and* its share of the scale and zero point of its group, which papers like to
leave out.

What you write:

- ``pack`` and ``unpack`` for 2, 4 and 8 bits. Codes are signed (two's complement) and lie in int8; the first code of a
  row goes into the lowest bits of its first byte. Rows are packed apart, so that each begins at a byte; a row whose
  count does not fill its last byte is filled up with zeros.
- ``bits_per_weight``: codes, padding, scales and zero points, over the number of weights.
- stretch: ``pack_dense`` and ``unpack_dense`` for any width from 2 to 8 bits, 3 among them: codes may straddle bytes.
"""
