"""Many images: found one by one, answered in batches, written as they are answered; memory stays flat."""
