/* The convolution of conv2d.cl for the CPU, with the same tunables: VW, TX, TK, and LOCAL (a block of maps copies its
 * weights into one piece). x, w, y as there. */
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif
#define WIDE (WIDTH + 2)
#define HIGH (HEIGHT + 2)

typedef float vector __attribute__((vector_size(4 * VW)));

static inline __attribute__((always_inline)) vector load(const float *from) {
    vector values;
    memcpy(&values, from, sizeof values);
    return values;
}

/* TK maps of VW * TX columns in one row; `step` floats lie between the weights of two taps. */
static inline __attribute__((always_inline)) void block(const float *restrict x, const float *restrict w, int step,
                                                        float *restrict y) {
    vector sums[TK][TX];
    memset(sums, 0, sizeof sums);
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                const float *from = x + (c * HIGH + i) * WIDE + j, *weights = w + (c * 9 + 3 * i + j) * step;
                vector values[TX];
                for (int t = 0; t < TX; t++) values[t] = load(from + t * VW);
                for (int k = 0; k < TK; k++)
                    for (int t = 0; t < TX; t++) sums[k][t] += values[t] * weights[k];
            }
    for (int k = 0; k < TK; k++)
        for (int t = 0; t < TX; t++) memcpy(y + k * HEIGHT * WIDTH + t * VW, &sums[k][t], sizeof(vector));
}

EXPORT void conv2d(const float *restrict x, const float *restrict w, float *restrict y) {
    for (int filter = 0; filter < FILTERS; filter += TK) {
#if LOCAL
        float copied[CHANNELS * 9 * TK];
        for (int i = 0; i < CHANNELS * 9; i++) memcpy(copied + i * TK, w + i * FILTERS + filter, TK * sizeof(float));
#endif
        for (int row = 0; row < HEIGHT; row++)
            for (int begin = 0; begin < WIDTH; begin += VW * TX) {
                int column = begin < WIDTH - VW * TX ? begin : WIDTH - VW * TX;
#if LOCAL
                block(x + row * WIDE + column, copied, TK, y + (filter * HEIGHT + row) * WIDTH + column);
#else
                block(x + row * WIDE + column, w + filter, FILTERS, y + (filter * HEIGHT + row) * WIDTH + column);
#endif
            }
    }
}
