/* The part of ncnn's C API that this project calls. */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct __ncnn_option_t *ncnn_option_t;
typedef struct __ncnn_mat_t *ncnn_mat_t;
typedef struct __ncnn_net_t *ncnn_net_t;
typedef struct __ncnn_extractor_t *ncnn_extractor_t;
typedef struct __ncnn_allocator_t *ncnn_allocator_t;

const char *ncnn_version(void);
ncnn_net_t ncnn_net_create(void);
void ncnn_net_destroy(ncnn_net_t net);
ncnn_option_t ncnn_net_get_option(ncnn_net_t net);
void ncnn_option_set_num_threads(ncnn_option_t option, int count);
int ncnn_net_load_param(ncnn_net_t net, const char *path);
int ncnn_net_load_model(ncnn_net_t net, const char *path);
ncnn_extractor_t ncnn_extractor_create(ncnn_net_t net);
void ncnn_extractor_destroy(ncnn_extractor_t extractor);
int ncnn_extractor_input(ncnn_extractor_t extractor, const char *name, const ncnn_mat_t mat);
int ncnn_extractor_extract(ncnn_extractor_t extractor, const char *name, ncnn_mat_t *mat);
ncnn_mat_t ncnn_mat_create_1d(int w, ncnn_allocator_t allocator);
ncnn_mat_t ncnn_mat_create_2d(int w, int h, ncnn_allocator_t allocator);
ncnn_mat_t ncnn_mat_create_3d(int w, int h, int c, ncnn_allocator_t allocator);
void ncnn_mat_destroy(ncnn_mat_t mat);
int ncnn_mat_get_dims(const ncnn_mat_t mat);
int ncnn_mat_get_w(const ncnn_mat_t mat);
int ncnn_mat_get_h(const ncnn_mat_t mat);
int ncnn_mat_get_c(const ncnn_mat_t mat);
void *ncnn_mat_get_data(const ncnn_mat_t mat);
void *ncnn_mat_get_channel_data(const ncnn_mat_t mat, int c);

#ifdef __cplusplus
}
#endif
