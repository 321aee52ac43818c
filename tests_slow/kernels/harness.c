/* Runs the kernels at every level of this processor and prints a hash of each result.
 *
 * harness CASES: checks the core against a file of cases: ewp_params, frame height and width (int32), RGB bytes, and the
 * bytes of the right model input. Exit code 1 at the first difference. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgewright_preprocess.h"

typedef struct ewk_fast ewk_fast;
int ewk_best_level(void);
ewk_fast *ewk_fast_new(ewp_plan *plan);
void ewk_fast_free(ewk_fast *f);
int ewk_exact_run(int isa, ewp_plan *plan, const ewp_frame *frame, void *output);
int ewk_fast_run(int isa, ewk_fast *f, const ewp_frame *frame, float *output);
int32_t ewk_nms(int isa, const float *boxes, const float *scores, int32_t n, float limit, float least, int32_t most, int32_t *kept);
void ewk_topk(int isa, const float *from, size_t n, size_t k, int64_t *indices);
void ewk_matvec_int8(int isa, const int8_t *matrix, const int8_t *vector, int32_t *to, size_t rows, size_t n);
void ewk_unpack_int4(int isa, const uint8_t *from, int8_t *to, size_t n);
void ewk_quantize(int isa, const float *from, int8_t *to, size_t n, float scale, int32_t zero);
void ewk_relu6(int isa, const float *from, float *to, size_t n);
void ewk_hardswish(int isa, const float *from, float *to, size_t n);
void ewk_gelu(int isa, const float *from, float *to, size_t n);
void ewk_softmax(int isa, const float *from, float *to, size_t rows, size_t n);

static uint32_t state = 1;
static uint32_t next(void) { return (state = state * 1664525u + 1013904223u) >> 8; }

static void report(int level, const char *name, const void *data, size_t bytes) {
    uint64_t hash = 1469598103934665603ull;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 1099511628211ull;
    printf("%s %d %016llx\n", name, level, (unsigned long long)hash);
}

/* A copy that ends where the memory ends: the sanitizer sees each byte that is read behind it. */
static void *copy(const void *from, size_t bytes) {
    void *to = malloc(bytes ? bytes : 1);
    memcpy(to, from, bytes);
    return to;
}

static int check_cases(const char *path) {
    FILE *file = fopen(path, "rb");
    ewp_params params;
    int count = 0, wrong = 0;
    int32_t size[2];
    while (file && fread(&params, sizeof params, 1, file) == 1) {
        if (fread(size, sizeof size, 1, file) != 1) return 1;
        size_t bytes = (size_t)size[0] * size[1] * 3, wanted = ewp_output_bytes(&params);
        uint8_t *pixels = malloc(bytes), *want = malloc(wanted), *got = malloc(wanted);
        if (fread(pixels, bytes, 1, file) != 1 || fread(want, wanted, 1, file) != 1) return 1;
        ewp_plan *plan;
        ewp_frame frame = {EWP_FRAME_RGB, size[0], size[1], {pixels, NULL, NULL}, {size[1] * 3, 0, 0}};
        if (ewp_new(&params, size[1], size[0], &plan) || ewp_run(plan, &frame, got)) return 1;
        ewk_fast *fast = ewk_fast_new(plan);
        for (int level = 0; fast && level <= ewk_best_level(); level++) ewk_fast_run(level, fast, &frame, (float *)got);
        for (int level = 0; level <= ewk_best_level(); level++) {
            if (ewk_exact_run(level, plan, &frame, got)) return 1;
            if (memcmp(want, got, wanted)) wrong++, printf("case %d differs at level %d\n", count, level);
        }
        ewk_fast_free(fast), ewp_free(plan), free(pixels), free(want), free(got), count++;
    }
    if (file) fclose(file);
    printf("cases %d\n", count);
    return wrong != 0 || count == 0;
}

static void hash_fast(int level, int antialias, int format, int layout, int color) {
    ewp_params params = {.height = 61, .width = 83, .resize = EWP_RESIZE_EXACT, .crop = 1, .interpolation = EWP_BILINEAR,
                         .antialias = antialias, .color = color, .layout = layout, .order = 1,
                         .scale = {0.5, 0.25, 1}, .mean = {3, 4, 5}, .std = {2, 3, 4}};
    enum { HIGH = 270, WIDE = 481 };
    size_t pixels = (size_t)HIGH * WIDE, chroma = (size_t)((HIGH + 1) / 2) * (WIDE + 1);
    uint8_t *given = malloc(pixels * 3);
    state = 7;
    for (size_t i = 0; i < pixels * 3; i++) given[i] = (uint8_t)next();
    size_t first = format == EWP_FRAME_RGB ? pixels * 3 : pixels;
    uint8_t *planes[2] = {copy(given, first), copy(given + pixels, chroma)};
    ewp_frame frame = {format, HIGH, WIDE, {planes[0], planes[1], NULL}, {(ptrdiff_t)(first / HIGH), WIDE + 1, 0}};
    float *out = malloc(ewp_output_bytes(&params));
    ewp_plan *plan;
    if (ewp_new(&params, WIDE, HIGH, &plan)) exit(1);
    ewk_fast *fast = ewk_fast_new(plan);
    if (ewk_fast_run(level, fast, &frame, out)) exit(1);
    char name[40];
    snprintf(name, sizeof name, "fast-%d-%d-%d-%d", antialias, format, layout, color);
    report(level, name, out, ewp_output_bytes(&params));
    ewk_fast_free(fast), ewp_free(plan), free(out), free(given), free(planes[0]), free(planes[1]);
}

static void hash_operations(int level) {
    enum { N = 333, ROWS = 7, BOXES = 900 };
    float values[N], done[N], boxes[4 * BOXES], scores[BOXES];
    int8_t matrix[ROWS * N], vector[N], bytes[2 * N];
    int32_t sums[ROWS], kept[BOXES];
    int64_t best[20];
    state = 11;
    for (int i = 0; i < N; i++) values[i] = (float)((int32_t)next() % 4000) / 300.0f - 6, vector[i] = (int8_t)next();
    for (int i = 0; i < ROWS * N; i++) matrix[i] = (int8_t)next();
    for (int i = 0; i < BOXES; i++) {
        float *b = boxes + 4 * i;
        b[0] = (float)(next() % 90), b[1] = (float)(next() % 90), b[2] = b[0] + (float)(next() % 30), b[3] = b[1] + (float)(next() % 30);
        scores[i] = (float)(next() % 500) / 500;
    }
    float *tight = copy(values, sizeof values);
    ewk_gelu(level, tight, done, N), report(level, "gelu", done, sizeof done);
    ewk_softmax(level, tight, done, 1, N), report(level, "softmax", done, sizeof done);
    ewk_hardswish(level, tight, done, N), report(level, "hardswish", done, sizeof done);
    tight[0] = -0.0f, tight[1] = NAN, tight[2] = INFINITY, tight[3] = -INFINITY;
    ewk_relu6(level, tight, done, N), report(level, "relu6", done, sizeof done);
    memcpy(tight, values, sizeof values);
    ewk_quantize(level, tight, bytes, N, 0.1f, 3), report(level, "quantize", bytes, N);
    ewk_topk(level, tight, N, 20, best), report(level, "topk", best, sizeof best);
    int8_t *rows = copy(matrix, sizeof matrix), *column = copy(vector, sizeof vector);
    ewk_matvec_int8(level, rows, column, sums, ROWS, N), report(level, "matvec", sums, sizeof sums);
    ewk_unpack_int4(level, (uint8_t *)rows, bytes, 2 * N - 1), report(level, "unpack", bytes, 2 * N - 1);
    float *tight_boxes = copy(boxes, sizeof boxes);
    int32_t count = ewk_nms(level, tight_boxes, scores, BOXES, 0.3f, 0.1f, BOXES, kept);
    report(level, "nms", kept, (size_t)count * sizeof *kept);
    free(tight), free(rows), free(column), free(tight_boxes);
}

int main(int argc, char **argv) {
    printf("best %d\n", ewk_best_level());
    for (int level = 0; level <= ewk_best_level(); level++) {
        for (int layout = 0; layout < 2; layout++)
            for (int color = 0; color < 2; color++) {
                hash_fast(level, 0, EWP_FRAME_RGB, layout, color), hash_fast(level, 1, EWP_FRAME_RGB, layout, color);
                hash_fast(level, 0, EWP_FRAME_NV21, layout, color);
            }
        hash_operations(level);
    }
    return argc > 1 ? check_cases(argv[1]) : 0;
}
