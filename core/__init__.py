"""What every other part stands on; imports torch, safetensors, numpy and nothing of ours."""
