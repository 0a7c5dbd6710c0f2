// SPDX-License-Identifier: Apache-2.0
//
// What preprocess.cu uses of CUDA, for a C++ compiler: a block is either one thread after the other
// stages, or as many real threads as it has, which wait for each other at __syncthreads.

#pragma once
#include <barrier>
#include <cmath>

struct Dim {
    int x, y;
};

static thread_local Dim blockIdx, threadIdx, blockDim;
static std::barrier<> *block_barrier;

#define __device__
#define __global__
#define __shared__ static
#define __syncthreads() (block_barrier ? block_barrier->arrive_and_wait() : void())

static inline int __float2int_rd(float x) { return int(std::floor(x)); }
static inline int __float2int_rn(float x) { return int(std::lrint(x)); }
