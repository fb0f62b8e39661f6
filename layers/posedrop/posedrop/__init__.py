"""posedrop: upload a face and a pose to a bucket, and get the same character in that pose, and a notification."""
