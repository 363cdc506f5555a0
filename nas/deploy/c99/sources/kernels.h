/* Reference kernels: each computes one operator of a network, plainly, one number after the other.

   They are the same for all networks. Nothing is allocated: tensors lie in an array that the network owns, constants in
   the structures below. A tensor is either whole numbers in uint8 with one step and a zero point, or float32, which
   need not be aligned. Compile as C99 (gcc and clang: -std=c99), so that a product and a sum are rounded each: then
   every machine with IEEE 754 floats gives the same numbers. */

#ifndef GECKO_KERNELS_H
#define GECKO_KERNELS_H

#include <stdint.h>

/* The numbers of one record: value = (stored - zero) * step, or float32 where the step is 0. */
typedef struct {
    uint32_t offset; /* first byte in the array */
    uint32_t channels;
    uint32_t height;
    uint32_t width;
    float step;
    int32_t zero;
} gecko_tensor;

typedef enum {
    GECKO_LEVELS,
    GECKO_AFFINE,
    GECKO_SIGN,
    GECKO_BF16,
    GECKO_FP16,
    GECKO_RELU,
    GECKO_RELU6,
    GECKO_HARDSWISH,
    GECKO_HARDSIGMOID,
    GECKO_TANH
} gecko_function;

/* What is done with each number before it is stored. */
typedef struct {
    gecko_function function;
    float divisor;      /* GECKO_LEVELS: of the number, to count in steps */
    float step;         /* GECKO_LEVELS: value of one step */
    int32_t zero;       /* GECKO_LEVELS: stored number of 0 */
    int32_t low;        /* GECKO_LEVELS: smallest stored number */
    int32_t high;       /* GECKO_LEVELS: largest stored number */
    const float *gain;  /* GECKO_AFFINE: of each channel */
    const float *shift; /* GECKO_AFFINE: of each channel */
} gecko_stage;

/* Rows and columns: of the window, of its step, of the zeros before the first position. */
typedef struct {
    uint32_t rows;
    uint32_t columns;
    uint32_t down;
    uint32_t right;
    uint32_t above;
    uint32_t left;
} gecko_window;

/* Weights in the order (channels, channels read, rows, columns): packed levels, or floats where levels is NULL. */
typedef struct {
    gecko_window window;
    uint32_t groups;
    uint32_t bits;             /* of one level: 1, 2, 4 or 8; the first one lies in the lowest bits of a byte */
    const uint8_t *levels;
    const float *weights;
    int32_t repeats;           /* sums of whole numbers are multiplied by this */
    const int32_t *whole_bias; /* then this is added; NULL: nothing */
    const float *multiplier;   /* then they are multiplied by this; NULL: by nothing */
    const float *bias;         /* then this is added; NULL: nothing */
} gecko_layer;

/* How a record lies in memory: the number of the network's input at some place is found axis by axis, last one first.
   It is centred and divided by the deviation of its channel; NULL: it is taken as it is. */
typedef struct {
    uint32_t axes;
    const uint32_t *lengths;
    const uint32_t *strides;
    const float *mean;
    const float *deviation;
    const double *precise_mean; /* the same for records in double precision */
    const double *precise_deviation;
} gecko_reading;

void gecko_read_uint8(uint8_t *memory, const gecko_reading *reading, const uint8_t *record,
                      const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_read_float(uint8_t *memory, const gecko_reading *reading, const float *record,
                      const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_read_double(uint8_t *memory, const gecko_reading *reading, const double *record,
                       const gecko_tensor *output, const gecko_stage *stages, uint32_t count);

/* Convolutions, grouped or not, and fully connected layers: a vector has height and width 1. */
void gecko_run_layer(uint8_t *memory, const gecko_layer *layer, const gecko_tensor *input,
                     const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_max_pool(uint8_t *memory, const gecko_window *window, const gecko_tensor *input,
                    const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_mean_pool(uint8_t *memory, const gecko_window *window, const gecko_tensor *input,
                     const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_add(uint8_t *memory, const gecko_tensor *first, const gecko_tensor *second,
               const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
/* The factors have one number for each channel. */
void gecko_scale(uint8_t *memory, const gecko_tensor *input, const gecko_tensor *factors,
                 const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
/* Writes the channels from the given one on, as many as the input has: alone or as a part of a concatenation. */
void gecko_copy(uint8_t *memory, const gecko_tensor *input, uint32_t channel,
                const gecko_tensor *output, const gecko_stage *stages, uint32_t count);
void gecko_zeros(uint8_t *memory, const gecko_tensor *output, const gecko_stage *stages, uint32_t count);

/* Whether an exit answers: the largest share of the softmax of its logits reaches the threshold. */
int gecko_is_sure(const uint8_t *memory, const gecko_tensor *tensor, float threshold);
void gecko_values(const uint8_t *memory, const gecko_tensor *tensor, float *values);

#endif
