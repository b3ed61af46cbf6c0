// Attention of one head through a block table: keys are read where they lie, once for all query heads that share them.
//
// The order of every sum is that of the positions and of a head's elements, whatever block they lie in and whatever other
// rows are computed beside: a row's result is the same bits for any block table, block size, batch and chunk.
#include "_vector.h"

enum { BAND = 4 * ROWS, KEYS = 64 };  // rows that share a tile of keys; values that stay in the first-level cache

typedef struct {
    const char *keys, *values;  // of one head
    const int64_t *table;
    long block, block_stride, dim, window, width;
} Cached;

INLINE const char *place(const Cached *c, const char *pool, long j, int kind) {
    return pool + (c->table[j / c->block] * c->block_stride + j % c->block * c->dim) * (kind == BF16 ? 2 : 4);
}

// Scores of some rows with LANES keys from `k` on.
INLINE void score(long dim, long rows, const float *q, const float *k, float *scores, long width) {
    for (long m = 0; m < rows; m++) {
        vec acc[LANES];
        for (int j = 0; j < LANES; j++) acc[j] = (vec){0};
        for (long d = 0; d < dim; d += LANES) {
            vec row = load(q + m * dim + d);
            for (int j = 0; j < LANES; j++) acc[j] += row * load(k + j * dim + d);
        }
        store(scores + m * width, sums(acc));
    }
}

// Scores with keys `j` to `high`, read where they lie or, where LANES of them do not lie together, from a copy.
INLINE void score_all(int kind, const Cached *c, const float *q, long rows, long low, long high, float *tile,
                      float *scores) {
    for (long j = low; j < high; j += LANES) {
        const float *k = tile;
        if (kind == F32 && c->block - j % c->block >= LANES)
            k = (const float *)place(c, c->keys, j, kind);
        else
            for (long l = 0; l < LANES && j + l < high; l++)
                floats_of(place(c, c->keys, j + l, kind), 0, c->dim, kind, 1, tile + l * c->dim);
        // Of a size that the compiler knows, keys are at distances that cost no instruction.
        if (c->dim == 64) score(64, rows, q, k, scores + j, c->width);
        else if (c->dim == 128) score(128, rows, q, k, scores + j, c->width);
        else score(c->dim, rows, q, k, scores + j, c->width);
    }
}

// Add `count` values from `v` on, each times its weight, to some rows: `vecs` vectors of them.
INLINE void mix(int rows, int vecs, int kind, const float *weights, const char *v, float *out, long count, long dim,
                long width) {
    vec acc[ROWS][WIDE];
    for (int m = 0; m < rows; m++)
        for (int i = 0; i < vecs; i++) acc[m][i] = load(out + m * dim + i * LANES);
    multiply(rows, vecs, kind, weights, width, v, dim, count, acc);
    for (int m = 0; m < rows; m++)
        for (int i = 0; i < vecs; i++) store(out + m * dim + i * LANES, acc[m][i]);
}

// Turn scores into weights that are not yet divided by their sum, and return the sum. Positions before `first` and from
// `last` on are not seen; lanes belong to positions, so that the sum does not depend on what lies beyond.
static float soften(float *scores, long first, long last) {
    long start = first / LANES * LANES, stop = (last + LANES - 1) / LANES * LANES;
    for (long j = start; j < first; j++) scores[j] = scores[first];
    for (long j = last; j < stop; j++) scores[j] = scores[first];
    vec most = load(scores + start), total = {0};
    for (long j = start; j < stop; j += LANES) most = choose(load(scores + j) > most, load(scores + j), most);
    float largest = maximum(most);
    for (long j = start; j < first; j++) scores[j] = largest - 100;
    for (long j = last; j < stop; j++) scores[j] = largest - 100;
    for (long j = start; j < stop; j += LANES) {
        vec weight = exponential(load(scores + j) - largest);
        store(scores + j, weight);
        total += weight;
    }
    return sum(total);
}

// Attend from `rows` rows, `q` already divided by sqrt(dim); row m sees positions up to `last[m]`, exclusive. `q` and
// `out` are (rows, dim), lying as `floats_of` leaves elements of this kind; `scratch` holds rows * width + dim * LANES
// floats, width at least LANES above the last position.
INLINE void band(int kind, const Cached *c, const float *q, const long *last, long rows, float *out, float *scratch) {
    long first[BAND], low = last[0], high = 0, dim = c->dim, width = c->width;
    float total[BAND], *tile = scratch, *scores = scratch + dim * LANES;
    memset(out, 0, rows * dim * sizeof *out);
    for (long m = 0; m < rows; m++) {
        first[m] = c->window && last[m] > c->window ? last[m] - c->window : 0;
        low = first[m] < low ? first[m] : low;
        high = last[m] > high ? last[m] : high;
    }
    if (high <= 0) return;  // nothing cached: zeros
    score_all(kind, c, q, rows, low, high, tile, scores);
    for (long m = 0; m < rows; m++) {
        float *own = scores + m * width;
        total[m] = soften(own, first[m], last[m]);
        for (long j = low; j < first[m]; j++) own[j] = 0;
        for (long j = last[m]; j < high; j++) own[j] = 0;
    }
    for (long j = low, count; j < high; j += count) {
        count = c->block - j % c->block < KEYS ? c->block - j % c->block : KEYS;
        count = count < high - j ? count : high - j;
        const char *v = place(c, c->values, j, kind);
        long d = 0, m = 0, size = kind == BF16 ? 2 : 4;
#define MIX(n) mix(n, WIDE, kind, scores + m * width + j, v + d * size, out + m * dim + d, count, dim, width);
#define MIX_ONE(n) mix(n, 1, kind, scores + m * width + j, v + d * size, out + m * dim + d, count, dim, width);
        for (; d + PANEL <= dim; d += PANEL, m = 0) { BY_ROWS(m, rows, MIX) }
        for (; d < dim; d += LANES, m = 0) { BY_ROWS(m, rows, MIX_ONE) }
    }
    for (long m = 0; m < rows; m++)
        for (long d = 0; d < dim; d++) out[m * dim + d] /= total[m];
}
