// Attention from queries of several requests to the blocks of one pool.
#include "_attention.h"

typedef struct {
    long batch, kv_heads, group, q_len, dim, block, most, head_stride, block_stride, window, width, rows, longest;
    float scale;
} Shape;

// `q` and `out` are (batch, kv_heads, group * q_len, dim) of the pools' kind; a pool's blocks of one head are
// `block_stride` elements apart, its heads `head_stride`; `tables` is (batch, most), `lengths` (batch), the last q_len of
// which ask; without tables each request is a block, and its length the longest. `scratch` holds
// rows * (width + 2 dim) + dim * LANES floats for each thread, rows at most BAND, width is at least LANES above the
// longest length. A window of 0 is none.
#define ATTEND(NAME, KIND, TYPE)                                                                                      \
    void NAME(const TYPE *q, const char *keys, const char *values, const int64_t *tables, const int64_t *lengths,     \
              TYPE *out, float *scratch, const Shape *s, int threads) {                                               \
        long all = s->group * s->q_len, bands = (all + BAND - 1) / BAND, dim = s->dim;                                \
        _Pragma("omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)")                           \
        for (long task = 0; task < s->batch * s->kv_heads * bands; task++) {                                          \
            long item = task / bands, row = task % bands * BAND, at = (item * all + row) * dim, last[BAND];           \
            int64_t b = item / s->kv_heads;                                                                           \
            long head = item % s->kv_heads * s->head_stride * sizeof(TYPE), length = tables ? lengths[b] : s->longest;\
            long rows = all - row < BAND ? all - row : BAND;                                                          \
            float *own = scratch + THREAD * (s->rows * (s->width + 2 * dim) + dim * LANES);                           \
            float *scaled = own + s->rows * s->width + dim * LANES, *mixed = scaled + s->rows * dim;                  \
            for (long m = 0; m < rows; m++) {                                                                         \
                last[m] = length - s->q_len + 1 + (row + m) % s->q_len;                                               \
                floats_of(q + at, m * dim, dim, KIND, s->scale, scaled + m * dim);                                    \
            }                                                                                                         \
            Cached c = {keys + head, values + head, tables ? tables + b * s->most : &b, s->block, s->block_stride,    \
                        dim, s->window, s->width};                                                                    \
            band(KIND, &c, scaled, last, rows, KIND == F32 ? (float *)(out + at) : mixed, own);                       \
            for (long m = 0; KIND == BF16 && m < rows; m++)                                                           \
                halves_to((uint16_t *)(out + at) + m * dim, mixed + m * dim, dim);                                    \
        }                                                                                                             \
    }
ATTEND(attend_f32, F32, float)
ATTEND(attend_bf16, BF16, uint16_t)
