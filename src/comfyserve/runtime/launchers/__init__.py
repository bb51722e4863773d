"""Back-ends that start, stop and list replicas."""
