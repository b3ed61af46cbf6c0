// Codes of keys and values back to floats: each is read once, and nothing lies between a code and its number.
#include "_vector.h"

typedef struct {
    long heads, groups, group, dim, code_stride, scale_stride, low_stride, out_stride;  // strides from a head to the next
} Shape;

// LANES codes of some bits, the first in the lowest bits of the first byte; codes of 8 bits count from -128.
INLINE vec unpack(const uint8_t *p, int bits) {
    ints code = {0}, each = code + 32 / bits;
    for (int i = 0; i < LANES * bits; i += 32) {  // lanes whose codes are in the next four bytes
        uint32_t word = 0;
        memcpy(&word, p + i / 8, LANES * bits < 32 ? LANES * bits / 8 : 4);
        code |= (ints)((words){0} + word) & (NUMBERS / each == i / 32);
    }
    code = (ints)((words)code >> (words)(NUMBERS % each * bits)) & ((1 << bits) - 1);
    if (bits == 8) code -= 128;
    return __builtin_convertvector(code, vec);
}

INLINE void group_of(int bits, int keys, const Shape *s, const uint8_t *codes, const uint16_t *scale,
                     const uint16_t *low, float *out) {
    vec one_scale = {0}, one_low = {0};
    for (long d = 0; keys && d < s->dim; d += LANES) {  // a scale for each channel
        one_scale = widen(scale, d, BF16), one_low = widen(low, d, BF16);
        for (long t = 0; t < s->group; t++)
            store(out + t * s->dim + d, one_low + one_scale * unpack(codes + (t * s->dim + d) * bits / 8, bits));
    }
    for (long t = 0; !keys && t < s->group; t++) {  // a scale for each token
        one_scale = (vec)((words){0} + ((uint32_t)scale[t] << 16));
        one_low = (vec)((words){0} + ((uint32_t)low[bits == 8 ? 0 : t] << 16));
        for (long d = 0; d < s->dim; d += LANES)
            store(out + t * s->dim + d, one_low + one_scale * unpack(codes + (t * s->dim + d) * bits / 8, bits));
    }
}

// low + scale * code for some groups of every head: `codes` (group, dim), packed; `out` the same in float32; `scale` and
// `low`, bfloat16, (dim) for each group of keys and (group) of values, a head's low of 8 bits one for all. A product of
// a code and a scale is exact.
void decode(int bits, int keys, const Shape *s, const uint8_t *codes, const uint16_t *scale, const uint16_t *low,
            float *out, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long task = 0; task < s->heads * s->groups; task++) {
        long h = task / s->groups, g = task % s->groups, map = g * (keys ? s->dim : s->group), size = s->group * s->dim;
        const uint8_t *from = codes + h * s->code_stride + g * size * bits / 8;
        const uint16_t *scales = scale + h * s->scale_stride + map, *lows = low + h * s->low_stride + (bits == 8 ? 0 : map);
        float *to = out + h * s->out_stride + g * size;
#define WITH(bits, keys) { group_of(bits, keys, s, from, scales, lows, to); }
        if (keys) {
            if (bits == 2) WITH(2, 1) else if (bits == 4) WITH(4, 1) else WITH(8, 1)
        } else {
            if (bits == 2) WITH(2, 0) else if (bits == 4) WITH(4, 0) else WITH(8, 0)
        }
    }
}
