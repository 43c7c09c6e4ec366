"""Dense prediction: backbones registered with PaddleSeg and PaddleDetection, and their engines' runs."""
