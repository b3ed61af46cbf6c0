"""Caching: the bytes of keys and values that every token leaves behind.

Weights are paid for once; the KV cache is paid for by every request, for as long as it runs. It decides how many
requests fit beside the weights, and so the throughput of a server.

What you write:

- ``kv_bytes_per_token``: keys and values of one token in all layers.
- ``request_bytes``: a request's cache in whole blocks, as paged attention hands them out.
- stretch: ``layer_tokens``, what layers with a sliding window keep; latent attention; and tensor parallelism over more
  GPUs than there are KV heads, where heads are copied and nothing is saved.
"""

FULL, SLIDING = "full_attention", "sliding_attention"
