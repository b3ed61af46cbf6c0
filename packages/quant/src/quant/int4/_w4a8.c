// Product of a few rows with a 4-bit weight: the rows are quantized to 8 bits, the sums of a group are whole numbers.
//
// A weight is a list of records, one for each 16 outputs and group of 32 inputs: 256 bytes of codes, 16 scales in
// bfloat16, 16 zero points in a byte, 304 bytes that are read once and in order. Byte 4 * c + k of step s holds the codes of
// outputs c (low half) and c + 8 (high half) for input 4 * s + k, so that one multiplication serves 8 outputs.
#include <immintrin.h>
#include <stdint.h>

enum { GROUP = 32, OUTPUTS = 16, STEPS = 8, RECORD = 304 };

static inline __m256 scales(const uint8_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}

static inline __m256 zeros(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

// Quantize a row symmetrically; return its step. `sums` gets the sum of each group's codes.
static float quantize(const float *x, int8_t *q, float *sums, long inputs) {
    float largest = 0;
    for (long i = 0; i < inputs; i++) {
        float size = x[i] < 0 ? -x[i] : x[i];
        largest = size > largest ? size : largest;
    }
    float inverse = largest > 0 ? 127.0f / largest : 0;
    for (long g = 0; g < inputs / GROUP; g++) {
        int sum = 0;
        for (int i = 0; i < GROUP; i++) {
            float scaled = x[g * GROUP + i] * inverse;
            int code = (int)(scaled + (scaled < 0 ? -0.5f : 0.5f));
            q[g * GROUP + i] = (int8_t)code;
            sum += code;
        }
        sums[g] = (float)sum;
    }
    return largest / 127.0f;
}

// Multiply ROWS rows by the 16 outputs whose records begin at `w`.
#define TILE(ROWS)                                                                                                     \
    static void tile##ROWS(const int8_t *q, const float *sums, const float *step, const uint8_t *w, float *y,          \
                           long inputs, long outputs) {                                                                \
        const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);                                         \
        long groups = inputs / GROUP;                                                                                  \
        __m256 acc[ROWS][2];                                                                                           \
        for (int m = 0; m < ROWS; m++) acc[m][0] = acc[m][1] = _mm256_setzero_ps();                                    \
        for (long g = 0; g < groups; g++, w += RECORD) {                                                               \
            __m256i dot[ROWS][2];                                                                                      \
            for (int m = 0; m < ROWS; m++) dot[m][0] = dot[m][1] = _mm256_setzero_si256();                             \
            for (int s = 0; s < STEPS; s++) {                                                                          \
                __m256i both = _mm256_loadu_si256((const __m256i *)(w + 32 * s));                                      \
                __m256i first = _mm256_and_si256(both, low);                                                           \
                __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);                                    \
                for (int m = 0; m < ROWS; m++) {                                                                       \
                    /* 16 bits hold the group: 8 steps of 2 * 15 * 127 are 30480 */                                    \
                    __m256i x = _mm256_set1_epi32(*(const int32_t *)(q + m * inputs + g * GROUP + 4 * s));             \
                    dot[m][0] = _mm256_add_epi16(dot[m][0], _mm256_maddubs_epi16(first, x));                           \
                    dot[m][1] = _mm256_add_epi16(dot[m][1], _mm256_maddubs_epi16(second, x));                          \
                }                                                                                                      \
            }                                                                                                          \
            for (int half = 0; half < 2; half++) {                                                                     \
                __m256 scale = scales(w + 256 + 16 * half), zero = zeros(w + 288 + 8 * half);                          \
                for (int m = 0; m < ROWS; m++) {                                                                       \
                    __m256 sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(dot[m][half], ones));                            \
                    sum = _mm256_fnmadd_ps(zero, _mm256_set1_ps(sums[m * groups + g]), sum);                           \
                    acc[m][half] = _mm256_fmadd_ps(scale, sum, acc[m][half]);                                          \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        for (int m = 0; m < ROWS; m++)                                                                                 \
            for (int half = 0; half < 2; half++)                                                                       \
                _mm256_storeu_ps(y + m * outputs + 8 * half, _mm256_mul_ps(acc[m][half], _mm256_set1_ps(step[m])));    \
    }
TILE(1)
TILE(4)

// `x` is (rows, inputs), `y` (rows, outputs); `q`, `sums` and `step` are room for what is made of `x`.
void w4a8(const float *x, const uint8_t *w, float *y, int8_t *q, float *sums, float *step, long rows, long inputs,
          long outputs, int threads) {
    long groups = inputs / GROUP;
    for (long m = 0; m < rows; m++) step[m] = quantize(x + m * inputs, q + m * inputs, sums + m * groups, inputs);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long n = 0; n < outputs / OUTPUTS; n++) {
        const uint8_t *records = w + n * groups * RECORD;
        long m = 0;
        for (; m + 4 <= rows; m += 4)
            tile4(q + m * inputs, sums + m * groups, step + m, records, y + m * outputs + n * OUTPUTS, inputs, outputs);
        for (; m < rows; m++)
            tile1(q + m * inputs, sums + m * groups, step + m, records, y + m * outputs + n * OUTPUTS, inputs, outputs);
    }
}
