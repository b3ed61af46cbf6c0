"""Paged attention: the cache as pages, because nobody knows how long an answer becomes.

Memory is cut into blocks of ``block_size`` positions. A request holds a list of block numbers, its block table; blocks
need not be neighbours, two requests with the same beginning can share them, and nothing is reserved that is not used.

What you write:

- ``BlockPool``: hands blocks out and takes them back, each in constant time, and counts who holds them.
- ``slot_mapping``: from positions of the text to slots of the pool.
- ``paged_attention``: one query for each request over keys that lie in any order.
- stretch: ``PagedCache``, a ``kvcache.caches.KVCache`` over a pool, whose rows share blocks until one of them writes.

A pool of keys is (kv_heads, blocks, block_size, head_dim): slot ``s`` is position ``s % block_size`` of block
``s // block_size``.
"""

UNUSED = -1
"""What fills a block table behind the last block of a request."""
