"""posedrop: from a face and a pose in a bucket to the same character in that pose, and a notification."""
