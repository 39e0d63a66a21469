"""Export of a learned initialization together with its few-step adapter.

May import: TensorFlow, ai-edge-litert, all rooms of the package but `cli`
(`__main__` is the command).
"""
