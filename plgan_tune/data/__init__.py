"""Images, splits and whitening, from files to tensors."""
