#include "edgewright_operator.h"

EW_KERNEL(soft_shrink) {
    float lambd = (float)ew_attribute(attributes, "lambd");
    const float *x = inputs[0].data;
    float *y = outputs[0].data;
    for (int64_t i = 0; i < ew_count(inputs); i++)
        y[i] = x[i] > lambd ? x[i] - lambd : x[i] < -lambd ? x[i] + lambd : 0.0f;
    return 0;
}
