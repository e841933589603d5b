"""Information: what layers tell of their input and of trustworthiness during pre-training."""
