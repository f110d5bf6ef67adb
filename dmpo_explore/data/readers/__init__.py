"""Data sets that timm opens: torchvision's, Hugging Face's, tar shards of webdataset, TensorFlow Datasets."""
