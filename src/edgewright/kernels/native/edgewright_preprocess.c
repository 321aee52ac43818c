#include "edgewright_preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { MAX_PIXELS = 89478485, WEIGHT_BITS = 22 };
static const double PI = 3.14159265358979323846;
static const double NEIGHBOR_CUBIC_A = -0.75, FILTER_CUBIC_A = -0.5;

/* Sources of each output position along one axis: weights[i * most .. + count[i]] of first[i] ... */
typedef struct {
    int active; /* 0: this axis keeps its size */
    int32_t most;
    int32_t *first, *count;
    int32_t *fixed;  /* Pillow's filters: weights times 2^22 */
    float *real;     /* neighbors */
    int32_t *source; /* nearest: position, -1 outside; neighbors: `most` clipped positions */
} axis;

struct ewp_plan {
    ewp_params params;
    ewp_placement placement;
    int32_t frame_width, frame_height, channels;
    int32_t x0, y0, in_width, in_height; /* part of the model input that the image covers, in pixels of the input */
    int32_t row_first, row_count;        /* source rows that are read */
    int32_t column_first, column_count;  /* source columns that are read */
    int identity;                        /* the frame is not resized */
    int rows_first;                      /* order of the passes of Pillow's filters */
    axis x, y;
    uint8_t *source_row;  /* one converted source row */
    uint8_t *wide_row;    /* one converted source row in RGB, for gray */
    uint8_t *passed;      /* rows after the first pass */
    int32_t *sums;        /* one row of the second pass */
    float *real_row;      /* one row between the passes of neighbors */
    uint8_t *out_row;     /* one finished row: width * channels */
    void *table;          /* [channels][256] values in the model's dtype */
    void *filler;         /* [channels] values of padding */
    size_t element;
};

static size_t element_bytes(int32_t dtype) {
    static const size_t sizes[] = {4, 2, 8, 1, 1, 2, 4, 8, 1};
    return sizes[dtype];
}

static int within(int32_t value, int32_t most) { return value >= 0 && value <= most; }

static int are_params_valid(const ewp_params *p) {
    if (p == NULL || p->height < 1 || p->width < 1 || p->resize_height < 0 || p->resize_width < 0) return 0;
    if ((int64_t)p->height * p->width > MAX_PIXELS || (p->resize_height == 0) != (p->resize_width == 0)) return 0;
    if (!within(p->resize, EWP_RESIZE_NONE) || !within(p->interpolation, EWP_HAMMING)) return 0;
    if (!within(p->color, EWP_COLOR_GRAY) || !within(p->layout, EWP_NHWC) || !within(p->dtype, EWP_BOOL)) return 0;
    return within(p->pad_value, 255) && within(p->crop, 1) && within(p->antialias, 1) && within(p->pad_center, 1) &&
           within(p->order, 1);
}

static int32_t count_channels(const ewp_params *p) { return p->color == EWP_COLOR_GRAY ? 1 : 3; }

size_t ewp_output_bytes(const ewp_params *params) {
    if (!are_params_valid(params)) return 0;
    return (size_t)params->height * params->width * count_channels(params) * element_bytes(params->dtype);
}

/* ---- placement: torchvision's resize and center crop, the letterbox of the YOLO family ---- */

static void compute_resized(const ewp_params *p, int32_t width, int32_t height, double *to_width, double *to_height) {
    double wide = p->resize_width ? p->resize_width : p->width, high = p->resize_height ? p->resize_height : p->height;
    *to_width = width, *to_height = height;
    if (p->resize == EWP_RESIZE_EXACT) {
        *to_width = wide, *to_height = high;
    } else if (p->resize == EWP_RESIZE_PAD) {
        double a = (double)p->height / height, b = (double)p->width / width, ratio = a < b ? a : b;
        *to_width = fmax(1, rint(width * ratio)), *to_height = fmax(1, rint(height * ratio));
    } else if (p->resize == EWP_RESIZE_SHORTER) {
        double side = p->resize_height ? p->resize_height : (p->height < p->width ? p->height : p->width);
        if (width <= height) *to_width = side, *to_height = floor(side * height / width);
        else *to_height = side, *to_width = floor(side * width / height);
    }
}

static int32_t start_of_crop(int32_t have, int32_t want) {
    return have >= want ? (int32_t)rint((have - want) / 2.0) : -((want - have) / 2);
}

int ewp_place(const ewp_params *p, int32_t width, int32_t height, ewp_placement *out) {
    double to_width, to_height;
    if (!are_params_valid(p)) return EWP_BAD_PARAMS;
    if (width < 1 || height < 1) return EWP_BAD_FRAME;
    compute_resized(p, width, height, &to_width, &to_height);
    if (to_width * to_height > MAX_PIXELS) return EWP_LIMIT;
    int32_t w = (int32_t)to_width, h = (int32_t)to_height;
    int fits = w == p->width && h == p->height, smaller = w < p->width || h < p->height;
    *out = (ewp_placement){w, h, 0, 0};
    if (p->resize == EWP_RESIZE_PAD) {
        if (p->pad_center) out->left = -((p->width - w) / 2), out->top = -((p->height - h) / 2);
    } else if (!fits) {
        if (!p->crop || (p->resize == EWP_RESIZE_NONE && smaller)) return EWP_SIZE;
        out->left = start_of_crop(w, p->width), out->top = start_of_crop(h, p->height);
    }
    return EWP_OK;
}

/* ---- weights ---- */

static double sinc(double x) { return x == 0 ? 1 : sin(x * PI) / (x * PI); }

static double cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double filter_support(int32_t kind) {
    static const double supports[] = {0, 1, 2, 3, 0.5, 1};
    return supports[kind];
}

static double filter_weight(int32_t kind, double x) {
    switch (kind) {
        case EWP_BILINEAR: return fabs(x) < 1 ? 1 - fabs(x) : 0;
        case EWP_BICUBIC: return cubic(x, FILTER_CUBIC_A);
        case EWP_LANCZOS: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
        case EWP_BOX: return x > -0.5 && x <= 0.5 ? 1 : 0;
        default: { /* Hamming */
            x = fabs(x);
            if (x == 0) return 1;
            return x >= 1 ? 0 : sin(x * PI) / (x * PI) * (0.54 + 0.46 * cos(x * PI));
        }
    }
}

static int reserve_axis(axis *a, int32_t count, int32_t most) {
    a->most = most;
    a->first = calloc((size_t)count, sizeof *a->first);
    a->count = calloc((size_t)count, sizeof *a->count);
    a->source = calloc((size_t)count * most, sizeof *a->source);
    a->fixed = calloc((size_t)count * most, sizeof *a->fixed);
    a->real = calloc((size_t)count * most, sizeof *a->real);
    return a->first && a->count && a->source && a->fixed && a->real;
}

static void free_axis(axis *a) {
    free(a->first), free(a->count), free(a->source), free(a->fixed), free(a->real);
}

/* Pillow's filters: a filter that widens with the reduction; weights of sum 1, as 22-bit integers. */
static int make_filter_axis(axis *a, const ewp_params *p, int32_t have, int32_t size, int32_t start, int32_t count) {
    double scale = (double)have / size, widened = scale < 1 ? 1 : scale;
    double support = filter_support(p->interpolation) * widened, inverse = 1.0 / widened;
    double *weights;
    if (!reserve_axis(a, count, (int32_t)ceil(support) * 2 + 1)) return 0;
    if ((weights = malloc((size_t)a->most * sizeof *weights)) == NULL) return 0;
    for (int32_t i = 0; i < count; i++) {
        double center = (start + i + 0.5) * scale, sum = 0;
        int32_t from = (int32_t)(center - support + 0.5), to = (int32_t)(center + support + 0.5);
        if (center - support + 0.5 < 0) from = 0;
        if (to > have) to = have;
        a->first[i] = from, a->count[i] = to - from;
        for (int32_t k = 0; k < to - from; k++) {
            weights[k] = filter_weight(p->interpolation, (k + from - center + 0.5) * inverse);
            sum += weights[k];
        }
        for (int32_t k = 0; k < to - from; k++) {
            double w = (sum != 0 ? weights[k] / sum : weights[k]) * (1 << WEIGHT_BITS);
            a->fixed[(size_t)i * a->most + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
    }
    free(weights);
    return 1;
}

static int32_t clip(int64_t value, int32_t size) { return (int32_t)(value < 0 ? 0 : value >= size ? size - 1 : value); }

/* Two or four neighbors: half-pixel centers, repeated edges, weights in float32. */
static int make_neighbor_axis(axis *a, const ewp_params *p, int32_t have, int32_t size, int32_t start, int32_t count) {
    int is_cubic = p->interpolation == EWP_BICUBIC, most = is_cubic ? 4 : 2;
    double scale = (double)have / size;
    if (!reserve_axis(a, count, most)) return 0;
    for (int32_t i = 0; i < count; i++) {
        double at = (start + i + 0.5) * scale - 0.5, b = NEIGHBOR_CUBIC_A;
        if (!is_cubic && at < 0) at = 0;
        double floored = floor(at), t = at - floored, u = 1 - t, v = t + 1, w = 2 - t;
        float *to = a->real + (size_t)i * most;
        if (is_cubic) {
            to[0] = (float)(((b * v - 5 * b) * v + 8 * b) * v - 4 * b);
            to[1] = (float)(((b + 2) * t - (b + 3)) * t * t + 1);
            to[2] = (float)(((b + 2) * u - (b + 3)) * u * u + 1);
            to[3] = (float)(((b * w - 5 * b) * w + 8 * b) * w - 4 * b);
        } else {
            to[0] = (float)u, to[1] = (float)t;
        }
        int32_t *source = a->source + (size_t)i * most;
        for (int k = 0; k < most; k++) source[k] = clip((int64_t)floored + k - (is_cubic ? 1 : 0), have);
        a->first[i] = source[0], a->count[i] = source[most - 1] - source[0] + 1;
    }
    return 1;
}

/* Nearest: positions summed up from half a step, as Pillow's; a sum that passes the end is outside. */
static int make_nearest_axis(axis *a, int32_t have, int32_t size, int32_t start, int32_t count) {
    double step = (double)have / size, at = 0 + step * 0.5;
    if (!reserve_axis(a, count, 1)) return 0;
    for (int32_t i = 0; i < start + count; i++, at += step) {
        if (i < start) continue;
        int32_t position = at < 0 ? -1 : (int32_t)at;
        a->source[i - start] = position < have ? position : -1;
        a->first[i - start] = clip(position, have), a->count[i - start] = 1;
    }
    return 1;
}

static int make_axis(axis *a, const ewp_params *p, int32_t have, int32_t size, int32_t start, int32_t count) {
    if (count == 0) return 1;
    if (p->interpolation == EWP_NEAREST) return make_nearest_axis(a, have, size, start, count);
    if (!p->antialias) return make_neighbor_axis(a, p, have, size, start, count);
    a->active = have != size;
    return make_filter_axis(a, p, have, size, start, count);
}

/* The range of source positions that an axis reads. */
static void find_range(const axis *a, int32_t count, int32_t *first, int32_t *number) {
    int32_t from = INT32_MAX, to = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t last = a->first[i] + a->count[i] - 1;
        if (a->first[i] < from) from = a->first[i];
        if (last >= to) to = last + 1;
    }
    *first = count ? from : 0, *number = count ? to - from : 0;
}

/* ---- values ---- */

/* float64 -> float16 bits, rounded half to even. */
static uint16_t to_half(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    double size = fabs(value);
    if (size != size) return (uint16_t)(sign | 0x7e00);
    if (size >= 65520) return (uint16_t)(sign | 0x7c00);
    if (size < 6.103515625e-05) return (uint16_t)(sign | (uint16_t)rint(size * 16777216.0)); /* below the least normal */
    int exponent;
    double mantissa = rint(frexp(size, &exponent) * 2048.0); /* 1024 to 2048 */
    return (uint16_t)(sign | (((uint32_t)(exponent + 13) << 10) + (uint32_t)mantissa));
}

static double round_and_clip(double value, double least, double most) {
    value = rint(value);
    return value < least ? least : value > most ? most : value;
}

static void store_value(void *to, size_t i, int32_t dtype, double value) {
    switch (dtype) {
        case EWP_FLOAT32: ((float *)to)[i] = (float)value; break;
        case EWP_FLOAT16: ((uint16_t *)to)[i] = to_half(value); break;
        case EWP_FLOAT64: ((double *)to)[i] = value; break;
        case EWP_UINT8: ((uint8_t *)to)[i] = (uint8_t)round_and_clip(value, 0, 255); break;
        case EWP_INT8: ((int8_t *)to)[i] = (int8_t)round_and_clip(value, -128, 127); break;
        case EWP_INT16: ((int16_t *)to)[i] = (int16_t)round_and_clip(value, -32768, 32767); break;
        case EWP_INT32: ((int32_t *)to)[i] = (int32_t)round_and_clip(value, -2147483648.0, 2147483647.0); break;
        case EWP_INT64: {
            double whole = rint(value);
            ((int64_t *)to)[i] = whole >= 9223372036854775808.0    ? INT64_MAX
                                 : whole <= -9223372036854775808.0 ? INT64_MIN
                                                                   : (int64_t)whole;
            break;
        }
        default: ((uint8_t *)to)[i] = value != 0;
    }
}

static void fill_table(ewp_plan *plan) {
    const ewp_params *p = &plan->params;
    for (int32_t c = 0; c < plan->channels; c++) {
        for (int v = 0; v < 256; v++) {
            double value = (v * p->scale[c] - p->mean[c]) / p->std[c];
            store_value(plan->table, (size_t)c * 256 + v, p->dtype, value);
        }
        int fill = p->resize == EWP_RESIZE_PAD ? p->pad_value : 0;
        memcpy((char *)plan->filler + c * plan->element, (char *)plan->table + ((size_t)c * 256 + fill) * plan->element,
               plan->element);
    }
}

/* ---- the plan ---- */

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* Which part of the model input is image, and which source rows and columns it needs. */
static int prepare_axes(ewp_plan *plan) {
    const ewp_params *p = &plan->params;
    const ewp_placement *at = &plan->placement;
    plan->x0 = at->left < 0 ? -at->left : 0, plan->y0 = at->top < 0 ? -at->top : 0;
    int32_t left = at->left > 0 ? at->left : 0, top = at->top > 0 ? at->top : 0;
    plan->in_width = least(at->resized_width - left, p->width - plan->x0);
    plan->in_height = least(at->resized_height - top, p->height - plan->y0);
    if (plan->in_width < 0) plan->in_width = 0;
    if (plan->in_height < 0) plan->in_height = 0;
    plan->identity = at->resized_width == plan->frame_width && at->resized_height == plan->frame_height;
    if (plan->identity) {
        plan->row_first = top, plan->row_count = plan->in_height;
        plan->column_first = left, plan->column_count = plan->in_width;
        return 1;
    }
    if (!make_axis(&plan->x, p, plan->frame_width, at->resized_width, left, plan->in_width)) return 0;
    if (!make_axis(&plan->y, p, plan->frame_height, at->resized_height, top, plan->in_height)) return 0;
    int32_t columns = plan->in_width, rows = plan->in_height;
    find_range(&plan->x, columns, &plan->column_first, &plan->column_count);
    find_range(&plan->y, rows, &plan->row_first, &plan->row_count);
    if (p->antialias && p->interpolation != EWP_NEAREST) { /* a pass that keeps the size is left out */
        if (!plan->x.active) plan->column_first = left, plan->column_count = columns;
        if (!plan->y.active) plan->row_first = top, plan->row_count = rows;
        int64_t shorter = (int64_t)plan->frame_height - at->resized_height;
        int64_t narrower = (int64_t)plan->frame_width - at->resized_width;
        plan->rows_first = p->order == EWP_ROWS_FIRST_IF_TALL && plan->x.active && shorter > 0 && shorter > 2 * narrower;
    }
    return 1;
}

static int reserve_rows(ewp_plan *plan) {
    size_t c = (size_t)plan->channels, wide = (size_t)plan->column_count + 1, out = (size_t)plan->params.width * c;
    size_t passed = (size_t)plan->row_count * plan->in_width * c + 1;
    if (plan->identity) passed = 1;
    if (plan->rows_first) passed = (size_t)plan->in_height * plan->column_count * c + 1;
    size_t cells = (wide > (size_t)plan->params.width ? wide : (size_t)plan->params.width) * c;
    plan->source_row = malloc(wide * c);
    plan->wide_row = malloc(wide * 3);
    plan->passed = malloc(passed);
    plan->sums = malloc(cells * sizeof *plan->sums);
    plan->real_row = malloc(cells * sizeof *plan->real_row);
    plan->out_row = malloc(out);
    plan->table = malloc(c * 256 * plan->element);
    plan->filler = malloc(c * plan->element);
    return plan->source_row && plan->wide_row && plan->passed && plan->sums && plan->real_row && plan->out_row &&
           plan->table && plan->filler;
}

int ewp_new(const ewp_params *params, int32_t frame_width, int32_t frame_height, ewp_plan **out) {
    ewp_placement placement;
    *out = NULL;
    int status = ewp_place(params, frame_width, frame_height, &placement);
    if (status != EWP_OK) return status;
    if ((int64_t)frame_width * frame_height > MAX_PIXELS) return EWP_LIMIT;
    ewp_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) return EWP_MEMORY;
    plan->params = *params, plan->placement = placement;
    plan->frame_width = frame_width, plan->frame_height = frame_height;
    plan->channels = count_channels(params), plan->element = element_bytes(params->dtype);
    if (!prepare_axes(plan) || !reserve_rows(plan)) {
        ewp_free(plan);
        return EWP_MEMORY;
    }
    fill_table(plan);
    *out = plan;
    return EWP_OK;
}

void ewp_free(ewp_plan *plan) {
    if (plan == NULL) return;
    free_axis(&plan->x), free_axis(&plan->y);
    free(plan->source_row), free(plan->wide_row), free(plan->passed), free(plan->sums), free(plan->real_row);
    free(plan->out_row), free(plan->table), free(plan->filler), free(plan);
}

/* ---- source rows ---- */

static uint8_t byte_of(int32_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

static void convert_yuv(const ewp_frame *f, int32_t y, int32_t from, int32_t count, uint8_t *to) {
    const uint8_t *luma = f->plane[0] + y * f->stride[0], *first = f->plane[1] + (y / 2) * f->stride[1];
    const uint8_t *second = f->format == EWP_FRAME_I420 ? f->plane[2] + (y / 2) * f->stride[2] : first;
    int step = f->format == EWP_FRAME_I420 ? 1 : 2, swapped = f->format == EWP_FRAME_NV21;
    for (int32_t i = 0; i < count; i++) {
        int32_t at = (from + i) / 2 * step, l = luma[from + i] - 16;
        int32_t u = (swapped ? first[at + 1] : first[at]) - 128;
        int32_t v = (step == 1 ? second[at] : swapped ? first[at] : first[at + 1]) - 128;
        l = (l < 0 ? 0 : l) * 1220542 + (1 << 19); /* 255/219 times 2^20; the others are 1.596, 0.813, 0.391, 2.018 */
        to[3 * i] = byte_of((l + 1673527 * v) >> 20);
        to[3 * i + 1] = byte_of((l - 852492 * v - 409993 * u) >> 20);
        to[3 * i + 2] = byte_of((l + 2116026 * u) >> 20);
    }
}

/* Returns `count` RGB pixels from `from`, without a copy if they are stored so. */
static const uint8_t *read_rgb(const ewp_frame *f, int32_t y, int32_t from, int32_t count, uint8_t *to) {
    const uint8_t *row = f->plane[0] + y * f->stride[0];
    if (f->format == EWP_FRAME_RGB) return row + 3 * (size_t)from;
    if (f->format >= EWP_FRAME_NV21) {
        convert_yuv(f, y, from, count, to);
        return to;
    }
    int step = f->format == EWP_FRAME_RGBA ? 4 : f->format == EWP_FRAME_GRAY ? 1 : 3, red = 0, green = 1, blue = 2;
    if (step == 1) green = blue = 0;
    if (f->format == EWP_FRAME_BGR) red = 2, blue = 0;
    row += (size_t)step * from;
    for (int32_t i = 0; i < count; i++, row += step)
        to[3 * i] = row[red], to[3 * i + 1] = row[green], to[3 * i + 2] = row[blue];
    return to;
}

static const uint8_t *read_row(ewp_plan *plan, const ewp_frame *f, int32_t y) {
    int32_t from = plan->column_first, count = plan->column_count;
    if (plan->channels == 3) return read_rgb(f, y, from, count, plan->source_row);
    if (f->format == EWP_FRAME_GRAY) return f->plane[0] + y * f->stride[0] + from;
    const uint8_t *rgb = read_rgb(f, y, from, count, plan->wide_row);
    for (int32_t i = 0; i < count; i++, rgb += 3) /* ITU-R 601 luma in 16 bits */
        plan->source_row[i] = (uint8_t)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
    return plan->source_row;
}

/* ---- resizing ---- */

static uint8_t from_sum(int32_t sum) { return byte_of(sum >> WEIGHT_BITS); }

static void filter_columns(const ewp_plan *plan, const uint8_t *row, uint8_t *to) {
    for (int32_t i = 0; i < plan->in_width; i++) {
        const int32_t *w = plan->x.fixed + (size_t)i * plan->x.most;
        const int32_t half = 1 << (WEIGHT_BITS - 1), count = plan->x.count[i];
        const uint8_t *p = row + (size_t)(plan->x.first[i] - plan->column_first) * plan->channels;
        if (plan->channels == 3) {
            int32_t a = half, b = half, c = half;
            for (int32_t k = 0; k < count; k++, p += 3) a += p[0] * w[k], b += p[1] * w[k], c += p[2] * w[k];
            to[3 * i] = from_sum(a), to[3 * i + 1] = from_sum(b), to[3 * i + 2] = from_sum(c);
        } else {
            int32_t a = half;
            for (int32_t k = 0; k < count; k++) a += p[k] * w[k];
            to[i] = from_sum(a);
        }
    }
}

static void add_row(int32_t *restrict sums, const uint8_t *restrict row, int32_t weight, int32_t cells) {
    for (int32_t i = 0; i < cells; i++) sums[i] += row[i] * weight;
}

/* One row of the pass over rows: from the frame, or from the first pass if that was over columns. */
static void filter_rows(ewp_plan *plan, const ewp_frame *frame, int32_t y, int32_t cells, uint8_t *to) {
    const int32_t *w = plan->y.fixed + (size_t)y * plan->y.most, first = plan->y.first[y];
    for (int32_t i = 0; i < cells; i++) plan->sums[i] = 1 << (WEIGHT_BITS - 1);
    for (int32_t k = 0; k < plan->y.count[y]; k++) {
        const uint8_t *row = frame == NULL ? plan->passed + (size_t)(first + k - plan->row_first) * cells
                                           : read_row(plan, frame, first + k);
        add_row(plan->sums, row, w[k], cells);
    }
    for (int32_t i = 0; i < cells; i++) to[i] = from_sum(plan->sums[i]);
}

/* Neighbors: rows first, sums in float32 in the order of the neighbors, then columns; rounded half to even once. */
static const uint8_t *sample_neighbors(ewp_plan *plan, const ewp_frame *frame, int32_t y) {
    int32_t cells = plan->column_count * plan->channels, c = plan->channels, most = plan->x.most;
    for (int32_t i = 0; i < cells; i++) plan->real_row[i] = 0;
    for (int32_t k = 0; k < most; k++) {
        const uint8_t *row = read_row(plan, frame, plan->y.source[(size_t)y * most + k]);
        float weight = plan->y.real[(size_t)y * most + k];
        for (int32_t i = 0; i < cells; i++) plan->real_row[i] += row[i] * weight;
    }
    for (int32_t i = 0; i < plan->in_width; i++) {
        const float *weight = plan->x.real + (size_t)i * most;
        const int32_t *source = plan->x.source + (size_t)i * most;
        for (int32_t channel = 0; channel < c; channel++) {
            float sum = 0;
            for (int32_t k = 0; k < most; k++)
                sum += plan->real_row[(source[k] - plan->column_first) * c + channel] * weight[k];
            sum = rintf(sum);
            plan->out_row[i * c + channel] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
    return plan->out_row;
}

static const uint8_t *sample_nearest(ewp_plan *plan, const ewp_frame *frame, int32_t y) {
    int32_t c = plan->channels, from = plan->y.source[y];
    const uint8_t *row = from < 0 ? NULL : read_row(plan, frame, from);
    for (int32_t i = 0; i < plan->in_width; i++)
        for (int32_t k = 0; k < c; k++) {
            int32_t at = plan->x.source[i];
            plan->out_row[i * c + k] = row == NULL || at < 0 ? 0 : row[(size_t)(at - plan->column_first) * c + k];
        }
    return plan->out_row;
}

/* The first pass of Pillow's filters. */
static void run_first_pass(ewp_plan *plan, const ewp_frame *frame) {
    int32_t cells = plan->in_width * plan->channels, wide = plan->column_count * plan->channels;
    for (int32_t y = 0; plan->rows_first && y < plan->in_height; y++)
        filter_rows(plan, frame, y, wide, plan->passed + (size_t)y * wide);
    if (plan->rows_first) return;
    for (int32_t i = 0; i < plan->row_count; i++) {
        const uint8_t *row = read_row(plan, frame, plan->row_first + i);
        if (plan->x.active) filter_columns(plan, row, plan->passed + (size_t)i * cells);
        else memcpy(plan->passed + (size_t)i * cells, row, (size_t)cells);
    }
}

/* ---- output ---- */

#define WRITE(TYPE)                                                                                              \
    static void write_##TYPE(const ewp_plan *plan, int32_t y, const uint8_t *row, void *output) {                \
        const ewp_params *p = &plan->params;                                                                     \
        const int32_t c = plan->channels, swapped = p->color == EWP_COLOR_BGR;                                   \
        const size_t plane = p->layout == EWP_NCHW ? (size_t)p->height * p->width : 1;                           \
        const size_t step = p->layout == EWP_NCHW ? 1 : (size_t)c;                                               \
        const int32_t from = row == NULL ? p->width : plan->x0, to = row == NULL ? 0 : from + plan->in_width;    \
        for (int32_t k = 0; k < c; k++) {                                                                        \
            const TYPE *table = (const TYPE *)plan->table + 256 * k;                                             \
            const TYPE fill = ((const TYPE *)plan->filler)[k];                                                   \
            TYPE *out = (TYPE *)output + plane * k + (size_t)y * p->width * step;                                \
            const uint8_t *in = row == NULL ? NULL : row + (swapped ? 2 - k : k);                                \
            for (int32_t x = 0; x < from; x++) out[x * step] = fill;                                             \
            for (int32_t x = from; x < to; x++, in += c) out[x * step] = table[*in];                             \
            for (int32_t x = row == NULL ? p->width : to; x < p->width; x++) out[x * step] = fill;               \
        }                                                                                                        \
    }
WRITE(uint8_t)
WRITE(uint16_t)
WRITE(uint32_t)
WRITE(uint64_t)

static void write_row(const ewp_plan *plan, int32_t y, const uint8_t *row, void *output) {
    if (plan->element == 1) write_uint8_t(plan, y, row, output);
    else if (plan->element == 2) write_uint16_t(plan, y, row, output);
    else if (plan->element == 4) write_uint32_t(plan, y, row, output);
    else write_uint64_t(plan, y, row, output);
}

static int is_frame_valid(const ewp_plan *plan, const ewp_frame *f) {
    if (f == NULL || !within(f->format, EWP_FRAME_I420) || f->plane[0] == NULL) return 0;
    if (f->format >= EWP_FRAME_NV21 && f->plane[1] == NULL) return 0;
    if (f->format == EWP_FRAME_I420 && f->plane[2] == NULL) return 0;
    return f->width == plan->frame_width && f->height == plan->frame_height;
}

static const uint8_t *make_row(ewp_plan *plan, const ewp_frame *frame, int32_t y) {
    int32_t cells = plan->in_width * plan->channels;
    if (plan->in_width == 0) return NULL;
    if (plan->identity) return read_row(plan, frame, plan->row_first + y);
    if (plan->params.interpolation == EWP_NEAREST) return sample_nearest(plan, frame, y);
    if (!plan->params.antialias) return sample_neighbors(plan, frame, y);
    if (!plan->rows_first && !plan->y.active) return plan->passed + (size_t)y * cells;
    if (plan->rows_first)
        filter_columns(plan, plan->passed + (size_t)y * plan->column_count * plan->channels, plan->out_row);
    else filter_rows(plan, NULL, y, cells, plan->out_row);
    return plan->out_row;
}

int ewp_run(ewp_plan *plan, const ewp_frame *frame, void *output) {
    if (plan == NULL || output == NULL || !is_frame_valid(plan, frame)) return EWP_BAD_FRAME;
    const ewp_params *p = &plan->params;
    if (!plan->identity && p->antialias && p->interpolation != EWP_NEAREST) run_first_pass(plan, frame);
    for (int32_t y = 0; y < p->height; y++) {
        int is_image = y >= plan->y0 && y < plan->y0 + plan->in_height;
        write_row(plan, y, is_image ? make_row(plan, frame, y - plan->y0) : NULL, output);
    }
    return EWP_OK;
}
