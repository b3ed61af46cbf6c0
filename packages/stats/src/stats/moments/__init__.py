"""Mean, variance, skewness and kurtosis of more numbers than fit in memory, in one pass, to the last digit.

The textbook's ``sum(x**2) / n - mean**2`` subtracts two numbers that agree in nearly all their digits: for a thousand
values around ten million that spread by a tenth it has not one right digit. Yet scores arrive as a stream, from several
machines, and nobody wants to read them twice.

What you write, the class ``Moments``:

- ``update`` takes in a chunk of any size, also an empty one.
- ``merge`` joins what two machines have seen.
- ``mean``, ``variance`` (of a sample, over n - 1), ``skewness`` and ``kurtosis`` (excess), both of the population as
  ``scipy.stats`` defines them by default: the third and fourth central moments over powers of the second.

Keep the count, the mean and the sums of the second, third and fourth powers of the deviations from it.
"""
