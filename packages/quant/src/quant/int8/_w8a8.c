// Int8 layers: each row is quantized to 0 to 255, multiplied by int8 weights, and scaled back, in one call.
//
// y[m][n] = bias[n] + step[m] * scale[n] * (sum_k code[m][k] * w[n][k] - zero[m] * sum_k w[n][k]), Jacob et al. 2018,
// eq. 7. Sums are whole numbers in 32 bits and exact up to 65 792 inputs (255 * 128 each), so that a row's result is
// the same bits whatever is computed beside it. The weight is read where it lies, (outputs, inputs): nothing is packed.
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
typedef int32_t four __attribute__((vector_size(16)));
typedef float four_floats __attribute__((vector_size(16)));

// What differs between processors: `vec` holds sums in 32 bits, DOT adds BLOCK products of codes and weights to them,
// FOLD adds up four such vectors. Codes are kept as `code`, less OFFSET.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
enum { BLOCK = 64, OFFSET = 0 };
typedef uint8_t code;
typedef __m512i vec;
INLINE vec codes_at(const code *p) { return _mm512_loadu_si512(p); }
INLINE vec weights_at(const int8_t *p) { return _mm512_loadu_si512(p); }
// Written out, a sum stays in its register: compilers copy it to and fro, and read weights once for each row.
INLINE vec dot(vec sum, vec x, vec w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
INLINE vec pairs(vec a, vec b) { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
INLINE four fold(vec a, vec b, vec c, vec d) {
    vec ab = pairs(a, b), cd = pairs(c, d);
    vec all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return (four)_mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
#elif defined(__AVX2__)
#include <immintrin.h>
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
enum { BLOCK = 32, OFFSET = 0 };
typedef uint8_t code;
typedef __m256i vec;
INLINE vec weights_at(const int8_t *p) { return _mm256_loadu_si256((const vec *)p); }
INLINE vec dot(vec sum, vec x, vec w) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
    return _mm256_dpbusd_epi32(sum, x, w);
#endif
}
#else  // products of bytes are added in 16 bits, which saturate: widen both first
#define WIDE
enum { BLOCK = 16, OFFSET = 0 };
typedef int16_t code;
typedef __m256i vec;
INLINE vec weights_at(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
INLINE vec dot(vec sum, vec x, vec w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w)); }
#endif
INLINE vec codes_at(const code *p) { return _mm256_loadu_si256((const vec *)p); }
INLINE vec pairs(vec a, vec b) { return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)); }
INLINE four fold(vec a, vec b, vec c, vec d) {
    vec ab = pairs(a, b), cd = pairs(c, d);
    vec all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    return (four)_mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
enum { BLOCK = 16, OFFSET = 128 };
typedef int8_t code;
typedef int32x4_t vec;
INLINE int8x16_t codes_at(const code *p) { return vld1q_s8(p); }
INLINE int8x16_t weights_at(const int8_t *p) { return vld1q_s8(p); }
INLINE vec dot(vec sum, int8x16_t x, int8x16_t w) { return vdotq_s32(sum, x, w); }
INLINE four fold(vec a, vec b, vec c, vec d) { return (four)vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
#else
#error "no dot product of bytes"
#endif

typedef struct {
    const int8_t *codes;   // (outputs, inputs)
    const int32_t *sums;   // of each output's weights
    const float *scale;
    long inputs, outputs;
} Layer;

typedef struct {
    float *step;
    int32_t *zero;
    uint32_t *own;  // sum of products of its codes two apart, in fours, which `many` without dot products takes off
    code *codes;
} Rows;

INLINE int32_t bits(float x) {
    int32_t b;
    memcpy(&b, &x, 4);
    return b;
}

INLINE float number(int32_t b) {
    float x;
    memcpy(&x, &b, 4);
    return x;
}

// One affine map whose range holds 0, a row's own or the one that is given by `step` above 0: its step, NaN for a row
// that has NaN or inf, and its zero.
typedef struct {
    float step;
    int32_t zero;
} Map;

INLINE Map map_of(const float *restrict x, long inputs, float step, int32_t zero) {
    if (step > 0) return (Map){step, zero};
    int32_t low = 0, high = 0;
    for (long i = 0; i < inputs; i++) {  // bits as whole numbers in the order of the floats; NaN lies outside
        int32_t b = bits(x[i]);
        b ^= b >> 31 & INT32_MAX;
        low = b < low ? b : low;
        high = b > high ? b : high;
    }
    const int32_t infinite = 0x7f800000;
    if (high >= infinite || ~low >= infinite) return (Map){number(0x7fc00000), 0};
    const float least = number(low ^ (low >> 31 & INT32_MAX)), largest = number(high);
    step = largest / 255 - least / 255;
    step = step < 0x1p-126f ? 0x1p-126f : step;
    return (Map){step, (int32_t)(0.5f - least / step)};
}

// Quantize some inputs of a row; tell whether NaN is among them, which only a range that is given leaves to be found.
INLINE int32_t encode(const float *restrict x, long inputs, Map map, code *restrict q) {
    int32_t nans = 0;
    const float inverse = 1 / map.step, bottom = (float)-map.zero, top = (float)(255 - map.zero);
    const float whole = 12582912;  // 1.5 * 2^23: what is added to it is rounded to a whole number, halves to even
    for (long i = 0; i < inputs; i++) {
        float v = x[i] * inverse;
        nans |= v != v;
        v = v < bottom ? bottom : v;
        v = v > top ? top : v;
        q[i] = (code)(bits(v + whole) - bits(whole) + map.zero - OFFSET);
    }
    return nans;
}

// Multiply `rows` rows by the four outputs from `n` on, one after the other: the memory is the limit, and it delivers the
// most to who reads in order. Weights FAR ahead are fetched into the second cache, those that are NEAR past it, for they
// are read once and would drive the codes out of the nearest.
enum { TALL = 4, FAR = 8192, NEAR = 1024 };
INLINE void tile(int rows, const Layer *l, const float *bias, Rows r, long stride, long n, float *y) {
    vec sums[TALL][4];
    for (int c = 0; c < 4; c++) {
        const int8_t *w = l->codes + (n + c < l->outputs ? n + c : l->outputs - 1) * l->inputs;
        vec sum[TALL];
        memset(sum, 0, sizeof sum);
        long k = 0;
        for (; k + BLOCK <= l->inputs; k += BLOCK) {
            if (k % 64 == 0) {
                __builtin_prefetch(w + k + FAR, 0, 2);
                __builtin_prefetch(w + k + NEAR, 0, 0);
            }
            for (int m = 0; m < rows; m++) sum[m] = dot(sum[m], codes_at(r.codes + m * stride + k), weights_at(w + k));
        }
        if (k < l->inputs) {
            int8_t rest[BLOCK] = {0};
            memcpy(rest, w + k, (size_t)(l->inputs - k));
            for (int m = 0; m < rows; m++) sum[m] = dot(sum[m], codes_at(r.codes + m * stride + k), weights_at(rest));
        }
        for (int m = 0; m < rows; m++) sums[m][c] = sum[m];
    }
    four weight_sums = {0};
    four_floats scale = {0}, offset = {0};
    size_t there = 4 * (size_t)(l->outputs - n < 4 ? l->outputs - n : 4);
    memcpy(&weight_sums, l->sums + n, there);
    memcpy(&scale, l->scale + n, there);
    if (bias) memcpy(&offset, bias + n, there);
    for (int m = 0; m < rows; m++) {
        four sum = fold(sums[m][0], sums[m][1], sums[m][2], sums[m][3]) - r.zero[m] * weight_sums;
        four_floats out = __builtin_convertvector(sum, four_floats) * (scale * r.step[m]) + offset;
        memcpy(y + m * l->outputs + n, &out, there);
    }
}

// Quantize rows, each of which is followed by zeros up to `stride` codes; the threads that call this share them.
static void quantize_all(const float *x, long inputs, long rows, float step, int32_t zero, Rows r, long stride) {
#pragma omp for
    for (long m = 0; m < rows; m++) {
        code *q = r.codes + m * stride;
        memset(q + inputs, 0, sizeof(code) * (size_t)(stride - inputs));
        const Map map = map_of(x + m * inputs, inputs, step, zero);
        r.step[m] = encode(x + m * inputs, inputs, map, q) ? number(0x7fc00000) : map.step;
        r.zero[m] = map.zero - OFFSET;
#ifdef WIDE
        uint32_t own = 0;
        for (long k = 0; k < inputs; k += 4) own += (uint32_t)(q[k] * q[k + 2] + q[k + 1] * q[k + 3]);
        r.own[m] = own;
#endif
    }
}

INLINE Rows from(Rows r, long m, long stride) {
    return (Rows){r.step + m, r.zero + m, r.own + m, r.codes + m * stride};
}

static void few(const Layer *l, const float *x, const float *bias, float *y, long rows, float step, int32_t zero, Rows r,
                long stride, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        quantize_all(x, l->inputs, rows, step, zero, r, stride);
#pragma omp for nowait
        for (long n = 0; n < l->outputs; n += 4) {
            long m = 0;
            for (; m + TALL <= rows; m += TALL) tile(TALL, l, bias, from(r, m, stride), stride, n, y + m * l->outputs);
            for (; m + 2 <= rows; m += 2) tile(2, l, bias, from(r, m, stride), stride, n, y + m * l->outputs);
            for (; m < rows; m++) tile(1, l, bias, from(r, m, stride), stride, n, y + m * l->outputs);
        }
    }
}

// Many rows, their codes laid out as (blocks of 16 rows, inputs / 4, 16, 4): four inputs of 16 rows fill a vector.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
enum { SIDE = 16, DEEP = 64, MOST = INT_MAX };

// Turn 16 x 16 numbers of 32 bits, a line in each vector, around.
INLINE void transpose(__m512 t[SIDE]) {
    __m512 u[SIDE];
    for (int c = 0; c < SIDE; c += 2)
        u[c] = _mm512_unpacklo_ps(t[c], t[c + 1]), u[c + 1] = _mm512_unpackhi_ps(t[c], t[c + 1]);
    for (int c = 0; c < SIDE; c += 4)
        for (int i = 0; i < 2; i++) {
            __m512d a = _mm512_castps_pd(u[c + i]), b = _mm512_castps_pd(u[c + i + 2]);
            t[c + 2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            t[c + 2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int c = 0; c < SIDE; c += 8)
        for (int i = 0; i < 4; i++) {
            u[c + i] = _mm512_shuffle_f32x4(t[c + i], t[c + i + 4], 0x88);
            u[c + i + 4] = _mm512_shuffle_f32x4(t[c + i], t[c + i + 4], 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        t[i] = _mm512_shuffle_f32x4(u[i], u[i + 8], 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(u[i], u[i + 8], 0xdd);
    }
}

// Write 16 x 16 sums, an output in each line, as `rows` lines of up to 16 outputs.
static void scale_back(const int32_t sums[SIDE][SIDE], const Layer *l, const float *bias, Rows r, long n, long rows,
                       float *y) {
    const long outputs = l->outputs - n < SIDE ? l->outputs - n : SIDE;
    const __m512 step = _mm512_loadu_ps(r.step);
    const __m512i zero = _mm512_loadu_si512(r.zero);
    __m512 t[SIDE];
    for (int c = 0; c < SIDE; c++) {
        const long at = n + (c < outputs ? c : 0);
        __m512i sum = _mm512_loadu_si512(sums[c]);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, _mm512_set1_epi32(l->sums[at])));
        __m512 scale = _mm512_mul_ps(_mm512_set1_ps(l->scale[at]), step), offset = _mm512_set1_ps(bias ? bias[at] : 0);
        t[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, offset);
    }
    transpose(t);
    const __mmask16 there = (__mmask16)(0xffff >> (SIDE - outputs));
    for (int m = 0; m < rows; m++) _mm512_mask_storeu_ps(y + m * l->outputs + n, there, t[m]);
}

// Quantize up to 16 rows; what is not there is 0, and not denormal by chance either, which would be slow.
static void lay_out(const float *x, long inputs, long rows, float step, int32_t zero, Rows r) {
    Map maps[SIDE];
    int32_t nans[SIDE] = {0};
    for (long m = 0; m < rows; m++) maps[m] = map_of(x + m * inputs, inputs, step, zero);
    for (long k = 0; k < inputs; k += DEEP) {
        uint8_t q[SIDE][DEEP] __attribute__((aligned(64))) = {0};
        const long deep = inputs - k < DEEP ? inputs - k : DEEP;
        for (long m = 0; m < rows; m++)
            nans[m] |= deep == DEEP ? encode(x + m * inputs + k, DEEP, maps[m], q[m])
                                    : encode(x + m * inputs + k, deep, maps[m], q[m]);
        __m512 t[SIDE];
        for (int m = 0; m < SIDE; m++) t[m] = _mm512_load_ps(q[m]);
        transpose(t);
        for (long j = 0; j < deep; j += 4) _mm512_store_ps(r.codes + (k + j) * SIDE, t[j / 4]);
    }
    for (long m = 0; m < SIDE; m++) {
        r.step[m] = m >= rows ? 0 : nans[m] ? number(0x7fc00000) : maps[m].step;
        r.zero[m] = m >= rows ? 0 : maps[m].zero;
    }
}

#if defined(__AMX_INT8__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
enum { HIGH = 2, WIDE_BY = 2, FEW = 2 };  // blocks of rows and outputs that are multiplied at once

// Ask the kernel for the tiles (XTILEDATA, 18), once for all threads.
static int has_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
static int suits_many(const Layer *l) { return has_tiles() && l->inputs % DEEP == 0 && l->outputs % SIDE == 0; }

static void begin(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = SIDE;
    _tile_loadconfig(&tiles);
}

static void end(void) { _tile_release(); }

// Multiply up to 32 rows by up to 32 outputs: matrices of bytes, a tile of 16 outputs by 64 inputs, as it lies, times
// one of 64 inputs by 16 rows.
static void square(const Layer *l, const float *bias, Rows r, long n, long rows, float *y) {
    const int wide = n + SIDE < l->outputs, high = rows > SIDE;
    const int8_t *w = l->codes + n * l->inputs;
    const uint8_t *q = r.codes;
    const long block = l->inputs * SIDE;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < l->inputs; k += DEEP) {
        _tile_loadd(4, w + k, l->inputs);
        _tile_loadd(6, q + k * SIDE, 64);
        _tile_dpbsud(0, 4, 6);
        if (high) {
            _tile_loadd(7, q + block + k * SIDE, 64);
            _tile_dpbsud(1, 4, 7);
        }
        if (wide) {
            _tile_loadd(5, w + SIDE * l->inputs + k, l->inputs);
            _tile_dpbsud(2, 5, 6);
            if (high) _tile_dpbsud(3, 5, 7);
        }
    }
    int32_t sums[4][SIDE][SIDE] __attribute__((aligned(64)));
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int i = 0; i < 4; i++) {
        long m = i % 2 * SIDE, left = rows - m < SIDE ? rows - m : SIDE;
        if ((m == 0 || high) && (i < 2 || wide))
            scale_back(sums[i], l, bias, from(r, m, 0), n + i / 2 * SIDE, left, y + m * l->outputs);
    }
}
#else
enum { HIGH = 2, WIDE_BY = 1, FEW = 4, HALF = SIDE / 2 };
static int suits_many(const Layer *l) { return l->outputs > 0; }
static void begin(void) {}
static void end(void) {}

INLINE vec four_at(const int8_t *w) {
    int32_t weights;
    memcpy(&weights, w, sizeof weights);
    return _mm512_set1_epi32(weights);
}

// Multiply `high` blocks of 16 rows by eight outputs from `n` on, whose weights are read where they lie.
INLINE void strip(int high, const Layer *l, const uint8_t *q, long block, long n, int32_t (*sums)[SIDE][SIDE]) {
    const int8_t *w[HALF];
    vec s[HIGH][HALF];
    for (int b = 0; b < high; b++)
        for (int c = 0; c < HALF; c++) s[b][c] = _mm512_setzero_si512();
    for (int c = 0; c < HALF; c++) w[c] = l->codes + (n + c < l->outputs ? n + c : l->outputs - 1) * l->inputs;
    long k = 0;
    for (; k + 4 <= l->inputs; k += 4, q += 4 * SIDE) {
        if (k % 64 == 0)
            for (int c = 0; c < HALF; c++) {
                __builtin_prefetch(w[c] + k + HALF * l->inputs, 0, 2);  // the next eight outputs
                __builtin_prefetch(w[c] + k + 256);
            }
        vec x[HIGH];
        for (int b = 0; b < high; b++) x[b] = codes_at(q + b * block);
        for (int c = 0; c < HALF; c++) {
            const vec same = four_at(w[c] + k);
            for (int b = 0; b < high; b++) s[b][c] = dot(s[b][c], x[b], same);
        }
    }
    if (k < l->inputs)
        for (int c = 0; c < HALF; c++) {
            int8_t rest[4] = {0};
            memcpy(rest, w[c] + k, (size_t)(l->inputs - k));
            for (int b = 0; b < high; b++) s[b][c] = dot(s[b][c], codes_at(q + b * block), four_at(rest));
        }
    for (int b = 0; b < high; b++)
        for (int c = 0; c < HALF; c++) _mm512_store_si512(sums[b][c], s[b][c]);
}

// Multiply up to 32 rows by up to 16 outputs.
static void square(const Layer *l, const float *bias, Rows r, long n, long rows, float *y) {
    const long block = (l->inputs + 3) / 4 * 4 * SIDE;
    int32_t sums[HIGH][SIDE][SIDE] __attribute__((aligned(64)));
    for (int half = 0; half < SIDE; half += HALF) {
#define STRIP(BLOCKS) strip(BLOCKS, l, r.codes, block, n + half, (void *)sums[0][half])
        rows > SIDE ? STRIP(2) : STRIP(1);
    }
    for (long m = 0; m < rows; m += SIDE)
        scale_back(sums[m / SIDE], l, bias, from(r, m, 0), n, rows - m < SIDE ? rows - m : SIDE, y + m * l->outputs);
}
#endif

static void many(const Layer *l, const float *x, const float *bias, float *y, long rows, float step, int32_t zero, Rows r,
                 long stride, int threads) {
    const long inputs = l->inputs, padded = (inputs + 3) / 4 * 4;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        begin();
#pragma omp for
        for (long m = 0; m < rows; m += SIDE) {
            const Rows block = {r.step + m, r.zero + m, NULL, r.codes + m * padded};
            lay_out(x + m * inputs, inputs, rows - m < SIDE ? rows - m : SIDE, step, zero, block);
        }
#pragma omp for nowait
        for (long n = 0; n < l->outputs; n += WIDE_BY * SIDE)
            for (long m = 0; m < rows; m += HIGH * SIDE) {
                const Rows some = {r.step + m, r.zero + m, NULL, r.codes + m * padded};
                square(l, bias, some, n, rows - m < HIGH * SIDE ? rows - m : HIGH * SIDE, y + m * l->outputs);
            }
        end();
    }
}

// Without dot products of bytes: weights in 16 bits, by pairs of inputs, widened once for all rows, DEEP inputs of 16
// outputs to a panel. (Bytes could be multiplied in pairs too, and would have to be signed first, since 16 bits do not
// hold 2 * 255 * 127: that is slower.)
#elif defined(WIDE)
enum { SIDE = 16, DEEP = 256, PANELS = 4, FEW = 8, MOST = 256 };  // rows of sums that leave room in a core's cache

// Lay out the weights of 16 outputs from n on, inputs k to k + deep, as (deep / 2, 16, 2), and take from `own` what
// `block` adds for each output.
static void widen(const Layer *l, long n, long k, long deep, int16_t *panel, vec own[2]) {
    for (int half = 0; half < 2; half++)
        for (long j = k; j < k + deep; j += BLOCK) {
            vec v[8], u[8];  // eight pairs of inputs each, for eight outputs, to be transposed
            for (int c = 0; c < 8; c++) {
                long output = n + 8 * half + c < l->outputs ? n + 8 * half + c : l->outputs - 1;
                const int8_t *w = l->codes + output * l->inputs + j;
                int8_t rest[BLOCK] = {0};
                if (j % 64 == 0) __builtin_prefetch(w + DEEP);  // an output's weights go on there in the next panel
                if (j + BLOCK > l->inputs) w = memcpy(rest, w, (size_t)(l->inputs - j));
                v[c] = weights_at(w);
            }
            for (int c = 0; c < 8; c += 2)
                u[c] = _mm256_unpacklo_epi32(v[c], v[c + 1]), u[c + 1] = _mm256_unpackhi_epi32(v[c], v[c + 1]);
            for (int c = 0; c < 8; c += 4)
                for (int i = 0; i < 2; i++) {
                    v[c + 2 * i] = _mm256_unpacklo_epi64(u[c + i], u[c + i + 2]);
                    v[c + 2 * i + 1] = _mm256_unpackhi_epi64(u[c + i], u[c + i + 2]);
                }
            vec *out = (vec *)(panel + (j - k) * SIDE) + half;
            for (int i = 0; i < 4; i++) {
                out[2 * i] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x20);
                out[2 * i + 8] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x31);
            }
            for (int i = 0; i < 16; i += 4) own[half] = _mm256_sub_epi32(own[half], _mm256_madd_epi16(out[i], out[i + 2]));
        }
}

INLINE vec pair_at(const code *q) {
    int32_t two;
    memcpy(&two, q, sizeof two);
    return _mm256_set1_epi32(two);
}

// Written out, a sum stays in its register: compilers copy it to and fro, or to memory.
INLINE void add_to(vec *sum, vec more) { asm("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(more)); }

// Add to the sums of `rows` rows and 16 outputs, with half the products, by Winograd 1968 (IEEE Trans. Comput. C-17,
// 693): x0 w0 + x2 w2 is (x0 + w2) (x2 + w0) less x0 x2, which is the row's own, and w0 w2, which is the output's.
INLINE void block(int rows, const code *q, long stride, const int16_t *panel, long deep, int32_t *sums) {
    vec s[4][2];
    for (int m = 0; m < rows; m++)
        for (int half = 0; half < 2; half++) s[m][half] = codes_at((code *)(sums + m * PANELS * SIDE + 8 * half));
    for (long k = 0; k < deep; k += 4, panel += 4 * SIDE) {
        vec a = codes_at(panel), b = codes_at(panel + SIDE), c = codes_at(panel + 2 * SIDE), d = codes_at(panel + 3 * SIDE);
        asm("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d));  // in registers: they and the sums just fit
        for (int m = 0; m < rows; m++) {
            vec x = pair_at(q + m * stride + k), z = pair_at(q + m * stride + k + 2);
            add_to(&s[m][0], _mm256_madd_epi16(_mm256_add_epi16(x, c), _mm256_add_epi16(z, a)));
            add_to(&s[m][1], _mm256_madd_epi16(_mm256_add_epi16(x, d), _mm256_add_epi16(z, b)));
        }
    }
    for (int m = 0; m < rows; m++)
        for (int half = 0; half < 2; half++)
            _mm256_store_si256((vec *)(sums + m * PANELS * SIDE + 8 * half), s[m][half]);
}

static void many(const Layer *l, const float *x, const float *bias, float *y, long rows, float step, int32_t zero, Rows r,
                 long stride, int threads) {
    const long inputs = l->inputs;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        quantize_all(x, inputs, rows, step, zero, r, stride);
#pragma omp for nowait
        for (long n = 0; n < l->outputs; n += PANELS * SIDE) {
            // Sums and what is taken from them may wrap around, all but the last: the product's sum fits.
            int32_t sums[MOST][PANELS * SIDE] __attribute__((aligned(64)));
            int16_t panel[PANELS][DEEP * SIDE] __attribute__((aligned(64)));
            uint32_t own[PANELS * SIDE] __attribute__((aligned(64))) = {0};
            memset(sums, 0, sizeof *sums * (size_t)rows);
            for (long k = 0; k < inputs; k += DEEP) {
                const long deep = inputs - k < DEEP ? (inputs - k + BLOCK - 1) / BLOCK * BLOCK : DEEP;
                for (int p = 0; p < PANELS; p++) widen(l, n + p * SIDE, k, deep, panel[p], (vec *)(own + p * SIDE));
                for (long m = 0, some; m < rows; m += some) {
                    some = rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
#define BLOCK_OF(ROWS) block(ROWS, r.codes + m * stride + k, stride, panel[p], deep, sums[m] + p * SIDE)
                    for (int p = 0; p < PANELS; p++) some == 4 ? BLOCK_OF(4) : some == 2 ? BLOCK_OF(2) : BLOCK_OF(1);
                }
            }
            const long some = l->outputs - n < PANELS * SIDE ? l->outputs - n : PANELS * SIDE;
            for (long m = 0; m < rows; m++) {
                const uint32_t of_row = r.own[m];
                for (long c = 0; c < some; c++) {
                    int32_t sum = (int32_t)((uint32_t)sums[m][c] + own[c] - of_row) - r.zero[m] * l->sums[n + c];
                    y[m * l->outputs + n + c] = (float)sum * (l->scale[n + c] * r.step[m]) + (bias ? bias[n + c] : 0);
                }
            }
        }
    }
}

static int suits_many(const Layer *l) { return l->outputs > 0; }
#else
enum { SIDE = 16, FEW = 0, MOST = INT_MAX };
static int suits_many(const Layer *l) { return 0 * l->inputs; }
static void many(const Layer *l, const float *x, const float *bias, float *y, long rows, float step, int32_t zero, Rows r,
                 long stride, int threads) {}
#endif

enum { CHUNK = 1 << 20 };

// Tell up to how many rows this is used: always where `many` is there, and where torch has no kernel as exact.
long most_rows(const Layer *l) {
    if (l->inputs > INT32_MAX / (255 * 128)) return 0;
    if (suits_many(l)) return LONG_MAX;
#if defined(__ARM_FEATURE_DOTPROD)
    return LONG_MAX;
#else
    return 16;
#endif
}

// `x` is (rows, inputs), `y` (rows, outputs), `bias` may be NULL. A `step` of 0 gives every row its own range, else all
// have this step and this zero. Returns 0, or 1 where there is no memory for the codes.
int w8a8(const Layer *l, const float *x, const float *bias, float *y, long rows, float step, int zero, int threads) {
    if (rows < 1) return 0;
    const int tiles = rows > FEW && suits_many(l);
    // An odd number of blocks: rows whole pages apart would drive each other out of the nearest cache.
    const long stride = ((l->inputs + BLOCK - 1) / BLOCK | 1) * BLOCK;
    // As many rows at a time as leave room in a core's cache for weights beside their codes.
    const long fit = (CHUNK / stride + 2 * SIDE) / (2 * SIDE) * (2 * SIDE), most = fit < MOST ? fit : MOST;
    const long chunk = rows < most ? (rows + SIDE - 1) / SIDE * SIDE : most;
    const size_t each = sizeof(float) + sizeof(int32_t) + sizeof(uint32_t) + sizeof(code) * (size_t)stride;
    code *codes = aligned_alloc(64, (size_t)chunk * each);
    if (!codes) return 1;
    float *steps = (float *)(codes + chunk * stride);
    const Rows r = {steps, (int32_t *)(steps + chunk), (uint32_t *)(steps + 2 * chunk), codes};
    for (long m = 0; m < rows; m += chunk) {
        long some = rows - m < chunk ? rows - m : chunk;
        if (tiles)
            many(l, x + m * l->inputs, bias, y + m * l->outputs, some, step, zero, r, stride, threads);
        else
            few(l, x + m * l->inputs, bias, y + m * l->outputs, some, step, zero, r, stride, threads);
    }
    free(codes);
    return 0;
}
