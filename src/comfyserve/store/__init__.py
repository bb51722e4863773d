"""What is committed to disk: one small store per noun, and the blobs."""
