// Attention from queries of several requests to the blocks of one pool.
#include "_attention.h"

typedef struct {
    long batch, kv_heads, group, q_len, dim, block, most, head_stride, block_stride, window, width, rows;
    float scale;
} Shape;

// `q` and `out` are (batch, kv_heads, group * q_len, dim) float32; a pool's blocks of one head are `block_stride`
// elements apart, its heads `head_stride`; `tables` is (batch, most), `lengths` (batch), the last q_len of which ask.
// `scratch` holds rows * (width + dim) + dim * LANES floats for each thread, rows at most BAND, width is at least LANES above the longest
// length. A window of 0 is none.
#define ATTEND(NAME, KIND)                                                                                             \
    void NAME(const float *q, const char *keys, const char *values, const int64_t *tables, const int64_t *lengths,     \
              float *out, float *scratch, const Shape *s, int threads) {                                               \
        long all = s->group * s->q_len, bands = (all + BAND - 1) / BAND, dim = s->dim;                                 \
        _Pragma("omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)")                            \
        for (long task = 0; task < s->batch * s->kv_heads * bands; task++) {                                           \
            long item = task / bands, b = item / s->kv_heads, row = task % bands * BAND, at = (item * all + row) * dim;\
            long head = item % s->kv_heads * s->head_stride * (KIND == BF16 ? 2 : 4), last[BAND];                      \
            long rows = all - row < BAND ? all - row : BAND;                                                           \
            float *own = scratch + THREAD * (s->rows * (s->width + dim) + dim * LANES), *scaled = own + s->rows * s->width + dim * LANES;  \
            for (long m = 0; m < rows; m++) last[m] = lengths[b] - s->q_len + 1 + (row + m) % s->q_len;                \
            for (long i = 0; i < rows * dim; i++) scaled[i] = q[at + i] * s->scale;                                    \
            Cached c = {keys + head, values + head, tables + b * s->most, s->block, s->block_stride, dim, s->window,   \
                        s->width};                                                                                     \
            band(KIND, &c, scaled, last, rows, out + at, own);                                                         \
        }                                                                                                              \
    }
ATTEND(attend_f32, F32)
ATTEND(attend_bf16, BF16)
