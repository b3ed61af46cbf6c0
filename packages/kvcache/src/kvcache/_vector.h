// Vectors as GCC and Clang know them, so that one text serves AVX-512, AVX2 and NEON; sums in an order that is written
// down, so that results are the same bits whatever is computed beside them.
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#if defined(__AVX512F__)
enum { LANES = 16, WIDE = 4 };
#define NUMBERS ((ints){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif defined(__AVX__)
enum { LANES = 8, WIDE = 2 };
#define NUMBERS ((ints){0, 1, 2, 3, 4, 5, 6, 7})
#else
enum { LANES = 4, WIDE = 4 };
#define NUMBERS ((ints){0, 1, 2, 3})
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES)));
enum { PANEL = WIDE * LANES, ROWS = 6 };  // what is multiplied at a time: the sums of ROWS x PANEL fit the registers
enum { F32, BF16, I8 };
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

// Load from element `i` on; bfloat16 is the upper half of a float.
INLINE vec widen(const void *p, long i, int kind) {
    if (kind == F32) return load((const float *)p + i);
    if (kind == I8) {
        bytes b;
        memcpy(&b, (const int8_t *)p + i, sizeof b);
#if defined(__AVX512F__)  // what GCC makes of the last line takes ten times as long
        return __builtin_convertvector((ints)_mm512_cvtepi8_epi32((__m128i)b), vec);
#elif defined(__AVX2__)
        return __builtin_convertvector((ints)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)b)), vec);
#endif
        return __builtin_convertvector(__builtin_convertvector(b, ints), vec);
    }
    halves h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return (vec)(__builtin_convertvector(h, words) << 16);
}

// Load a panel from element `i` on, F32 in order. Of two neighbours in 16 bits the second is the upper half of a word, a
// float already: they come as a vector of first ones and one of second ones, for half the instructions of their order.
INLINE void panel_of(const void *p, long i, int kind, vec out[WIDE]) {
    for (int n = 0; n < WIDE; n += 2) {
        if (kind == BF16) {
            words w;
            memcpy(&w, (const uint16_t *)p + i + n * LANES, sizeof w);
            out[n] = (vec)(w << 16), out[n + 1] = (vec)(w & 0xffff0000);
        } else {
            out[n] = widen(p, i + n * LANES, kind), out[n + 1] = widen(p, i + (n + 1) * LANES, kind);
        }
    }
}

// Load `dim` elements from `i` on: panels as above, then vectors in order.
INLINE void floats_of(const void *p, long i, long dim, int kind, float scale, float *out) {
    long d = 0;
    for (; d + PANEL <= dim; d += PANEL) {
        vec wide[WIDE];
        panel_of(p, i + d, kind, wide);
        for (int n = 0; n < WIDE; n++) store(out + d + n * LANES, wide[n] * scale);
    }
    for (; d < dim; d += LANES) store(out + d, widen(p, i + d, kind) * scale);
}

// Round to the nearest bfloat16, of two the even one, in the upper half of each word.
INLINE words rounded(vec v) {
    words w = (words)v, nan = (words)(v != v);
    return ((w + 0x7fff + (w >> 16 & 1)) & ~nan) | (nan & 0x7fc00000);
}

// Store `dim` floats that lie as `floats_of` BF16 leaves them, in their order and rounded.
INLINE void halves_to(uint16_t *p, const float *x, long dim) {
    long d = 0;
    for (; d + PANEL <= dim; d += PANEL)
        for (int n = 0; n < WIDE; n += 2) {
            words low = rounded(load(x + d + n * LANES)), high = rounded(load(x + d + (n + 1) * LANES));
            words both = low >> 16 | (high & 0xffff0000);
            memcpy(p + d + n * LANES, &both, sizeof both);
        }
    for (; d < dim; d += LANES) {
        halves h = __builtin_convertvector(rounded(load(x + d)) >> 16, halves);
        memcpy(p + d, &h, sizeof h);
    }
}

INLINE vec choose(ints which, vec yes, vec no) { return (vec)((which & (ints)yes) | (~which & (ints)no)); }

// Add rows of `x`, `xs` apart, times `count` rows of `w`, `ws` elements apart, in this order: (rows, count) x (count,
// vecs * LANES); a panel's sums lie as `panel_of` says. No sum depends on how many rows there are.
INLINE void multiply(int rows, int vecs, int kind, const float *x, long xs, const void *w, long ws, long count,
                     vec acc[ROWS][WIDE]) {
    for (long k = 0; k < count; k++) {
        vec wide[WIDE];
        if (vecs == WIDE)
            panel_of(w, k * ws, kind, wide);
        else
            for (int i = 0; i < vecs; i++) wide[i] = widen(w, k * ws + i * LANES, kind);
        for (int m = 0; m < rows; m++)
            for (int i = 0; i < vecs; i++) acc[m][i] += x[m * xs + k] * wide[i];
    }
}

// Do TILE(n) for n rows from `m` on, until all are done.
#define BY_ROWS(m, rows, TILE)                  \
    for (; m + ROWS <= rows; m += ROWS) TILE(6) \
    for (; m + 4 <= rows; m += 4) TILE(4)       \
    for (; m + 2 <= rows; m += 2) TILE(2)       \
    for (; m < rows; m++) TILE(1)

// Lane l is lane which[l] of the two vectors, one after the other.
INLINE vec shuffle(vec a, vec b, ints which) {
#if defined(__clang__)
    vec out;
    for (int l = 0; l < LANES; l++) out[l] = which[l] < LANES ? a[which[l]] : b[which[l] - LANES];
    return out;
#else
    return __builtin_shuffle(a, b, which);
#endif
}

// Return r[0][l] of a lane l whose bit `s` is 0 plus its neighbour's across that bit, of r[1] where it is 1.
INLINE vec halve(vec r[2], int s) {
    ints beside = (NUMBERS & s) != 0, low = NUMBERS + (beside & (LANES - s)), high = NUMBERS + (~beside & s) + (beside & LANES);
    return shuffle(r[0], r[1], low) + shuffle(r[0], r[1], high);
}

// Return the sums of LANES vectors: of neighbouring lanes, of pairs of them, and so on.
INLINE vec sums(vec r[LANES]) {
    for (int i = 0; i < LANES / 2; i++) r[i] = halve(r + 2 * i, 1);
    for (int i = 0; i < LANES / 4; i++) r[i] = halve(r + 2 * i, 2);
    if (LANES > 4)
        for (int i = 0; i < LANES / 8; i++) r[i] = halve(r + 2 * i, 4);
    if (LANES > 8) r[0] = halve(r, 8);
    return r[0];
}

// Halve until one is left.
INLINE float sum(vec v) {
    if (LANES > 8) v += shuffle(v, v, NUMBERS ^ 8);
    if (LANES > 4) v += shuffle(v, v, NUMBERS ^ 4);
    v += shuffle(v, v, NUMBERS ^ 2);
    v += shuffle(v, v, NUMBERS ^ 1);
    return v[0];
}

INLINE float maximum(vec v) {
    float largest = v[0];
    for (int i = 1; i < LANES; i++) largest = v[i] > largest ? v[i] : largest;
    return largest;
}

// exp of numbers that are not positive: 2^n * exp(r) with |r| <= ln 2 / 2 and the Taylor polynomial of degree 7,
// whose first omitted term is 0.35^8 / 8! = 5e-9; below -87 the result is no normal number and becomes 0.
INLINE vec exponential(vec x) {
    ints vanishes = x < -87.0f;
    x = (vec)((ints)x & ~vanishes);
    ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints);
    vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693359375f - whole * -2.12194440e-4f;  // ln 2 in two parts (Cody and Waite)
    vec y = r * (1.0f / 5040) + (1.0f / 720);
    y = y * r + (1.0f / 120);
    y = y * r + (1.0f / 24);
    y = y * r + (1.0f / 6);
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return (vec)(((n << 23) + (ints)y) & ~vanishes);
}
