// All layers of a Llama decoder in one call: what a step costs beside reading its weights is a few barriers.
//
// Weights are packed: panels of PANEL outputs side by side, (panels, inputs, PANEL), so that a product walks through
// them once and in order. Every sum runs over the inputs in their order, whatever rows are computed beside: a token's
// numbers are the same bits alone, in a batch, in any chunk.
#include "_attention.h"

enum { STORE, ADD, GATE };  // y = product; y += product; y = silu(gate) * up, whose vectors take turns in the panels
enum { CHUNK = 16 * ROWS };  // rows that one thread multiplies before it looks for more work
enum { AHEAD = 2048 };  // bytes; with eight rows a step took 1.5 times as long without
enum { SIDE = 8 / WIDE };  // panels that one row walks through together: each sum waits for its own last product

typedef struct {
    const void *weights;
    const float *scales;  // of each output where weights are whole numbers of 8 bits, else null
    const float *biases;  // of each output; zeros where there are none, for with a branch GCC contracted some sums only
    long inputs, outputs;  // outputs as stored in y: of a gated map, half of its rows
} Linear;

typedef struct {
    const float *attention_norm, *mlp_norm;
    Linear qkv, out, gate_up, down;
} Layer;

typedef struct {
    const Layer *each;
    const float *norm;
    Linear head;
    long layers, hidden, heads, kv_heads, dim, inner;
    float eps;
} Model;

// Where a request's keys and values lie; the tokens from `row` on are its positions from `start` to `stop`.
typedef struct {
    char *keys, *values;
    const int64_t *table;
    long block, block_stride, head_stride, layer_stride, row, start, stop;
} Request;

// x * sigmoid(x), through the exponential of what is not positive.
INLINE vec silu(vec x) {
    ints negative = x < 0;
    vec e = exponential(choose(negative, x, -x)), one = (vec){0} + 1;
    return x * choose(negative, e, one) / (1 + e);
}

INLINE void keep(float *y, vec v, long left, int add) {  // at most `left` lanes
    float lanes[LANES];
    if (left >= LANES) {
        store(y, add ? load(y) + v : v);
        return;
    }
    store(lanes, v);
    for (long l = 0; l < left; l++) y[l] = add ? y[l] + lanes[l] : lanes[l];
}

INLINE void tile(int rows, int side, int kind, const float *x, const Linear *w, float *y, long panel, int mode) {
    const long size = kind == I8 ? 1 : 4, bytes = w->inputs * PANEL * size;
    vec acc[SIDE][ROWS][WIDE];
    for (int p = 0; p < side; p++)
        for (int m = 0; m < rows; m++)
            for (int i = 0; i < WIDE; i++) acc[p][m][i] = (vec){0};
    for (long k = 0; k < w->inputs; k++)
        for (int p = 0; p < side; p++) {
            const char *from = (const char *)w->weights + (panel + p) * bytes + k * PANEL * size;
            vec wide[WIDE];
            for (int i = 0; i < WIDE; i++) wide[i] = widen(from, i * LANES, kind);
            for (long at = 0; at < PANEL * size; at += 64) __builtin_prefetch(from + AHEAD + at);
            for (int m = 0; m < rows; m++)
                for (int i = 0; i < WIDE; i++) acc[p][m][i] += x[m * w->inputs + k] * wide[i];
        }
    for (int p = 0; p < side; p++, panel++) {
        for (int i = 0; i < WIDE; i++) {
            vec bias = load(w->biases + panel * PANEL + i * LANES);
            vec scale = kind == I8 ? load(w->scales + panel * PANEL + i * LANES) : (vec){0} + 1;
            for (int m = 0; m < rows; m++) acc[p][m][i] = acc[p][m][i] * scale + bias;
        }
        long vecs = mode == GATE ? WIDE / 2 : WIDE, at = panel * vecs * LANES;
        for (int m = 0; m < rows; m++)
            for (int i = 0; i < vecs; i++) {
                vec v = mode == GATE ? silu(acc[p][m][2 * i]) * acc[p][m][2 * i + 1] : acc[p][m][i];
                keep(y + m * w->outputs + at + i * LANES, v, w->outputs - at - i * LANES, mode == ADD);
            }
    }
}

static void rows_of(const float *x, const Linear *w, float *y, long rows, long panel, long count, int mode) {
    if (rows == 1 && count == SIDE) {
        if (w->scales)
            tile(1, SIDE, I8, x, w, y, panel, mode);
        else
            tile(1, SIDE, F32, x, w, y, panel, mode);
        return;
    }
#define FLOATS(n) tile(n, 1, F32, x + m * w->inputs, w, y + m * w->outputs, panel, mode);
#define WHOLES(n) tile(n, 1, I8, x + m * w->inputs, w, y + m * w->outputs, panel, mode);
    for (long last = panel + count; panel < last; panel++) {
        long m = 0;
        if (w->scales) {
            BY_ROWS(m, rows, WHOLES)
        } else {
            BY_ROWS(m, rows, FLOATS)
        }
    }
}

// What follows is called by all threads of a team; each shares out its work and ends with a barrier.

static void linear(const float *x, const Linear *w, float *y, long rows, int mode) {
    long panels = ((mode == GATE ? 2 : 1) * ((w->outputs + LANES - 1) / LANES) + WIDE - 1) / WIDE;
    long chunks = (rows + CHUNK - 1) / CHUNK, side = rows == 1 ? SIDE : 1;
#pragma omp for schedule(dynamic)
    for (long task = 0; task < (panels + side - 1) / side * chunks; task++) {
        long row = task % chunks * CHUNK, panel = task / chunks * side;
        rows_of(x + row * w->inputs, w, y + row * w->outputs, rows - row < CHUNK ? rows - row : CHUNK, panel,
                panels - panel < side ? panels - panel : side, mode);
    }
}

// x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, eq. 4) of some rows, or of all.
static void normalize(const float *x, const int64_t *which, const float *weight, float *y, long rows, long size,
                      float eps) {
#pragma omp for schedule(static)
    for (long m = 0; m < rows; m++) {
        const float *row = x + (which ? which[m] : m) * size;
        vec squares = {0};
        for (long k = 0; k < size; k += LANES) squares += load(row + k) * load(row + k);
        float factor = 1 / __builtin_sqrtf(sum(squares) / size + eps);
        for (long k = 0; k < size; k += LANES) store(y + m * size + k, load(row + k) * factor * load(weight + k));
    }
}

// Turn pairs (i, i + dim / 2) by angles whose `dim / 2` cosines, then sines, are at `turns` (Su et al. 2021, eq. 34).
INLINE void rotate(const float *x, const float *turns, float *y, long dim, float scale) {
    for (long i = 0; i < dim / 2; i++) {
        float a = x[i], b = x[i + dim / 2], c = turns[i], s = turns[i + dim / 2];
        y[i] = (a * c - b * s) * scale;
        y[i + dim / 2] = (b * c + a * s) * scale;
    }
}

// Rotate and keep the keys, keep the values.
static void append(const Model *model, const Request *requests, const int64_t *owner, const float *qkv,
                   const float *turns, long rows, long layer) {
    long dim = model->dim, width = (model->heads + 2 * model->kv_heads) * dim;
#pragma omp for schedule(static)
    for (long m = 0; m < rows; m++) {
        const Request *r = requests + owner[m];
        long position = r->start + m - r->row;
        for (long h = 0; h < model->kv_heads; h++) {
            const float *k = qkv + m * width + (model->heads + h) * dim;
            long at = layer * r->layer_stride + h * r->head_stride + r->table[position / r->block] * r->block_stride +
                      position % r->block * dim;
            rotate(k, turns + position * dim, (float *)r->keys + at, dim, 1);
            memcpy((float *)r->values + at, k + model->kv_heads * dim, dim * sizeof *k);
        }
    }
}

// A task is BAND rows of one key head of one request; row r is query head r / q_len of the group, token r % q_len.
static void attend(const Model *model, const Request *requests, long count, const float *qkv, const float *turns,
                   float *mixed, float *scratch, long layer, long width) {
    long dim = model->dim, group = model->heads / model->kv_heads, tasks = 0;
    for (long i = 0; i < count; i++)
        tasks += (group * (requests[i].stop - requests[i].start) + BAND - 1) / BAND * model->kv_heads;
    float *own = scratch + THREAD * (BAND * (width + 2 * dim) + dim * LANES), scale = 1 / __builtin_sqrtf(dim);
    float *q = own + BAND * width + dim * LANES, *out = q + BAND * dim;
#pragma omp for schedule(dynamic)
    for (long task = 0; task < tasks; task++) {
        const Request *r = requests;
        long left = task, bands, length;
        for (;; r++, left -= bands * model->kv_heads) {
            length = r->stop - r->start, bands = (group * length + BAND - 1) / BAND;
            if (left < bands * model->kv_heads) break;
        }
        long h = left % model->kv_heads, row = left / model->kv_heads * BAND, last[BAND], token[BAND], head[BAND];
        long rows = group * length - row < BAND ? group * length - row : BAND;
        for (long m = 0; m < rows; m++) {
            token[m] = r->row + (row + m) % length, head[m] = h * group + (row + m) / length;
            last[m] = r->start + (row + m) % length + 1;
            rotate(qkv + (token[m] * (model->heads + 2 * model->kv_heads) + head[m]) * dim, turns + (last[m] - 1) * dim,
                   q + m * dim, dim, scale);
        }
        long at = (layer * r->layer_stride + h * r->head_stride) * sizeof(float);
        Cached c = {r->keys + at, r->values + at, r->table, r->block, r->block_stride, dim, 0, width};
        band(F32, &c, q, last, rows, out, own);
        for (long m = 0; m < rows; m++)
            memcpy(mixed + (token[m] * model->heads + head[m]) * dim, out + m * dim, dim * sizeof *out);
    }
}

long panel(void) { return PANEL; }
long lanes(void) { return LANES; }

// Map `x`, (rows, inputs), to `y`, (rows, outputs).
void map(const Linear *w, const float *x, float *y, long rows, int gated, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    linear(x, w, y, rows, gated ? GATE : STORE);
}

// Take `x`, (rows, hidden), the embedded tokens of `count` requests, through all layers, and the rows `which` of the
// result, `wanted` of them, through the head to `logits`. `owner` names each row's request, `turns` is (positions, dim):
// the cosines and sines of every position. `width` is at least LANES above the longest request; `scratch` holds
// rows * (hidden + (heads + 2 kv_heads + heads) * dim + inner) + threads * (BAND * (width + 2 dim) + dim * LANES).
void step(const Model *model, const Request *requests, long count, const int64_t *owner, const float *turns, float *x,
          long rows, const int64_t *which, long wanted, float *logits, float *scratch, long width, int threads) {
    long hidden = model->hidden, all = (model->heads + 2 * model->kv_heads) * model->dim;
    float *normed = scratch, *qkv = normed + rows * hidden, *mixed = qkv + rows * all;
    float *inner = mixed + rows * model->heads * model->dim, *own = inner + rows * model->inner;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        for (long i = 0; i < model->layers; i++) {
            const Layer *layer = model->each + i;
            normalize(x, 0, layer->attention_norm, normed, rows, hidden, model->eps);
            linear(normed, &layer->qkv, qkv, rows, STORE);
            append(model, requests, owner, qkv, turns, rows, i);
            attend(model, requests, count, qkv, turns, mixed, own, i, width);
            linear(mixed, &layer->out, x, rows, ADD);
            normalize(x, 0, layer->mlp_norm, normed, rows, hidden, model->eps);
            linear(normed, &layer->gate_up, inner, rows, GATE);
            linear(inner, &layer->down, x, rows, ADD);
        }
        normalize(x, which, model->norm, normed, wanted, hidden, model->eps);
        linear(normed, &model->head, logits, wanted, STORE);
    }
}
