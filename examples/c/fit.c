// Fits a raw image from a learned initialization, with LiteRT's C API alone.
//
//   ./fit model.tflite photo.ppm fitted.ppm [steps]
//
// `python -m tfmetainit.export` writes model.tflite for an image class; the file
// holds the weights and the gradient steps. photo.ppm is a binary PPM (P6, 8
// bits) with at most as many pixels as the artifact has points. Resize it to the
// training resolution, R x R pixels, whatever its proportion: the quality is best
// there. The program prints the PSNR after each step and writes the fitted field.

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "litert.h"

enum { kMaxTensors = 8, kMaxSide = 16384, kDims = 2, kChannels = 3 };

static _Noreturn void fail(const char* what) {
  fprintf(stderr, "error: %s\n", what);
  exit(2);
}

static void check(LiteRtStatus status, const char* what) {
  if (status != 0) {
    fprintf(stderr, "error: %s (LiteRT status %d)\n", what, status);
    exit(2);
  }
}

// One signature of the model, with the buffers of its inputs and outputs.
typedef struct {
  LiteRtParamIndex index;
  size_t num_inputs, num_outputs;
  const char* input_names[kMaxTensors];
  const char* output_names[kMaxTensors];
  LiteRtTensorBuffer inputs[kMaxTensors];
  LiteRtTensorBuffer outputs[kMaxTensors];
} Signature;

static LiteRtTensorBuffer new_buffer(
    LiteRtEnvironment environment, LiteRtTensor tensor,
    LiteRtTensorBufferRequirements requirements) {
  LiteRtRankedTensorType type;
  LiteRtTensorBuffer buffer;
  check(LiteRtGetRankedTensorType(tensor, &type), "a tensor has no shape");
  check(LiteRtCreateManagedTensorBufferFromRequirements(
            environment, &type, requirements, &buffer),
        "cannot allocate a tensor");
  return buffer;
}

static Signature find_signature(LiteRtEnvironment environment,
                                LiteRtModel model, LiteRtCompiledModel compiled,
                                const char* wanted) {
  LiteRtParamIndex count = 0;
  check(LiteRtGetNumModelSignatures(model, &count), "no signatures");
  for (LiteRtParamIndex i = 0; i < count; ++i) {
    LiteRtSignature signature;
    const char* key;
    check(LiteRtGetModelSignature(model, i, &signature), "no signature");
    check(LiteRtGetSignatureKey(signature, &key), "no signature key");
    if (strcmp(key, wanted) != 0) continue;
    Signature found = {.index = i};
    check(LiteRtGetNumSignatureInputs(signature, &found.num_inputs), "no inputs");
    check(LiteRtGetNumSignatureOutputs(signature, &found.num_outputs), "no outputs");
    if (found.num_inputs > kMaxTensors || found.num_outputs > kMaxTensors) {
      fail("the model is not an artifact of tfmetainit");
    }
    for (size_t j = 0; j < found.num_inputs; ++j) {
      LiteRtTensor tensor;
      LiteRtTensorBufferRequirements requirements;
      check(LiteRtGetSignatureInputName(signature, j, &found.input_names[j]),
            "an input has no name");
      check(LiteRtGetSignatureInputTensorByIndex(signature, j, &tensor),
            "an input has no tensor");
      check(LiteRtGetCompiledModelInputBufferRequirements(compiled, i, j,
                                                          &requirements),
            "an input has no requirements");
      found.inputs[j] = new_buffer(environment, tensor, requirements);
    }
    for (size_t j = 0; j < found.num_outputs; ++j) {
      LiteRtTensor tensor;
      LiteRtTensorBufferRequirements requirements;
      check(LiteRtGetSignatureOutputName(signature, j, &found.output_names[j]),
            "an output has no name");
      check(LiteRtGetSignatureOutputTensorByIndex(signature, j, &tensor),
            "an output has no tensor");
      check(LiteRtGetCompiledModelOutputBufferRequirements(compiled, i, j,
                                                           &requirements),
            "an output has no requirements");
      found.outputs[j] = new_buffer(environment, tensor, requirements);
    }
    return found;
  }
  fail("the model is not an artifact of tfmetainit: a signature is missing");
}

static void free_signature(Signature* signature) {
  for (size_t j = 0; j < signature->num_inputs; ++j) {
    LiteRtDestroyTensorBuffer(signature->inputs[j]);
  }
  for (size_t j = 0; j < signature->num_outputs; ++j) {
    LiteRtDestroyTensorBuffer(signature->outputs[j]);
  }
}

// Buffers are found by name, because their order differs between runtimes.
static LiteRtTensorBuffer input(const Signature* signature, const char* name) {
  for (size_t j = 0; j < signature->num_inputs; ++j) {
    if (strcmp(signature->input_names[j], name) == 0) return signature->inputs[j];
  }
  fail("the model is not an artifact of tfmetainit: an input is missing");
}

static LiteRtTensorBuffer output(const Signature* signature, const char* name) {
  for (size_t j = 0; j < signature->num_outputs; ++j) {
    if (strcmp(signature->output_names[j], name) == 0) return signature->outputs[j];
  }
  fail("the model is not an artifact of tfmetainit: an output is missing");
}

static size_t bytes_of(LiteRtTensorBuffer buffer) {
  size_t bytes = 0;
  check(LiteRtGetTensorBufferPackedSize(buffer, &bytes), "a tensor has no size");
  return bytes;
}

// Writes `bytes` bytes; the rest of the tensor becomes zeros.
static void write_to(LiteRtTensorBuffer buffer, const void* data, size_t bytes) {
  void* address;
  const size_t size = bytes_of(buffer);
  if (bytes > size) fail("a tensor is too small for its data");
  check(LiteRtLockTensorBuffer(buffer, &address, kLiteRtTensorBufferLockModeWrite),
        "cannot write a tensor");
  memcpy(address, data, bytes);
  memset((char*)address + bytes, 0, size - bytes);
  check(LiteRtUnlockTensorBuffer(buffer), "cannot unlock a tensor");
}

static void read_from(LiteRtTensorBuffer buffer, void* data, size_t bytes) {
  void* address;
  if (bytes > bytes_of(buffer)) fail("a tensor is smaller than expected");
  check(LiteRtLockTensorBuffer(buffer, &address, kLiteRtTensorBufferLockModeRead),
        "cannot read a tensor");
  memcpy(data, address, bytes);
  check(LiteRtUnlockTensorBuffer(buffer), "cannot unlock a tensor");
}

static void run(LiteRtCompiledModel compiled, Signature* signature) {
  check(LiteRtRunCompiledModel(compiled, signature->index, signature->num_inputs,
                               signature->inputs, signature->num_outputs,
                               signature->outputs),
        "a signature failed to run");
}

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count, size);
  if (memory == NULL) fail("out of memory");
  return memory;
}

// Returns the next number of a PPM file's header, or -1 if there is none.
// Comments may stand between the numbers.
static int read_number(FILE* file) {
  int number = -1, next = fgetc(file);
  while (isspace(next) || next == '#') {
    if (next == '#') {
      while (next != '\n' && next != EOF) next = fgetc(file);
    } else {
      next = fgetc(file);
    }
  }
  ungetc(next, file);
  return isdigit(next) && fscanf(file, "%6d", &number) == 1 ? number : -1;
}

// Reads the pixels of a binary PPM file, in [0, 1].
static float* read_ppm(const char* path, int* height, int* width) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) fail("cannot open the picture");
  if (fgetc(file) != 'P' || fgetc(file) != '6') {
    fail("the picture must be a binary PPM (P6)");
  }
  *width = read_number(file);
  *height = read_number(file);
  const int maximum = read_number(file);
  if (maximum != 255 || !isspace(fgetc(file))) {
    fail("the picture must have 8 bits a channel");
  }
  if (*width < 1 || *height < 1 || *width > kMaxSide || *height > kMaxSide) {
    fail("the picture's sides must be 1 to 16384 pixels");
  }
  const size_t count = (size_t)*width * *height * kChannels;
  unsigned char* raw = allocate(count, 1);
  if (fread(raw, 1, count, file) != count) fail("the picture is truncated");
  fclose(file);
  float* values = allocate(count, sizeof(float));
  for (size_t i = 0; i < count; ++i) values[i] = raw[i] / 255.0f;
  free(raw);
  return values;
}

// Writes to a temporary name first, so that an earlier picture is never lost.
static void write_ppm(const char* path, const float* values, int height,
                      int width) {
  char* temporary = allocate(strlen(path) + 12, 1);
  strcat(strcpy(temporary, path), ".unfinished");
  FILE* file = fopen(temporary, "wb");
  if (file == NULL) fail("cannot write the fitted picture");
  fprintf(file, "P6\n%d %d\n255\n", width, height);
  for (size_t i = 0; i < (size_t)width * height * kChannels; ++i) {
    const float value = fminf(fmaxf(values[i], 0.0f), 1.0f);
    fputc((int)(255.0f * value + 0.5f), file);
  }
  const int failed = ferror(file);
  if (fclose(file) != 0 || failed || rename(temporary, path) != 0) {
    remove(temporary);
    fail("cannot write the fitted picture");
  }
  free(temporary);
}

// Whether two paths lead to one file, however they are spelt.
static int is_same_file(const char* a, const char* b) {
  struct stat of_a, of_b;
  if (stat(a, &of_a) != 0 || stat(b, &of_b) != 0) return strcmp(a, b) == 0;
  return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) {
    fail("usage: fit model.tflite photo.ppm fitted.ppm [steps]");
  }
  char* end = NULL;
  const long steps = argc == 5 ? strtol(argv[4], &end, 10) : 4;
  if ((end != NULL && (*end != '\0' || end == argv[4])) || steps < 0 ||
      steps > 10000) {
    fail("steps must be an integer from 0 to 10000");
  }
  if (is_same_file(argv[3], argv[1]) || is_same_file(argv[3], argv[2])) {
    fail("the output must be another file than the inputs");
  }
  int height = 0, width = 0;
  float* values = read_ppm(argv[2], &height, &width);
  const size_t points = (size_t)height * width;

  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  check(LiteRtCreateEnvironment(0, NULL, &environment), "no environment");
  check(LiteRtCreateModelFromFile(environment, argv[1], &model),
        "cannot load the model");
  check(LiteRtCreateOptions(&options), "no options");
  check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu),
        "no CPU");
  check(LiteRtCreateCompiledModel(environment, model, options, &compiled),
        "cannot compile the model");
  Signature init = find_signature(environment, model, compiled, "init");
  Signature adapt = find_signature(environment, model, compiled, "adapt");
  Signature predict = find_signature(environment, model, compiled, "predict");
  // In an artifact for images, a point has two coordinates and three values.
  if (bytes_of(input(&adapt, "inputs")) * kChannels !=
          bytes_of(input(&adapt, "values")) * kDims ||
      bytes_of(input(&predict, "coords")) * kChannels !=
          bytes_of(output(&predict, "values")) * kDims) {
    fail("the artifact is not for images");
  }
  const size_t limit = bytes_of(input(&adapt, "inputs")) / (kDims * sizeof(float));
  const size_t shown = bytes_of(input(&predict, "coords")) / (kDims * sizeof(float));
  if (points > limit || points > shown) {
    fail("the picture has more pixels than the artifact has points");
  }

  // Pixel (row, column) lies at (row / height, column / width).
  float* coords = allocate(points * kDims, sizeof(float));
  for (size_t i = 0; i < points; ++i) {
    coords[kDims * i] = (float)((double)(i / width) / height);
    coords[kDims * i + 1] = (float)((double)(i % width) / width);
  }
  run(compiled, &init);
  const size_t theta_bytes = bytes_of(output(&init, "theta"));
  void* theta = allocate(1, theta_bytes);
  read_from(output(&init, "theta"), theta, theta_bytes);

  const int32_t n_points = (int32_t)points;
  write_to(input(&adapt, "inputs"), coords, points * kDims * sizeof(float));
  write_to(input(&adapt, "values"), values, points * kChannels * sizeof(float));
  write_to(input(&adapt, "n_points"), &n_points, sizeof(n_points));
  write_to(input(&predict, "coords"), coords, points * kDims * sizeof(float));
  float* fitted = allocate(points * kChannels, sizeof(float));
  for (long step = 0; step <= steps; ++step) {
    // Without a step, only the output layer is solved, if the artifact does so.
    const int32_t count = step > 0;
    int32_t taken = 0;
    write_to(input(&adapt, "theta"), theta, theta_bytes);
    write_to(input(&adapt, "steps"), &count, sizeof(count));
    run(compiled, &adapt);
    read_from(output(&adapt, "steps_taken"), &taken, sizeof(taken));
    if (taken != count) fail("the fit diverged");
    read_from(output(&adapt, "theta"), theta, theta_bytes);
    write_to(input(&predict, "theta"), theta, theta_bytes);
    run(compiled, &predict);
    read_from(output(&predict, "values"), fitted,
              points * kChannels * sizeof(float));
    double sum = 0.0;
    for (size_t i = 0; i < points * kChannels; ++i) {
      sum += (fitted[i] - values[i]) * (double)(fitted[i] - values[i]);
    }
    if (!isfinite(sum)) fail("the fit diverged");
    printf("step %4ld  PSNR %9.5f dB\n", step,
           -10.0 * log10(fmax(sum / (points * kChannels), 1e-10)));
  }
  write_ppm(argv[3], fitted, height, width);

  free_signature(&init);
  free_signature(&adapt);
  free_signature(&predict);
  LiteRtDestroyCompiledModel(compiled);
  LiteRtDestroyOptions(options);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
  free(coords);
  free(values);
  free(theta);
  free(fitted);
  return 0;
}
