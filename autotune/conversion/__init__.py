"""Functions on ONNX that several backends share."""
