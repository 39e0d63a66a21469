// Loads a SavedModel through TensorFlow's C API and runs its `fit_predict`, two
// gradient steps on a few rows: what a server without Python does. Prints the
// fitted values.
//
//   loader FOLDER inputs values n_points steps coords result
//   loader FOLDER image_bytes steps result FILE
//
// The second form runs `fit_image` on a file, and prints the bytes of the result.
// Arguments after the folder name tensors, for example "serving_default_x:0".

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

enum { kRows = 50, kDims = 2, kChannels = 3, kSteps = 2, kInputs = 5 };

static void check(TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "error: %s\n", TF_Message(status));
    exit(1);
  }
}

// "StatefulPartitionedCall_1:2" as the operation and output it names.
static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[256];
  const char* colon = strrchr(name, ':');
  const size_t length = (size_t)(colon - name);
  memcpy(operation, name, length);
  operation[length] = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, operation),
                      atoi(colon + 1)};
  if (output.oper == NULL) {
    fprintf(stderr, "error: no operation %s\n", operation);
    exit(1);
  }
  return output;
}

// A batch of one signal: rows of numbers in [0, 1), the same in Python's test.
static TF_Tensor* rows(int width) {
  const int64_t shape[] = {1, kRows, width};
  const size_t count = (size_t)kRows * width;
  TF_Tensor* tensor =
      TF_AllocateTensor(TF_FLOAT, shape, 3, count * sizeof(float));
  float* data = TF_TensorData(tensor);
  for (size_t i = 0; i < count; ++i) data[i] = (float)(i * 37 % 101) / 101.0f;
  return tensor;
}

static TF_Tensor* number(int32_t value) {
  const int64_t shape[] = {1};
  TF_Tensor* tensor = TF_AllocateTensor(TF_INT32, shape, 1, sizeof(value));
  memcpy(TF_TensorData(tensor), &value, sizeof(value));
  return tensor;
}

// A batch of one string: the contents of a file.
static TF_Tensor* contents(const char* path) {
  static char bytes[1 << 20];
  FILE* file = fopen(path, "rb");
  if (file == NULL) exit(2);
  const size_t size = fread(bytes, 1, sizeof(bytes), file);
  fclose(file);
  const int64_t shape[] = {1};
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString));
  TF_TString* string = TF_TensorData(tensor);
  TF_StringInit(string);
  TF_StringCopy(string, bytes, size);
  return tensor;
}

int main(int argc, char** argv) {
  const int of_image = argc == 6;
  if (argc != 3 + kInputs && !of_image) return 2;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  const int count_inputs = of_image ? 2 : kInputs;
  TF_Output inputs[kInputs];
  for (int i = 0; i < count_inputs; ++i) inputs[i] = find(graph, argv[2 + i]);
  TF_Tensor* of_rows[] = {rows(kDims), rows(kChannels), number(kRows),
                          number(kSteps), rows(kDims)};
  TF_Tensor* of_file[] = {of_image ? contents(argv[5]) : NULL, number(kSteps)};
  TF_Output output = find(graph, argv[2 + count_inputs]);
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, inputs, of_image ? of_file : of_rows,
                count_inputs, &output, &result, 1, NULL, 0, NULL, status);
  check(status);
  if (of_image) {
    const TF_TString* string = TF_TensorData(result);
    fwrite(TF_StringGetDataPointer(string), 1, TF_StringGetSize(string), stdout);
    return 0;
  }
  const float* fitted = TF_TensorData(result);
  const size_t count = TF_TensorByteSize(result) / sizeof(float);
  for (size_t i = 0; i < count; ++i) printf("%.8g\n", fitted[i]);
  return 0;
}
