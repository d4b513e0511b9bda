"""From one model file to answers; never imports torch."""
