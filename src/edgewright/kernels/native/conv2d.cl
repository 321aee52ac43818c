/* A 3x3 convolution of float32 with padding 1: CHANNELS -> FILTERS maps of HEIGHT x WIDTH.
 *
 * One work item computes TK maps of VW * TX columns in one row; the last block overlaps the one before. Tunable: VW, TX,
 * TK, LOCAL (a work group keeps the weights of a channel in local memory), IMAGE (the input is an image2d_t).
 * x: padded [CHANNELS][HEIGHT + 2][WIDTH + 2] and 64 floats more; w: [CHANNELS][9][FILTERS]; y: [FILTERS][HEIGHT][WIDTH]. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define VECTOR JOIN(float, VW)
#define LOAD JOIN(vload, VW)
#define STORE JOIN(vstore, VW)
#define WIDE (WIDTH + 2)
#define HIGH (HEIGHT + 2)

#if IMAGE
__constant sampler_t exactly = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP | CLK_FILTER_NEAREST;

VECTOR load_input(__read_only image2d_t x, int row, int column) {
    float values[VW];
    for (int i = 0; i < VW; i++) values[i] = read_imagef(x, exactly, (int2)(column + i, row)).x;
    return LOAD(0, values);
}
#define INPUT __read_only image2d_t x
#else
VECTOR load_input(__global const float *x, int row, int column) { return LOAD(0, x + row * WIDE + column); }
#define INPUT __global const float *restrict x
#endif

__kernel void conv2d(INPUT, __global const float *restrict w, __global float *restrict y) {
    int column = min((int)get_global_id(0) * VW * TX, WIDTH - VW * TX);
    int row = min((int)get_global_id(1), HEIGHT - 1), filter = get_global_id(2) * TK;
    VECTOR sums[TK][TX];
    for (int k = 0; k < TK; k++)
        for (int t = 0; t < TX; t++) sums[k][t] = 0;
#if LOCAL
    __local float cached[9 * TK];
    int lane = get_local_id(1) * get_local_size(0) + get_local_id(0), lanes = get_local_size(0) * get_local_size(1);
#endif
    for (int c = 0; c < CHANNELS; c++) {
#if LOCAL
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = lane; i < 9 * TK; i += lanes) cached[i] = w[(c * 9 + i / TK) * FILTERS + filter + i % TK];
        barrier(CLK_LOCAL_MEM_FENCE);
#define WEIGHT(tap, k) cached[(tap)*TK + (k)]
#else
#define WEIGHT(tap, k) w[(c * 9 + (tap)) * FILTERS + filter + (k)]
#endif
#pragma unroll
        for (int i = 0; i < 3; i++)
#pragma unroll
            for (int j = 0; j < 3; j++) {
                VECTOR values[TX];
#pragma unroll
                for (int t = 0; t < TX; t++) values[t] = load_input(x, c * HIGH + row + i, column + j + t * VW);
#pragma unroll
                for (int k = 0; k < TK; k++)
#pragma unroll
                    for (int t = 0; t < TX; t++)
                        sums[k][t] = fma(values[t], (VECTOR)(WEIGHT(3 * i + j, k)), sums[k][t]);
            }
    }
#pragma unroll
    for (int k = 0; k < TK; k++)
#pragma unroll
        for (int t = 0; t < TX; t++) STORE(sums[k][t], 0, y + ((filter + k) * HEIGHT + row) * WIDTH + column + t * VW);
}
