/* Image preprocessing of an Edgewright task: frame -> model input, bit-identical to `edgewright evaluate`.
 *
 * C11, callable from C++. Compile with -ffp-contract=off: a fused multiply-add rounds once instead of twice.
 * One plan serves all frames of one size. A plan is used by one thread at a time.
 */
#ifndef EDGEWRIGHT_PREPROCESS_H
#define EDGEWRIGHT_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef EWP_FUNCTION
#define EWP_FUNCTION /* an attribute such as dllexport */
#endif

enum { EWP_RESIZE_SHORTER, EWP_RESIZE_EXACT, EWP_RESIZE_PAD, EWP_RESIZE_NONE };
enum { EWP_NEAREST, EWP_BILINEAR, EWP_BICUBIC, EWP_LANCZOS, EWP_BOX, EWP_HAMMING };
enum { EWP_COLOR_RGB, EWP_COLOR_BGR, EWP_COLOR_GRAY };
enum { EWP_NCHW, EWP_NHWC };
enum {
    EWP_FLOAT32, EWP_FLOAT16, EWP_FLOAT64, EWP_UINT8, EWP_INT8, EWP_INT16, EWP_INT32, EWP_INT64, EWP_BOOL
};
/* Pillow's filters work in two rounded passes. Pillow 13 begins with the rows if the height shrinks by over twice as
 * many pixels as the width; before, columns always came first. */
enum { EWP_COLUMNS_FIRST, EWP_ROWS_FIRST_IF_TALL };
/* YUV: BT.601, limited range, chroma of the 2x2 block without interpolation. NV21: plane 1 is V, U, V, U ... */
enum { EWP_FRAME_RGB, EWP_FRAME_BGR, EWP_FRAME_RGBA, EWP_FRAME_GRAY, EWP_FRAME_NV21, EWP_FRAME_NV12, EWP_FRAME_I420 };
/* SIZE: the frame has another size and the task does not crop. LIMIT: more than 89,478,485 pixels. */
enum { EWP_OK, EWP_BAD_PARAMS, EWP_BAD_FRAME, EWP_SIZE, EWP_LIMIT, EWP_MEMORY };

/* The fields of an image input in task.toml, all of them int32_t or double. Size of the struct: 128 bytes. */
typedef struct {
    int32_t height, width;               /* of the model input */
    int32_t resize;                      /* EWP_RESIZE_... */
    int32_t resize_height, resize_width; /* of resize_to; 0: the size of the model input */
    int32_t crop;                        /* 1: center, 0: none */
    int32_t interpolation;               /* EWP_NEAREST ... */
    int32_t antialias;                   /* 1: Pillow's filters; 0: two or four neighbors */
    int32_t pad_value;                   /* 0 to 255 */
    int32_t pad_center;                  /* 1: center, 0: upper left corner */
    int32_t color, layout, dtype;        /* EWP_COLOR_..., EWP_NCHW or EWP_NHWC, EWP_FLOAT32 ... */
    int32_t order;                       /* EWP_COLUMNS_FIRST ... */
    double scale[3], mean[3], std[3];    /* per channel in the order of `color`: (v * scale - mean) / std */
} ewp_params;

/* Strides are bytes from one row to the next and may be larger than a row, or negative. No byte outside rows is read. */
typedef struct {
    int32_t format;        /* EWP_FRAME_... */
    int32_t height, width; /* YUV: odd sizes have chroma planes that are rounded up */
    const uint8_t *plane[3];
    ptrdiff_t stride[3];
} ewp_frame;

/* The resized frame and the corner of the model input in it, in pixels; a negative corner is padding. */
typedef struct {
    int32_t resized_width, resized_height, left, top;
} ewp_placement;

typedef struct ewp_plan ewp_plan;

EWP_FUNCTION int ewp_place(const ewp_params *params, int32_t width, int32_t height, ewp_placement *placement);
EWP_FUNCTION size_t ewp_output_bytes(const ewp_params *params);
/* Create a plan for frames of one size; free it with ewp_free. Returns EWP_OK or an error. */
EWP_FUNCTION int ewp_new(const ewp_params *params, int32_t frame_width, int32_t frame_height, ewp_plan **plan);
EWP_FUNCTION void ewp_free(ewp_plan *plan);
/* Write the model input of one frame: ewp_output_bytes, aligned to its elements. It must not overlap the frame. */
EWP_FUNCTION int ewp_run(ewp_plan *plan, const ewp_frame *frame, void *output);

#ifdef __cplusplus
}
#endif
#endif
