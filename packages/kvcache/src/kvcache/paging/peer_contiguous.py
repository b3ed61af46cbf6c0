"""What paging is measured against: torch's kernel over a pool whose blocks happen to lie in order.

It reads no block table, so it is right only for one request whose table counts up from 0.
"""

import torch.nn.functional as F
from torch import Tensor


def paged_attention(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """Attend to the first ``lengths[0]`` slots, the group folded into the query length."""
    length, kv_heads = int(lengths[0]), k_pool.shape[0]
    if block_tables[:, : -(-length // k_pool.shape[2])].tolist() != [list(range(-(-length // k_pool.shape[2])))]:
        msg = "only one request whose table counts up from 0"
        raise NotImplementedError(msg)
    folded = q.view(1, kv_heads, -1, q.shape[-1])
    keys, values = (pool.flatten(1, 2)[None, :, :length] for pool in (k_pool, v_pool))
    return F.scaled_dot_product_attention(folded, keys, values).view(q.shape)
