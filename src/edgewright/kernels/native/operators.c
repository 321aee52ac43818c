/* Custom operators of ONNX Runtime, declared by hand: its packages have no headers.
 *
 * OrtApi is a table of function pointers to which versions only append; OrtCustomOp is a record of function pointers,
 * which each get the record itself. https://onnxruntime.ai/docs/reference/operators/add-custom-op.html
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "edgewright_operator.h"

#define API_VERSION 21
#define MAX_OPERATORS 64
#define MAX_RANK 8
#define MAX_PORTS 8
#define MAX_STACK 16

typedef void *ptr;
typedef const void *const *table;

enum { /* positions in OrtApi */
    CREATE_STATUS = 0,
    CREATE_DOMAIN = 26,
    DOMAIN_ADD = 27,
    ADD_DOMAIN = 28,
    TENSOR_DATA = 51,
    DIMENSIONS_COUNT = 61,
    DIMENSIONS = 62,
    TENSOR_SHAPE = 65,
    ATTRIBUTE_FLOAT = 85,
    ATTRIBUTE_INT = 86,
    CONTEXT_INPUT = 90,
    CONTEXT_OUTPUT = 91,
    RELEASE_STATUS = 93,
    RELEASE_SHAPE = 99,
};

/* Sizes of outputs, from `custom/shapes.py`: for each output its rank, and for each axis the number of steps and pairs
 * of a step and its argument; a rank below 0 is the shape of input -1 - rank. */
enum { CONSTANT, SIZE, ADD, SUBTRACT, MULTIPLY, DIVIDE };

typedef struct {
    const char *name, *domain;
    const int32_t *types; /* of inputs, then of outputs */
    int32_t inputs, outputs, attributes;
    const char *const *attribute_names;
    const double *attribute_defaults;
    const int32_t *attribute_is_int;
    const int64_t *sizes;
    ew_kernel kernel;
} ewo_operator;

typedef struct {
    uint32_t version, padding;
    ptr functions[25];
    const ewo_operator *operator;
} custom_op;

typedef struct {
    const ewo_operator *operator;
    double values[];
} node;

static table api;
static custom_op operators[MAX_OPERATORS];
static int count;
static _Thread_local char message[256];

/* Sets the reason of the next failure. */
EW_EXPORT void ewo_explain(const char *why) { snprintf(message, sizeof message, "%s", why); }

static ptr fail(const char *name, const char *why) {
    char text[400];
    snprintf(text, sizeof text, "custom operator %.100s: %.255s", name, why);
    return ((ptr(*)(int, const char *))api[CREATE_STATUS])(1, text);
}

static ptr create(const custom_op *op, table given, ptr info) {
    const ewo_operator *own = op->operator;
    node *made = malloc(sizeof *made + sizeof(double) * (size_t)own->attributes);
    (void)given;
    if (!made) return NULL;
    made->operator = own;
    for (int32_t i = 0; i < own->attributes; i++) {
        int64_t whole = 0;
        float number = 0;
        const char *name = own->attribute_names[i];
        ptr status = own->attribute_is_int[i]
                         ? ((ptr(*)(ptr, const char *, int64_t *))api[ATTRIBUTE_INT])(info, name, &whole)
                         : ((ptr(*)(ptr, const char *, float *))api[ATTRIBUTE_FLOAT])(info, name, &number);
        if (status) ((void (*)(ptr))api[RELEASE_STATUS])(status); /* the node does not have it */
        made->values[i] = status ? own->attribute_defaults[i] : own->attribute_is_int[i] ? (double)whole : number;
    }
    return made;
}

static const char *get_name(const custom_op *op) { return op->operator->name; }
static const char *get_provider(const custom_op *op) { return (void)op, NULL; }
static int get_input_type(const custom_op *op, size_t i) { return op->operator->types[i]; }
static size_t count_inputs(const custom_op *op) { return (size_t)op->operator->inputs; }
static int get_output_type(const custom_op *op, size_t i) { return op->operator->types[op->operator->inputs + (int)i]; }
static size_t count_outputs(const custom_op *op) { return (size_t)op->operator->outputs; }
static int required(const custom_op *op, size_t i) { return (void)op, (void)i, 0; }
static int one(const custom_op *op) { return (void)op, 1; }

static ptr read_input(ptr context, size_t i, ew_tensor *tensor, int64_t *shape) {
    ptr value = NULL, info = NULL, status;
    size_t rank = 0;
    if ((status = ((ptr(*)(ptr, size_t, ptr *))api[CONTEXT_INPUT])(context, i, &value))) return status;
    if ((status = ((ptr(*)(ptr, ptr *))api[TENSOR_SHAPE])(value, &info))) return status;
    status = ((ptr(*)(ptr, size_t *))api[DIMENSIONS_COUNT])(info, &rank);
    if (!status && rank <= MAX_RANK) status = ((ptr(*)(ptr, int64_t *, size_t))api[DIMENSIONS])(info, shape, rank);
    ((void (*)(ptr))api[RELEASE_SHAPE])(info);
    if (status) return status;
    tensor->shape = shape;
    tensor->rank = (int32_t)rank;
    return ((ptr(*)(ptr, void **))api[TENSOR_DATA])(value, &tensor->data);
}

/* Computes one axis; returns a size below 0 if the rule does not fit. */
static int64_t find_size(const int64_t **rule, const ew_tensor *inputs) {
    int64_t stack[MAX_STACK + 1] = {0}, steps = *(*rule)++;
    int top = 0, fits = 1;
    for (; steps--; *rule += 2) {
        int64_t step = (*rule)[0], argument = (*rule)[1];
        if (step == CONSTANT) {
            stack[top++] = argument;
        } else if (step == SIZE) {
            const ew_tensor *tensor = inputs + argument / MAX_RANK;
            fits &= argument % MAX_RANK < tensor->rank;
            stack[top++] = fits ? tensor->shape[argument % MAX_RANK] : 0;
        } else {
            int64_t right = stack[--top], left = stack[top - 1];
            if (step == DIVIDE) fits &= right > 0;
            stack[top - 1] = step == ADD        ? left + right
                             : step == SUBTRACT ? left - right
                             : step == MULTIPLY ? left * right
                             : right > 0        ? left / right
                                                : 0;
        }
    }
    return fits ? stack[0] : -1;
}

static int32_t find_shape(const int64_t **rule, const ew_tensor *inputs, int64_t *shape) {
    int64_t rank = *(*rule)++;
    if (rank < 0) {
        const ew_tensor *same = inputs - 1 - rank;
        memcpy(shape, same->shape, sizeof *shape * (size_t)same->rank);
        return same->rank;
    }
    for (int64_t i = 0; i < rank; i++)
        if ((shape[i] = find_size(rule, inputs)) < 0) return -1;
    return (int32_t)rank;
}

static ptr compute(node *self, ptr context) {
    const ewo_operator *own = self->operator;
    ew_attributes attributes = {own->attribute_names, self->values, own->attributes};
    ew_tensor inputs[MAX_PORTS], outputs[MAX_PORTS];
    int64_t shapes[2 * MAX_PORTS][MAX_RANK];
    const int64_t *rule = own->sizes;
    ptr status, value;
    for (int32_t i = 0; i < own->inputs; i++) {
        if ((status = read_input(context, (size_t)i, inputs + i, shapes[i]))) return status;
        if (inputs[i].rank > MAX_RANK) return fail(own->name, "an input has more than 8 axes");
        inputs[i].type = own->types[i];
    }
    for (int32_t i = 0; i < own->outputs; i++) {
        int64_t *shape = shapes[MAX_PORTS + i];
        int32_t rank = find_shape(&rule, inputs, shape);
        if (rank < 0) return fail(own->name, "the rule of an output's shape does not fit the shapes of the inputs");
        outputs[i] = (ew_tensor){NULL, shape, rank, own->types[own->inputs + i]};
        status = ((ptr(*)(ptr, size_t, const int64_t *, size_t, ptr *))api[CONTEXT_OUTPUT])(context, (size_t)i, shape,
                                                                                           (size_t)rank, &value);
        if (!status) status = ((ptr(*)(ptr, void **))api[TENSOR_DATA])(value, &outputs[i].data);
        if (status) return status;
    }
    ewo_explain("its kernel reports a failure");
    return own->kernel(&attributes, inputs, outputs) ? fail(own->name, message) : NULL;
}

/* Declares an operator; `given` must live as long as the process. Returns 0 if there are too many. */
EW_EXPORT int ewo_add(const ewo_operator *given) {
    custom_op *op = operators + count;
    if (count == MAX_OPERATORS || given->inputs > MAX_PORTS || given->outputs > MAX_PORTS) return 0;
    ptr functions[] = {create,        get_name, get_provider, get_input_type, count_inputs, get_output_type,
                       count_outputs, NULL,     free,         required,       required,     required,
                       one,           one,      one,          one,            NULL,         compute};
    memset(op, 0, sizeof *op);
    memcpy(op->functions, functions, sizeof functions);
    op->version = API_VERSION;
    op->operator = given;
    return ++count;
}

/* Called by ONNX Runtime with the options of a session. */
EW_EXPORT ptr RegisterCustomOps(ptr options, const void *const *base) {
    ptr status, domain;
    if (!(api = ((table(*)(uint32_t))base[0])(API_VERSION))) return NULL;
    for (int i = 0; i < count; i++) {
        int seen = 0;
        for (int j = 0; j < i; j++) seen |= !strcmp(operators[i].operator->domain, operators[j].operator->domain);
        if (seen) continue;
        if ((status = ((ptr(*)(const char *, ptr *))api[CREATE_DOMAIN])(operators[i].operator->domain, &domain)))
            return status;
        for (int j = i; j < count; j++)
            if (!strcmp(operators[i].operator->domain, operators[j].operator->domain) &&
                (status = ((ptr(*)(ptr, ptr))api[DOMAIN_ADD])(domain, operators + j)))
                return status;
        if ((status = ((ptr(*)(ptr, ptr))api[ADD_DOMAIN])(options, domain))) return status;
    }
    return NULL;
}
