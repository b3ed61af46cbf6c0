// Attention through a block table: keys are read where they lie, once for all query heads that share them.
//
// The order of every sum is that of the positions, whatever block they lie in and whatever other rows are computed
// beside: a row's result is the same bits for any block table, block size, batch and chunk.
#include "_vector.h"

enum { TILE = 4, BAND = 16, KEYS = 32 };  // rows in registers; rows and keys that meet in the first-level cache

// Load keys or values from element `i` on; bfloat16 is the upper half of a float.
INLINE vec widen(const void *p, long i, int bf16) {
    if (!bf16) return load((const float *)p + i);
    halves h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return (vec)(__builtin_convertvector(h, words) << 16);
}

// Scores of some rows with `count` keys from `k` on.
INLINE void score(int rows, int bf16, const float *q, const void *k, float *scores, long count, long dim, long width,
                  float scale) {
    for (long j = 0; j < count; j++) {
        vec acc[TILE];
        for (int m = 0; m < rows; m++) acc[m] = (vec){0};
        for (long d = 0; d < dim; d += LANES) {
            vec key = widen(k, j * dim + d, bf16);
            for (int m = 0; m < rows; m++) acc[m] += load(q + m * dim + d) * key;
        }
        for (int m = 0; m < rows; m++) scores[m * width + j] = sum(acc[m]) * scale;
    }
}

// Add `count` values from `v` on, each times its weight, to some rows: `vecs` vectors of them from element `d` on.
INLINE void add(int rows, int vecs, int bf16, const float *weights, const void *v, float *out, long count, long dim,
                long width, long d) {
    vec acc[TILE][WIDE];
    for (int m = 0; m < rows; m++)
        for (int i = 0; i < vecs; i++) acc[m][i] = load(out + m * dim + d + i * LANES);
    for (long j = 0; j < count; j++)
        for (int i = 0; i < vecs; i++) {
            vec value = widen(v, j * dim + d + i * LANES, bf16);
            for (int m = 0; m < rows; m++) acc[m][i] += weights[m * width + j] * value;
        }
    for (int m = 0; m < rows; m++)
        for (int i = 0; i < vecs; i++) store(out + m * dim + d + i * LANES, acc[m][i]);
}

INLINE void mix(int rows, int bf16, const float *weights, const void *v, float *out, long count, long dim, long width) {
    long d = 0;
    for (; d + WIDE * LANES <= dim; d += WIDE * LANES) add(rows, WIDE, bf16, weights, v, out, count, dim, width, d);
    for (; d < dim; d += LANES) add(rows, 1, bf16, weights, v, out, count, dim, width, d);
}

// Turn scores into weights that are not yet divided by their sum, and return the sum. Positions before `first` and from
// `last` on are not seen; lanes belong to positions, so that the sum does not depend on what lies beyond.
static float soften(float *scores, long first, long last) {
    long start = first / LANES * LANES, stop = (last + LANES - 1) / LANES * LANES;
    float largest = scores[first];
    for (long j = first; j < last; j++) largest = scores[j] > largest ? scores[j] : largest;
    for (long j = start; j < first; j++) scores[j] = largest - 100;
    for (long j = last; j < stop; j++) scores[j] = largest - 100;
    vec total = {0};
    for (long j = start; j < stop; j += LANES) {
        vec weight = exponential(load(scores + j) - largest);
        store(scores + j, weight);
        total += weight;
    }
    return sum(total);
}

typedef struct {
    long batch, kv_heads, group, q_len, dim, block, most, head_stride, block_stride, window, width;
    float scale;
} Shape;

// Score (or, with values, mix) positions `low` to `high` for `rows` rows, wherever their blocks lie.
INLINE void walk(int bf16, int mixing, const Shape *s, const char *pool, const int64_t *table, long low, long high,
                 long rows, const float *q, float *out, float *scores) {
    for (long j = low, count; j < high; j += count) {
        long within = j % s->block;
        count = s->block - within < KEYS ? s->block - within : KEYS;
        count = count < high - j ? count : high - j;
        const char *at = pool + (table[j / s->block] * s->block_stride + within * s->dim) * (bf16 ? 2 : 4);
        long m = 0;
        for (; m + TILE <= rows; m += TILE)
            if (mixing) mix(TILE, bf16, scores + m * s->width + j, at, out + m * s->dim, count, s->dim, s->width);
            else score(TILE, bf16, q + m * s->dim, at, scores + m * s->width + j, count, s->dim, s->width, s->scale);
        for (; m < rows; m++)
            if (mixing) mix(1, bf16, scores + m * s->width + j, at, out + m * s->dim, count, s->dim, s->width);
            else score(1, bf16, q + m * s->dim, at, scores + m * s->width + j, count, s->dim, s->width, s->scale);
    }
}

// Attend from `rows` rows of one request and head, the first of which is number `row` of q_len * group.
INLINE void band(int bf16, const Shape *s, const float *q, const char *keys, const char *values, const int64_t *table,
                 long length, long row, long rows, float *out, float *scores) {
    long first[BAND], last[BAND], low = length, high = 0;
    float total[BAND];
    memset(out, 0, rows * s->dim * sizeof *out);
    for (long m = 0; m < rows; m++) {  // the last q_len of `length` positions ask; each sees itself and what came before
        last[m] = length - s->q_len + 1 + (row + m) % s->q_len;
        first[m] = s->window && last[m] > s->window ? last[m] - s->window : 0;
        low = first[m] < low ? first[m] : low;
        high = last[m] > high ? last[m] : high;
    }
    if (high <= 0) return;  // nothing cached: zeros
    walk(bf16, 0, s, keys, table, low, high, rows, q, out, scores);
    for (long m = 0; m < rows; m++) {
        float *own = scores + m * s->width;
        total[m] = soften(own, first[m], last[m]);
        for (long j = low; j < first[m]; j++) own[j] = 0;
        for (long j = last[m]; j < high; j++) own[j] = 0;
    }
    walk(bf16, 1, s, values, table, low, high, rows, q, out, scores);
    for (long m = 0; m < rows; m++)
        for (long d = 0; d < s->dim; d++) out[m * s->dim + d] /= total[m];
}

// `q` and `out` are (batch, kv_heads, group * q_len, dim) float32; a pool's blocks of one head are `block_stride`
// elements apart, its heads `head_stride`; `tables` is (batch, most), `lengths` (batch). `scratch` holds BAND * width
// floats for each thread, width a multiple of LANES that is at least the longest length. A window of 0 is none.
#define ATTEND(NAME, BF16)                                                                                             \
    void NAME(const float *q, const char *keys, const char *values, const int64_t *tables, const int64_t *lengths,     \
              float *out, float *scratch, const Shape *s, int threads) {                                               \
        long all = s->group * s->q_len, bands = (all + BAND - 1) / BAND;                                               \
        _Pragma("omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)")                            \
        for (long task = 0; task < s->batch * s->kv_heads * bands; task++) {                                           \
            long item = task / bands, b = item / s->kv_heads, row = task % bands * BAND, at = item * all + row;        \
            long head = item % s->kv_heads * s->head_stride * (BF16 ? 2 : 4), thread = THREAD;                         \
            band(BF16, s, q + at * s->dim, keys + head, values + head, tables + b * s->most, lengths[b], row,          \
                 all - row < BAND ? all - row : BAND, out + at * s->dim, scratch + thread * BAND * s->width);          \
        }                                                                                                              \
    }
ATTEND(attend_f32, 0)
ATTEND(attend_bf16, 1)
