// Loads a SavedModel through TensorFlow's C API and runs its `init`: what a
// server without Python does. Prints the shape and the first value of theta.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

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

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  TF_Output output = find(graph, argv[2]);
  TF_Tensor* theta = NULL;
  TF_SessionRun(session, NULL, NULL, NULL, 0, &output, &theta, 1, NULL, 0, NULL,
                status);
  check(status);
  printf("%d %lld %lld %.8g\n", TF_NumDims(theta), (long long)TF_Dim(theta, 0),
         (long long)TF_Dim(theta, 1), ((float*)TF_TensorData(theta))[0]);
  return 0;
}
