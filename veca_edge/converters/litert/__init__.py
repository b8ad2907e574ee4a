"""LiteRT files (`.tflite`), written without a converter: the flatbuffer, its operators, the model, the files."""
