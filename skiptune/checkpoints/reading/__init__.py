"""From bytes to plain values and tensors: any official format, nothing in the file executed."""
