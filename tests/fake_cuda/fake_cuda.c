/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of libcuda.so.1 that this project and PyCUDA call, over host memory.
 *
 * Work waits in its stream until somebody synchronizes, and a captured stream records it into a
 * graph. Contexts are counted and stacked per thread as in the real driver. Loading a module
 * accepts cubins only; its kernel is the host build of preprocess.cu, FAKE_CUDA_KERNEL, or the one
 * of bench/standin_network.py. A kernel that writes below 4096 breaks the context.
 * Functions that begin with fake_ let a test look inside and break things.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    MAX_DEPTH = 16,
    EM_CUDA = 190,
};

typedef void (*Launch)(const char *, const void *, void *, int, int, int, int);

typedef struct Job {
    struct Job *next;
    void (*callback)(void *); /* or NULL; gets source */
    void *target;
    const void *source;
    size_t size;
    char *parameters; /* of a kernel, else NULL: a copy */
    int grid[2];
    int is_network; /* the kernel of bench/standin_network.py */
} Job;

typedef struct {
    Job *first, **last;
} Jobs;

typedef struct {
    unsigned flags;
    int is_capturing;
    Jobs work;
    Jobs recorded;
} Stream;

static int retained, live, error, is_primary, has_device = 1, integrated;
static __thread void *stack[MAX_DEPTH];
static __thread int depth;

/* ---- for tests ---- */
int fake_depth(void) { return depth; }
int fake_retained(void) { return retained; }
int fake_live(void) { return live; }
void fake_break(int code) { error = code; }
void fake_set_device(int present, int is_integrated) { has_device = present, integrated = is_integrated; }

/* ---- jobs ---- */
static void clear(Jobs *jobs) {
    while (jobs->first) {
        Job *job = jobs->first;
        jobs->first = job->next;
        free(job->parameters);
        free(job);
    }
    jobs->last = &jobs->first;
}

static void append(Jobs *jobs, const Job *job) {
    Job *added = malloc(sizeof *added);
    *added = *job;
    added->next = NULL;
    if (job->parameters) {
        added->parameters = malloc(job->size);
        memcpy(added->parameters, job->parameters, job->size);
    }
    *jobs->last = added;
    jobs->last = &added->next;
}

static void put(Stream *stream, const Job *job) {
    append(stream->is_capturing ? &stream->recorded : &stream->work, job);
}

static void run_network(const Job *job) {
    const int *sizes = (const int *)job->parameters; /* inputs, classes */
    for (int index = 0; index < sizes[1]; ++index) {
        float sum = 0.0f;
        for (int tap = 0; tap < 512; ++tap)
            sum += ((const float *)job->source)[(131 * index + 293 * tap) % sizes[0]];
        ((float *)job->target)[index] = sum / 512.0f;
    }
}

static void run(const Job *job) {
    if (job->callback) {
        job->callback((void *)job->source);
        return;
    }
    if (!job->parameters) {
        memcpy(job->target, job->source, job->size);
        return;
    }
    if ((uintptr_t)job->target < 4096) {
        error = ILLEGAL_ADDRESS;
        return;
    }
    if (job->is_network) {
        run_network(job);
        return;
    }
    static Launch launch;
    if (!launch) {
        void *library = dlopen(getenv("FAKE_CUDA_KERNEL"), RTLD_NOW | RTLD_LOCAL);
        launch = library ? (Launch)dlsym(library, "launch") : NULL;
        if (!launch) abort();
    }
    launch(job->parameters, job->source, job->target, job->grid[0], job->grid[1], 1, 1);
}

static int finish(Stream *stream) {
    if (stream->is_capturing) return STREAM_CAPTURE_UNSUPPORTED;
    if (!error)
        for (Job *job = stream->work.first; job; job = job->next) run(job);
    clear(&stream->work);
    return error;
}

/* ---- device ---- */
int cuInit(unsigned flags) { return flags ? INVALID_VALUE : has_device ? SUCCESS : NO_DEVICE; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = has_device, SUCCESS; }
int cuDeviceGet(int *device, int index) {
    return *device = index, index == 0 && has_device ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, integrated ? "Fake Orin" : "Fake GPU", size);
    return device ? INVALID_DEVICE : SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    return *bytes = (size_t)8 << 30, device ? INVALID_DEVICE : SUCCESS;
}
int cuDeviceComputeCapability(int *major, int *minor, int device) {
    return *major = 8, *minor = 7, device ? INVALID_DEVICE : SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 16: *value = 14; break;
        case 18: *value = integrated; break;
        case 19: *value = 1; break;
        case 75: *value = 8; break;
        case 76: *value = 7; break;
        default: *value = 1;
    }
    return device ? INVALID_DEVICE : SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                    : "something failed in the fake driver";
    return SUCCESS;
}

/* ---- context ---- */
int cuDevicePrimaryCtxRetain(void **context, int device) {
    return ++retained, *context = &is_primary, device ? INVALID_DEVICE : SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    return --retained, device ? INVALID_DEVICE : SUCCESS;
}
int cuCtxPushCurrent_v2(void *context) {
    if (depth == MAX_DEPTH) return INVALID_VALUE;
    return stack[depth++] = context, SUCCESS;
}
int cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    return *context = stack[--depth], SUCCESS;
}
int cuCtxGetDevice(int *device) { return *device = 0, depth ? SUCCESS : INVALID_CONTEXT; }
int cuCtxSynchronize(void) { return error; }

/* ---- memory ---- */
static int allocate(void **address, size_t size) {
    if (!depth) return INVALID_CONTEXT;
    if (error) return error;
    if (size > (size_t)1 << 30) return OUT_OF_MEMORY;
    *address = malloc(size);
    memset(*address, 0xAB, size);
    return ++live, SUCCESS;
}
static int release(void *address) {
    if (!depth) return INVALID_CONTEXT;
    return free(address), --live, error;
}
int cuMemAlloc_v2(void **address, size_t size) { return allocate(address, size); }
int cuMemFree_v2(void *address) { return release(address); }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    return flags & ~7u ? INVALID_VALUE : allocate(address, size);
}
int cuMemFreeHost(void *address) { return release(address); }
int cuMemHostGetDevicePointer_v2(void **device, void *host, unsigned flags) {
    return *device = host, flags ? INVALID_VALUE : error;
}
static int copy(void *target, const void *source, size_t size, Stream *stream) {
    if (!depth) return INVALID_CONTEXT;
    Job job = {.target = target, .source = source, .size = size};
    return put(stream, &job), error;
}
int cuMemcpyHtoDAsync_v2(void *target, const void *source, size_t size, Stream *stream) {
    return copy(target, source, size, stream);
}
int cuMemcpyDtoHAsync_v2(void *target, void *source, size_t size, Stream *stream) {
    return copy(target, source, size, stream);
}

/* ---- streams and events ---- */
int cuStreamCreate(Stream **stream, unsigned flags) {
    if (!depth) return INVALID_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->flags = flags;
    clear(&(*stream)->work), clear(&(*stream)->recorded);
    return ++live, flags == 1 ? error : INVALID_VALUE;
}
int cuStreamDestroy_v2(Stream *stream) {
    clear(&stream->work), clear(&stream->recorded);
    return release(stream);
}
int cuStreamSynchronize(Stream *stream) { return finish(stream); }
int cuStreamQuery(Stream *stream) {
    return error ? error : stream->work.first ? NOT_READY : SUCCESS;
}
int cuEventCreate(Stream ***event, unsigned flags) {
    *event = calloc(1, sizeof **event);
    return ++live, flags > 3 ? INVALID_VALUE : error;
}
int cuEventDestroy_v2(Stream **event) { return release(event); }
int cuEventRecord(Stream **event, Stream *stream) { return *event = stream, error; }
int cuEventSynchronize(Stream **event) { return finish(*event); }

/* ---- kernels ---- */
int cuModuleLoadDataEx(void **module, const unsigned char *image, unsigned n, void *o, void *v) {
    (void)n, (void)o, (void)v;
    if (memcmp(image, "\177ELF", 4) || image[18] != EM_CUDA) return INVALID_IMAGE;
    return *module = malloc(1), ++live, error;
}
int cuModuleUnload(void *module) { return release(module); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module; /* the two are told apart by the size of their arguments */
    return strcmp(name, "prepare_input") && strcmp(name, "stand_in_network") ? INVALID_VALUE : error;
}
int cuFuncSetBlockShape(void *f, int x, int y, int z) {
    return (void)f, x * y * z > 1024 ? INVALID_VALUE : error;
}
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, Stream *stream, void **arguments, void **extra) {
    (void)f, (void)shared;
    if (!depth) return INVALID_CONTEXT;
    if (arguments || gz != 1 || bx * by * bz > 1024) return INVALID_VALUE;
    char *buffer = NULL;
    size_t size = 0;
    for (; *extra; extra += 2) {
        if ((uintptr_t)extra[0] == 1) buffer = extra[1];
        if ((uintptr_t)extra[0] == 2) size = *(size_t *)extra[1];
    }
    if (size < 16) return INVALID_VALUE;
    Job job = {.size = size, .parameters = buffer, .grid = {gx, gy}, .is_network = size == 24};
    memcpy(&job.source, buffer + size - 16, sizeof job.source);
    memcpy(&job.target, buffer + size - 8, sizeof job.target);
    return put(stream, &job), error;
}

int cuLaunchHostFunc(Stream *stream, void (*callback)(void *), void *data) {
    Job job = {.callback = callback, .source = data};
    return put(stream, &job), error;
}

/* ---- graphs ---- */
int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    if (mode != 1 || stream->is_capturing) return INVALID_VALUE;
    if (error) return error;
    return stream->is_capturing = 1, SUCCESS;
}
int cuStreamEndCapture(Stream *stream, Jobs **graph) {
    *graph = calloc(1, sizeof **graph);
    clear(*graph);
    for (Job *job = stream->recorded.first; job; job = job->next) append(*graph, job);
    clear(&stream->recorded);
    return stream->is_capturing = 0, ++live, error;
}
int cuGraphGetNodes(Jobs *graph, void **nodes, size_t *count) {
    *count = 0;
    for (Job *job = graph->first; job; job = job->next) ++*count;
    return nodes ? INVALID_VALUE : error;
}
int cuGraphInstantiateWithFlags(Jobs **executable, Jobs *graph, unsigned long long flags) {
    *executable = calloc(1, sizeof **executable);
    clear(*executable);
    for (Job *job = graph->first; job; job = job->next) append(*executable, job);
    return ++live, flags ? INVALID_VALUE : error;
}
int cuGraphLaunch(Jobs *executable, Stream *stream) {
    for (Job *job = executable->first; job; job = job->next) put(stream, job);
    return error;
}
int cuGraphExecDestroy(Jobs *executable) { return clear(executable), release(executable); }
int cuGraphDestroy(Jobs *graph) { return graph ? (clear(graph), release(graph)) : INVALID_VALUE; }
