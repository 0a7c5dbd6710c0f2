// SPDX-License-Identifier: Apache-2.0
//
// The camera's bytes become the engine's input in one kernel: crop, halve, blur, resize, order of
// colours, normalise. It does what perception_node/vision/preprocess.py does with OpenCV, with the same
// whole-number arithmetic, so both give the same pixels. kernel.py fills Parameters and launches.
//
// Nothing is included, little of CUDA is used, and every loop over a tile strides by blockDim:
// tests/cuda_host compiles this file with g++ and runs it on the CPU.

constexpr int CHANNELS = 3;
constexpr int MAX_HALVINGS = 16;
constexpr int MAX_WEIGHTS = 256;      // one half of a blur, padded with zeros
constexpr int WINDOW_PIXELS = 4096;   // halved pixels that a block keeps in shared memory
constexpr int TILE = 16;              // a block makes TILE x TILE pixels of the input
constexpr int WEIGHT_BITS = 11;       // of OpenCV's resize
constexpr int BLUR_BITS = 8;          // of OpenCV's GaussianBlur

// One axis; the fields are explained in kernel.py.
struct Axis {
    double scale;  // halved pixels per pixel of the input
    int start;
    int halved;
    int radius;
    int first;
    int filled;
    int size;
    int window;   // pixels of the window in shared memory, 0: there is none
    int nearest;  // nothing is blended
    unsigned short weights[MAX_WEIGHTS];
};

struct Parameters {
    Axis rows;
    Axis columns;
    long long row_bytes;
    long long chroma_start;  // -1: packed pixels, not YUV
    int chroma_shift;        // rows of the image per row of chroma, as a power of two
    int pixel_bytes;
    int offsets[CHANNELS];  // of the bytes of plane 0, 1, 2 in a pixel; or of Y, U, V
    int blue_first;         // plane 0 is blue; for YUV only
    int halvings;
    int cubic;
    int fills[CHANNELS];  // of the border, in the order of the planes
    int repeats_edge;     // the border is the outermost pixels instead
    float factors[CHANNELS];
    float shifts[CHANNELS];
};

// Three channels in one word, ten bits each: room for the sum of four pixels.
typedef unsigned int Pixel;
constexpr Pixel ONES = 1u | 1u << 10 | 1u << 20;

__device__ inline int clamp(int value, int low, int high) {
    return value < low ? low : (value > high ? high : value);
}

__device__ inline Pixel pack(int a, int b, int c) {
    return Pixel(a) | Pixel(b) << 10 | Pixel(c) << 20;
}

__device__ inline int channel(Pixel pixel, int index) { return pixel >> 10 * index & 255; }

__device__ inline Pixel quarter(Pixel sum) { return (sum + 2 * ONES) >> 2 & 255 * ONES; }

// ITU-R BT.601, limited range, as OpenCV computes it: 20 bits after the point.
__device__ inline Pixel from_yuv(int y, int u, int v, bool blue_first) {
    constexpr int HALF = 1 << 19;
    const int luma = (y > 16 ? y - 16 : 0) * 1220542;
    u -= 128;
    v -= 128;
    const int red = clamp((luma + HALF + 1673527 * v) >> 20, 0, 255);
    const int green = clamp((luma + HALF - 852492 * v - 409993 * u) >> 20, 0, 255);
    const int blue = clamp((luma + HALF + 2116026 * u) >> 20, 0, 255);
    return blue_first ? pack(blue, green, red) : pack(red, green, blue);
}

// One pixel of the camera's image, in the order of the input's planes.
__device__ inline Pixel load(const Parameters &p, const unsigned char *image, int row, int column) {
    const unsigned char *pixel = image + row * p.row_bytes + (long long)column * p.pixel_bytes;
    if (p.chroma_start < 0) {
        return pack(pixel[p.offsets[0]], pixel[p.offsets[1]], pixel[p.offsets[2]]);
    }
    const unsigned char *pair = image + p.chroma_start + (row >> p.chroma_shift) * p.row_bytes +
                                (long long)(column >> 1) * 2 * p.pixel_bytes;
    return from_yuv(pixel[p.offsets[0]], pair[p.offsets[1]], pair[p.offsets[2]], p.blue_first);
}

// Bits 0, 2, 4, ... of n, side by side.
__device__ inline int even_bits(unsigned int n) {
    n &= 0x55555555u;
    n = (n | n >> 1) & 0x33333333u;
    n = (n | n >> 2) & 0x0f0f0f0fu;
    n = (n | n >> 4) & 0x00ff00ffu;
    return int((n | n >> 8) & 0x0000ffffu);
}

// One pixel of the image after all halvings. Its pixels are visited in Z order: each time four of
// a level are complete, their rounded average is one of the next level.
__device__ inline Pixel halve(const Parameters &p, const unsigned char *image, int row, int column) {
    const int top = p.rows.start + (row << p.halvings);
    const int left = p.columns.start + (column << p.halvings);
    Pixel sums[MAX_HALVINGS];
    for (unsigned int n = 0;; ++n) {
        Pixel value = load(p, image, top + even_bits(n >> 1), left + even_bits(n));
        int level = 0;
        for (unsigned int rest = n; level < p.halvings; ++level, rest >>= 2) {
            sums[level] = (rest & 3) == 0 ? value : sums[level] + value;
            if ((rest & 3) != 3) break;
            value = quarter(sums[level]);
        }
        if (level == p.halvings) return value;
    }
}

// The part of the halved image that a block needs, in shared memory if it fits.
struct Window {
    const Pixel *pixels;
    int top;
    int left;
};

__device__ inline Pixel sample(const Parameters &p, const unsigned char *image,
                               const Window &window, int row, int column) {
    row = clamp(row, 0, p.rows.halved - 1);
    column = clamp(column, 0, p.columns.halved - 1);
    if (p.rows.window == 0) return halve(p, image, row, column);
    return window.pixels[(row - window.top) * p.columns.window + (column - window.left)];
}

// What one pixel of the input is made of: TAPS weights, and to which of the TAPS pixels from
// `first` on each belongs. At an edge several belong to the same one.
template <int TAPS>
struct Taps {
    int first;
    int places[TAPS];
    int weights[TAPS];
};

__device__ inline void weigh(float x, float (&weights)[2]) {
    weights[0] = 1.0f - x;
    weights[1] = x;
}

__device__ inline void weigh(float x, float (&weights)[4]) {  // Keys, a = -0.75
    const float a = -0.75f;
    const float y = 1.0f - x;
    weights[0] = ((a * (x + 1.0f) - 5.0f * a) * (x + 1.0f) + 8.0f * a) * (x + 1.0f) - 4.0f * a;
    weights[1] = ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
    weights[2] = ((a + 2.0f) * y - (a + 3.0f)) * y * y + 1.0f;
    weights[3] = 1.0f - weights[0] - weights[1] - weights[2];
}

// The pixel in which the centre of a pixel of the input lies, as Pillow's NEAREST.
__device__ inline int find_nearest(const Axis &axis, int index) {
    return int((2LL * index + 1) * axis.halved / (2 * axis.filled));
}

// With the roundings of OpenCV's resize. `index` counts from the first filled pixel of the input.
template <int TAPS>
__device__ inline Taps<TAPS> find_taps(const Axis &axis, int index) {
    const float place = axis.nearest ? float(find_nearest(axis, index))
                                     : float((index + 0.5) * axis.scale - 0.5);
    const int whole = __float2int_rd(place);
    const int first = whole - (TAPS / 2 - 1);
    float weights[TAPS];
    weigh(place - whole, weights);
    Taps<TAPS> taps;
    taps.first = clamp(first, 0, axis.halved > TAPS ? axis.halved - TAPS : 0);
    for (int i = 0; i < TAPS; ++i) {
        taps.places[i] = clamp(first + i, 0, axis.halved - 1) - taps.first;
        taps.weights[i] = __float2int_rn(weights[i] * (1 << WEIGHT_BITS));
    }
    return taps;
}

// values[place], without an array that has to lie in memory.
template <int TAPS>
__device__ inline int pick(const int (&values)[TAPS], int place) {
    int value = values[0];
    for (int i = 1; i < TAPS; ++i) value = i == place ? values[i] : value;
    return value;
}

// The sum over a row is exact, the one over the rows is rounded as OpenCV does it.
template <int TAPS>
__device__ inline int blend_columns(const int (&values)[TAPS], const Taps<TAPS> &taps) {
    int sum = 0;
    for (int i = 0; i < TAPS; ++i) sum += taps.weights[i] * pick(values, taps.places[i]);
    return sum;
}

__device__ inline int blend_rows(const int (&values)[2], const Taps<2> &taps) {
    int sum = 2;
    for (int i = 0; i < 2; ++i) {
        sum += (taps.weights[i] * (pick(values, taps.places[i]) >> 4)) >> 16;
    }
    return sum >> 2;
}

__device__ inline int blend_rows(const int (&values)[4], const Taps<4> &taps) {
    constexpr int BITS = 2 * WEIGHT_BITS;
    const int sum = blend_columns(values, taps);
    return (sum + (1 << (BITS - 1)) - 1 + (sum >> BITS & 1)) >> BITS;  // a half becomes even
}

// One pixel of the input, before it is normalised. The blur is a sum over a row, then over the
// rows, exact until it is rounded to a byte; so is the resize that follows.
template <int TAPS>
__device__ inline Pixel resize(const Parameters &p, const unsigned char *image,
                               const Window &window, int row, int column) {
    const Taps<TAPS> down = find_taps<TAPS>(p.rows, row);
    const Taps<TAPS> across = find_taps<TAPS>(p.columns, column);
    const int height = p.rows.radius, width = p.columns.radius;
    int blurred[TAPS][TAPS][CHANNELS] = {};
    for (int i = -height; i < TAPS + height; ++i) {
        int line[TAPS][CHANNELS] = {};
        for (int j = -width; j < TAPS + width; ++j) {
            const Pixel pixel = sample(p, image, window, down.first + i, across.first + j);
            for (int x = 0; x < TAPS; ++x) {
                const int weight = p.columns.weights[j < x ? x - j : j - x];
                for (int c = 0; c < CHANNELS; ++c) line[x][c] += weight * channel(pixel, c);
            }
        }
        for (int y = 0; y < TAPS; ++y) {
            const int weight = p.rows.weights[i < y ? y - i : i - y];
            for (int x = 0; x < TAPS; ++x) {
                for (int c = 0; c < CHANNELS; ++c) blurred[y][x][c] += weight * line[x][c];
            }
        }
    }
    int result[CHANNELS];
    for (int c = 0; c < CHANNELS; ++c) {
        int rows[TAPS];
        for (int y = 0; y < TAPS; ++y) {
            int values[TAPS];
            for (int x = 0; x < TAPS; ++x) {
                values[x] = (blurred[y][x][c] + (1 << (2 * BLUR_BITS - 1))) >> 2 * BLUR_BITS;
            }
            rows[y] = blend_columns(values, across);
        }
        result[c] = clamp(blend_rows(rows, down), 0, 255);
    }
    return pack(result[0], result[1], result[2]);
}

// First pixel of the window: what the first filled pixel of the block's tile needs.
template <int TAPS>
__device__ inline int window_start(const Axis &axis, int tile) {
    const int index = clamp(tile - axis.first, 0, axis.filled - 1);
    return clamp(find_taps<TAPS>(axis, index).first - axis.radius, 0, axis.halved - 1);
}

template <int TAPS>
__device__ inline void prepare_tile(const Parameters &p, const unsigned char *image, float *input,
                                    Pixel *shared) {
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    const Window window = {shared, window_start<TAPS>(p.rows, top),
                           window_start<TAPS>(p.columns, left)};
    for (int i = threadIdx.y; i < p.rows.window; i += blockDim.y) {
        for (int j = threadIdx.x; j < p.columns.window; j += blockDim.x) {
            if (window.top + i < p.rows.halved && window.left + j < p.columns.halved) {
                shared[i * p.columns.window + j] =
                    halve(p, image, window.top + i, window.left + j);
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.y; i < TILE && top + i < p.rows.size; i += blockDim.y) {
        for (int j = threadIdx.x; j < TILE && left + j < p.columns.size; j += blockDim.x) {
            int row = top + i - p.rows.first, column = left + j - p.columns.first;
            if (p.repeats_edge) {
                row = clamp(row, 0, p.rows.filled - 1);
                column = clamp(column, 0, p.columns.filled - 1);
            }
            const bool filled =
                row >= 0 && row < p.rows.filled && column >= 0 && column < p.columns.filled;
            const Pixel pixel =
                filled ? resize<TAPS>(p, image, window, row, column)
                       : pack(p.fills[0], p.fills[1], p.fills[2]);
            const long long plane = (long long)p.rows.size * p.columns.size;
            float *target = input + (long long)(top + i) * p.columns.size + left + j;
            for (int c = 0; c < CHANNELS; ++c) {
                target[c * plane] = channel(pixel, c) * p.factors[c] + p.shifts[c];
            }
        }
    }
}

extern "C" __global__ void prepare_input(const Parameters p, const unsigned char *image,
                                         float *input) {
    __shared__ Pixel shared[WINDOW_PIXELS];
    if (p.cubic) {
        prepare_tile<4>(p, image, input, shared);
    } else {
        prepare_tile<2>(p, image, input, shared);
    }
}
