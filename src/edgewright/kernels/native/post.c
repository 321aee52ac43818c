/* Kernels behind the network and for operators that runtimes lack. Each takes a level of instruction sets first and uses
 * its best variant up to that level. Elementwise kernels may work in place (`to` equal to `from`). */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "isa.h"

#if defined(EWK_X86)
#include <immintrin.h>
#elif defined(EWK_ARM)
#include <arm_neon.h>
#endif

/* ---- elementwise: one body for each instruction set, with the compiler's vectors ---- */

#define TARGET
#define SUFFIX scalar
#include "elementwise.inc"
#undef TARGET
#undef SUFFIX
#if defined(EWK_X86)
#define TARGET __attribute__((target("avx2")))
#define SUFFIX avx2
#include "elementwise.inc"
#undef TARGET
#undef SUFFIX
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2")))
#define SUFFIX avx512
#include "elementwise.inc"
#undef TARGET
#undef SUFFIX
#define SELECT(name, ...) \
    (isa >= EWK_AVX512 ? name##_avx512(__VA_ARGS__) : isa >= EWK_AVX2 ? name##_avx2(__VA_ARGS__) : name##_scalar(__VA_ARGS__))
#else
#define SELECT(name, ...) ((void)isa, name##_scalar(__VA_ARGS__))
#endif

#if defined(EWK_ARM)
/* Four selects as in the scalar clamp, so that NaN and -0 stay; gcc 12 makes 18 instructions of it. */
static inline float32x4_t clamp_neon(float32x4_t x) {
    float32x4_t none = vdupq_n_f32(0), six = vdupq_n_f32(6);
    x = vbslq_f32(vcltq_f32(x, none), none, x);
    return vbslq_f32(vcgtq_f32(x, six), six, x);
}

static void relu6_neon(const float *from, float *to, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(to + i, clamp_neon(vld1q_f32(from + i)));
    relu6_scalar(from + i, to + i, n - i);
}

static void hardswish_neon(const float *from, float *to, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t x = vld1q_f32(from + i);
        vst1q_f32(to + i, vmulq_f32(x, vmulq_n_f32(clamp_neon(vaddq_f32(x, vdupq_n_f32(3))), 1.0f / 6.0f)));
    }
    hardswish_scalar(from + i, to + i, n - i);
}
#define CLAMPED(name) (isa >= EWK_NEON ? name##_neon(from, to, n) : name##_scalar(from, to, n))
#else
#define CLAMPED(name) SELECT(name, from, to, n)
#endif

EWK_EXPORT void ewk_relu6(int isa, const float *from, float *to, size_t n) { CLAMPED(relu6); }
EWK_EXPORT void ewk_hardswish(int isa, const float *from, float *to, size_t n) { CLAMPED(hardswish); }
EWK_EXPORT void ewk_gelu(int isa, const float *from, float *to, size_t n) { SELECT(gelu, from, to, n); }
EWK_EXPORT void ewk_softmax(int isa, const float *from, float *to, size_t rows, size_t n) {
    for (size_t i = 0; i < rows; i++) SELECT(softmax, from + i * n, to + i * n, n);
}
EWK_EXPORT void ewk_dequantize(int isa, const int8_t *from, float *to, size_t n, float scale, int32_t zero) {
    SELECT(dequantize, from, to, n, scale, zero);
}
EWK_EXPORT void ewk_quantize(int isa, const float *from, int8_t *to, size_t n, float scale, int32_t zero) {
    SELECT(quantize, from, to, n, scale, zero);
}
EWK_EXPORT void ewk_unpack_int4(int isa, const uint8_t *from, int8_t *to, size_t n) { SELECT(unpack_int4, from, to, n); }

/* ---- the largest values ---- */

/* Descending, NaN first as in numpy's maximum; ties by the smaller index. */
static int comes_before(float a, int64_t i, float b, int64_t k) {
    int first = a != a, second = b != b;
    if (first != second) return first;
    if (!first && a != b) return a > b;
    return i < k;
}

EWK_EXPORT int64_t ewk_argmax(int isa, const float *from, size_t n) {
    (void)isa;
    int64_t best = n ? 0 : -1;
    for (size_t i = 1; i < n; i++)
        if (comes_before(from[i], (int64_t)i, from[best], best)) best = (int64_t)i;
    return best;
}

static void sift_down(const float *from, int64_t *heap, size_t k, size_t at) {
    for (size_t child; (child = 2 * at + 1) < k; at = child) { /* the root is the last in the order */
        if (child + 1 < k && comes_before(from[heap[child]], heap[child], from[heap[child + 1]], heap[child + 1])) child++;
        if (!comes_before(from[heap[at]], heap[at], from[heap[child]], heap[child])) return;
        int64_t swapped = heap[at];
        heap[at] = heap[child], heap[child] = swapped;
    }
}

/* The indices of the k largest values in descending order; k <= n. */
EWK_EXPORT void ewk_topk(int isa, const float *from, size_t n, size_t k, int64_t *indices) {
    (void)isa;
    if (k == 0) return;
    for (size_t i = 0; i < k; i++) indices[i] = (int64_t)i;
    for (size_t i = k / 2 + 1; i-- > 0;) sift_down(from, indices, k, i);
    for (size_t i = k; i < n; i++)
        if (comes_before(from[i], (int64_t)i, from[indices[0]], indices[0]))
            indices[0] = (int64_t)i, sift_down(from, indices, k, 0);
    for (size_t left = k - 1; left > 0; left--) {
        int64_t last = indices[0];
        indices[0] = indices[left], indices[left] = last;
        sift_down(from, indices, left, 0);
    }
}

/* ---- non-maximum suppression: greedy, by descending score, stable ---- */

typedef struct {
    uint32_t key;
    int32_t index;
} ranked;

/* Order-preserving bits, complemented: ascending keys are descending scores. */
static uint32_t make_key(float score) {
    uint32_t bits;
    score = score + 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return ~(bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}

static void sort_by_key(ranked *from, ranked *other, int32_t n) { /* radix sort: 3 passes of 11 bits, and a copy */
    for (int pass = 0; pass < 3; pass++) {
        uint32_t start[2049] = {0};
        for (int32_t i = 0; i < n; i++) start[(from[i].key >> 11 * pass & 2047) + 1]++;
        for (int i = 0; i < 2048; i++) start[i + 1] += start[i];
        for (int32_t i = 0; i < n; i++) other[start[from[i].key >> 11 * pass & 2047]++] = from[i];
        ranked *swapped = from;
        from = other, other = swapped;
    }
    memcpy(other, from, (size_t)n * sizeof *from);
}

typedef struct {
    float *left, *top, *right, *bottom, *area;
    int32_t count;
} kept_boxes;

static float greater(float a, float b) { return a > b ? a : b; }
static float lesser(float a, float b) { return a < b ? a : b; }

static int overlaps_scalar(const kept_boxes *k, int32_t from, const float *b, float area, float limit) {
    for (int32_t i = from; i < k->count; i++) {
        float w = lesser(b[2], k->right[i]) - greater(b[0], k->left[i]);
        float h = lesser(b[3], k->bottom[i]) - greater(b[1], k->top[i]);
        float both = greater(w, 0) * greater(h, 0), sum = area + k->area[i];
        if (both > limit * (sum - both)) return 1;
    }
    return 0;
}

#if defined(EWK_X86)
__attribute__((target("avx2"))) static int overlaps_avx2(const kept_boxes *k, const float *b, float area, float limit) {
    const __m256 left = _mm256_set1_ps(b[0]), top = _mm256_set1_ps(b[1]), zero = _mm256_setzero_ps();
    const __m256 right = _mm256_set1_ps(b[2]), bottom = _mm256_set1_ps(b[3]), size = _mm256_set1_ps(area);
    int32_t i = 0;
    for (; i + 8 <= k->count; i += 8) {
        __m256 w = _mm256_sub_ps(_mm256_min_ps(right, _mm256_loadu_ps(k->right + i)),
                                 _mm256_max_ps(left, _mm256_loadu_ps(k->left + i)));
        __m256 h = _mm256_sub_ps(_mm256_min_ps(bottom, _mm256_loadu_ps(k->bottom + i)),
                                 _mm256_max_ps(top, _mm256_loadu_ps(k->top + i)));
        __m256 both = _mm256_mul_ps(_mm256_max_ps(w, zero), _mm256_max_ps(h, zero));
        __m256 rest = _mm256_sub_ps(_mm256_add_ps(size, _mm256_loadu_ps(k->area + i)), both);
        if (_mm256_movemask_ps(_mm256_cmp_ps(both, _mm256_mul_ps(_mm256_set1_ps(limit), rest), _CMP_GT_OQ))) {
            _mm256_zeroupper();
            return 1;
        }
    }
    _mm256_zeroupper();
    return overlaps_scalar(k, i, b, area, limit);
}
#elif defined(EWK_ARM)
static int overlaps_neon(const kept_boxes *k, const float *b, float area, float limit) {
    int32_t i = 0;
    for (; i + 4 <= k->count; i += 4) {
        float32x4_t w = vsubq_f32(vminq_f32(vdupq_n_f32(b[2]), vld1q_f32(k->right + i)),
                                  vmaxq_f32(vdupq_n_f32(b[0]), vld1q_f32(k->left + i)));
        float32x4_t h = vsubq_f32(vminq_f32(vdupq_n_f32(b[3]), vld1q_f32(k->bottom + i)),
                                  vmaxq_f32(vdupq_n_f32(b[1]), vld1q_f32(k->top + i)));
        float32x4_t both = vmulq_f32(vmaxq_f32(w, vdupq_n_f32(0)), vmaxq_f32(h, vdupq_n_f32(0)));
        float32x4_t rest = vsubq_f32(vaddq_f32(vdupq_n_f32(area), vld1q_f32(k->area + i)), both);
        if (vmaxvq_u32(vcgtq_f32(both, vmulq_n_f32(rest, limit)))) return 1;
    }
    return overlaps_scalar(k, i, b, area, limit);
}
#endif

static int overlaps(int isa, const kept_boxes *k, const float *b, float area, float limit) {
#if defined(EWK_X86)
    if (isa >= EWK_AVX2) return overlaps_avx2(k, b, area, limit);
#elif defined(EWK_ARM)
    if (isa >= EWK_NEON) return overlaps_neon(k, b, area, limit);
#endif
    (void)isa;
    return overlaps_scalar(k, 0, b, area, limit);
}

/* Writes the indices of kept boxes (left, top, right, bottom) and returns their number; -1 without memory. A box with a
 * NaN, or a score that is not at least `least`, is left out. */
EWK_EXPORT int32_t ewk_nms(int isa, const float *boxes, const float *scores, int32_t n, float limit, float least,
                           int32_t most, int32_t *kept) {
    ranked *order = malloc((size_t)n * 2 * sizeof *order + 1);
    float *memory = malloc(((size_t)(most < n ? most : n) * 5 + 1) * sizeof *memory);
    int32_t count = 0;
    if (order == NULL || memory == NULL) {
        free(order), free(memory);
        return -1;
    }
    for (int32_t i = 0; i < n; i++) {
        const float *b = boxes + 4 * (size_t)i;
        if (scores[i] >= least && b[0] == b[0] && b[1] == b[1] && b[2] == b[2] && b[3] == b[3])
            order[count++] = (ranked){make_key(scores[i]), i};
    }
    sort_by_key(order, order + n, count);
    size_t room = (size_t)(most < n ? most : n);
    kept_boxes k = {memory, memory + room, memory + 2 * room, memory + 3 * room, memory + 4 * room, 0};
    for (int32_t i = 0; i < count && k.count < most; i++) {
        const float *b = boxes + 4 * (size_t)order[i].index;
        float area = (b[2] - b[0]) * (b[3] - b[1]);
        if (overlaps(isa, &k, b, area, limit)) continue;
        k.left[k.count] = b[0], k.top[k.count] = b[1], k.right[k.count] = b[2], k.bottom[k.count] = b[3];
        k.area[k.count] = area, kept[k.count++] = order[i].index;
    }
    free(order), free(memory);
    return k.count;
}

/* ---- int8 matrix times vector: [rows][n] x [n] -> int32 ---- */

static int32_t dot_scalar(const int8_t *a, const int8_t *b, size_t from, size_t n) {
    int32_t sum = 0;
    for (size_t i = from; i < n; i++) sum += a[i] * b[i];
    return sum;
}

#if defined(EWK_X86)
__attribute__((target("avx2"))) static int32_t dot_avx2(const int8_t *a, const int8_t *b, size_t n) {
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + i)));
        __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
    }
    int32_t parts[8], total = dot_scalar(a, b, i, n);
    _mm256_storeu_si256((__m256i *)parts, sum);
    _mm256_zeroupper();
    for (int k = 0; k < 8; k++) total += parts[k];
    return total;
}

__attribute__((target("avx512f,avx512bw"))) static int32_t dot_avx512(const int8_t *a, const int8_t *b, size_t n) {
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(a + i)));
        __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(b + i)));
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(x, y));
    }
    return _mm512_reduce_add_epi32(sum) + dot_scalar(a, b, i, n);
}
#elif defined(EWK_ARM)
static int32_t dot_neon(const int8_t *a, const int8_t *b, size_t n) {
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int8x16_t x = vld1q_s8(a + i), y = vld1q_s8(b + i);
        sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        sum = vpadalq_s16(sum, vmull_high_s8(x, y));
    }
    return vaddvq_s32(sum) + dot_scalar(a, b, i, n);
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static int32_t dot_dotprod(const int8_t *a, const int8_t *b, size_t n) {
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = vdotq_s32(sum, vld1q_s8(a + i), vld1q_s8(b + i));
    return vaddvq_s32(sum) + dot_scalar(a, b, i, n);
}

/* Two rows at once: a 2 x 8 by 8 x 2 product per instruction, whose second column is the vector again. */
__attribute__((target("arch=armv8.2-a+i8mm"))) static void dot_i8mm(const int8_t *a, const int8_t *b, size_t n, int32_t *to) {
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int8x8_t v = vld1_s8(b + i);
        sum = vmmlaq_s32(sum, vcombine_s8(vld1_s8(a + i), vld1_s8(a + n + i)), vcombine_s8(v, v));
    }
    to[0] = vgetq_lane_s32(sum, 0) + dot_scalar(a, b, i, n);
    to[1] = vgetq_lane_s32(sum, 2) + dot_scalar(a + n, b, i, n);
}
#endif

EWK_EXPORT void ewk_matvec_int8(int isa, const int8_t *matrix, const int8_t *vector, int32_t *to, size_t rows, size_t n) {
    for (size_t i = 0; i < rows; i++) {
        const int8_t *row = matrix + i * n;
#if defined(EWK_X86)
        if (isa >= EWK_AVX512) to[i] = dot_avx512(row, vector, n);
        else if (isa >= EWK_AVX2) to[i] = dot_avx2(row, vector, n);
        else
#elif defined(EWK_ARM)
        if (isa >= EWK_I8MM && i + 1 < rows) dot_i8mm(row, vector, n, to + i), i++;
        else if (isa >= EWK_DOTPROD) to[i] = dot_dotprod(row, vector, n);
        else if (isa >= EWK_NEON) to[i] = dot_neon(row, vector, n);
        else
#endif
            to[i] = dot_scalar(row, vector, 0, n);
    }
    (void)isa;
}

/* ---- memory pool: offsets of blocks that are alive from `first` to `last`, as small as first fit by size makes it ---- */

static int by_size(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? 1 : -1) : x[1] < y[1] ? -1 : 1;
}

/* Blocks of `bytes` rounded up to `align` (a power of 2). Returns the size of the pool; -1 without memory. */
EWK_EXPORT int64_t ewk_plan_pool(int isa, const int64_t *bytes, const int32_t *first, const int32_t *last, int32_t n,
                                 int64_t align, int64_t *offsets) {
    (void)isa;
    int64_t total = 0, *order = malloc((size_t)n * 2 * sizeof *order + 1);
    if (order == NULL) return -1;
    for (int32_t i = 0; i < n; i++) order[2 * i] = (bytes[i] + align - 1) & ~(align - 1), order[2 * i + 1] = i;
    qsort(order, (size_t)n, 2 * sizeof *order, by_size);
    for (int32_t k = 0; k < n; k++) {
        int64_t size = order[2 * k], at = 0, i = order[2 * k + 1];
        for (int32_t again = 1; again;) { /* move behind each block that is in the way */
            again = 0;
            for (int32_t p = 0; p < k; p++) {
                int64_t j = order[2 * p + 1], end = offsets[j] + order[2 * p];
                if (last[j] < first[i] || last[i] < first[j] || at + size <= offsets[j] || end <= at) continue;
                at = end, again = 1;
            }
        }
        offsets[i] = at;
        if (at + size > total) total = at + size;
    }
    free(order);
    return total;
}
