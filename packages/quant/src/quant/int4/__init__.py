"""Int4 weights in groups: a layer an eighth the size, for decoding, where reading the weights is all the work.

At one token a layer reads every weight once and does two operations with it, so its time is its bytes over the memory's
bandwidth. Four bits instead of 32 could be eight times faster, if unpacking keeps up. Activations are not what costs:
the layer takes floats and returns floats, and nothing has to be calibrated. (A kernel may still round them to 8 bits on
its way, because a CPU multiplies bytes four times as fast as floats.)

Four bits are coarse, so each group of columns of a row has a scale and a zero point of its own, kept in 16 and 8 bits:
4.75 bits a weight with groups of 32.

What you write, the class ``Int4Linear``:

- ``from_float`` chooses scales first, rounds them to the 16 bits they are kept in, and only then the codes, so that
  the codes fit the scales that will be used.
- ``dequantized`` gives the weight back that the layer stands for.
- ``forward`` multiplies by it; how the product is computed is free, as long as it is that weight's to 2 %.
"""
