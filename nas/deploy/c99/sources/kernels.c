#include "kernels.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* ---- numbers in memory ---- */

static float load(const uint8_t *bytes, uint32_t index)
{
    float value;
    memcpy(&value, bytes + (size_t)index * sizeof value, sizeof value);
    return value;
}

static int32_t whole(const uint8_t *memory, const gecko_tensor *tensor, uint32_t index)
{
    return (int32_t)memory[tensor->offset + index] - tensor->zero;
}

static float value(const uint8_t *memory, const gecko_tensor *tensor, uint32_t index)
{
    if (tensor->step == 0.0f) {
        return load(memory + tensor->offset, index);
    }
    return (float)whole(memory, tensor, index) * tensor->step;
}

/* A weight of few bits. One bit is -1 or +1, wider ones are in two's complement. */
static int32_t level(const gecko_layer *layer, uint32_t index)
{
    uint32_t place = index * layer->bits;
    uint32_t field = (uint32_t)layer->levels[place >> 3] >> (place & 7u);
    uint32_t half = 1u << (layer->bits - 1u);

    field &= 2u * half - 1u;
    if (layer->bits == 1u) {
        return field ? 1 : -1;
    }
    return (int32_t)(field ^ half) - (int32_t)half;
}

/* ---- what is done with a number before it is stored ---- */

/* Round a number of steps to a whole one within the limits, ties to even. */
static int32_t rounded(float steps, int32_t low, int32_t high)
{
    if (!(steps > (float)low)) {
        return low;
    }
    if (steps > (float)high) {
        return high;
    }
    return (int32_t)lrintf(steps);
}

static float clipped(float number, float low, float high)
{
    if (number < low) {
        return low;
    }
    return number > high ? high : number;
}

static float hardsigmoid(float number)
{
    float sixths = number * (1.0f / 6.0f);
    return clipped(sixths + 0.5f, 0.0f, 1.0f);
}

/* The nearest number with the first 7 bits of the fraction. */
static float to_bf16(float number)
{
    uint32_t bits;
    const uint32_t largest_bits = 0x7f7f0000u;
    float largest;

    memcpy(&largest, &largest_bits, sizeof largest);
    number = clipped(number, -largest, largest);
    memcpy(&bits, &number, sizeof bits);
    bits += 0x7fffu + (bits >> 16 & 1u);
    bits &= 0xffff0000u;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* The nearest number with 10 bits of the fraction; below 2^-14 the nearest multiple of 2^-24. */
static float to_fp16(float number)
{
    uint32_t bits;

    number = clipped(number, -65504.0f, 65504.0f);
    if (fabsf(number) < 6.103515625e-05f) {
        return rintf(number * 16777216.0f) / 16777216.0f;
    }
    memcpy(&bits, &number, sizeof bits);
    bits += 0xfffu + (bits >> 13 & 1u);
    bits &= 0xffffe000u;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static float staged(float number, uint32_t channel, const gecko_stage *stages, uint32_t count)
{
    uint32_t index;

    for (index = 0; index < count; index++) {
        const gecko_stage *stage = &stages[index];
        switch (stage->function) {
        case GECKO_LEVELS:
            number = number / stage->divisor;
            number = (float)rounded(number, stage->low - stage->zero, stage->high - stage->zero) * stage->step;
            break;
        case GECKO_AFFINE:
            number = number * stage->gain[channel];
            number = number + stage->shift[channel];
            break;
        case GECKO_SIGN:
            number = number >= 0.0f ? 1.0f : -1.0f;
            break;
        case GECKO_BF16:
            number = to_bf16(number);
            break;
        case GECKO_FP16:
            number = to_fp16(number);
            break;
        case GECKO_RELU:
            number = number > 0.0f ? number : 0.0f;
            break;
        case GECKO_RELU6:
            number = clipped(number, 0.0f, 6.0f);
            break;
        case GECKO_HARDSWISH:
            number = number * hardsigmoid(number);
            break;
        case GECKO_HARDSIGMOID:
            number = hardsigmoid(number);
            break;
        case GECKO_TANH:
            number = (float)tanh((double)number);
            break;
        }
    }
    return number;
}

static void store(uint8_t *memory, const gecko_tensor *tensor, uint32_t index, float number)
{
    if (tensor->step == 0.0f) {
        memcpy(memory + tensor->offset + (size_t)index * sizeof number, &number, sizeof number);
    } else {
        int32_t steps = rounded(number / tensor->step, -tensor->zero, 255 - tensor->zero);
        memory[tensor->offset + index] = (uint8_t)(steps + tensor->zero);
    }
}

/* ---- records ---- */

static uint32_t place_of(const gecko_reading *reading, uint32_t index)
{
    uint32_t axis = reading->axes;
    uint32_t place = 0;

    while (axis-- > 0) {
        place += index % reading->lengths[axis] * reading->strides[axis];
        index /= reading->lengths[axis];
    }
    return place;
}

static float standardised(const gecko_reading *reading, uint32_t channel, float number)
{
    if (reading->mean == NULL) {
        return number;
    }
    number = number - reading->mean[channel];
    return number / reading->deviation[channel];
}

void gecko_read_uint8(uint8_t *memory, const gecko_reading *reading, const uint8_t *record,
                      const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        float number = (float)record[place_of(reading, index)] / 255.0f;
        number = standardised(reading, index / area, number);
        store(memory, output, index, staged(number, index / area, stages, count));
    }
}

void gecko_read_float(uint8_t *memory, const gecko_reading *reading, const float *record,
                      const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        float number = standardised(reading, index / area, record[place_of(reading, index)]);
        store(memory, output, index, staged(number, index / area, stages, count));
    }
}

void gecko_read_double(uint8_t *memory, const gecko_reading *reading, const double *record,
                       const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        double number = record[place_of(reading, index)];
        if (reading->precise_mean != NULL) {
            number = number - reading->precise_mean[index / area];
            number = number / reading->precise_deviation[index / area];
        }
        store(memory, output, index, staged((float)number, index / area, stages, count));
    }
}

/* ---- windows ---- */

/* The part of a window that lies on the map: rows from `top` up to `bottom`, columns from `left` up to `right`. */
typedef struct {
    uint32_t top;
    uint32_t bottom;
    uint32_t left;
    uint32_t right;
} part;

/* Padded positions come first: row `top` of the map is row `top + above - y * down` of the window. */
static part part_at(const gecko_window *window, const gecko_tensor *input, uint32_t y, uint32_t x)
{
    part found;
    uint32_t first_row = y * window->down;
    uint32_t first_column = x * window->right;

    found.top = first_row > window->above ? first_row - window->above : 0u;
    found.left = first_column > window->left ? first_column - window->left : 0u;
    found.bottom = first_row + window->rows > window->above ? first_row + window->rows - window->above : 0u;
    found.right = first_column + window->columns > window->left ? first_column + window->columns - window->left : 0u;
    found.bottom = found.bottom > input->height ? input->height : found.bottom;
    found.right = found.right > input->width ? input->width : found.right;
    return found;
}

/* Numbers of the weight and of the input at one place of a window. */
typedef struct {
    uint32_t weight;
    uint32_t input;
} pair;

/* What a layer computes at one place, before its stages. */
static float layer_at(const uint8_t *memory, const gecko_layer *layer, const gecko_tensor *input, uint32_t channels,
                      uint32_t channel, uint32_t y, uint32_t x)
{
    const gecko_window *window = &layer->window;
    part here = part_at(window, input, y, x);
    uint32_t read = input->channels / layer->groups;
    uint32_t first = channel / (channels / layer->groups) * read;
    int is_whole = layer->levels != NULL && input->step != 0.0f;
    int32_t whole_sum = 0;
    float sum = 0.0f;
    uint32_t source, row, column;

    for (source = 0; source < read; source++) {
        for (row = here.top; row < here.bottom; row++) {
            for (column = here.left; column < here.right; column++) {
                uint32_t window_row = row + window->above - y * window->down;
                uint32_t window_column = column + window->left - x * window->right;
                pair at;
                at.weight = ((channel * read + source) * window->rows + window_row) * window->columns + window_column;
                at.input = ((first + source) * input->height + row) * input->width + column;
                if (is_whole) {
                    whole_sum += whole(memory, input, at.input) * level(layer, at.weight);
                } else {
                    float factor = layer->levels ? (float)level(layer, at.weight) : layer->weights[at.weight];
                    float product = value(memory, input, at.input) * factor;
                    sum = sum + product;
                }
            }
        }
    }
    if (is_whole) {
        whole_sum *= layer->repeats;
        whole_sum += layer->whole_bias ? layer->whole_bias[channel] : 0;
        sum = (float)whole_sum;
    }
    if (layer->multiplier != NULL) {
        sum = sum * layer->multiplier[channel];
    }
    return layer->bias ? sum + layer->bias[channel] : sum;
}

void gecko_run_layer(uint8_t *memory, const gecko_layer *layer, const gecko_tensor *input,
                     const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t channel, y, x, index = 0;

    for (channel = 0; channel < output->channels; channel++) {
        for (y = 0; y < output->height; y++) {
            for (x = 0; x < output->width; x++) {
                float number = layer_at(memory, layer, input, output->channels, channel, y, x);
                store(memory, output, index++, staged(number, channel, stages, count));
            }
        }
    }
}

static float largest_at(const uint8_t *memory, const gecko_tensor *input, uint32_t channel, part here)
{
    float largest = -INFINITY;
    uint32_t row, column;

    for (row = here.top; row < here.bottom; row++) {
        for (column = here.left; column < here.right; column++) {
            float number = value(memory, input, (channel * input->height + row) * input->width + column);
            largest = number > largest ? number : largest;
        }
    }
    return largest;
}

/* The mean of what is there: padding does not count. */
static float mean_at(const uint8_t *memory, const gecko_tensor *input, uint32_t channel, part here)
{
    int32_t whole_sum = 0;
    float sum = 0.0f;
    uint32_t row, column;

    for (row = here.top; row < here.bottom; row++) {
        for (column = here.left; column < here.right; column++) {
            uint32_t index = (channel * input->height + row) * input->width + column;
            if (input->step == 0.0f) {
                sum = sum + value(memory, input, index);
            } else {
                whole_sum += whole(memory, input, index);
            }
        }
    }
    if (input->step != 0.0f) {
        sum = (float)whole_sum * input->step;
    }
    return sum / (float)((here.bottom - here.top) * (here.right - here.left));
}

typedef float (*pooling)(const uint8_t *memory, const gecko_tensor *input, uint32_t channel, part here);

static void pool(uint8_t *memory, pooling pooled, const gecko_window *window, const gecko_tensor *input,
                 const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t channel, y, x, index = 0;

    for (channel = 0; channel < output->channels; channel++) {
        for (y = 0; y < output->height; y++) {
            for (x = 0; x < output->width; x++) {
                float number = pooled(memory, input, channel, part_at(window, input, y, x));
                store(memory, output, index++, staged(number, channel, stages, count));
            }
        }
    }
}

void gecko_max_pool(uint8_t *memory, const gecko_window *window, const gecko_tensor *input,
                    const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    pool(memory, largest_at, window, input, output, stages, count);
}

void gecko_mean_pool(uint8_t *memory, const gecko_window *window, const gecko_tensor *input,
                     const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    pool(memory, mean_at, window, input, output, stages, count);
}

/* ---- element by element ---- */

void gecko_add(uint8_t *memory, const gecko_tensor *first, const gecko_tensor *second,
               const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        float one = value(memory, first, index);
        float other = value(memory, second, index);
        store(memory, output, index, staged(one + other, index / area, stages, count));
    }
}

void gecko_scale(uint8_t *memory, const gecko_tensor *input, const gecko_tensor *factors,
                 const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        float number = value(memory, input, index) * value(memory, factors, index / area);
        store(memory, output, index, staged(number, index / area, stages, count));
    }
}

void gecko_copy(uint8_t *memory, const gecko_tensor *input, uint32_t channel,
                const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = input->height * input->width;
    uint32_t index;

    for (index = 0; index < input->channels * area; index++) {
        float number = staged(value(memory, input, index), channel + index / area, stages, count);
        store(memory, output, channel * area + index, number);
    }
}

void gecko_zeros(uint8_t *memory, const gecko_tensor *output, const gecko_stage *stages, uint32_t count)
{
    uint32_t area = output->height * output->width;
    uint32_t index;

    for (index = 0; index < output->channels * area; index++) {
        store(memory, output, index, staged(0.0f, index / area, stages, count));
    }
}

int gecko_is_sure(const uint8_t *memory, const gecko_tensor *tensor, float threshold)
{
    uint32_t count = tensor->channels * tensor->height * tensor->width;
    float largest = -INFINITY;
    double sum = 0.0;
    uint32_t index;

    for (index = 0; index < count; index++) {
        float number = value(memory, tensor, index);
        largest = number > largest ? number : largest;
    }
    for (index = 0; index < count; index++) {
        sum = sum + exp((double)value(memory, tensor, index) - (double)largest);
    }
    return (float)(1.0 / sum) >= threshold;
}

void gecko_values(const uint8_t *memory, const gecko_tensor *tensor, float *values)
{
    uint32_t index;

    for (index = 0; index < tensor->channels * tensor->height * tensor->width; index++) {
        values[index] = value(memory, tensor, index);
    }
}
