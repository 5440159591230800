"""Speed and memory against the published package and against bare torch, as ratios measured in one run."""
