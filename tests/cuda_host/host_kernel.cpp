// SPDX-License-Identifier: Apache-2.0
//
// The CUDA kernel as a function of a shared library, for tests without a GPU.

#include "shim.h"

#include "preprocess.cu"

#include <cstring>
#include <thread>
#include <vector>

namespace {

void run_thread(const Parameters &parameters, const unsigned char *image, float *input, Dim block,
                Dim dim, Dim thread) {
    blockIdx = block;
    blockDim = dim;
    threadIdx = thread;
    prepare_input(parameters, image, input);
}

void run_block(const Parameters &parameters, const unsigned char *image, float *input, Dim block,
               Dim dim) {
    std::barrier<> barrier(dim.x * dim.y);
    block_barrier = &barrier;
    std::vector<std::thread> threads;
    for (int y = 0; y < dim.y; ++y) {
        for (int x = 0; x < dim.x; ++x) {
            threads.emplace_back(run_thread, parameters, image, input, block, dim, Dim{x, y});
        }
    }
    for (std::thread &thread : threads) thread.join();
    block_barrier = nullptr;
}

}  // namespace

extern "C" int parameters_size() { return sizeof(Parameters); }

// threads_x and threads_y of 1 need no thread of their own. Not to be called from two threads.
extern "C" void launch(const void *bytes, const unsigned char *image, float *input, int blocks_x,
                       int blocks_y, int threads_x, int threads_y) {
    Parameters parameters;
    std::memcpy(&parameters, bytes, sizeof parameters);
    for (int y = 0; y < blocks_y; ++y) {
        for (int x = 0; x < blocks_x; ++x) {
            if (threads_x * threads_y == 1) {
                run_thread(parameters, image, input, {x, y}, {1, 1}, {0, 0});
            } else {
                run_block(parameters, image, input, {x, y}, {threads_x, threads_y});
            }
        }
    }
}
