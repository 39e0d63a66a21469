"""Export of a learned initialization together with its few-step adapter.

May import: TensorFlow, ai-edge-litert, all other subpackages but `cli`, which
only the command (`__main__`) imports.
"""
