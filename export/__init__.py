"""Export of a learned initialization together with its few-step adapter."""
