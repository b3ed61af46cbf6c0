// Product of rows with a 4-bit weight: 32 inputs at a time are quantized to 8 bits, so that their sums are whole numbers.
//
// A weight is a list of records, one for each 16 outputs and group of 32 inputs: 256 bytes of codes, 16 scales in
// bfloat16, 16 zero points in a byte, 304 bytes that are read once and in order. Byte 64 * s + 4 * c + k holds the codes
// of output c for the inputs 4 * s + k (low half) and 16 + 4 * s + k (high half): four inputs lie side by side, as
// instructions for dot products of bytes want them, and 4, 8 or 16 outputs fill a vector.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 32, OUTPUTS = 16, STEPS = 4, RECORD = 304, FAR = 8192, NEAR = 1024 };
#define INLINE static inline __attribute__((always_inline))

// What differs between processors: a vector holds LANES outputs, `dot` adds for each of them the products of four codes
// and the four bytes of `x`. Sums of floats are fused explicitly: left to the compiler, a row's bits would depend on how
// many rows there are.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
enum { LANES = 16 };
typedef __m512i vec;
typedef __m512 floats;
INLINE vec load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE vec low(vec w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
INLINE vec high(vec w) { return low(_mm512_srli_epi16(w, 4)); }
INLINE vec dot(vec sum, vec w, int32_t x) { return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x)); }
INLINE floats total(vec sum) { return _mm512_cvtepi32_ps(sum); }
INLINE floats fused(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE floats scales(const uint8_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE floats zeros(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
enum { LANES = 8 };
typedef __m256i vec;
typedef __m256 floats;
INLINE vec load(const uint8_t *p) { return _mm256_loadu_si256((const vec *)p); }
INLINE vec low(vec w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
INLINE vec high(vec w) { return low(_mm256_srli_epi16(w, 4)); }
// 16 bits hold the sums of a group: 8 steps of 2 * 15 * 127 are 30 480.
INLINE vec dot(vec sum, vec w, int32_t x) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, _mm256_set1_epi32(x)));
}
INLINE floats total(vec sum) { return _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, _mm256_set1_epi16(1))); }
INLINE floats fused(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE floats scales(const uint8_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE floats zeros(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
enum { LANES = 4 };
typedef uint8x16_t vec;
typedef float32x4_t floats;
INLINE vec load(const uint8_t *p) { return vld1q_u8(p); }
INLINE vec low(vec w) { return vandq_u8(w, vdupq_n_u8(15)); }
INLINE vec high(vec w) { return vshrq_n_u8(w, 4); }
INLINE vec dot(vec sum, vec w, int32_t x) {
    return (vec)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)vdupq_n_s32(x));
}
INLINE floats total(vec sum) { return vcvtq_f32_s32((int32x4_t)sum); }
INLINE floats fused(floats a, floats b, floats c) { return vfmaq_f32(c, a, b); }
INLINE floats scales(const uint8_t *p) { return (floats)vshll_n_u16((uint16x4_t)vld1_u8(p), 16); }
INLINE floats zeros(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, 4);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8((uint8x8_t)vdup_n_u32(four)))));
}
#else
#error "no dot product of bytes"
#endif
enum { PARTS = OUTPUTS / LANES };

INLINE int32_t bits(float x) {
    int32_t b;
    memcpy(&b, &x, 4);
    return b;
}

// Quantize a row symmetrically, each group by itself, so that an outlier costs its neighbours only. `steps` gets each
// group's step, NaN where it has NaN or inf, and `sums` the sum of its codes.
static void quantize(const float *restrict x, int8_t *restrict q, float *restrict steps, float *restrict sums, long inputs) {
    for (long g = 0; g < inputs / GROUP; g++, x += GROUP, q += GROUP) {
        int32_t most = 0, sum = 0;
        for (int i = 0; i < GROUP; i++) {  // without their sign, bits are in the order of the floats
            int32_t size = bits(x[i]) & INT32_MAX;
            most = size > most ? size : most;
        }
        float largest;
        memcpy(&largest, &most, 4);
        largest = largest < 0x1p-120f ? 0x1p-120f : largest;  // its inverse has to be finite
        const float inverse = most < 0x7f800000 ? 127 / largest : 0, whole = 12582912;  // 1.5 * 2^23 rounds what is added
        for (int i = 0; i < GROUP; i++) q[i] = (int8_t)(bits(x[i] * inverse + whole) - bits(whole));
        for (int i = 0; i < GROUP; i++) sum += q[i];
        steps[g] = most < 0x7f800000 ? largest / 127 : largest - largest;  // inf less inf is NaN
        sums[g] = (float)sum;
    }
}

INLINE int32_t inputs_at(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, 4);
    return x;
}

typedef struct {
    const uint8_t *records;
    long inputs, outputs;
} Layer;

// Multiply `rows` rows by the 16 outputs from `n` on.
INLINE void tile(int rows, const Layer *l, const int8_t *q, const float *steps, const float *sums,
                 const float *bias, long n, float *y) {
    const long groups = l->inputs / GROUP;
    const uint8_t *w = l->records + n / OUTPUTS * groups * RECORD;
    floats acc[4][PARTS];
    memset(acc, 0, sizeof acc);
    for (long g = 0; g < groups; g++, w += RECORD, q += GROUP, steps++, sums++) {
        for (int i = 0; i < RECORD; i += 64) {  // far ahead into the second cache, near past it: the codes need the first
            __builtin_prefetch(w + i + FAR, 0, 2);
            __builtin_prefetch(w + i + NEAR, 0, 0);
        }
        vec sum[4][PARTS];
        memset(sum, 0, sizeof sum);
        for (int s = 0; s < STEPS; s++)
            for (int p = 0; p < PARTS; p++) {
                vec both = load(w + 64 * s + 4 * LANES * p);
                for (int m = 0; m < rows; m++) {
                    sum[m][p] = dot(sum[m][p], low(both), inputs_at(q + m * l->inputs + 4 * s));
                    sum[m][p] = dot(sum[m][p], high(both), inputs_at(q + m * l->inputs + 16 + 4 * s));
                }
            }
        for (int p = 0; p < PARTS; p++) {
            floats scale = scales(w + 256 + 2 * LANES * p), zero = zeros(w + 288 + LANES * p);
            for (int m = 0; m < rows; m++) {
                floats product = (total(sum[m][p]) - zero * sums[m * groups]) * scale;
                acc[m][p] = fused(product, steps[m * groups] + (floats){0}, acc[m][p]);
            }
        }
    }
    for (int p = 0; p < PARTS; p++) {
        floats offset = {0};
        if (bias) memcpy(&offset, bias + n + LANES * p, sizeof offset);
        for (int m = 0; m < rows; m++) {
            floats out = acc[m][p] + offset;
            memcpy(y + m * l->outputs + n + LANES * p, &out, sizeof out);
        }
    }
}

// `x` is (rows, inputs), `y` (rows, outputs), `bias` may be NULL. Returns 0, or 1 where there is no memory for the codes.
int w4a8(const Layer *l, const float *x, const float *bias, float *y, long rows, int threads) {
    if (rows < 1) return 0;
    const long inputs = l->inputs, groups = inputs / GROUP;
    float *steps = malloc((size_t)rows * (2 * sizeof(float) * (size_t)groups + (size_t)inputs));
    if (!steps) return 1;
    float *sums = steps + rows * groups;
    int8_t *q = (int8_t *)(sums + rows * groups);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for
        for (long m = 0; m < rows; m++)
            quantize(x + m * inputs, q + m * inputs, steps + m * groups, sums + m * groups, inputs);
#pragma omp for nowait
        for (long n = 0; n < l->outputs; n += OUTPUTS) {
            long m = 0;
#define TILE(ROWS) tile(ROWS, l, q + m * inputs, steps + m * groups, sums + m * groups, bias, n, y + m * l->outputs)
            for (; m + 4 <= rows; m += 4) TILE(4);
            for (; m + 2 <= rows; m += 2) TILE(2);
            for (; m < rows; m++) TILE(1);
        }
    }
    free(steps);
    return 0;
}
