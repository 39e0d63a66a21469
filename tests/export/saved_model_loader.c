// Loads a SavedModel through TensorFlow's C API and runs its `fit_predict`, two
// gradient steps on a few rows: what a server without Python does. Prints the
// fitted values.
//
//   loader FOLDER inputs values n_points steps coords result
//
// Arguments after the folder name tensors, for example "serving_default_x:0".

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

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

int main(int argc, char** argv) {
  if (argc != 3 + kInputs) return 2;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  TF_Output inputs[kInputs];
  for (int i = 0; i < kInputs; ++i) inputs[i] = find(graph, argv[2 + i]);
  TF_Tensor* values[] = {rows(kDims), rows(kChannels), number(kRows),
                         number(kSteps), rows(kDims)};
  TF_Output output = find(graph, argv[2 + kInputs]);
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, inputs, values, kInputs, &output, &result, 1,
                NULL, 0, NULL, status);
  check(status);
  const float* fitted = TF_TensorData(result);
  const size_t count = TF_TensorByteSize(result) / sizeof(float);
  for (size_t i = 0; i < count; ++i) printf("%.8g\n", fitted[i]);
  return 0;
}
