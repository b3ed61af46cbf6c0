"""Numbers and tables that the chapters derive, by name; GPUs and models are those of packages/capacity."""

from collections.abc import Callable
from fractions import Fraction

from capacity import TYPICAL, Estimate, Precision, decode, fit, gpu, prefill, weight_bytes
from capacity.gpus import names
from capacity.zoo import load

H100 = gpu("h100")
BF16 = Precision.named("bf16")
MODEL = load("llama-3.1-8b")
CONTEXT = 1000  # tokens before the step that is looked at
SM_REGISTERS, SM_THREADS = 65_536, 2_048  # of an H100's multiprocessor; NVIDIA Hopper tuning guide, 1.4.1.1
GIB = 1 << 30


def ridge(name: str = "h100", dtype: str = "bf16") -> float:
    """Return the operations for each byte at which a GPU's peak and its bandwidth take equally long."""
    return gpu(name).peak(dtype) / gpu(name).bandwidth


def gpu_table() -> str:
    """Tabulate the accelerators and their ridges."""
    lines = [
        "| GPU | memory, GiB | bandwidth, TB/s | bf16 dense, TFLOP/s | ridge, FLOP/byte |",
        "| --- |" + " ---: |" * 4,
    ]
    for name in names():
        card = gpu(name)
        lines.append(
            f"| {card.name} | {card.memory / GIB:.1f} | {card.bandwidth / 1e12:.2f} | {card.peak('bf16') / 1e12:.0f} "
            f"| {ridge(name):.0f} |"
        )
    return "\n".join(lines)


def tile_intensity(rows: int, columns: int, size: int = 2) -> float:
    """Return FLOPs for each byte read by a tile of a product: 2mnk operations over (m + n)k numbers of ``size``."""
    return 2 * rows * columns / ((rows + columns) * size)


def tile_table() -> str:
    """Tabulate what a tile of a bf16 matrix product reuses."""
    lines = [
        "| tile of the output | FLOP/byte from the next level | share of an H100's ridge |",
        "| --- | ---: | ---: |",
    ]
    for rows, columns in ((1, 128), (16, 16), (64, 64), (128, 128), (128, 256), (256, 256)):
        given = tile_intensity(rows, columns)
        lines.append(f"| {rows} x {columns} | {given:.1f} | {given / ridge():.0%} |")
    return "\n".join(lines)


def occupancy_table() -> str:
    """Tabulate how many threads an H100's multiprocessor holds for the registers each of them uses."""
    lines = ["| registers a thread | threads resident | occupancy |", "| ---: | ---: | ---: |"]
    for registers in (32, 64, 128, 168, 255):
        warps = min(SM_THREADS // 32, SM_REGISTERS // (32 * registers))
        lines.append(f"| {registers} | {32 * warps} | {32 * warps / SM_THREADS:.0%} |")
    return "\n".join(lines)


SOFTMAX_ROWS, SOFTMAX_COLUMNS = 4096, 32_768
PASSES = {"max: read": 1, "subtract and exp: read, write": 2, "sum: read": 1, "divide: read, write": 2}


def softmax_table() -> str:
    """Tabulate the bytes of a softmax done pass by pass and in one kernel."""
    size = SOFTMAX_ROWS * SOFTMAX_COLUMNS * 2
    lines = ["| softmax | bytes moved | least time on an H100 |", "| --- | ---: | ---: |"]
    for name, passes in (("four kernels", sum(PASSES.values())), ("one kernel, a row in registers", 2)):
        moved = passes * size
        lines.append(f"| {name} | {moved / 1e9:.2f} GB | {1e6 * moved / H100.bandwidth:.0f} us |")
    return "\n".join(lines)


HEADS, HEAD_DIM = MODEL.heads, MODEL.head_dim


def attention_table() -> str:
    """Tabulate what attention moves when scores go through memory, and when they stay in the chip."""
    lines = [
        "| tokens | scores written and read back | q, k, v and output | least time, with | least time, without |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for tokens in (1024, 8192, 32_768):
        kept = 2 * tokens * (2 * HEADS + 2 * MODEL.kv_heads) * HEAD_DIM
        scores = 4 * 2 * HEADS * tokens**2  # written, read by the softmax, weights written, read by the second product
        times = [1e3 * (kept + extra) / H100.bandwidth for extra in (scores, 0)]
        lines.append(
            f"| {tokens:,} | {scores / 1e9:.2f} GB | {kept / 1e6:.0f} MB | {times[0]:.2f} ms | {times[1]:.3f} ms |"
        )
    return "\n".join(lines)


def decode_table() -> str:
    """Tabulate the bound of a decode step over the batch, with what it waits for."""
    lines = [
        "| requests | FLOP/byte | least time of a step | waits for | output tokens/s at most |",
        "| ---: | ---: | ---: | --- | ---: |",
    ]
    for batch in (1, 8, 64, 256, 1024):
        step = decode(MODEL, H100, BF16, batch, CONTEXT)
        lines.append(
            f"| {batch} | {step.flops / step.bytes:.1f} | {1e3 * step.seconds:.2f} ms | {step.bound} "
            f"| {batch / step.seconds:,.0f} |"
        )
    return "\n".join(lines)


def least_batch(precision: str) -> int:
    """Return the least batch whose decode step, without any context, waits for arithmetic and not for the weights."""
    plan, batch = Precision.named(precision), 1
    while decode(MODEL, H100, plan, batch, 0).bound == "memory":
        batch += 1
    return batch


def context_batch() -> str:
    """Say whether a batch at ``CONTEXT`` tokens is ever bound by arithmetic."""
    memory = all(decode(MODEL, H100, BF16, 1 << power, CONTEXT).bound == "memory" for power in range(17))
    if not memory:
        msg = "the page says that no batch is bound by arithmetic with a context"
        raise ValueError(msg)
    return f"{CONTEXT:,}"


LAUNCHES, LAUNCH = 10, 3e-6  # kernels of a layer and seconds to launch one: assumptions that the page states


def launch_seconds() -> float:
    """Return what launching the kernels of one decode step takes where nothing overlaps it."""
    return MODEL.layers * LAUNCHES * LAUNCH


def step(precision: str, *, overhead: bool = True, batch: int = 1) -> Estimate:
    """Return a typical decode step, or one whose overhead is gone."""
    given = TYPICAL if overhead else type(TYPICAL)(TYPICAL.compute, TYPICAL.bandwidth, TYPICAL.link, 0.0, rounded=True)
    return decode(MODEL, H100, Precision.named(precision), batch, CONTEXT, 1, given)


def engine_table() -> str:
    """Tabulate what fewer bytes and less overhead can win, alone and together, at two batch sizes."""
    lines = ["| change | 1 request | | 64 requests | |", "| --- | ---: | ---: | ---: | ---: |"]
    before = [step("bf16", batch=batch).seconds for batch in (1, 64)]
    if step("fp8", batch=64).seconds > step("int4", batch=64).seconds:
        msg = "the page says that fp8 overtakes 4-bit weights at 64 requests"
        raise ValueError(msg)
    for name, precision, overhead in (
        ("bf16, eager", "bf16", True),
        ("no overhead: CUDA graphs, fused kernels", "bf16", False),
        ("fp8 weights and cache", "fp8", True),
        ("4-bit weights", "int4", True),
        ("fp8 and no overhead", "fp8", False),
        ("4-bit weights and no overhead", "int4", False),
    ):
        after = [step(precision, overhead=overhead, batch=batch).seconds for batch in (1, 64)]
        cells = [f"{1e3 * new:.2f} ms | {old / new:.2f}x" for old, new in zip(before, after, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def precision_table() -> str:
    """Tabulate memory, requests that fit and bounds of two models over precisions."""
    lines = [
        "| model, one H100 | weights | requests of 1,000 + 300 | one step at least | prefill of 1,000 at least |",
        "| --- |" + " ---: |" * 4,
    ]
    for name in ("llama-3.1-8b", "llama-3.1-70b"):
        model = load(name)
        for precision in ("bf16", "fp8", "int4"):
            plan = Precision.named(precision)
            room = fit(model, H100, plan, prompt=1000, output=300)
            size = weight_bytes(model, plan) / 1e9
            if not room.requests:
                lines.append(f"| {name}, {precision} | {size:.1f} GB | does not fit | - | - |")
                continue
            one, first = decode(model, H100, plan, 1, CONTEXT), prefill(model, H100, plan, 1000)
            lines.append(
                f"| {name}, {precision} | {size:.1f} GB | {room.requests} | {1e3 * one.seconds:.1f} ms ({one.bound}) "
                f"| {1e3 * first.seconds:.1f} ms ({first.bound}) |"
            )
    return "\n".join(lines)


def static_batch_share(batch: int) -> float:
    """Return the share of slots in use when a batch runs until its longest answer ends.

    Lengths are exponential: the longest of ``batch`` is 1 + 1/2 + ... + 1/batch means long.
    """
    return float(1 / sum(Fraction(1, k) for k in range(1, batch + 1)))


def bucket_waste() -> float:
    """Return the padding in buckets of powers of two, lengths uniform within each: mean 3/4 of the bucket's end."""
    return 1 / 0.75 - 1


VALUES: dict[str, Callable[[], str]] = {
    "ridge": lambda: f"{ridge():.0f}",
    "ridge fp8": lambda: f"{ridge(dtype='fp8'):.0f}",
    "h100 bandwidth": lambda: f"{H100.bandwidth / 1e12:.2f} TB/s",
    "h100 peak": lambda: f"{H100.peak('bf16') / 1e12:.0f} TFLOP/s",
    "h100 memory": lambda: f"{H100.memory / GIB:.1f} GiB",
    "h100 link": lambda: f"{H100.link / 1e9:.0f} GB/s",
    "gpu table": gpu_table,
    "tile table": tile_table,
    "tile 128": lambda: f"{tile_intensity(128, 128):.0f}",
    "tile registers": lambda: f"{128 * 128 // 256}",
    "occupancy table": occupancy_table,
    "softmax table": softmax_table,
    "softmax shape": lambda: f"{SOFTMAX_ROWS:,} x {SOFTMAX_COLUMNS:,}",
    "softmax passes": lambda: f"{sum(PASSES.values())}",
    "attention table": attention_table,
    "attention heads": lambda: f"{HEADS} query and {MODEL.kv_heads} key heads of {HEAD_DIM}",
    "decode table": decode_table,
    "least batch bf16": lambda: f"{least_batch('bf16')}",
    "least batch fp8": lambda: f"{least_batch('fp8')}",
    "context": context_batch,
    "launches": lambda: f"{MODEL.layers} layers x {LAUNCHES} kernels x {LAUNCH * 1e6:.0f} us",
    "launch ms": lambda: f"{1e3 * launch_seconds():.2f} ms",
    "launch share": lambda: f"{launch_seconds() / decode(MODEL, H100, BF16, 1, CONTEXT).seconds:.0%}",
    "step bound": lambda: f"{1e3 * decode(MODEL, H100, BF16, 1, CONTEXT).seconds:.2f} ms",
    "typical": lambda: (
        f"{TYPICAL.compute:.0%} of peak, {TYPICAL.bandwidth:.0%} of bandwidth, {1e3 * TYPICAL.overhead:.0f} ms a step"
    ),
    "engine table": engine_table,
    "precision table": precision_table,
    "static 8": lambda: f"{static_batch_share(8):.0%}",
    "static 32": lambda: f"{static_batch_share(32):.0%}",
    "static 128": lambda: f"{static_batch_share(128):.0%}",
    "bucket waste": lambda: f"{bucket_waste():.0%}",
}
